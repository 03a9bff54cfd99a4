#include <chorus/base/backoff.hpp>

#include <boost/test/unit_test.hpp>

#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

using namespace std::chrono_literals;
using chorus::backoff;
using chorus::jitter;
using std::chrono::milliseconds;

namespace {

chorus::backoff_options options(milliseconds initial, double factor, milliseconds cap,
                                jitter spread) {
  chorus::backoff_options o;
  o.initial = initial;
  o.factor = factor;
  o.cap = cap;
  o.spread = spread;
  return o;
}

constexpr std::uint64_t least = 0;
constexpr std::uint64_t most = std::numeric_limits<std::uint64_t>::max();

} // namespace

BOOST_AUTO_TEST_SUITE(backoff_value)

BOOST_AUTO_TEST_CASE(grows_by_its_factor_up_to_the_cap) {
  backoff b(options(1s, 1.6, 30s, jitter::none));
  std::vector<long> seen;
  for (int i = 0; i < 10; ++i)
    seen.push_back(b.next(least).count());
  const std::vector<long> expected{1000, 1600, 2560, 4096, 6554, 10486, 16777, 26844, 30000, 30000};
  BOOST_TEST(seen == expected, boost::test_tools::per_element());
  BOOST_TEST(b.attempts() == 10U);
}

BOOST_AUTO_TEST_CASE(reset_starts_over) {
  backoff b(options(100ms, 2.0, 10s, jitter::none));
  b.next(least);
  b.next(least);
  BOOST_CHECK(b.next(least) == 400ms);
  b.reset();
  BOOST_TEST(b.attempts() == 0U);
  BOOST_CHECK(b.next(least) == 100ms);
}

BOOST_AUTO_TEST_CASE(full_jitter_covers_zero_to_the_delay) {
  backoff low(options(1s, 2.0, 30s, jitter::full));
  BOOST_CHECK(low.next(least) == 0ms);
  backoff middle(options(1s, 2.0, 30s, jitter::full));
  BOOST_CHECK(middle.next(std::uint64_t{1} << 63) == 500ms);
  backoff high(options(1s, 2.0, 30s, jitter::full));
  BOOST_CHECK(high.next(most) == 1000ms);
  // The growth is that of the delay before the jitter.
  BOOST_CHECK(low.next(most) == 2000ms);
}

BOOST_AUTO_TEST_CASE(partial_jitter_stays_within_a_fifth_and_the_cap) {
  backoff low(options(1s, 1.0, 30s, jitter::partial));
  BOOST_CHECK(low.next(least) == 800ms);
  BOOST_CHECK(low.next(most) == 1200ms);
  backoff capped(options(1s, 10.0, 2s, jitter::partial));
  capped.next(most);
  BOOST_CHECK(capped.next(most) == 2s);
  BOOST_CHECK(capped.next(least) == 1600ms);
}

BOOST_AUTO_TEST_CASE(random_delays_never_leave_their_bounds) {
  std::mt19937_64 random(7);
  for (auto spread : {jitter::full, jitter::partial}) {
    backoff b(options(10ms, 1.5, 1s, spread));
    for (int i = 0; i < 10'000; ++i) {
      const auto d = b.next(random());
      BOOST_REQUIRE(d >= 0ms);
      BOOST_REQUIRE(d <= 1s);
      if (i == 5'000)
        b.reset();
    }
  }
}

BOOST_AUTO_TEST_CASE(extremes_neither_overflow_nor_become_nonsense) {
  backoff huge(options(milliseconds::max(), 1e300, milliseconds::max(), jitter::none));
  for (int i = 0; i < 5; ++i)
    BOOST_CHECK(huge.next(most) > 0ms);
  backoff zero(options(0ms, 1e300, 30s, jitter::none));
  for (int i = 0; i < 5; ++i)
    BOOST_CHECK(zero.next(most) == 0ms); // not infinity times zero
  backoff capped(options(1s, 2.0, 0ms, jitter::partial));
  BOOST_CHECK(capped.next(most) == 0ms);
  backoff steady(options(1s, 2.0, 30s, jitter::none));
  for (int i = 0; i < 100'000; ++i)
    steady.next(least);
  BOOST_CHECK(steady.next(least) == 30s);
}

BOOST_AUTO_TEST_CASE(unusable_options_are_refused) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double infinite = std::numeric_limits<double>::infinity();
  BOOST_CHECK_THROW(backoff(options(-1ms, 2.0, 1s, jitter::none)), std::invalid_argument);
  BOOST_CHECK_THROW(backoff(options(1s, 2.0, -1ms, jitter::none)), std::invalid_argument);
  BOOST_CHECK_THROW(backoff(options(1s, 0.99, 1s, jitter::none)), std::invalid_argument);
  BOOST_CHECK_THROW(backoff(options(1s, nan, 1s, jitter::none)), std::invalid_argument);
  BOOST_CHECK_THROW(backoff(options(1s, infinite, 1s, jitter::none)), std::invalid_argument);
  BOOST_CHECK_NO_THROW(backoff(options(1s, 1.0, 1s, jitter::none)));
}

BOOST_AUTO_TEST_SUITE_END()
