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

#include <boost/system/system_error.hpp>

#include <cstddef>
#include <new>
#include <utility>

namespace chorus::detail {

class parked {
  struct initiation {
    parked *target;
    template <class Handler> void operator()(Handler &&h) const {
      target->hold(std::forward<Handler>(h));
    }
  };

public:
  parked() noexcept = default;
  parked(const parked &) = delete;
  parked &operator=(const parked &) = delete;
  // Destroys the coroutine that waits.
  ~parked() { drop(); }

  bool waiting() const noexcept { return actions_ != nullptr; }

  // Waits until `wake` or cancellation. Completes without telling which. An operation that is awaited
  // as it is, so that waiting needs no coroutine frame of its own.
  class operation {
  public:
    explicit operation(parked &p) noexcept : parked_(&p) {}
    template <class Token>
    auto operator()(Token &&token) const
        -> decltype(boost::asio::async_initiate<Token, void()>(std::declval<initiation>(), token)) {
      return boost::asio::async_initiate<Token, void()>(initiation{parked_}, token);
    }

  private:
    parked *parked_;
  };
  operation park() noexcept { return operation(*this); }

  // Resumes the coroutine before returning, if it lives on `s`'s own executor; else soon. Either way
  // it does not wait any more. An exception that leaves the coroutine leaves the loop's `run()`.
  void wake_inline(shard &s) noexcept {
    if (actions_)
      actions_->resume(*this, &s);
  }
  // Resumes the coroutine soon, never before returning.
  void wake_later() noexcept {
    if (actions_)
      actions_->resume(*this, nullptr);
  }
  // Destroys the coroutine that waits.
  void drop() noexcept {
    if (actions_)
      actions_->destroy(*this);
  }

private:
  // What is known of the handler's type where it was put here.
  struct actions {
    void (*resume)(parked &, shard *inline_on) noexcept;
    void (*destroy)(parked &) noexcept;
  };
  template <class Handler> void hold(Handler h) {
    static_assert(sizeof(Handler) <= sizeof storage_ && alignof(Handler) <= alignof(void *));
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    ::new (static_cast<void *>(storage_)) Handler(std::move(h));
    actions_ = &actions_of<Handler>;
    if (slot.is_connected())
      slot.assign([this](boost::asio::cancellation_type type) {
        if (type != boost::asio::cancellation_type::none)
          wake_later();
      });
  }
  template <class Handler> Handler take() noexcept {
    auto *const held = std::launder(reinterpret_cast<Handler *>(storage_));
    Handler h = std::move(*held);
    held->~Handler();
    actions_ = nullptr;
    return h;
  }
  template <class Handler> static void resume(parked &p, shard *inline_on) noexcept {
    auto h = p.take<Handler>();
    auto executor = boost::asio::get_associated_executor(h);
    if (inline_on && executor == inline_on->executor()) {
      clear_slot(h);
      inline_on->guard([&] { std::move(h)(); });
      return;
    }
    boost::asio::post(executor, [h = std::move(h)]() mutable {
      clear_slot(h);
      std::move(h)();
    });
  }
  template <class Handler> static void destroy(parked &p) noexcept {
    auto gone = p.take<Handler>();
    clear_slot(gone);
  }
  // Not while the slot's own function runs: it would destroy that function under its feet.
  template <class Handler> static void clear_slot(Handler &h) noexcept {
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    if (slot.is_connected())
      slot.clear();
  }

  template <class Handler>
  static constexpr actions actions_of{&parked::resume<Handler>, &parked::destroy<Handler>};

  alignas(void *) std::byte storage_[sizeof(void *)]; // the handler, which is one pointer
  const actions *actions_ = nullptr;
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
