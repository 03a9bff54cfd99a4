#pragma once
// A coarse timer wheel: one per shard serves every heartbeat, idle limit and deadline of its
// connections. Starting, moving and cancelling a timer is O(1) and allocates nothing. Sans-I/O: it
// is told the time. A timer never fires early, and late by at most one tick plus the caller's own
// delay.

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>

namespace chorus::detail {

using clock = std::chrono::steady_clock;
using time_point = clock::time_point;
using duration = clock::duration;

class timer_wheel;

// Derive from it (or hold one) and start it on a wheel. Destroying it cancels it. Not movable.
class timer {
public:
  using callback = void (*)(timer &) noexcept;

  explicit timer(callback fired) noexcept : fired_(fired) {}
  timer(const timer &) = delete;
  timer &operator=(const timer &) = delete;
  ~timer() { cancel(); }

  bool active() const noexcept { return wheel_ != nullptr; }
  time_point expiry() const noexcept { return expiry_; }
  void cancel() noexcept;

private:
  friend class timer_wheel;
  timer *next_ = nullptr;
  timer *prev_ = nullptr;
  timer_wheel *wheel_ = nullptr;
  time_point expiry_{};
  callback fired_;
  std::uint32_t slot_ = 0;
};

class timer_wheel {
public:
  static constexpr std::size_t slots = 512;

  timer_wheel(duration tick, time_point now) noexcept;
  timer_wheel(const timer_wheel &) = delete;
  timer_wheel &operator=(const timer_wheel &) = delete;
  ~timer_wheel();

  duration tick() const noexcept { return tick_; }
  bool empty() const noexcept { return count_ == 0; }
  std::size_t size() const noexcept { return count_; }

  // (Re)starts `t`; it fires in the first `advance` to a time not before `when`.
  void start(timer &t, time_point when) noexcept;
  // Fires what is due. Callbacks may start and cancel timers, of their own and others.
  void advance(time_point now) noexcept;

private:
  friend class timer;
  std::int64_t tick_of(time_point when) const noexcept;
  void link(timer &t, std::uint32_t slot) noexcept;
  void unlink(timer &t) noexcept;

  std::array<timer *, slots> heads_{};
  timer *due_ = nullptr; // being fired by `advance`
  duration tick_;
  time_point origin_;
  std::int64_t current_ = 0; // the last tick fired
  std::size_t count_ = 0;
};

} // namespace chorus::detail
