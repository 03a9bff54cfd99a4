// A NATS server that goes and comes back, with its data, without, or with older data, and nodes that go.

#include "integration/nats_support.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <filesystem>
#include <map>

namespace {

using namespace nats_test;

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_faults, one_server)

BOOST_AUTO_TEST_CASE(a_restart_with_its_data_loses_nothing) {
  auto one = node();
  auto two = node();
  const auto ear = one.listen("r");
  const auto other = two.listen("r");
  one.publish("r", "1", kept).value();
  const auto second = two.publish("r", "2", kept).value();
  BOOST_CHECK(!one.renew("a", 1h));
  one.enter("r", "a", "x").value();
  BOOST_CHECK(becomes_true([&] { return other->heard().size() == 9; })); // in either order
  other->hears(other->heard());
  server.kill();
  BOOST_REQUIRE(is_down(one) && is_down(two));
  const auto refused = one.publish("r", "away", kept);
  BOOST_CHECK(refused.error() == chorus::error::lost);
  BOOST_TEST_MESSAGE(refused.error().message());
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(two));
  BOOST_CHECK(becomes_true([&] { return ear->gaps() >= 1; }));
  BOOST_CHECK(becomes_true([&] { return other->gaps() >= 1; }));
  const auto third = one.publish("r", "3", kept).value();
  BOOST_CHECK_EQUAL(third.epoch, second.epoch);
  BOOST_CHECK_GT(third.offset, second.offset);
  BOOST_CHECK(other->hears("3 "));
  BOOST_CHECK_EQUAL(two.history("r", second), "3 ");
  BOOST_CHECK_EQUAL(node().history("r"), "1 2 3 ");
  BOOST_CHECK_EQUAL(node().page("r", second).value().trimmed, 0U);
  BOOST_CHECK_EQUAL(two.list("r"), "a/x ");
  BOOST_CHECK(one.renew("a", 1h));
  const auto s = one.engine->stats();
  BOOST_CHECK_EQUAL(s.connects, 2U);
  BOOST_CHECK_EQUAL(s.disconnects, 1U);
  BOOST_CHECK_GE(s.refused, 1U);
  BOOST_CHECK_GE(s.gaps, 1U);
  BOOST_CHECK_EQUAL(s.waiting, 0U);
  BOOST_CHECK_EQUAL(s.waiting_bytes, 0U);
  BOOST_CHECK_GT(s.away.count(), 0);
}

BOOST_AUTO_TEST_CASE(without_its_data_rooms_begin_a_new_epoch) {
  auto one = node();
  auto two = node();
  const auto ear = two.listen("r");
  one.publish("r", "1", kept).value();
  const auto second = one.publish("r", "2", kept).value();
  one.renew("a", 1h);
  one.enter("r", "a", "x").value();
  const auto before = two.members("r").at;
  BOOST_CHECK(becomes_true([&] { return ear->heard().size() == 9; })); // in either order
  ear->hears(ear->heard());
  server.kill();
  BOOST_REQUIRE(is_down(one) && is_down(two));
  server.restart(false);
  BOOST_REQUIRE(is_up(one) && is_up(two));
  const auto page = two.page("r", second).value();
  BOOST_CHECK_NE(page.epoch, second.epoch);
  BOOST_CHECK(page.messages.empty());
  BOOST_CHECK(!one.renew("a", 1h)); // nobody is present by its word
  BOOST_CHECK_EQUAL(two.list("r"), "");
  BOOST_CHECK_NE(two.members("r").at.epoch, before.epoch);
  one.enter("r", "a", "x").value();
  const auto third = one.publish("r", "3", kept).value();
  BOOST_CHECK_EQUAL(third.epoch, page.epoch);
  BOOST_CHECK(becomes_true([&] { return ear->messages().size() == 3; }));
  BOOST_CHECK_EQUAL(ear->messages().back().at.epoch, third.epoch);
  BOOST_CHECK_EQUAL(two.history("r", second), "3 ");
}

