#pragma once
// How fast a peer may send: a token bucket each for messages and bytes. Sans-I/O: it is told the time.
//
// Something passes while a whole token is there; it may cost more than that (a large message), and
// then nothing passes until the debt is paid off. So no message is too large for a small burst, and
// over any time no more passes than the rate allows, but for one burst and one message.

#include <chorus/async/timer_wheel.hpp>

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace chorus {

// What happens when a peer sends faster than it may.
enum class over_rate : unsigned char {
  delay, // it is read no faster than that: TCP pushes back, nothing is lost
  drop,  // what comes too fast is thrown away and counted; the sender is not told
  close, // the connection is closed (1008)
};

// Trivially destructible; members are only ever added at the end.
struct rate_options {
  // Pings count as messages, and pongs that nobody asked for. 0: any number.
  std::uint32_t messages_per_second = 0;
  std::uint32_t bytes_per_second = 0; // of payload, decompressed; 0: any number
  // What may come at once after a silence; 0: as much as in a second. Under over_rate::delay it should
  // be no less than what comes within one tick of the runtime, which is how often reading goes on.
  std::uint32_t burst_messages = 0;
  std::uint32_t burst_bytes = 0;
  over_rate policy = over_rate::delay;
};
static_assert(std::is_trivially_destructible_v<rate_options>);

namespace detail {

class token_bucket {
public:
  // Full at `now`. A rate of 0 is no limit; a burst of 0 is one second's worth.
  token_bucket(std::uint32_t per_second, std::uint32_t burst, time_point now) noexcept;

  // Whether there is a whole token. Time that goes backwards brings none.
  bool open(time_point now) noexcept;
  void take(std::uint64_t tokens, time_point now) noexcept;
  // The first time at which it is open, if nothing is taken until then.
  time_point open_at(time_point now) noexcept;

private:
  void refill(time_point now) noexcept;

  // In billionths of a token, so that a nanosecond brings `per_second_` of them.
  std::int64_t level_;
  std::int64_t most_;
  std::int64_t per_second_;
  time_point as_of_;
};

// Both buckets of one peer.
class rate_gate {
public:
  rate_gate(const rate_options &options, time_point now) noexcept;

  // One message of `bytes` more; false, and nothing is taken, when it comes too fast.
  bool pass(std::size_t bytes, time_point now) noexcept;
  // Takes it in any case; answers when the next one may come.
  time_point charge(std::size_t bytes, time_point now) noexcept;

private:
  token_bucket messages_;
  token_bucket bytes_;
};

} // namespace detail

} // namespace chorus
