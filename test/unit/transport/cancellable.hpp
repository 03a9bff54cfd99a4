#pragma once
#include "support.hpp"

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

namespace chorus::test {

namespace asio = boost::asio;

// Runs `work` with a way to cancel it, and keeps what became of it. Must outlive the work.
class cancellable {
public:
  cancellable(detail::shard &home, task<> work) : changed_(home) {
    asio::co_spawn(home.executor(), std::move(work),
                   asio::bind_cancellation_slot(signal_.slot(), [this](std::exception_ptr e) {
                     ended = true;
                     try {
                       if (e)
                         std::rethrow_exception(e);
                     } catch (const boost::system::system_error &x) {
                       thrown = x.code();
                     }
                     changed_.poke();
                   }));
  }
  task<bool> end() {
    std::function<bool()> is_over = [this] { return ended; };
    co_return co_await changed_.until(std::move(is_over));
  }
  void cancel() { signal_.emit(asio::cancellation_type::terminal); }

  bool ended = false;
  error_code thrown; // system_error's code

private:
  asio::cancellation_signal signal_;
  condition_point changed_;
};

} // namespace chorus::test
