#include "cancellable.hpp"
#include "support.hpp"

using namespace chorus;
using namespace chorus::test;
using transport::ready_read;
using transport::ready_write;
using transport::wait_ready;

BOOST_AUTO_TEST_SUITE(waiting)

BOOST_AUTO_TEST_CASE(ready_deadline_and_hangup) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    bool ready = co_await wait_ready(*a, ready_write, patience());
    BOOST_TEST(ready);
    ready = co_await wait_ready(*a, ready_read, home.now() + 10ms);
    BOOST_TEST(!ready);
    ready = co_await wait_ready(*a, ready_read, home.now() - 1s); // long past
    BOOST_TEST(!ready);
    put(*b, "x");
    ready = co_await wait_ready(*a, ready_read, detail::time_point::max());
    BOOST_TEST(ready);
    ready = co_await wait_ready(*a, ready_read, patience()); // level, not edge
    BOOST_TEST(ready);
    BOOST_TEST(get(*a) == "x");
    b.reset();
    ready = co_await wait_ready(*a, ready_read, patience());
    BOOST_TEST(ready);
  });
}

BOOST_AUTO_TEST_CASE(nothing_stays_behind) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    bool ready = co_await wait_ready(*a, ready_write, patience());
    BOOST_TEST(ready);
    BOOST_TEST(home.poll().size() == 0U);
    ready = co_await wait_ready(*a, ready_read, home.now() + 10ms);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(reads_and_writes_whole) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home, 4096);
    const std::string large(1 << 20, 'y');
    auto writer = [](stream &s, const std::string &bytes) -> task<> {
      auto done = co_await transport::write_all(s, bytes, patience(), error::write_timeout);
      BOOST_TEST(done.has_value());
      s.shutdown_write();
    };
    asio::co_spawn(home.executor(), writer(*a, large), [](std::exception_ptr) {});
    const auto got = co_await read_exactly(*b, large.size());
    BOOST_TEST((got == large));
    std::array<std::byte, 16> into{};
    auto last = co_await transport::read_some(*b, into, patience(), error::timed_out);
    BOOST_TEST(last.has_value());
    BOOST_TEST(*last == 0U);
  });
}

BOOST_AUTO_TEST_CASE(deadlines_carry_the_callers_error) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home, 4096);
    std::array<std::byte, 16> into{};
    auto got = co_await transport::read_some(*a, into, home.now() + 10ms, error::upgrade_timeout);
    BOOST_TEST((got.error() == error::upgrade_timeout));
    const std::string large(1 << 20, 'y');
    auto put_all =
        co_await transport::write_all(*a, large, home.now() + 10ms, error::write_timeout);
    BOOST_TEST((put_all.error() == error::write_timeout));
    b.reset();
    put_all = co_await transport::write_all(*a, large, patience(), error::write_timeout);
    BOOST_TEST(put_all.error().code() == boost::system::errc::broken_pipe);
  });
}

BOOST_AUTO_TEST_CASE(cancelling_throws_and_the_stream_goes_on) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    auto waits = [](stream &s) -> task<> {
      co_await wait_ready(s, ready_read, detail::time_point::max());
    };
    auto reads = [](stream &s) -> task<> {
      std::array<std::byte, 16> into{};
      (void)co_await transport::read_some(s, into, patience(), error::timed_out);
    };
    auto writes = [](stream &s) -> task<> {
      const std::string large(8 << 20, 'y');
      (void)co_await transport::write_all(s, large, patience(), error::timed_out);
    };
    for (int which = 0; which < 3; ++which) {
      cancellable c(home, which == 0 ? waits(*a) : which == 1 ? reads(*a) : writes(*a));
      while (home.poll().size() == 0)
        co_await chorus::sleep(1ms);
      c.cancel();
      c.cancel(); // a second one finds nothing to do
      const bool over = co_await c.end();
      BOOST_TEST(over);
      BOOST_TEST(c.thrown == asio::error::operation_aborted);
      BOOST_TEST(home.poll().size() == 0U);
    }
    while (!get(*b, 1 << 20).empty()) {
    }
    put(*b, "still here");
    const auto got = co_await read_exactly(*a, 10);
    BOOST_TEST(got == "still here");
  });
}

