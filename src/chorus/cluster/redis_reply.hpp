#pragma once
// What Redis answers, owned (RESP2).

#include <chorus/base/failure.hpp>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace chorus::detail {

struct redis_reply {
  enum class type : unsigned char { nil, number, text, status, error, list };
  type is = type::nil;
  std::int64_t number = 0;
  std::string text{}; // bytes; of an error with its code ("NOSCRIPT …")
  std::vector<redis_reply> items{};
};

// What became of a command.
struct redis_outcome {
  enum class kind : unsigned char {
    answered, // `reply` says how; an error reply, too
    not_done, // it was never sent, and never will be; `why` says why
    unknown, // the connection was lost after it was sent, or the answer did not come. It may have taken
             // effect, but can't any more: that connection has been ended at Redis, or Redis has
    doubtful, // the same, but it may still take effect: Redis could not be reached in time
  };
  kind is = kind::not_done;
  redis_reply reply{};
  failure why{};
};

using redis_answer = std::function<void(redis_outcome)>;

} // namespace chorus::detail
