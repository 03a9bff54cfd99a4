// An engine that is away for a while, and rooms that do without it.

#include "broker_away_support.hpp"

#include <chorus/server/broker_node.hpp>
#include <chorus/server/remote_calls.hpp>
#include <chorus/server/server_core.hpp>

using namespace away_test;

namespace {

constexpr auto degrade = chorus::away_policy::degrade;

// The lease is renewed, which is how a server that listens to nothing hears of it.
void reach(server_of &n) {
  n.engine->come_back();
  n.server.server.core()->calls()->node()->on_gap();
}

} // namespace

BOOST_AUTO_TEST_SUITE(broker_degraded)

BOOST_AUTO_TEST_CASE(members_here_get_messages_at_once_without_a_place) {
  pair_of t(keeping_when(degrade));
  const auto before = t.c.positions["lobby"].epoch;
  t.a.engine->go();
  t.a.publish({"1", "2"});
  for (const char *one : {"1", "2"}) {
    const auto h = t.c.take();
    BOOST_CHECK_EQUAL(h.payload, one);
    BOOST_CHECK_EQUAL(h.room, "lobby");
    BOOST_CHECK_EQUAL(h.offset, -1);
  }
  const auto report = t.a.broadcast("3", 20s).get();
  BOOST_CHECK_EQUAL(report.delivered, 1u);
  t.c_reads({"3"});
  t.b.publish({"elsewhere"});
  t.d_reads({"elsewhere"});
  t.a.engine->come_back();
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0);
  BOOST_CHECK_EQUAL(j.why, "epoch");
  BOOST_CHECK_NE(j.epoch, before);
  t.c_reads({"elsewhere"}); // what it missed, and nothing of what it has
  t.a.publish({"4"});
  t.both_read({"4"}); // the other one never sees the rest
  BOOST_CHECK_EQUAL(t.a.engine->epochs_begun, 1);
  const auto stats = t.a.lobby().stats();
  BOOST_CHECK_EQUAL(stats.unnumbered, 3u);
  BOOST_CHECK_EQUAL(stats.broker_failures, 0u);
  // Its new position holds, the old one does not.
  t.c.vanish();
  t.b.publish({"5"});
  t.c.connect(t.b.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
  t.c_reads({"5"});
  t.c.vanish();
  t.c.positions["lobby"].epoch = before;
  t.c.connect(t.b.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 0);
}

// What is kept is still there in the new epoch, for newcomers and by its places.
BOOST_AUTO_TEST_CASE(a_new_epoch_forgets_nothing) {
  const auto engine = chorus::make_memory_broker();
  server_of a(engine, keeping_when(degrade), 10);
  client c("b2d0c7f3a91e4d55");
  c.connect(a.server.port(), "/r/lobby");
  c.joined();
  a.publish({"1", "2"});
  BOOST_CHECK_EQUAL(c.take().payload, "1");
  BOOST_CHECK_EQUAL(c.take().payload, "2");
  a.engine->go();
  a.publish({"3"});
  BOOST_CHECK_EQUAL(c.take().payload, "3");
  a.engine->come_back();
  c.joined();
  client late("cccccccccccccccc");
  late.connect(a.server.port(), "/r/lobby");
  const auto j = late.joined();
  BOOST_CHECK_EQUAL(j.missed, 2);
  BOOST_CHECK_EQUAL(j.epoch, c.positions["lobby"].epoch);
  for (const char *one : {"1", "2"}) {
    const auto h = late.take();
    BOOST_CHECK_EQUAL(h.payload, one);
    BOOST_CHECK_EQUAL(h.epoch, j.epoch);
  }
}

