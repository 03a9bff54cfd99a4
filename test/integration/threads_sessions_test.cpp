// Sessions used from threads that are not theirs: foreign contexts, other shards, bare threads.

#include "../unit/session/support.hpp"

#include <chorus/operators.hpp>

#include <boost/asio/executor_work_guard.hpp>

#include <atomic>
#include <future>
#include <thread>

BOOST_AUTO_TEST_SUITE(threads_sessions)

using namespace chorus;
using namespace chorus::test;
using namespace chorus::operators;

namespace {

// An io_context of the user's on a thread of its own.
class foreign_context {
public:
  foreign_context() : work_(asio::make_work_guard(io_)), thread_([this] { io_.run(); }) {}
  ~foreign_context() {
    work_.reset();
    thread_.join();
  }
  asio::io_context &io() noexcept { return io_; }

private:
  asio::io_context io_{1};
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

// A runtime whose loops run on threads of their own until the end of the scope.
class running_runtime {
public:
  explicit running_runtime(unsigned threads)
      : rt(runtime_options{.threads = threads, .tick = 5ms}), thread_([this] { rt.run(); }) {}
  ~running_runtime() { stop(); }
  void stop() {
    if (!thread_.joinable())
      return;
    rt.stop();
    thread_.join();
  }
  shard &at(unsigned i) { return *rt.core()->shards[i]; }

  runtime rt;

private:
  std::thread thread_;
};

// Runs `work` on `io` and waits for it, from the test's own thread.
template <class T> T wait_for(asio::any_io_executor ex, task<T> work) {
  std::promise<T> done;
  auto result = done.get_future();
  asio::co_spawn(ex, std::move(work), [&](std::exception_ptr e, T value) {
    if (e)
      done.set_exception(e);
    else
      done.set_value(std::move(value));
  });
  return result.get();
}

task<sessions> make_pair_on(shard &home, shard &other) {
  auto [a, b] = transport::make_memory_pair(home, other, {.capacity = 8192});
  auto server = open(std::move(a), role::server, quiet());
  auto client = co_await asio::co_spawn(
      other.executor(),
      [](stream_ptr carrier) -> task<session> {
        co_return open(std::move(carrier), role::client, quiet());
      }(std::move(b)),
      asio::use_awaitable);
  co_return sessions{std::move(server), std::move(client)};
}

task<int> echo(session s) {
  int count = 0;
  while (auto m = co_await s.receive()) {
    ++count;
    if (!co_await s.send(*m))
      break;
  }
  co_return count;
}

task<void> sleep_briefly(std::chrono::microseconds d) {
  asio::steady_timer timer(co_await asio::this_coro::executor, d);
  co_await timer.async_wait(asio::use_awaitable);
}

} // namespace

BOOST_AUTO_TEST_CASE(every_verb_works_from_a_foreign_context) {
  foreign_context foreign; // outlives the threads that post to it
  running_runtime r(2);
  auto pair = wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(1)));
  asio::co_spawn(r.at(0).executor(), echo(pair.server), [](std::exception_ptr, int) {});
  const auto ok = wait_for(foreign.io().get_executor(), [](session s) -> task<bool> {
    for (int i = 0; i < 200; ++i) {
      auto sent = co_await s.send(std::to_string(i), {.key = "k"});
      if (!sent)
        co_return false;
      auto m = co_await s.receive();
      if (!m || m->text() != std::to_string(i))
        co_return false;
    }
    auto large = co_await s.send(pattern(300'000));
    auto flushed = co_await s.flush();
    std::size_t got = 0;
    while (got < 300'000) {
      auto batch = co_await s.receive_some();
      if (!batch)
        co_return false;
      for (const auto &view : *batch)
        got += view.size();
    }
    auto rtt = co_await s.ping();
    const bool said = !s.remote_address().empty() && s.stats().messages_received == 201 &&
                      s.is_open() && s.uptime() > 0ns;
    auto closed = co_await s.close(close_code::normal, "done");
    auto end = co_await s.wait_closed();
    co_return large.has_value() && flushed.has_value() && rtt.has_value() &&
        said &&closed.has_value() && end == error::closed;
  }(pair.client));
  BOOST_CHECK(ok);
}

// Bare threads, coroutines of a foreign context and of both shards, all at once on one session.
BOOST_AUTO_TEST_CASE(senders_on_every_kind_of_thread) {
  foreign_context foreign; // outlives the threads that post to it
  running_runtime r(2);
  auto pair = wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(1)));
  constexpr int each = 300;
  constexpr int threads = 3;
  std::atomic<int> accepted{0};
  const auto sender = [](session s, int id, std::atomic<int> *count) -> task<bool> {
    for (int i = 0; i < each; ++i) {
      auto sent = co_await s.send(std::to_string(id) + " " + std::to_string(i));
      if (!sent)
        co_return false;
      ++*count;
    }
    co_return true;
  };
  std::vector<std::thread> bare;
  for (int t = 0; t < threads; ++t)
    bare.emplace_back([s = pair.client, t, &accepted] {
      for (int i = 0; i < each; ++i) {
        if (s.state() != session_state::open)
          return;
        auto copy = s;
        if (copy.try_send(std::to_string(t) + " " + std::to_string(i)))
          ++accepted;
        static_cast<void>(copy.stats());
      }
    });
  for (int t = 0; t < 3; ++t)
    asio::co_spawn(t == 0   ? asio::any_io_executor(foreign.io().get_executor())
                   : t == 1 ? r.at(0).executor()
                            : r.at(1).executor(),
                   sender(pair.client, threads + t, &accepted), [](std::exception_ptr, bool) {});
  const auto got = wait_for(r.at(0).executor(), [](session s) -> task<std::vector<int>> {
    std::vector<int> next(threads + 3, 0);
    for (int n = 0; n < each * (threads + 3); ++n) {
      auto m = co_await s.receive();
      if (!m)
        break;
      const auto id = static_cast<std::size_t>(std::stoi(m->str()));
      const auto number = std::stoi(m->str().substr(m->text().find(' ')));
      if (number != next[id]) // each sender's own order holds
        break;
      ++next[id];
    }
    co_return next;
  }(pair.server));
  for (auto &t : bare)
    t.join();
  for (const int count : got)
    BOOST_CHECK_EQUAL(count, each);
  // The last answers may still be on their way to those who asked.
  while (accepted < each * (threads + 3))
    std::this_thread::yield();
}