BOOST_AUTO_TEST_CASE(older_data_ends_the_epoch) {
  auto one = node();
  auto two = node();
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", kept).value();
  server.kill();
  const auto copy = server.folder() / "copy";
  std::filesystem::copy(server.data(), copy, std::filesystem::copy_options::recursive);
  BOOST_REQUIRE(is_down(one) && is_down(two));
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(two));
  const auto second = one.publish("r", "2", kept).value();
  const auto third = one.publish("r", "3", kept).value();
  BOOST_CHECK_EQUAL(third.epoch, first.epoch);
  server.kill();
  std::filesystem::remove_all(server.data());
  std::filesystem::rename(copy, server.data());
  BOOST_REQUIRE(is_down(one) && is_down(two));
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(two));
  // Only the first knows what is lost, and says so: the other may be up before it has heard of that.
  chorus::broker_page page;
  BOOST_REQUIRE(becomes_true([&] {
    page = two.page("r", third).value();
    return page.epoch != third.epoch;
  }));
  BOOST_REQUIRE_EQUAL(page.messages.size(), 1U);
  BOOST_CHECK_EQUAL(page.messages[0].content.str(), "1");
  const auto again = one.publish("r", "4", kept).value();
  BOOST_CHECK_EQUAL(again.epoch, page.epoch);
  BOOST_CHECK_EQUAL(again.offset, second.offset); // which is why
  BOOST_CHECK_EQUAL(two.history("r", third), "1 4 ");
  BOOST_CHECK_EQUAL(node().history("r", third), "1 4 ");
}

BOOST_AUTO_TEST_CASE(what_was_answered_is_there_once_and_in_order) {
  auto o = patient();
  o.answer_timeout = 10s;
  o.look_up_timeout = 10min; // however long a restart takes
  auto one = node(o);
  auto two = node(o);
  kept.history_messages = 1'000'000; // nothing goes for want of room
  steady_publisher publisher(one, kept);
  for (int round = 0; round < 3; ++round) {
    BOOST_REQUIRE(publisher.goes_on());
    server.kill();
    BOOST_REQUIRE(is_down(one) && is_down(two));
    server.start();
    BOOST_REQUIRE(is_up(one) && is_up(two));
  }
  BOOST_REQUIRE(publisher.goes_on());
  publisher.balances(two);
  BOOST_CHECK_GE(one.engine->stats().looked_up, 1U);
}

BOOST_AUTO_TEST_CASE(an_answer_that_was_lost_is_found_out) {
  auto o = patient();
  o.answer_timeout = 2s;
  o.look_up_timeout = 10min; // nothing here waits for its end
  auto one = node(o);
  auto two = node();
  const auto ear = two.listen("r");
  BOOST_REQUIRE(is_up(one));
  // What is asked before it is sent may be answered too late.
  BOOST_REQUIRE(becomes_true([&] { return one.publish("r", "1", kept).has_value(); }));
  server.pause();
  std::atomic<int> done{0};
  std::vector<chorus::result<chorus::broker_position>> got(2, chorus::failure(chorus::error::busy));
  one.engine->publish(one.make("r", "2", kept), [&](auto r) {
    got[0] = std::move(r);
    ++done;
  });
  one.engine->publish(one.make("r", "passing"), [&](auto r) {
    got[1] = std::move(r);
    ++done;
  });
  // Sent again, at the latest when the connection was given up.
  BOOST_REQUIRE(becomes_true([&] { return is_down(one) || one.engine->stats().looked_up > 0; }));
  server.resume();
  BOOST_REQUIRE(becomes_true([&] { return done == 2; }));
  BOOST_CHECK(got[0].has_value());
  BOOST_CHECK(got[1].has_value());
  BOOST_REQUIRE(is_up(one) && is_up(two));
  BOOST_CHECK_EQUAL(two.history("r"), "1 2 ");
  BOOST_REQUIRE(becomes_true([&] { return one.publish("r", "3", kept).has_value(); }));
  BOOST_CHECK(becomes_true([&] { return ear->heard().find(" 3 ") != std::string::npos; }));
  std::size_t passed = 0;
  for (const auto &m : ear->messages())
    passed += m.content.str() == "passing" ? 1 : 0;
  BOOST_CHECK_EQUAL(passed, 1U);
}

BOOST_AUTO_TEST_CASE(a_node_that_vanishes_leaves_once) {
  auto two = node();
  auto three = node();
  const auto ear = two.listen("r");
  two.renew("b", 1h);
  two.enter("r", "b", "y").value();
  {
    auto one = node();
    one.renew("a", 1h);
    for (int i = 0; i < 20; ++i)
      one.enter("r", "a", std::to_string(i)).value();
    one.renew("a", 1s);
  } // without a word
  BOOST_CHECK(becomes_true([&] { return three.list("r") == "b/y "; }));
  std::map<std::string, int> left;
  BOOST_CHECK(becomes_true([&] {
    left.clear();
    for (const auto &c : ear->changes())
      if (!c.present)
        ++left[c.who.id];
    return left.size() == 20;
  }));
  three.enter("r", "b", "z").value();
  BOOST_CHECK(becomes_true([&] { return ear->heard().ends_with("+b/z "); }));
  for (const auto &c : ear->changes())
    if (!c.present)
      BOOST_CHECK_EQUAL(c.who.node, "a");
  for (const auto &[id, times] : left)
    BOOST_CHECK_EQUAL(times, 1);
}

