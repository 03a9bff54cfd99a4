#pragma once
// Runs a task on another shard and brings its result back. Unlike `co_spawn(other, …,
// use_awaitable)`, whose cancellation from another thread is a use-after-free in Boost 1.81, a
// cancellation is posted to the shard that runs the task.

#include <chorus/async/parked.hpp>
#include <chorus/base/result.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <exception>
#include <memory>
#include <mutex>
#include <optional>
#include <utility>

namespace chorus::detail {

// The caller's half: resumed exactly once, on its own executor. A caller that is a coroutine of a
// shard goes with that shard: it must not outlive the context its timers and sockets live on.
template <class T>
class remote_call final : public resident, public std::enable_shared_from_this<remote_call<T>> {
public:
  using handler = typename boost::asio::async_result<boost::asio::use_awaitable_t<>,
                                                     void(std::exception_ptr, T)>::handler_type;

  // On the caller's thread.
  static std::shared_ptr<remote_call> make(handler h) {
    auto call = std::make_shared<remote_call>(std::move(h));
    auto *here = shard::current();
    if (here && boost::asio::get_associated_executor(*call->handler_) == here->executor()) {
      call->origin_ = here->shared_from_this();
      call->self_ = call;
      here->enroll(*call);
    }
    return call;
  }
  explicit remote_call(handler h) : handler_(std::move(h)) {}

  // From any thread; the first one counts.
  void finish(std::exception_ptr e, T value) {
    {
      std::lock_guard lock(mutex_);
      if (finished_)
        return;
      finished_ = true;
      thrown_ = std::move(e);
      value_.emplace(std::move(value));
    }
    auto resume = [self = this->shared_from_this()] { self->resume(); };
    if (origin_)
      origin_->post(std::move(resume)); // refused only by a shard that drops the caller itself
    else
      boost::asio::post(boost::asio::get_associated_executor(*handler_), std::move(resume));
  }

  // The other half: what runs the task holds it, and when that goes without a result the caller is
  // told so.
  class promise {
  public:
    explicit promise(std::shared_ptr<remote_call> c) noexcept : call_(std::move(c)) {}
    promise(const promise &) = delete;
    promise &operator=(const promise &) = delete;
    ~promise() { call_->finish({}, T(failure(error::shut_down))); }
    remote_call &call() const noexcept { return *call_; }

  private:
    std::shared_ptr<remote_call> call_;
  };

  boost::asio::cancellation_signal signal; // belongs to the thread that runs the task

private:
  void resume() {
    if (!handler_)
      return;
    const auto keep = std::move(self_);
    if (origin_)
      origin_->leave(*this);
    auto h = take();
    std::move(h)(std::move(thrown_), std::move(*value_));
  }
  void on_shard_gone() noexcept override {
    const auto keep = std::move(self_);
    {
      std::lock_guard lock(mutex_);
      if (!std::exchange(finished_, true))
        value_.emplace(failure(error::shut_down));
    }
    if (origin_->wrapped()) // the context is the user's and goes on
      boost::asio::post(boost::asio::get_associated_executor(*handler_),
                        [keep] { keep->resume(); });
    else [[maybe_unused]]
      const auto destroyed = take();
  }
  handler take() noexcept {
    handler h = std::move(*handler_);
    handler_.reset();
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    if (slot.is_connected())
      slot.clear();
    return h;
  }

  std::shared_ptr<shard> origin_;     // of a caller that lives on a shard
  std::shared_ptr<remote_call> self_; // while enrolled there
  std::optional<handler> handler_;
  std::mutex mutex_;
  bool finished_ = false;
  std::exception_ptr thrown_;
  std::optional<T> value_;
};

// `T` must be constructible from a failure: shut_down when the shard has stopped.
template <class T> task<T> on_shard(std::shared_ptr<shard> target, task<T> work) {
  if (auto state = co_await boost::asio::this_coro::cancellation_state;
      state.cancelled() != boost::asio::cancellation_type::none) {
    co_await was_cancelled();               // throws, unless the coroutine asked not to
    co_return T(failure(error::cancelled)); // the task itself would never hear of it
  }
  auto initiate = [target, w = std::make_shared<std::optional<task<T>>>(std::move(work))](
                      typename remote_call<T>::handler h) mutable {
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    auto call = remote_call<T>::make(std::move(h));
    if (slot.is_connected())
      slot.assign([target, weak = std::weak_ptr(call)](boost::asio::cancellation_type type) {
        target->post([weak, type] {
          if (auto c = weak.lock())
            c->signal.emit(type);
        });
      });
    auto promise = std::make_shared<typename remote_call<T>::promise>(std::move(call));
    target->post([target, w, promise = std::move(promise)] {
      auto done = [promise](std::exception_ptr e, T value) {
        promise->call().finish(std::move(e), std::move(value));
      };
      boost::asio::co_spawn(
          target->executor(), std::move(**w),
          boost::asio::bind_cancellation_slot(promise->call().signal.slot(), std::move(done)));
    });
  };
  co_return co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>,
                                                 void(std::exception_ptr, T)>(
      std::move(initiate), boost::asio::use_awaitable);
}

} // namespace chorus::detail
