#pragma once
// Coroutines of any executor that wait for a change in a client. Everything but `waiter::wait` is
// done under the owner's mutex. A coroutine is always resumed through its own executor, never
// inline, and it belongs to that executor's context: a context that ends destroys it.

#include <chorus/async/task.hpp>

#include <boost/asio/any_io_executor.hpp>
#include <boost/asio/experimental/concurrent_channel.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <mutex>

namespace chorus::detail {

class wait_list;

// Lives in the waiting coroutine's frame.
class waiter {
public:
  explicit waiter(const boost::asio::any_io_executor &executor) : wake_(executor, 1) {}
  waiter(const waiter &) = delete;
  waiter &operator=(const waiter &) = delete;

  // Completes when woken, before or during the call, or cancelled; without telling which.
  task<> wait() {
    boost::system::error_code ec;
    co_await wake_.async_receive(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  }

protected:
  ~waiter() = default; // not while linked

private:
  friend class wait_list;
  boost::asio::experimental::concurrent_channel<void(boost::system::error_code)> wake_;
  wait_list *list_ = nullptr;
  waiter *next_ = nullptr;
  waiter *prev_ = nullptr;
};

class wait_list {
public:
  wait_list() noexcept = default;
  wait_list(const wait_list &) = delete;
  wait_list &operator=(const wait_list &) = delete;

  bool empty() const noexcept { return first_ == nullptr; }
  waiter *first() const noexcept { return first_; }
  void add(waiter &w) noexcept {
    if (w.list_)
      return;
    w.list_ = this;
    w.prev_ = last_;
    w.next_ = nullptr;
    (last_ ? last_->next_ : first_) = &w;
    last_ = &w;
  }
  static void remove(waiter &w) noexcept {
    if (!w.list_)
      return;
    (w.prev_ ? w.prev_->next_ : w.list_->first_) = w.next_;
    (w.next_ ? w.next_->prev_ : w.list_->last_) = w.prev_;
    w.list_ = nullptr;
  }
  static void wake(waiter &w) noexcept {
    remove(w);
    w.wake_.try_send(boost::system::error_code());
  }
  void wake_all() noexcept {
    while (first_)
      wake(*first_);
  }

private:
  waiter *first_ = nullptr;
  waiter *last_ = nullptr;
};

// A waiter that takes itself off its list.
class scoped_waiter : public waiter {
public:
  scoped_waiter(std::mutex &m, const boost::asio::any_io_executor &executor)
      : waiter(executor), mutex_(m) {}
  ~scoped_waiter() {
    std::lock_guard lock(mutex_);
    wait_list::remove(*this);
  }

private:
  std::mutex &mutex_;
};

} // namespace chorus::detail
