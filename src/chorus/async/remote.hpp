#pragma once
// Runs a task on another shard and brings its result back. Unlike `co_spawn(other, …,
// use_awaitable)`, whose cancellation from another thread is a use-after-free in Boost 1.81, a
// cancellation is posted to the shard that runs the task.

#include <chorus/async/parked.hpp>
#include <chorus/base/result.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>

#include <exception>
#include <memory>
#include <optional>
#include <utility>

namespace chorus::detail {

// The caller's half: resumed exactly once, on its own executor.
template <class T> class remote_call : public std::enable_shared_from_this<remote_call<T>> {
public:
  using handler = typename boost::asio::async_result<boost::asio::use_awaitable_t<>,
                                                     void(std::exception_ptr, T)>::handler_type;

  explicit remote_call(handler h) : handler_(std::move(h)) {}
  ~remote_call() {
    // Neither ran nor failed: the shard was torn down.
    finish({}, T(failure(error::shut_down)));
  }
  void finish(std::exception_ptr e, T value) noexcept {
    if (!handler_)
      return;
    auto h = std::move(*handler_);
    handler_.reset();
    auto executor = boost::asio::get_associated_executor(h);
    boost::asio::post(executor,
                      [h = std::move(h), e, value = std::move(value)]() mutable {
                        auto slot = boost::asio::get_associated_cancellation_slot(h);
                        if (slot.is_connected())
                          slot.clear();
                        std::move(h)(e, std::move(value));
                      });
  }

  boost::asio::cancellation_signal signal; // belongs to the shard's thread

private:
  std::optional<handler> handler_;
};

// `T` must be constructible from a failure: shut_down when the shard has stopped.
template <class T> task<T> on_shard(std::shared_ptr<shard> target, task<T> work) {
  auto initiate = [target, w = std::make_shared<std::optional<task<T>>>(std::move(work))](
                      typename remote_call<T>::handler h) mutable {
    auto slot = boost::asio::get_associated_cancellation_slot(h);
    auto call = std::make_shared<remote_call<T>>(std::move(h));
    if (slot.is_connected())
      slot.assign([target, weak = std::weak_ptr(call)](boost::asio::cancellation_type type) {
        target->post([weak, type] {
          if (auto c = weak.lock())
            c->signal.emit(type);
        });
      });
    target->post([target, w, call] {
      auto done = [call](std::exception_ptr e, T value) { call->finish(e, std::move(value)); };
      boost::asio::co_spawn(target->executor(), std::move(**w),
                            boost::asio::bind_cancellation_slot(call->signal.slot(), std::move(done)));
    });
  };
  co_return co_await boost::asio::async_initiate<const boost::asio::use_awaitable_t<>,
                                                 void(std::exception_ptr, T)>(
      std::move(initiate), boost::asio::use_awaitable);
}

} // namespace chorus::detail
