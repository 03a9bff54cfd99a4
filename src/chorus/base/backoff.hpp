#pragma once
// `backoff`: how long to wait before the next attempt. A pure value: no clock, no thread; the random
// number comes from outside, so that it can be tested.

#include <chrono>
#include <cstdint>

namespace chorus {

enum class jitter : std::uint8_t {
  none,
  full,    // uniformly between zero and the delay
  partial, // the delay, give or take 20%, still at most the cap
};

struct backoff_options {
  std::chrono::milliseconds initial{1'000};
  double factor = 1.6; // 1 or more
  std::chrono::milliseconds cap{30'000};
  chorus::jitter spread = jitter::full;
};

class backoff {
public:
  // Unusable options (initial or cap negative, factor below 1 or infinite) throw
  // std::invalid_argument.
  explicit backoff(backoff_options options = {});

  // The delay before the next attempt, at most the cap, and counts that attempt: the n-th is
  // initial * factor^(n-1) before the jitter. `random`: 64 uniformly random bits.
  std::chrono::milliseconds next(std::uint64_t random) noexcept;
  // Starts over; to be called when a connection has proven itself.
  void reset() noexcept { attempts_ = 0; }
  unsigned attempts() const noexcept { return attempts_; }

private:
  backoff_options options_;
  unsigned attempts_ = 0;
};

} // namespace chorus