BOOST_AUTO_TEST_CASE(started_cancelled_it_throws_at_once) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    put(*b, "waiting");
    auto body = [](stream &s, int which) -> task<> {
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await chorus::sleep(0ms);
      co_await asio::this_coro::throw_if_cancelled(true);
      std::array<std::byte, 16> into{};
      if (which == 0)
        co_await wait_ready(s, ready_write, patience());
      else if (which == 1)
        (void)co_await transport::read_some(s, into, patience(), error::timed_out);
      else
        (void)co_await transport::write_all(s, "x", patience(), error::timed_out);
    };
    for (int which = 0; which < 3; ++which) {
      cancellable c(home, body(*a, which));
      c.cancel();
      const bool over = co_await c.end();
      BOOST_TEST(over);
      BOOST_TEST(c.thrown == asio::error::operation_aborted);
    }
    BOOST_TEST(get(*a) == "waiting"); // nothing was taken
    BOOST_TEST(get(*b) == "");        // nor written
  });
}

// Readiness, deadline and cancellation in one turn, in every order: resumed exactly once.
BOOST_AUTO_TEST_CASE(races_resolve_once) {
  run([](detail::shard &home) -> task<> {
    auto body = [](transport::waiter &w, int &resumed, bool &told) -> task<> {
      try {
        told = co_await w.wait(detail::time_point::max());
      } catch (...) {
        ++resumed;
        throw;
      }
      ++resumed;
    };
    for (int order = 0; order < 3; ++order) {
      transport::waiter w(home);
      int resumed = 0;
      bool told = false;
      cancellable c(home, body(w, resumed, told));
      co_await chorus::sleep(0ms);
      if (order == 0) {
        w.on_ready(ready_read);
        c.cancel();
      } else if (order == 1) {
        c.cancel();
        w.on_ready(ready_read);
      } else {
        w.on_ready(ready_read);
        w.on_ready(ready_write);
      }
      const bool over = co_await c.end();
      BOOST_TEST(over);
      BOOST_TEST(resumed == 1);
      // What became ready is never lost to a cancellation that came later in the same turn.
      BOOST_TEST((told || c.thrown == asio::error::operation_aborted));
    }
  });
}

BOOST_AUTO_TEST_CASE(a_waiter_told_early_does_not_wait) {
  run([](detail::shard &home) -> task<> {
    transport::waiter w(home);
    w.on_ready(0);
    const bool told = co_await w.wait(home.now() - 1s);
    BOOST_TEST(told);
  });
}

BOOST_AUTO_TEST_CASE(the_stream_may_die_in_the_resumed_coroutine) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    const bool ready = co_await wait_ready(*a, ready_write, patience());
    BOOST_TEST(ready);
    a.reset();
    b.reset();
  });
}

BOOST_AUTO_TEST_CASE(a_runtime_that_goes_destroys_who_waits) {
  struct flag {
    explicit flag(bool &f) : set(f) {}
    ~flag() { set = true; }
    bool &set;
  };
  bool destroyed = false;
  {
    runtime rt;
    auto &home = *rt.core()->shards.front();
    auto body = [](detail::shard &at, bool &gone) -> task<> {
      flag f(gone);
      auto [a, b] = stream_pair(at);
      co_await wait_ready(*a, ready_read, detail::clock::now() + 1h);
    };
    rt.spawn(body(home, destroyed));
    auto main = []() -> task<> { co_await chorus::sleep(5ms); };
    rt.run(main());
    BOOST_TEST(!destroyed);
  }
  BOOST_TEST(destroyed);
}

BOOST_AUTO_TEST_SUITE_END()
