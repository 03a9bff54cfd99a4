#pragma once
// Something that coroutines of a server wait for until the test opens it.

#include <chorus/async/task.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <memory>
#include <mutex>
#include <vector>

namespace server_test {

// Coroutines wait for it to be opened, from any thread. It must outlive them.
class door {
public:
  void open() {
    std::lock_guard lock(mutex_);
    open_ = true;
    for (const auto &one : waiting_)
      if (auto t = one.lock())
        boost::asio::post(t->get_executor(), [t] { t->cancel(); });
  }
  // Throws when it is cancelled.
  chorus::task<> wait() {
    using timer = boost::asio::steady_timer;
    const auto executor = co_await boost::asio::this_coro::executor;
    const auto never = std::make_shared<timer>(executor, timer::time_point::max());
    if (!enlist(never))
      co_return;
    boost::system::error_code ec;
    co_await never->async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
    std::lock_guard lock(mutex_);
    if (!open_)
      throw boost::system::system_error(ec);
  }

private:
  bool enlist(const std::shared_ptr<boost::asio::steady_timer> &t) {
    std::lock_guard lock(mutex_);
    if (!open_)
      waiting_.push_back(t);
    return !open_;
  }

  std::mutex mutex_;
  bool open_ = false;
  // Each ends with its coroutine: a timer must not outlive the runtime.
  std::vector<std::weak_ptr<boost::asio::steady_timer>> waiting_;
};

} // namespace server_test
