// An engine that is away for a while, and rooms whose messages wait for it.

#include "broker_away_support.hpp"

using namespace away_test;

namespace {

constexpr auto buffer = chorus::away_policy::buffer;

} // namespace

BOOST_AUTO_TEST_SUITE(broker_away)

BOOST_AUTO_TEST_CASE(bounds_that_let_nothing_wait_are_complained_of) {
  auto r = keeping_when(buffer);
  BOOST_CHECK(chorus::detail::complaint_about(r).empty());
  r.away_messages = 0;
  BOOST_CHECK(has(std::string(chorus::detail::complaint_about(r)), "away_messages"));
  r.when_away = chorus::away_policy::refuse;
  BOOST_CHECK(chorus::detail::complaint_about(r).empty());
  r.when_away = chorus::away_policy::degrade;
  r.away_messages = 1;
  r.away_bytes = 0;
  BOOST_CHECK(has(std::string(chorus::detail::complaint_about(r)), "away_bytes"));
}

BOOST_AUTO_TEST_CASE(what_is_refused_says_why) {
  pair_of t(keeping_when(chorus::away_policy::refuse));
  t.a.engine->go();
  const auto report = t.a.broadcast("1", 20s).get();
  BOOST_CHECK_EQUAL(report.dropped, 1u);
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::lost);
  BOOST_CHECK(has(report.members[0].why.message(), "the engine is away"));
  BOOST_CHECK_EQUAL(t.a.lobby().stats().broker_failures, 1u);
  BOOST_CHECK_EQUAL(t.a.lobby().stats().waiting, 0u);
  t.a.engine->come_back();
  t.a.publish({"2"});
  t.both_read({"2"});
}

BOOST_AUTO_TEST_CASE(messages_wait_and_go_out_in_their_order) {
  pair_of t(keeping_when(buffer));
  t.a.engine->go();
  t.a.publish({"1", "2", "3", "4", "5", "6", "7", "8"});
  BOOST_CHECK(t.a.waits_for(8));
  t.b.publish({"of the other"}); // whose engine is there
  t.d_reads({"of the other"});
  t.a.engine->come_back();
  t.c_reads({"of the other"}); // missed meanwhile
  t.both_read({"1", "2", "3", "4", "5", "6", "7", "8"});
  t.a.publish({"9"});
  t.both_read({"9"});
  const auto stats = t.a.lobby().stats();
  BOOST_CHECK_EQUAL(stats.waiting, 0u);
  BOOST_CHECK_EQUAL(stats.broker_failures, 0u);
  BOOST_CHECK_GE(stats.replayed, 1u); // what was handed over, perhaps
  BOOST_CHECK_EQUAL(t.a.engine->epochs_begun, 0);
  // All have their places, and one who was away gets them.
  t.c.vanish();
  t.b.publish({"10"});
  t.c.connect(t.b.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
  t.c_reads({"10"});
}

// Nobody knows it beforehand: the calls fail, in each way in which an engine is away.
BOOST_AUTO_TEST_CASE(what_failed_waits_in_front_of_what_came_later) {
  for (const auto how :
       {chorus::error::lost, chorus::error::timed_out, chorus::error::queue_full}) {
    pair_of t(keeping_when(buffer));
    t.a.engine->how = how;
    t.a.engine->fails_publish = true;
    t.a.publish({"1", "2", "3"});
    BOOST_CHECK(t.a.waits_for(3));
    t.a.publish({"4"});
    BOOST_CHECK(t.a.waits_for(4));
    t.a.engine->gap(); // too early: the first is tried
    BOOST_CHECK(comes_true([&] { return t.a.engine->refused > 3; }));
    BOOST_CHECK(t.a.waits_for(4));
    t.a.engine->fails_publish = false;
    t.a.engine->gap();
    t.both_read({"1", "2", "3", "4"});
  }
}

BOOST_AUTO_TEST_CASE(as_many_wait_as_may) {
  auto r = keeping_when(buffer);
  r.away_messages = 2;
  pair_of t(r);
  t.a.engine->go();
  t.a.publish({"1", "2"});
  BOOST_CHECK(t.a.waits_for(2));
  const auto report = t.a.broadcast("3", 20s).get();
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::queue_full);
  BOOST_CHECK(has(report.members[0].why.message(), "away_messages"));
  BOOST_CHECK_EQUAL(t.a.lobby().stats().broker_failures, 1u);
  t.a.engine->come_back();
  t.both_read({"1", "2"});
  t.a.publish({"4"});
  t.both_read({"4"});
}

