#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/system/system_error.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <atomic>
#include <csignal>
#include <future>
#include <stdexcept>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace chorus;
using namespace std::chrono_literals;
namespace asio = boost::asio;

namespace {

struct flag {
  explicit flag(std::atomic<bool> &f) : set(f) {}
  ~flag() { set = true; }
  std::atomic<bool> &set;
};

// How a coroutine that was cancelled ended.
template <class Start> error_code cancelled(Start start, bool before) {
  runtime rt;
  error_code thrown;
  asio::cancellation_signal signal;
  bool over = false;
  asio::co_spawn(rt.executor(), start(rt),
                 asio::bind_cancellation_slot(signal.slot(), [&](std::exception_ptr e) {
                   over = true;
                   try {
                     if (e)
                       std::rethrow_exception(e);
                   } catch (const boost::system::system_error &x) {
                     thrown = x.code();
                   }
                   rt.stop();
                 }));
  if (before)
    signal.emit(asio::cancellation_type::terminal);
  else
    asio::post(rt.executor(), [&] {
      asio::post(rt.executor(), [&] { signal.emit(asio::cancellation_type::terminal); });
    });
  rt.run();
  BOOST_TEST(over);
  return thrown;
}

} // namespace

BOOST_AUTO_TEST_SUITE(runtimes)

BOOST_AUTO_TEST_CASE(runs_main_to_its_end_and_rethrows) {
  runtime rt;
  bool ran = false;
  auto good = [](bool &done) -> task<> {
    co_await chorus::sleep(1ms);
    done = true;
  };
  rt.run(good(ran));
  BOOST_TEST(ran);
  runtime other{runtime_options{.threads = 3}};
  auto bad = []() -> task<> {
    co_await chorus::sleep(1ms);
    throw std::runtime_error("from main");
  };
  BOOST_CHECK_EXCEPTION(other.run(bad()), std::runtime_error,
                        [](auto &x) { return std::string(x.what()) == "from main"; });
}

BOOST_AUTO_TEST_CASE(runs_again) {
  runtime rt{runtime_options{.threads = 2}};
  std::atomic<int> ran{0};
  auto counts = [](runtime &r, std::atomic<int> &n) -> task<> {
    // On the other shard, too.
    asio::steady_timer done(co_await asio::this_coro::executor,
                            asio::steady_timer::time_point::max());
    auto beside = [](runtime &here, std::atomic<int> &count, asio::steady_timer &t) -> task<> {
      co_await chorus::sleep(1ms);
      ++count;
      asio::post(here.executor(0), [&t] { t.cancel(); });
    };
    r.spawn(beside(r, n, done), 1);
    boost::system::error_code ignored;
    co_await done.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    ++n;
  };
  for (int round = 1; round <= 3; ++round) {
    rt.run(counts(rt, ran));
    BOOST_TEST(ran.load() == 2 * round);
    BOOST_TEST((detail::shard::current() == nullptr));
  }
  auto throws = [](const char *what) -> task<> {
    co_await chorus::sleep(1ms);
    throw std::runtime_error(what);
  };
  for (const char *what : {"once", "twice"})
    BOOST_CHECK_EXCEPTION(rt.run(throws(what)), std::runtime_error,
                          [&](auto &x) { return std::string(x.what()) == what; });
  rt.run(counts(rt, ran));
  BOOST_TEST(ran.load() == 8);
}

BOOST_AUTO_TEST_CASE(a_stop_leaves_main_behind_and_the_next_run_carries_it_on) {
  runtime rt;
  asio::steady_timer gate(rt.executor(), asio::steady_timer::time_point::max());
  bool over = false;
  auto waits = [](asio::steady_timer &t, bool &done) -> task<> {
    boost::system::error_code ignored;
    co_await t.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
    done = true;
  };
  auto stops = [](runtime &r) -> task<> {
    for (int i = 0; i < 3; ++i) // main has begun by then
      co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    r.stop();
  };
  rt.spawn(stops(rt));
  rt.run(waits(gate, over));
  BOOST_TEST(!over);
  bool second = false;
  auto opens = [](asio::steady_timer &t, bool &first, bool &done) -> task<> {
    t.cancel();
    while (!first)
      co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
    // The end of the first did not end this run.
    co_await chorus::sleep(1ms);
    done = true;
  };
  rt.run(opens(gate, over, second));
  BOOST_TEST(second);
  // A stop in between counts.
  rt.stop();
  bool third = false;
  auto notes = [](bool &done) -> task<> {
    done = true;
    co_return;
  };
  rt.run(notes(third));
  BOOST_TEST(!third);
  rt.spawn(stops(rt));
  rt.run();
  BOOST_TEST(third);
}