BOOST_AUTO_TEST_CASE(so_many_rooms_go_on_and_no_more) {
  server_of a(chorus::make_memory_broker(), keeping_when(degrade), 0, false, 2);
  a.engine->go();
  std::vector<chorus::room> rooms;
  for (const char *name : {"1", "2", "3"}) {
    rooms.push_back(a.server.server.room(name));
    rooms.back().publish("alone");
    BOOST_REQUIRE(comes_true([&, one = rooms.back()] {
      return one.stats().unnumbered + one.stats().broker_failures != 0;
    }));
  }
  BOOST_CHECK_EQUAL(rooms[1].stats().unnumbered, 1u);
  BOOST_CHECK_EQUAL(rooms[2].stats().unnumbered, 0u);
  BOOST_CHECK(comes_true([&] { return a.told("max_lingering_rooms"); })); // after it is counted
  rooms[0].publish("one of them already");
  BOOST_CHECK(comes_true([&] { return rooms[0].stats().unnumbered == 2; }));
  reach(a);
  BOOST_REQUIRE(comes_true([&] { return a.engine->epochs_begun == 2; }));
  a.engine->go();
  BOOST_REQUIRE(comes_true([&] {
    rooms[2].publish("alone");
    return rooms[2].stats().unnumbered != 0;
  }));
}

BOOST_AUTO_TEST_CASE(all_rooms_go_on_where_there_is_no_bound) {
  server_of a(chorus::make_memory_broker(), keeping_when(degrade), 0, false, 0);
  a.engine->go();
  for (const char *name : {"1", "2"}) {
    auto one = a.server.server.room(name);
    one.publish("alone");
    BOOST_CHECK(comes_true([&] { return one.stats().unnumbered == 1; }));
  }
}

BOOST_AUTO_TEST_CASE(what_was_under_way_is_given_once) {
  for (const bool got_through : {true, false}) {
    pair_of t(keeping_when(degrade));
    t.engine_of_a_goes();
    t.c_reads({"1", "2", "3"});
    if (got_through)
      t.a.engine->answer_held();
    else
      t.a.engine->answer_held(chorus::error::unconfirmed);
    t.a.engine->come_back();
    t.c.joined();
    t.a.publish({"4"});
    t.c_reads({"4"});
    t.d_reads({"1", "2", "4"});
    BOOST_CHECK_EQUAL(t.c.doubled, 0);
    BOOST_CHECK_EQUAL(t.a.lobby().stats().unconfirmed, got_through ? 0u : 2u);
  }
}

BOOST_AUTO_TEST_CASE(what_failed_is_given_then) {
  for (const auto how :
       {chorus::error::lost, chorus::error::timed_out, chorus::error::queue_full}) {
    pair_of t(keeping_when(degrade));
    t.a.engine->how = how;
    t.a.engine->fails_publish = true;
    t.a.engine->fails_epoch = true; // else one may begin between the two
    t.a.publish({"1", "2"});
    t.c_reads({"1", "2"});
    t.a.engine->fails_publish = false;
    t.a.engine->fails_epoch = false;
    t.a.engine->gap();
    t.c.joined();
    t.a.publish({"3"});
    t.both_read({"3"});
  }
}

BOOST_AUTO_TEST_CASE(who_comes_while_it_is_away_is_let_in) {
  pair_of t(keeping_when(degrade));
  t.a.engine->go();
  // The room is there, and nothing was published meanwhile.
  t.c.vanish();
  t.c.connect(t.a.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
  t.a.publish({"1"});
  t.c_reads({"1"});
  t.c.vanish();
  t.c.connect(t.a.server.port(), "/r/lobby");
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0); // of "1" nobody knows
  BOOST_CHECK_EQUAL(j.why, "epoch");
  t.a.publish({"2"});
  t.c_reads({"2"});
  t.a.engine->come_back();
  t.c.joined();
  t.a.publish({"3"});
  t.both_read({"3"});
}

// By a server that never reached the engine.
BOOST_AUTO_TEST_CASE(a_room_is_entered_without_its_engine) {
  pair_of t(keeping_when(degrade));
  server_of n(t.engine, keeping_when(degrade), 0, true);
  t.c.vanish();
  t.b.publish({"meanwhile"});
  t.d_reads({"meanwhile"});
  t.c.connect(n.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 0);
  n.publish({"1"});
  t.c_reads({"1"});
  reach(n);
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0);
  BOOST_CHECK_EQUAL(n.engine->epochs_begun, 1);
  n.publish({"2"});
  t.both_read({"2"});
  t.c.vanish();
  t.c.connect(t.b.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
}

