#include <chorus/base/histogram.hpp>

#include <boost/test/unit_test.hpp>

using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(histograms)

BOOST_AUTO_TEST_CASE(an_observation_falls_into_the_first_bucket_that_holds_it) {
  static constexpr std::array<double, 3> bounds{1, 2.5, 10};
  histogram h{bounds};
  for (const double value : {0.0, 1.0, 1.5, 2.5, 10.0, 10.5, 1000.0})
    h.observe(value);
  const auto now = h.now();
  BOOST_TEST(now.counts[0] == 2u); // upper bounds belong to their bucket
  BOOST_TEST(now.counts[1] == 2u);
  BOOST_TEST(now.counts[2] == 1u);
  BOOST_TEST(now.counts[3] == 2u);
  BOOST_TEST(now.sum == 1025.5);
}

BOOST_AUTO_TEST_CASE(sums_add_up_over_shards) {
  histogram a{member_bounds};
  histogram b{member_bounds};
  a.observe(3, 4);
  b.observe(3);
  b.observe(1e9);
  histogram_sum all;
  all += a.now();
  all += b.now();
  BOOST_TEST(all.counts[2] == 5u);
  BOOST_TEST(all.counts[member_bounds.size()] == 1u);
  BOOST_TEST(all.sum == 1e9 + 15);
  BOOST_TEST(all.bounds.size() == member_bounds.size());
}

BOOST_AUTO_TEST_SUITE_END()
