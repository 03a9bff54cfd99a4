#include <chorus/async/timer_wheel.hpp>

#include <boost/test/unit_test.hpp>

#include <functional>
#include <list>
#include <random>
#include <vector>

using namespace std::chrono_literals;
using chorus::detail::duration;
using chorus::detail::time_point;
using chorus::detail::timer;
using chorus::detail::timer_wheel;

namespace {

constexpr duration tick = 10ms;
const time_point start{1h};

struct probe : timer {
  probe()
      : timer([](timer &t) noexcept {
          auto &self = static_cast<probe &>(t);
          ++self.fired;
          if (self.then)
            self.then();
        }) {}
  int fired = 0;
  std::function<void()> then;
};

} // namespace

BOOST_AUTO_TEST_SUITE(timer_wheels)

BOOST_AUTO_TEST_CASE(never_early_and_at_most_one_tick_late) {
  std::mt19937 random(7);
  for (int round = 0; round < 2000; ++round) {
    timer_wheel wheel(tick, start);
    auto now = start + std::chrono::milliseconds(random() % 10000);
    wheel.advance(now);
    probe p;
    const auto when = now + std::chrono::microseconds(random() % 12000000);
    wheel.start(p, when);
    BOOST_REQUIRE(p.active());
    while (p.fired == 0) {
      now += std::chrono::microseconds(1 + random() % 10000);
      wheel.advance(now);
      if (p.fired)
        BOOST_REQUIRE(now >= when);
      else
        BOOST_REQUIRE(now < when + tick);
    }
    BOOST_REQUIRE(!p.active());
    BOOST_REQUIRE(wheel.empty());
  }
}

BOOST_AUTO_TEST_CASE(what_is_due_already_fires_in_the_next_tick) {
  timer_wheel wheel(tick, start);
  wheel.advance(start + 1s);
  probe past;
  probe now;
  probe long_ago;
  wheel.start(past, start + 500ms);
  wheel.start(now, start + 1s);
  wheel.start(long_ago, start - 1h);
  wheel.advance(start + 1s); // no tick passed: nothing fires within its own turn
  BOOST_TEST(past.fired + now.fired + long_ago.fired == 0);
  wheel.advance(start + 1s + tick);
  BOOST_TEST(past.fired + now.fired + long_ago.fired == 3);
}

BOOST_AUTO_TEST_CASE(a_jump_of_many_turns_fires_all_that_is_due_and_no_more) {
  timer_wheel wheel(tick, start);
  std::list<probe> probes;
  for (int i = 0; i < 3000; ++i) {
    probes.emplace_back();
    wheel.start(probes.back(), start + i * 10ms);
  }
  probe later;
  wheel.start(later, start + 40s);
  wheel.advance(start + 15s); // almost three turns
  int i = 0;
  for (const auto &p : probes)
    BOOST_TEST(p.fired == (i++ * 10ms <= 15s ? 1 : 0));
  wheel.advance(start + 39s);
  for (const auto &p : probes)
    BOOST_TEST(p.fired == 1);
  BOOST_TEST(later.fired == 0);
  wheel.advance(start + 100h);
  BOOST_TEST(later.fired == 1);
  // A jump while it is empty leaves nothing wrong behind.
  wheel.advance(start + 200h);
  wheel.start(later, start + 200h + 5ms);
  wheel.advance(start + 200h + 10ms);
  BOOST_TEST(later.fired == 2);
}

BOOST_AUTO_TEST_CASE(the_same_slot_a_turn_apart) {
  timer_wheel wheel(tick, start);
  probe near;
  probe far;
  const auto turn = tick * static_cast<int>(timer_wheel::slots);
  wheel.start(near, start + 50ms);
  wheel.start(far, start + 50ms + turn);
  wheel.advance(start + 50ms);
  BOOST_TEST(near.fired == 1);
  BOOST_TEST(far.fired == 0);
  wheel.advance(start + 40ms + turn);
  BOOST_TEST(far.fired == 0);
  wheel.advance(start + 50ms + turn);
  BOOST_TEST(far.fired == 1);
}

BOOST_AUTO_TEST_CASE(moving_cancelling_destroying) {
  timer_wheel wheel(tick, start);
  probe moved;
  wheel.start(moved, start + 20ms);
  wheel.start(moved, start + 100ms);
  BOOST_TEST(wheel.size() == 1U);
  BOOST_TEST((moved.expiry() == start + 100ms));
  wheel.advance(start + 50ms);
  BOOST_TEST(moved.fired == 0);
  moved.cancel();
  moved.cancel();
  BOOST_TEST(!moved.active());
  wheel.advance(start + 200ms);
  BOOST_TEST(moved.fired == 0);
  {
    probe gone;
    wheel.start(gone, start + 300ms);
  }
  BOOST_TEST(wheel.empty());
  wheel.advance(start + 400ms);
  // A wheel that goes leaves its timers idle.
  probe survivor;
  {
    timer_wheel other(tick, start);
    other.start(survivor, start + 10ms);
  }
  BOOST_TEST(!survivor.active());
  survivor.cancel();
}

BOOST_AUTO_TEST_CASE(callbacks_may_do_anything_with_timers) {
  timer_wheel wheel(tick, start);
  probe a;
  probe b;
  probe again;
  auto doomed = std::make_unique<probe>();
  // Whichever of the two comes first cancels the other.
  a.then = [&] { b.cancel(); };
  b.then = [&] { a.cancel(); };
  wheel.start(a, start + 10ms);
  wheel.start(b, start + 10ms);
  again.then = [&] {
    doomed.reset();
    if (again.fired < 3)
      wheel.start(again, start + 10ms); // due already: not within this turn, or it would never end
  };
  wheel.start(*doomed, start + 2s);
  wheel.start(again, start + 10ms);
  wheel.advance(start + 10ms);
  BOOST_TEST(a.fired + b.fired == 1);
  BOOST_TEST(again.fired == 1);
  BOOST_TEST(doomed == nullptr);
  wheel.advance(start + 20ms);
  BOOST_TEST(again.fired == 2);
  wheel.advance(start + 1h);
  BOOST_TEST(again.fired == 3);
  BOOST_TEST(wheel.empty());
  // All of one slot, and the first to fire cancels all the rest.
  std::list<probe> many;
  int fired = 0;
  for (int i = 0; i < 10; ++i) {
    many.emplace_back();
    many.back().then = [&] {
      ++fired;
      for (auto &p : many)
        p.cancel();
    };
    wheel.start(many.back(), start + 2h);
  }
  wheel.advance(start + 3h);
  BOOST_TEST(fired == 1);
}

BOOST_AUTO_TEST_SUITE_END()