// Whose room nobody published to: no epoch has to end, but its members learn where they are.
BOOST_AUTO_TEST_CASE(who_was_let_in_learns_its_place) {
  pair_of t(keeping_when(degrade));
  server_of n(t.engine, keeping_when(degrade), 0, true);
  t.c.vanish();
  t.c.connect(n.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 0);
  reach(n);
  t.c.joined();
  BOOST_CHECK_EQUAL(n.engine->epochs_begun, 0);
  n.publish({"1"});
  t.both_read({"1"});
  t.c.vanish();
  t.c.connect(t.b.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
}

BOOST_AUTO_TEST_CASE(others_turn_newcomers_away) {
  const auto engine = chorus::make_memory_broker();
  server_of n(engine, keeping_when(chorus::away_policy::buffer), 0, true);
  auto late = n.plain();
  BOOST_CHECK_EQUAL(late.read_frame().opcode, 8u);
}

BOOST_AUTO_TEST_CASE(nothing_has_a_place_before_the_new_epoch) {
  pair_of t(keeping_when(degrade));
  t.a.engine->go();
  t.a.publish({"1"});
  t.c_reads({"1"});
  t.a.engine->fails_epoch = true;
  t.a.engine->come_back();
  BOOST_CHECK(comes_true([&] { return t.a.told("new epoch"); }));
  const int before = t.a.engine->published_to;
  t.a.publish({"2"});
  t.c_reads({"2"});
  BOOST_CHECK_EQUAL(t.a.engine->published_to, before);
  t.a.engine->fails_epoch = false;
  t.a.engine->gap();
  t.c.joined();
  t.a.publish({"3"});
  t.both_read({"3"});
}

BOOST_AUTO_TEST_CASE(a_server_stops_while_its_engine_is_away) {
  pair_of t(keeping_when(degrade));
  t.a.engine->go();
  t.a.publish({"1"});
  t.c_reads({"1"});
  auto stopped = boost::asio::co_spawn(t.a.server.loop.rt().executor(), t.a.server.server.stop(20s),
                                       boost::asio::use_future);
  BOOST_CHECK_EQUAL(t.c.next().closed, 1001u);
  t.c.vanish();
  BOOST_REQUIRE((stopped.wait_for(patience) == std::future_status::ready));
}

BOOST_AUTO_TEST_CASE(rooms_without_history_are_entered_too) {
  for (const auto policy :
       {chorus::away_policy::refuse, chorus::away_policy::buffer, chorus::away_policy::degrade}) {
    const auto engine = chorus::make_memory_broker();
    server_of b(engine, keeping_when(policy, 0));
    auto d = b.plain();
    BOOST_REQUIRE(comes_true([&] { return b.lobby().size() == 1; }));
    server_of n(engine, keeping_when(policy, 0), 0, true);
    auto c = n.plain();
    BOOST_REQUIRE(comes_true([&] { return n.lobby().size() == 1; }));
    n.publish({"1"});
    BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
    reach(n);
    BOOST_CHECK(comes_true([&] { return n.engine->listens("room/lobby"); }));
    n.publish({"2"});
    BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
    BOOST_CHECK_EQUAL(d.read_frame().payload, "2"); // "1" was for those there alone
    b.publish({"3"});
    BOOST_CHECK_EQUAL(c.read_frame().payload, "3");
    BOOST_CHECK_EQUAL(n.engine->epochs_begun, 0);
  }
}

// With a list of those who are known there.
BOOST_AUTO_TEST_CASE(rooms_with_presence_alone_are_entered_too) {
  for (const auto policy : {chorus::away_policy::refuse, chorus::away_policy::degrade}) {
    auto keep = keeping_when(policy, 0);
    keep.presence = true;
    const auto engine = chorus::make_memory_broker();
    server_of b(engine, keep);
    auto d = b.plain();
    BOOST_CHECK(has(d.read_frame().payload, "list"));
    server_of n(engine, keep, 0, true);
    auto c = n.plain();
    BOOST_CHECK(has(c.read_frame().payload, "list"));
    reach(n);
    BOOST_CHECK(has(d.read_frame().payload, "joined"));
    b.publish({"1"});
    BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
    BOOST_CHECK_EQUAL(d.read_frame().payload, "1");
  }
}

BOOST_AUTO_TEST_SUITE_END()
