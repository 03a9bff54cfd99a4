#include <chorus/async/gate.hpp>
#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>

#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <atomic>
#include <thread>

using namespace chorus;
using namespace std::chrono_literals;

namespace {

struct timer_probe : detail::timer {
  timer_probe()
      : timer([](detail::timer &t) noexcept {
          auto &self = static_cast<timer_probe &>(t);
          ++self.fired;
          if (self.then)
            self.then();
        }) {}
  int fired = 0;
  std::function<void()> then;
};

struct flush_probe : detail::flushable {
  void flush_turn() noexcept override {
    ++flushed;
    if (then)
      then();
  }
  int flushed = 0;
  std::function<void()> then;
};

} // namespace

BOOST_AUTO_TEST_SUITE(shards)

BOOST_AUTO_TEST_CASE(posts_from_foreign_threads_run_on_the_shard) {
  runtime rt{runtime_options{.threads = 2}};
  auto &home = *rt.core()->shards[1];
  std::atomic<int> ran{0};
  std::atomic<int> elsewhere{0};
  std::atomic<int> refused{0};
  constexpr int each = 500;
  const auto work = [&] {
    if (!home.here() || detail::shard::current() != &home)
      ++elsewhere;
    if (++ran == 4 * each)
      rt.stop();
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i)
    threads.emplace_back([&] {
      for (int n = 0; n < each; ++n)
        refused += home.post(work) ? 0 : 1;
    });
  rt.run();
  for (auto &t : threads)
    t.join();
  BOOST_TEST(ran.load() == 4 * each);
  BOOST_TEST(elsewhere.load() == 0);
  BOOST_TEST(refused.load() == 0);
  BOOST_TEST(!home.here());
}

BOOST_AUTO_TEST_CASE(posting_is_never_inline_and_run_is) {
  runtime rt;
  auto &home = *rt.core()->shards.front();
  auto body = [](detail::shard &at) -> task<> {
    bool ran = false;
    at.post([&] { ran = true; });
    BOOST_TEST(!ran);
    co_await chorus::sleep(0ms);
    BOOST_TEST(ran);
    ran = false;
    at.run([&] { ran = true; });
    BOOST_TEST(ran);
  };
  rt.run(body(home));
}

BOOST_AUTO_TEST_CASE(after_the_runtime_is_gone_posting_says_so) {
  std::shared_ptr<detail::shard> kept;
  bool ran = false;
  {
    runtime rt;
    kept = rt.core()->shards.front();
    auto body = []() -> task<> { co_return; };
    rt.run(body());
  }
  BOOST_TEST(kept->stopped());
  BOOST_TEST(!kept->post([&] { ran = true; }));
  BOOST_TEST(!kept->run([&] { ran = true; }));
  BOOST_TEST(!ran);
}

// What was posted but never ran is destroyed with the runtime, on whichever thread posted.
BOOST_AUTO_TEST_CASE(posts_race_with_the_end_of_the_runtime) {
  for (int round = 0; round < 20; ++round) {
    auto token = std::make_shared<int>(0);
    auto rt = std::make_unique<runtime>(runtime_options{.threads = 2});
    const auto home = rt->core()->shards[1];
    std::atomic<bool> begun{false};
    std::thread poster([&] {
      while (home->post([token] {}))
        begun = true;
    });
    while (!begun)
      std::this_thread::yield();
    rt.reset();
    poster.join();
    BOOST_TEST(token.use_count() == 1);
  }
}

BOOST_AUTO_TEST_CASE(wheel_timers_fire_by_the_real_and_by_a_manual_clock) {
  runtime rt{runtime_options{.tick = 1ms}};
  auto &home = *rt.core()->shards.front();
  auto body = [](detail::shard &at) -> task<> {
    timer_probe p;
    const auto when = detail::clock::now() + 3ms;
    at.start(p, when);
    while (p.fired == 0)
      co_await chorus::sleep(1ms);
    BOOST_TEST((detail::clock::now() >= when));
    at.use_manual_clock();
    const auto now = at.now();
    at.start_after(p, 1h);
    co_await chorus::sleep(3ms);
    BOOST_TEST((at.now() == now));
    at.advance(59min);
    BOOST_TEST(p.fired == 1);
    at.advance(1min + 1ms);
    BOOST_TEST(p.fired == 2);
  };
  rt.run(body(home));
}

BOOST_AUTO_TEST_CASE(flushes_run_once_at_the_end_of_the_turn) {
  runtime rt;
  auto &home = *rt.core()->shards.front();
  auto body = [](detail::shard &at) -> task<> {
    flush_probe f;
    flush_probe withdrawn;
    flush_probe again;
    again.then = [&] {
      if (again.flushed < 100)
        at.flush_later(again);
    };
    at.post([&] {
      at.flush_later(f);
      at.flush_later(f);
      at.flush_later(withdrawn);
      at.withdraw(withdrawn);
      at.flush_later(again);
      BOOST_TEST(f.flushed == 0);
    });
    while (again.flushed < 100)
      co_await chorus::sleep(0ms);
    BOOST_TEST(f.flushed == 1);
    BOOST_TEST(withdrawn.flushed == 0);
    at.flush_later(f); // outside any turn
    BOOST_TEST(f.flushed == 1);
    co_await chorus::sleep(1ms);
    BOOST_TEST(f.flushed == 2);
  };
  rt.run(body(home));
}

BOOST_AUTO_TEST_CASE(is_found_by_its_executor) {
  runtime rt;
  boost::asio::io_context stranger;
  auto &home = *rt.core()->shards.front();
  BOOST_TEST(detail::shard::of(rt.executor()) == &home);
  BOOST_TEST(detail::shard::of(stranger.get_executor()) == nullptr);
  BOOST_TEST(detail::shard::current() == nullptr);
}

BOOST_AUTO_TEST_CASE(gates_open_when_the_last_has_left) {
  detail::gate g;
  int opened = 0;
  g.on_empty([&] { ++opened; });
  BOOST_TEST(opened == 1); // empty already
  {
    auto first = g.enter();
    auto second = g.enter();
    BOOST_TEST(g.count() == 2U);
    g.on_empty([&] { ++opened; });
    auto moved = std::move(first);
    { auto last = std::move(second); }
    BOOST_TEST(g.count() == 1U);
    BOOST_TEST(opened == 1);
    detail::gate::pass assigned;
    assigned = std::move(moved);
    BOOST_TEST(g.count() == 1U);
  }
  BOOST_TEST(opened == 2);
  { auto more = g.enter(); }
  BOOST_TEST(opened == 2); // told once
}

BOOST_AUTO_TEST_SUITE_END()
