#pragma once
// The clock of a server's first shard in the test's hand.

#include "server_support.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/async/shard.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <memory>

namespace server_test {

// Time passes on the first shard when the test says so.
class hand_clock {
public:
  explicit hand_clock(running &loop) : loop_(loop), home_(loop.rt().core()->shards.front()) {
    auto work = [](std::shared_ptr<chorus::detail::shard> home) -> chorus::task<> {
      home->use_manual_clock();
      co_return;
    };
    loop_.wait(work(home_));
  }
  void pass(std::chrono::milliseconds d) {
    auto work = [](std::shared_ptr<chorus::detail::shard> home,
                   std::chrono::milliseconds by) -> chorus::task<> {
      home->advance(by);
      co_return;
    };
    loop_.wait(work(home_, d));
    settle();
  }
  // Everything that was due has been done, and what it posted.
  void settle() {
    auto turn = []() -> chorus::task<> {
      const auto executor = co_await boost::asio::this_coro::executor;
      for (int i = 0; i < 30; ++i)
        co_await boost::asio::post(executor, boost::asio::use_awaitable);
    };
    loop_.wait(turn());
  }

private:
  running &loop_;
  std::shared_ptr<chorus::detail::shard> home_;
};

} // namespace server_test
