#pragma once
// What a server has agreed with one peer beyond its options for all: who it is, how fast it may send,
// and who watches its queue. Most sessions have none.

#include <chorus/base/buffer.hpp>
#include <chorus/session/counter.hpp>
#include <chorus/session/rate.hpp>

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace chorus::detail {

class session_core;

// Of all sessions of a server.
struct rate_counters {
  std::atomic<std::uint64_t> dropped{0}; // messages and pings
  std::atomic<std::uint64_t> closed{0};  // sessions
};

// A peer's rate, and what has been read of it ahead of its time. The timer ends the wait.
struct inbound_rate : timer {
  inbound_rate(const rate_options &o, time_point now, callback fired) noexcept
      : timer(fired), options(o), gate(o, now) {}

  rate_options options;
  rate_gate gate;
  session_core *owner = nullptr;
  std::shared_ptr<rate_counters> totals; // may be null
  counter dropped;
  bool holding = false;
  bool closing = false;
  bool lifted = false; // the peer has gone: what it has sent is taken as it is
  buffer held_owner;
  std::span<std::byte> held;
};

// Told how many bytes of frames a session's queue holds while it waits for the kernel; 0 when it does
// not wait. On the session's shard.
class queue_meter {
public:
  virtual ~queue_meter() = default;
  virtual void changed(std::size_t bytes) noexcept = 0;
};

struct session_terms {
  std::string user;
  std::unique_ptr<inbound_rate> rate;
  std::unique_ptr<queue_meter> meter;
};

// Null when the options set no rate.
std::unique_ptr<inbound_rate> make_inbound_rate(const rate_options &options, time_point now,
                                                std::shared_ptr<rate_counters> totals);

} // namespace chorus::detail