BOOST_AUTO_TEST_CASE(a_room_with_few_places_is_never_too_full) {
  auto one = node();
  auto two = node();
  one.renew("a", 1h);
  two.renew("b", 1h);
  constexpr int tries = 40;
  std::atomic<int> in{0}, full{0}, other{0};
  const auto count = [&](const chorus::result<> &r) {
    if (r.has_value())
      ++in;
    else
      ++(r.error() == chorus::error::limit_reached ? full : other);
  };
  for (int i = 0; i < tries; ++i) {
    one.engine->enter("r", {"a", "1-" + std::to_string(i), "", 0}, 3, count);
    two.engine->enter("r", {"b", "2-" + std::to_string(i), "", 0}, 3, count);
  }
  BOOST_REQUIRE(becomes_true([&] { return in + full + other == 2 * tries; }));
  BOOST_CHECK_EQUAL(other, 0);
  BOOST_CHECK_GE(in, 1);
  BOOST_CHECK_LE(in, 3);
  BOOST_CHECK_EQUAL(one.members("r").members.size(), static_cast<std::size_t>(in));
}

BOOST_AUTO_TEST_CASE(what_waits_is_bounded_and_answered) {
  auto o = patient();
  o.max_waiting = 50;
  o.answer_timeout = 20s;
  auto one = node(o);
  one.publish("r", "1", kept).value();
  server.pause();
  std::atomic<int> lost{0}, full{0}, other{0};
  const auto count = [&](const auto &r) {
    if (r.has_error() && r.error() == chorus::error::lost)
      ++lost;
    else if (r.has_error() && r.error() == chorus::error::queue_full)
      ++full;
    else
      ++other;
  };
  for (int i = 0; i < 20; ++i) {
    one.engine->publish(one.make("r", "x", kept), count);
    one.engine->publish(one.make("r", "x"), count);
    one.engine->history("r", {}, count);
    one.engine->enter("r", {"a", "1", "", 0}, 0, count);
    one.engine->members("r", count);
    one.engine->subscribe("s", {}, count);
    one.engine->renew("a", 1h, count);
    one.engine->leave("r", "a", "1", count);
    one.engine->begin_epoch("r", "e", count);
  }
  BOOST_CHECK_EQUAL(full, 9 * 20 - 50);
  BOOST_CHECK_EQUAL(one.engine->stats().waiting, 50U);
  one.engine.reset(); // and none is forgotten
  BOOST_CHECK(becomes_true([&] { return lost == 50; }));
  BOOST_CHECK_EQUAL(other, 0);
  server.resume();
}

BOOST_AUTO_TEST_CASE(a_server_that_is_not_there_yet_is_waited_for) {
  server.kill();
  auto o = patient();
  o.connect_timeout = 300ms;
  auto one = node(o);
  const auto early = one.publish("r", "1", kept);
  BOOST_CHECK(early.error() == chorus::error::lost);
  BOOST_CHECK(!one.engine->status().connected);
  BOOST_CHECK(!one.engine->status().why.empty());
  server.start();
  BOOST_REQUIRE(is_up(one));
  BOOST_CHECK(one.publish("r", "2", kept).has_value());
}

BOOST_AUTO_TEST_CASE(a_stream_that_somebody_deletes_is_made_again) {
  auto one = node();
  auto two = node();
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", kept).value();
  BOOST_CHECK(ear->hears("1 "));
  server.kill();
  BOOST_REQUIRE(is_down(one) && is_down(two));
  std::filesystem::remove_all(server.data() / "jetstream" / "$G" / "streams" / "chorus-h-10000-0");
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(two));
  const auto second = one.publish("r", "2", kept).value();
  BOOST_CHECK_NE(second.epoch, first.epoch);
  BOOST_CHECK_EQUAL(two.history("r", first), "2 ");
}

BOOST_AUTO_TEST_SUITE_END()