BOOST_AUTO_TEST_CASE(as_many_bytes_wait_as_may) {
  auto r = keeping_when(buffer);
  r.away_bytes = 10'000;
  pair_of t(r);
  t.a.engine->go();
  t.a.lobby().publish(std::string(8000, 'x'));
  t.a.lobby().publish(std::string(8000, 'y'));
  t.a.publish({"small"});
  BOOST_CHECK(t.a.waits_for(2));
  BOOST_CHECK(comes_true([&] { return t.a.lobby().stats().broker_failures == 1; }));
  t.a.engine->come_back();
  BOOST_CHECK_EQUAL(t.c.take().payload.size(), 8000u);
  t.c_reads({"small"});
}

BOOST_AUTO_TEST_CASE(a_broadcast_waits_as_long_as_its_deadline) {
  pair_of t(keeping_when(buffer));
  t.a.engine->go();
  const auto late = t.a.broadcast("1", 1s).get();
  BOOST_CHECK_EQUAL(late.pending, 1u);
  auto patient = t.a.broadcast("2", 0s);
  BOOST_CHECK(t.a.waits_for(2));
  t.a.engine->come_back();
  t.both_read({"1", "2"});
  BOOST_CHECK_EQUAL(patient.get().delivered, 1u);
}

// Nobody would ever tell of them.
BOOST_AUTO_TEST_CASE(who_has_left_before_the_engine_is_back_did_not_get_it) {
  pair_of t(keeping_when(buffer));
  auto e = t.a.plain();
  BOOST_REQUIRE(comes_true([&] { return t.a.lobby().size() == 2; }));
  t.a.engine->go();
  auto patient = t.a.broadcast("1", 0s);
  BOOST_CHECK(t.a.waits_for(1));
  t.c.vanish();
  BOOST_REQUIRE(comes_true([&] { return t.a.lobby().size() == 1; }));
  t.a.engine->come_back();
  BOOST_CHECK_EQUAL(e.read_frame().payload, "1");
  const auto report = patient.get();
  BOOST_CHECK_EQUAL(report.delivered, 1u);
  BOOST_CHECK_EQUAL(report.failed, 1u);
}

BOOST_AUTO_TEST_CASE(what_the_engine_refuses_for_good_does_not_wait) {
  pair_of t(keeping_when(buffer));
  t.a.engine->how = chorus::error::bad_option;
  t.a.engine->fails_publish = true;
  const auto report = t.a.broadcast("1", 20s).get();
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::bad_option);
  BOOST_CHECK_EQUAL(t.a.lobby().stats().waiting, 0u);
  t.a.engine->fails_publish = false;
  t.a.publish({"2"});
  t.both_read({"2"});
}

BOOST_AUTO_TEST_CASE(what_nobody_knows_is_not_sent_again) {
  pair_of t(keeping_when(buffer));
  t.a.engine->deaf = true;
  t.a.engine->holds_answers = true;
  auto outcome = t.a.broadcast("1", 20s);
  BOOST_REQUIRE(comes_true([&] { return t.a.engine->unanswered() == 1; }));
  t.a.engine->holds_answers = false;
  t.a.engine->answer_held(chorus::error::unconfirmed);
  const auto report = outcome.get();
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::unconfirmed);
  auto stats = t.a.lobby().stats();
  BOOST_CHECK_EQUAL(stats.unconfirmed, 1u);
  BOOST_CHECK_EQUAL(stats.broker_failures, 0u);
  BOOST_CHECK_EQUAL(stats.waiting, 0u);
  const int before = t.a.engine->published_to;
  t.a.engine->come_back();
  t.both_read({"1"}); // it had got through
  t.a.publish({"2"});
  t.both_read({"2"});
  BOOST_CHECK_EQUAL(t.a.engine->published_to, before + 1);
}

// Between a publish and its answer.
BOOST_AUTO_TEST_CASE(an_answer_that_is_lost_does_not_double_what_got_through) {
  pair_of t(keeping_when(buffer));
  t.engine_of_a_goes();
  BOOST_CHECK(t.a.waits_for(1));
  t.a.engine->answer_held(chorus::error::lost); // as it should not say, having taken them
  BOOST_CHECK(t.a.waits_for(3));
  t.d_reads({"1", "2"});
  // What it says is believed in the end, but what comes before that is not sent again.
  t.a.engine->fails_publish = true;
  t.a.engine->come_back();
  t.c_reads({"1", "2"});
  BOOST_CHECK(t.a.waits_for(1));
  t.a.engine->fails_publish = false;
  t.a.engine->gap();
  t.both_read({"3"});
}

