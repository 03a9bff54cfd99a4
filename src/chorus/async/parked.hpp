#pragma once
// A coroutine that waits for something of ours: parked by `co_await p.park()`, resumed by `wake`.
// Cancelling the coroutine wakes it, too; it then looks at its cancellation state itself.
// Belongs to one shard's thread; `park` is to be awaited there.

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>

#include <boost/asio/associated_cancellation_slot.hpp>
#include <boost/asio/associated_executor.hpp>
#include <boost/asio/async_result.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <boost/system/system_error.hpp>

#include <memory>
#include <optional>
#include <utility>

namespace chorus::detail {

class parked {
public:
  parked() noexcept = default;
  parked(const parked &) = delete;
  parked &operator=(const parked &) = delete;
  // Destroys the coroutine that waits.
  ~parked() = default;

  bool waiting() const noexcept { return handler_.has_value(); }

  // Waits until `wake` or cancellation. Completes without telling which.
  task<> park() {
    return boost::asio::async_initiate<const boost::asio::use_awaitable_t<>, void()>(
        [this](handler h) {
          auto slot = boost::asio::get_associated_cancellation_slot(h);
          handler_.emplace(std::move(h));
          if (slot.is_connected())
            slot.assign([this](boost::asio::cancellation_type type) {
              if (type != boost::asio::cancellation_type::none)
                wake_later();
            });
        },
        boost::asio::use_awaitable);
  }

  // Resumes the coroutine before returning, if it lives on `s`'s own executor; else soon. Either way
  // it does not wait any more. An exception that leaves the coroutine leaves the loop's `run()`.
  void wake_inline(shard &s) noexcept {
    if (!handler_)
      return;
    auto h = take();
    if (boost::asio::get_associated_executor(h) == s.executor()) {
      clear_slot(h);
      s.guard([&] { std::move(h)(); });
    } else
      resume_by_post(std::move(h));
  }
  // Resumes the coroutine soon, never before returning.
  void wake_later() noexcept {
    if (handler_)
      resume_by_post(take());
  }
  // Destroys the coroutine that waits.
  void drop() noexcept {
    if (!handler_)
      return;
    auto gone = take();
    clear_slot(gone);
  }

private:
  using handler = boost::asio::async_result<boost::asio::use_awaitable_t<>, void()>::handler_type;

  handler take() noexcept {
    handler h = std::move(*handler_);
    handler_.reset();
    return h;
  }
  // Not while the slot's own function runs: it would destroy that function under its feet.
  static void clear_slot(handler &h) noexcept {
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    if (slot.is_connected())
      slot.clear();
  }
  static void resume_by_post(handler h) noexcept {
    auto executor = boost::asio::get_associated_executor(h);
    boost::asio::post(executor, [h = std::move(h)]() mutable {
      clear_slot(h);
      std::move(h)();
    });
  }

  std::optional<handler> handler_;
};

// True when the calling coroutine was cancelled. Throws operation_aborted instead, when that is what
// the coroutine asked for (Asio's default).
inline task<bool> was_cancelled() {
  auto state = co_await boost::asio::this_coro::cancellation_state;
  if (state.cancelled() == boost::asio::cancellation_type::none)
    co_return false;
  if (co_await boost::asio::this_coro::throw_if_cancelled())
    throw boost::system::system_error(boost::asio::error::operation_aborted);
  co_return true;
}

} // namespace chorus::detail