BOOST_AUTO_TEST_CASE(an_exception_through_the_loop_leaves_the_thread_unmarked) {
  runtime rt{runtime_options{.threads = 2}};
  asio::post(rt.executor(), [] { throw std::runtime_error("from a callback"); });
  BOOST_CHECK_THROW(rt.run(), std::runtime_error);
  BOOST_TEST((detail::shard::current() == nullptr));
}

BOOST_AUTO_TEST_CASE(stops_from_any_thread_and_destroys_who_waits) {
  std::atomic<bool> destroyed{false};
  {
    runtime rt{runtime_options{.threads = 2}};
    std::atomic<bool> waiting{false};
    auto waits = [](std::atomic<bool> &gone, std::atomic<bool> &begun) -> task<> {
      flag f(gone);
      begun = true;
      co_await chorus::sleep(1h);
    };
    rt.spawn(waits(destroyed, waiting), 1);
    std::thread stopper([&] {
      while (!waiting)
        std::this_thread::yield();
      rt.stop();
    });
    rt.run();
    stopper.join();
    BOOST_TEST(!destroyed);
  }
  BOOST_TEST(destroyed);
}

BOOST_AUTO_TEST_CASE(spawns_on_the_shard_named) {
  runtime rt{runtime_options{.threads = 3}};
  BOOST_TEST(rt.size() == 3U);
  std::atomic<unsigned> done{0};
  std::atomic<unsigned> astray{0};
  auto body = [](runtime &r, unsigned index, std::atomic<unsigned> &count,
                 std::atomic<unsigned> &wrong) -> task<> {
    co_await chorus::sleep(0ms);
    if (detail::shard::current() != r.core()->shards[index].get())
      ++wrong;
    if (++count == 3)
      r.stop();
  };
  for (unsigned i = 0; i < 3; ++i)
    rt.spawn(body(rt, i, done, astray), i);
  rt.run();
  BOOST_TEST(astray.load() == 0U);
  BOOST_CHECK_THROW(rt.spawn(body(rt, 3, done, astray), 3), std::out_of_range);
  BOOST_TEST((runtime{runtime_options{.threads = 0}}.size() >= 1U));
  BOOST_CHECK_THROW(runtime{runtime_options{.tick = 0ms}}, std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(an_exception_from_a_spawned_task_ends_the_program_with_a_word) {
  std::array<int, 2> ends{};
  BOOST_REQUIRE_EQUAL(::pipe(ends.data()), 0);
  const auto child = ::fork();
  if (child == 0) {
    ::dup2(ends[1], 2);
    ::signal(SIGABRT, SIG_DFL);
    runtime rt;
    auto bad = []() -> task<> {
      throw std::runtime_error("nobody catches this");
      co_return;
    };
    rt.spawn(bad());
    rt.run();
    ::_exit(0);
  }
  ::close(ends[1]);
  std::string said;
  std::array<char, 256> piece{};
  for (ssize_t n = 0; (n = ::read(ends[0], piece.data(), piece.size())) > 0;)
    said.append(piece.data(), static_cast<std::size_t>(n));
  ::close(ends[0]);
  int status = 0;
  BOOST_REQUIRE_EQUAL(::waitpid(child, &status, 0), child);
  BOOST_TEST(WIFSIGNALED(status));
  BOOST_TEST(said.find("nobody catches this") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(signals_complete_with_their_number) {
  runtime rt;
  auto body = [](runtime &r) -> task<> {
    asio::post(r.executor(), [] { std::raise(SIGUSR1); });
    const int got = co_await r.signals(SIGUSR1, SIGUSR2);
    BOOST_TEST(got == SIGUSR1);
    asio::post(r.executor(), [] { std::raise(SIGTERM); });
    const int stop = co_await r.signals();
    BOOST_TEST(stop == SIGTERM);
  };
  rt.run(body(rt));
}

BOOST_AUTO_TEST_CASE(waiting_is_cancelled_by_asios_rule) {
  auto sleeps = [](runtime &) -> task<> { co_await chorus::sleep(1h); };
  auto waits = [](runtime &rt) -> task<> { (void)co_await rt.signals(SIGUSR1); };
  BOOST_TEST(cancelled(sleeps, false) == asio::error::operation_aborted);
  BOOST_TEST(cancelled(waits, false) == asio::error::operation_aborted);
  cancelled(sleeps, true); // before it began: over all the same
  cancelled(waits, true);
}

BOOST_AUTO_TEST_CASE(wraps_a_context_of_the_users) {
  asio::io_context io;
  runtime rt(io);
  BOOST_CHECK_THROW(rt.run(), std::logic_error);
  BOOST_CHECK_THROW(runtime{io}, std::logic_error);
  BOOST_TEST(rt.size() == 1U);
  auto &home = *rt.core()->shards.front();
  bool ran = false;
  bool fired = false;
  auto body = [](detail::shard &at, bool &done) -> task<> {
    BOOST_TEST(at.here());
    co_await chorus::sleep(1ms);
    BOOST_TEST((detail::shard::of(co_await asio::this_coro::executor) == &at));
    done = true;
  };
  rt.spawn(body(home, ran));
  home.post([&] {
    fired = true;
    rt.stop();
  });
  io.run();
  io.restart();
  while (!ran)
    io.run_one();
  BOOST_TEST(fired);
}

BOOST_AUTO_TEST_CASE(a_context_may_be_wrapped_again_once_the_runtime_is_gone) {
  asio::io_context io;
  { runtime rt(io); }
  runtime rt(io);
  bool ran = false;
  rt.core()->shards.front()->post([&] {
    ran = true;
    rt.stop();
  });
  io.run();
  BOOST_TEST(ran);
}

BOOST_AUTO_TEST_CASE(one_thread_after_another_may_run_a_wrapped_context) {
  asio::io_context io;
  runtime rt(io);
  auto &home = *rt.core()->shards.front();
  for (int round = 0; round < 3; ++round) {
    std::exception_ptr failed;
    std::thread runner([&] {
      try {
        io.restart();
        home.post([&] { io.stop(); });
        io.run();
      } catch (...) {
        failed = std::current_exception();
      }
    });
    runner.join();
    BOOST_TEST((failed == nullptr));
  }
}

#ifndef __SANITIZE_THREAD__ // the misuse that is detected here is a data race in itself
BOOST_AUTO_TEST_CASE(a_second_thread_at_the_same_time_is_detected) {
  asio::io_context io;
  runtime rt(io);
  auto &home = *rt.core()->shards.front();
  std::atomic<int> sentences{0};
  auto work = asio::make_work_guard(io);
  std::atomic<bool> over{false};
  // Keeps both threads busy with turns until one of them is told.
  std::function<void()> again = [&] {
    if (!over)
      home.post(again);
  };
  for (int i = 0; i < 4; ++i)
    again();
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      try {
        io.run();
      } catch (const std::logic_error &x) {
        if (std::string(x.what()).find("two threads") != std::string::npos)
          ++sentences;
        over = true;
        io.stop();
      }
    });
  for (auto &t : threads)
    t.join();
  BOOST_TEST(sentences.load() >= 1);
}

BOOST_AUTO_TEST_CASE(two_threads_that_come_at_once_do_not_wait_for_each_other) {
  asio::io_context io;
  runtime rt(io);
  auto &home = *rt.core()->shards.front();
  auto work = asio::make_work_guard(io);
  bool ran = false; // by a third: each of the others is new
  home.post([&] { ran = true; });
  while (!ran)
    io.run_one();
  std::promise<void> refused;
  const auto one_is_refused = refused.get_future().share();
  for (int i = 0; i < 2; ++i)
    home.post([&] {
      one_is_refused.wait_for(30s);
      io.stop();
    });
  std::atomic<int> sentences{0};
  std::vector<std::thread> threads;
  for (int i = 0; i < 2; ++i)
    threads.emplace_back([&] {
      try {
        io.run();
      } catch (const std::logic_error &) {
        if (++sentences == 1)
          refused.set_value();
      }
    });
  for (auto &t : threads)
    t.join();
  BOOST_TEST(sentences.load() == 1);
}
#endif

BOOST_AUTO_TEST_SUITE_END()