BOOST_AUTO_TEST_CASE(cancelling_from_a_foreign_thread) {
  foreign_context foreign; // outlives the threads that post to it
  running_runtime r(2);
  auto pair = wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(1)));
  const auto ok = wait_for(foreign.io().get_executor(), [](session s) -> task<bool> {
    for (int i = 0; i < 500; ++i) {
      const auto d = std::chrono::microseconds(i % 50);
      switch (i % 4) {
      case 0: {
        auto w = co_await (s.receive() || sleep_briefly(d));
        if (w.index() != 1)
          co_return false;
        break;
      }
      case 1: {
        auto w = co_await (s.receive_some() || sleep_briefly(d));
        if (w.index() != 1)
          co_return false;
        break;
      }
      case 2: {
        auto w = co_await (s.wait_closed() || sleep_briefly(d));
        if (w.index() != 1)
          co_return false;
        break;
      }
      default: {
        auto w = co_await (s.ping() || sleep_briefly(d));
        if (w.index() == 0 && !std::get<0>(w))
          co_return false;
        break;
      }
      }
    }
    co_return s.is_open();
  }(pair.client));
  BOOST_CHECK(ok);
}

// The message is taken on the session's thread and the timer wins on the other: it is not lost.
BOOST_AUTO_TEST_CASE(cancelled_receives_from_a_foreign_thread_lose_nothing) {
  foreign_context foreign;
  running_runtime r(1);
  auto pair = wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(0)));
  constexpr int count = 3000;
  asio::co_spawn(
      r.at(0).executor(),
      [](session s) -> task<> {
        for (int i = 0; i < count; ++i) {
          if (!co_await s.send(std::to_string(i)))
            co_return;
          if (i % 3 == 0)
            co_await sleep_briefly(std::chrono::microseconds(i % 30));
        }
      }(pair.client),
      [](std::exception_ptr) {});
  const auto trouble = wait_for(foreign.io().get_executor(), [](session s) -> task<std::string> {
    int expected = 0;
    for (int race = 0; expected < count; ++race) {
      // Two of sixteen are not raced: where everything is slow the timer could win for ever.
      const auto d = std::chrono::microseconds(race % 16 >= 14 ? 60'000'000 : race % 60);
      std::vector<std::string> got;
      if (race % 2) {
        auto w = co_await (s.receive() || sleep_briefly(d));
        if (w.index() == 1)
          continue;
        auto &m = std::get<0>(w);
        if (!m)
          co_return "a receive failed: " + m.error().message();
        got.push_back(m->str());
      } else {
        auto w = co_await (s.receive_some() || sleep_briefly(d));
        if (w.index() == 1)
          continue;
        auto &batch = std::get<0>(w);
        if (!batch)
          co_return "a batch failed: " + batch.error().message();
        for (const auto &view : *batch)
          got.emplace_back(view.text());
      }
      for (const auto &m : got)
        if (m != std::to_string(expected++))
          co_return "got " + m + " instead of " + std::to_string(expected - 1);
    }
    co_return std::string();
  }(pair.server));
  BOOST_CHECK_EQUAL(trouble, "");
}