BOOST_AUTO_TEST_CASE(an_answer_that_comes_late_lets_the_rest_go) {
  pair_of t(keeping_when(buffer));
  t.a.engine->holds_answers = true;
  t.a.publish({"1"});
  t.both_read({"1"});
  BOOST_REQUIRE(comes_true([&] { return t.a.engine->unanswered() == 1; }));
  t.a.engine->holds_answers = false;
  t.a.engine->away = true;
  t.a.publish({"2", "3"});
  BOOST_CHECK(t.a.waits_for(2));
  t.a.engine->away = false;
  t.a.engine->gap(); // they don't overtake what the engine may have still to take
  BOOST_CHECK(t.a.waits_for(2));
  t.a.engine->answer_held();
  t.both_read({"2", "3"});
}

BOOST_AUTO_TEST_CASE(messages_wait_while_the_history_is_read) {
  pair_of t(keeping_when(buffer));
  t.a.engine->go();
  t.a.publish({"1"});
  BOOST_CHECK(t.a.waits_for(1));
  t.b.publish({"2"});
  t.d_reads({"2"});
  t.a.engine->holds_history = true;
  t.a.engine->come_back();
  t.d_reads({"1"});
  BOOST_REQUIRE(comes_true([&] { return t.a.engine->held() == 1; }));
  t.a.engine->go();
  t.a.engine->holds_history = false;
  t.a.engine->fail_held();
  t.a.publish({"3"});
  BOOST_CHECK(t.a.waits_for(1));
  t.a.engine->come_back();
  t.c_reads({"2", "1", "3"});
  t.d_reads({"3"});
}

// Nobody is in it here, nobody has it, and yet it was accepted.
BOOST_AUTO_TEST_CASE(a_room_stays_for_what_waits) {
  pair_of t(keeping_when(buffer));
  t.a.engine->go();
  std::weak_ptr<chorus::detail::room_core> room;
  {
    auto quiet = t.a.server.server.room("quiet");
    quiet.publish("1");
    room = quiet.core();
    BOOST_CHECK(comes_true([&] { return quiet.stats().waiting == 1; }));
  }
  BOOST_CHECK(!room.expired());
  t.a.engine->come_back();
  BOOST_CHECK(comes_true([&] {
    std::size_t kept = 0;
    t.engine->history("room/quiet", {}, [&](const auto &page) { kept = page->messages.size(); });
    return kept == 1;
  }));
}

BOOST_AUTO_TEST_CASE(what_waits_when_the_server_stops_is_refused) {
  pair_of t(keeping_when(buffer));
  t.a.engine->go();
  t.a.publish({"1", "2"});
  auto outcome = t.a.broadcast("3", 0s);
  BOOST_CHECK(t.a.waits_for(3));
  auto lobby = t.a.lobby();
  t.a.server.loop.wait(t.a.server.server.stop(100ms));
  const auto report = outcome.get();
  BOOST_CHECK_EQUAL(report.delivered, 0u);
  BOOST_CHECK_EQUAL(report.dropped + report.failed, 1u);
  BOOST_CHECK_EQUAL(lobby.stats().broker_failures, 3u);
  BOOST_CHECK_EQUAL(lobby.stats().waiting, 0u);
  BOOST_CHECK(t.a.told("3 messages"));
  lobby.publish("4");
  BOOST_CHECK(comes_true([&] { return lobby.stats().broker_failures == 4; }));
}

BOOST_AUTO_TEST_CASE(rooms_without_history_go_on_here) {
  auto r = keeping_when(buffer, 0);
  const auto engine = chorus::make_memory_broker();
  server_of a(engine, r);
  auto c = a.plain();
  BOOST_REQUIRE(comes_true([&] { return a.lobby().size() == 1; }));
  a.engine->go();
  a.publish({"1"});
  BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
  BOOST_CHECK(comes_true([&] { return a.lobby().stats().broker_failures == 1; }));
  a.engine->come_back();
  a.publish({"2"});
  BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
}

BOOST_AUTO_TEST_SUITE_END()
