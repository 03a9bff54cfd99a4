// Rooms in a cluster whose slots move and whose masters go away.

#include "integration/redis_support.hpp"

namespace {

using namespace redis_test;

struct cluster {
  test_support::redis_cluster redis{3, {"appendonly yes", "appendfsync always"}};
  node one{redis.url()};
  node two{redis.url()};

  cluster() {
    BOOST_REQUIRE(one.comes_up());
    BOOST_REQUIRE(two.comes_up());
  }
  unsigned slot(const std::string &room) {
    return static_cast<unsigned>(
        std::stoul(redis[0].ask({"CLUSTER", "KEYSLOT", "chorus:{" + room + "}"})));
  }
  std::size_t home(const std::string &room) { return redis.owner(slot(room)); }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_in_a_cluster, cluster)

BOOST_AUTO_TEST_CASE(a_room_moves) {
  const auto ear = two.listen("r");
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  int n = 0;
  const auto publish = [&](int count) {
    for (const int end = n + count; n < end; ++n)
      one.publish("r", std::to_string(n), keep(1000)).value();
  };
  publish(20);
  BOOST_CHECK(ear->hears("+a/1 " + numbers(0, 20)));
  const auto epoch = two.page("r").value().epoch;
  const auto from = home("r");
  answers all;
  redis.move_slot(slot("r"), from, (from + 1) % 3, [&] {
    for (int i = 0; i < 20; ++i)
      one.engine->publish(one.make("r", std::to_string(n++), keep(1000)), all.next());
  });
  for (const auto &r : all.all())
    BOOST_CHECK_MESSAGE(r.has_value(), r.error().message());
  publish(20);
  BOOST_CHECK_EQUAL(two.history("r"), numbers(0, n));
  BOOST_CHECK_EQUAL(two.page("r").value().epoch, epoch);
  BOOST_CHECK_EQUAL(two.list("r"), "a/1 ");
  // What was not heard in between is made up for by a gap.
  BOOST_REQUIRE(becomes_true([&] {
    const auto before = ear->messages().size();
    publish(1);
    return becomes_true([&] { return ear->messages().size() > before || ear->gaps() > 0; }) &&
           ear->messages().back().content.str() == std::to_string(n - 1);
  }));
  const auto heard = ear->messages().size();
  BOOST_CHECK(ear->gaps() > 0 || heard == static_cast<std::size_t>(n));
  one.leave("r", "a", "1").value();
  BOOST_CHECK(becomes_true([&] { return ear->changes().size() == 2; }));
}

BOOST_AUTO_TEST_CASE(one_master_is_away) {
  const auto away = home("r");
  std::string other = "s0";
  for (int i = 1; home(other) == away; ++i)
    other = "s" + std::to_string(i);
  const auto ear = two.listen("r");
  one.publish("r", "0", keep(100)).value();
  one.publish(other, "0", keep(100)).value();
  BOOST_CHECK(ear->hears("0 "));
  redis[away].kill();
  BOOST_REQUIRE(one.goes_down());
  const auto refused = one.publish("r", "lost", keep(100));
  BOOST_REQUIRE(refused.has_error());
  BOOST_CHECK_MESSAGE(refused.error() == chorus::error::lost, refused.error().message());
  // A cluster that lacks slots serves none by its default; this one does not go that far at once.
  const auto elsewhere = one.publish(other, "1", keep(100));
  BOOST_CHECK(elsewhere.has_value() || elsewhere.error() == chorus::error::lost);
  redis[away].restart();
  BOOST_REQUIRE(one.comes_up());
  BOOST_REQUIRE(two.comes_up());
  BOOST_REQUIRE(becomes_true([&] { return one.publish("r", "1", keep(100)).has_value(); }));
  BOOST_CHECK(becomes_true([&] { return ear->gaps() > 0; }));
  BOOST_CHECK_EQUAL(two.history("r"), "0 1 ");
}

BOOST_AUTO_TEST_SUITE_END()
