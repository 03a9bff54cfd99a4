#pragma once
// Parks one coroutine until a `ready_listener` is told, or a deadline on the shard's wheel passes.
// What a coroutine really waits for is an Asio timer that never expires by itself: so cancellation
// follows Asio's rule, the coroutine is resumed from the loop and never from within `on_ready`, and a
// loop that ends destroys it with everything else that waits.

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>

#include <boost/asio/steady_timer.hpp>

namespace chorus::transport {

class waiter final : public detail::ready_listener {
public:
  explicit waiter(detail::shard &home);
  waiter(const waiter &) = delete;
  waiter &operator=(const waiter &) = delete;

  // True when told, before or during the call; false when `deadline` passed first (never, for
  // time_point::max()). Cancelling throws. The waiter must outlive the wait. Once.
  task<bool> wait(detail::time_point deadline);
  // Only the first of this and the deadline counts.
  void on_ready(unsigned what) noexcept override;

private:
  enum class outcome : unsigned char { none, told, late };
  struct limit : detail::timer {
    explicit limit(waiter &w) noexcept;
    waiter &owner;
  };
  void finish(outcome o) noexcept;

  detail::shard &home_;
  boost::asio::steady_timer parked_;
  limit limit_;
  outcome outcome_ = outcome::none;
};

} // namespace chorus::transport