// The runtime goes while foreign coroutines wait for its sessions: each of them is answered.
BOOST_AUTO_TEST_CASE(a_runtime_goes_under_foreign_waiters) {
  for (int round = 0; round < 20; ++round) {
    foreign_context foreign;
    std::atomic<int> ended{0};
    std::atomic<int> started{0};
    constexpr int waiters = 6;
    {
      running_runtime r(2);
      std::vector<sessions> pairs;
      for (int i = 0; i < waiters; ++i) {
        pairs.push_back(wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(1))));
        asio::co_spawn(
            foreign.io(),
            [](session s, int which, std::atomic<int> *begun) -> task<bool> {
              for (;;) {
                ++*begun;
                failure f;
                switch (which % 3) {
                case 0: {
                  auto m = co_await s.receive();
                  f = m ? failure() : m.error();
                  break;
                }
                case 1: {
                  auto rtt = co_await s.ping();
                  f = rtt ? failure() : rtt.error();
                  break;
                }
                default:
                  f = co_await s.wait_closed();
                }
                if (f.code())
                  co_return f == error::shut_down;
              }
            }(i % 2 ? pairs.back().server : pairs.back().client, i, &started),
            [&](std::exception_ptr e, bool told) {
              BOOST_CHECK(!e && told);
              ++ended;
            });
      }
      while (started < waiters)
        std::this_thread::yield();
      r.stop();
    }
    while (ended < waiters)
      std::this_thread::yield();
  }
}

// Closing and aborting from bare threads, while both ends are busy.
BOOST_AUTO_TEST_CASE(ending_sessions_from_bare_threads) {
  running_runtime r(2);
  for (int round = 0; round < 30; ++round) {
    auto pair = wait_for(r.at(0).executor(), make_pair_on(r.at(0), r.at(1)));
    asio::co_spawn(r.at(0).executor(), echo(pair.server), [](std::exception_ptr, int) {});
    asio::co_spawn(r.at(1).executor(), echo(pair.client), [](std::exception_ptr, int) {});
    BOOST_CHECK(pair.client.try_send("round and round").has_value());
    std::thread a([s = pair.server, round]() mutable {
      if (round % 3 == 0)
        s.abort();
      else
        s.start_close(close_code::going_away, "over");
    });
    std::thread b([s = pair.client, round]() mutable {
      auto token = s.stop_token();
      if (round % 3 == 1)
        s.abort();
      else
        s.start_close();
      while (!token.stop_requested())
        std::this_thread::yield();
      BOOST_CHECK(s.end().code());
    });
    a.join();
    b.join();
    const auto end = wait_for(r.at(1).executor(), pair.server.wait_closed()); // across shards
    BOOST_CHECK(end.code());
  }
}

BOOST_AUTO_TEST_SUITE_END()
