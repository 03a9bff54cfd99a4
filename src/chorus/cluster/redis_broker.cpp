#include <chorus/cluster/redis_pool.hpp>

namespace chorus {

std::shared_ptr<broker> redis(std::string_view, redis_options) { return nullptr; }

} // namespace chorus
