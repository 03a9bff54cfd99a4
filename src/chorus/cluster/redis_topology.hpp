#pragma once
// Which master serves which slots, as a cluster says it. Pure.

#include <chorus/base/result.hpp>
#include <chorus/cluster/redis_reply.hpp>
#include <chorus/cluster/redis_target.hpp>

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace chorus::detail {

struct redis_slot_range {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  redis_address master{};
};

// Of an answer to CLUSTER SLOTS, which `asked` has given: it need not name itself. Fails with not_open when
// no slot is served, with `protocol` on what is no such answer.
result<std::vector<redis_slot_range>> read_redis_slots(const redis_reply &r,
                                                       const redis_address &asked);

struct redis_redirect {
  std::uint16_t slot = 0;
  redis_address to{};
};

// Of "MOVED 3999 127.0.0.1:6381" and "ASK …"; nothing: it is none.
std::optional<redis_redirect> read_redis_redirect(std::string_view text,
                                                  const redis_address &asked);

} // namespace chorus::detail
