#pragma once
// Where a master is: at a fixed address, or where Sentinel says that it is now.

#include <chorus/cluster/redis_line.hpp>

#include <memory>

namespace chorus::detail {

std::shared_ptr<redis_locator> make_fixed_locator(redis_address where);
// Asks the Sentinels of the target in turn, each time another one first: one may know an old master.
std::shared_ptr<redis_locator> make_sentinel_locator(std::shared_ptr<const redis_ground> ground);

} // namespace chorus::detail
