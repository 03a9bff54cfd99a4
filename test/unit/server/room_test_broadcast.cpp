// Gather: what a broadcast tells about each member, and when.

#include "unit/server/room_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_broadcast)

session_options bounded(overflow how, std::size_t messages = 1) {
  auto options = quiet();
  options.on_overflow = how;
  options.queue_messages = messages;
  options.close_timeout = 50ms;
  return options;
}

failure why_of(const broadcast_report &report, const session &s) {
  for (const auto &m : report.members)
    if (m.id == s.id())
      return m.why;
  return {};
}

member_filter same(const session &one) {
  return [id = one.id()](const session &s) { return s.id() == id; };
}

task<> delivered(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  const auto nobody = co_await lobby.broadcast("x");
  BOOST_CHECK_EQUAL(nobody.total(), 0);
  BOOST_CHECK_EQUAL((co_await room().broadcast("x")).total(), 0);

  auto a = member_of(home);
  auto b = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  lobby.publish("m0");
  const auto both = co_await lobby.broadcast("m1");
  BOOST_CHECK_EQUAL(both.delivered, 2);
  BOOST_CHECK_EQUAL(both.total(), 2);
  BOOST_CHECK(both.members.empty());
  const auto listed = co_await seat_a.broadcast("m2", {.list_delivered = true});
  BOOST_REQUIRE_EQUAL(listed.members.size(), 2);
  for (const auto &m : listed.members)
    BOOST_CHECK_EQUAL(m.outcome, delivery::delivered);
  const auto one = co_await lobby.broadcast("b", {.except = a.s, .list_delivered = true});
  BOOST_CHECK_EQUAL(one.delivered, 1);
  BOOST_REQUIRE_EQUAL(one.members.size(), 1);
  BOOST_CHECK_EQUAL(one.members.front().id, b.s.id());
  const auto only = co_await lobby.broadcast(binary("a"), {.only = same(a.s), .deadline = 10s});
  BOOST_CHECK_EQUAL(only.delivered, 1);
  const auto none =
      co_await lobby.broadcast("none", {.only = [](const session &) { return false; }});
  BOOST_CHECK_EQUAL(none.total(), 0);
  co_await expect(a.peer, texts("m0", "m1", "m2", "a"));
  co_await expect(b.peer, texts("m0", "m1", "m2", "b"));
  BOOST_CHECK_EQUAL(lobby.stats().published, 7);
}
BOOST_AUTO_TEST_CASE(it_completes_when_every_copy_is_with_the_kernel) { run(delivered); }

task<> who_and_why(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto good = member_of(home);
  auto full = member_of(home, bounded(overflow::drop_newest));
  auto patient = member_of(home, bounded(overflow::wait));
  auto late = member_of(home);
  auto gone = member_of(home);
  auto thrown_out = member_of(home, bounded(overflow::close));
  std::vector<seat> seats;
  by_hand *const members[] = {&good, &full, &patient, &late, &gone, &thrown_out};
  for (auto *m : members) {
    seats.push_back(co_await seated(lobby, m->s));
    if (m != &good)
      m->own->stall_writes(true);
  }
  lobby.publish("begun"); // sticks half way
  lobby.publish("queued", {.except = late.s});
  co_await once_round();
  running<broadcast_report> all(home, lobby.broadcast("news", {.deadline = 2s}));
  co_await rounds(3);
  BOOST_CHECK(!all.over());
  gone.peer.close();
  co_await until([&] { return gone.s.state() == session_state::closed; });
  home.advance(1900ms);
  co_await rounds(3);
  BOOST_CHECK(!all.over());
  home.advance(200ms);
  const auto report = co_await all.end();
  BOOST_CHECK_EQUAL(report.delivered, 1);
  BOOST_CHECK_EQUAL(report.dropped, 2);
  BOOST_CHECK_EQUAL(report.failed, 2);
  BOOST_CHECK_EQUAL(report.pending, 1);
  BOOST_CHECK_EQUAL(report.members.size(), 5);
  BOOST_CHECK_EQUAL(outcome_of(report, good.s), delivery::delivered);
  BOOST_CHECK_EQUAL(outcome_of(report, full.s), delivery::dropped);
  BOOST_CHECK_EQUAL(outcome_of(report, patient.s), delivery::dropped);
  BOOST_CHECK_EQUAL(outcome_of(report, late.s), delivery::pending);
  BOOST_CHECK_EQUAL(outcome_of(report, gone.s), delivery::failed);
  BOOST_CHECK_EQUAL(outcome_of(report, thrown_out.s), delivery::failed);
  BOOST_CHECK_EQUAL(why_of(report, full.s), error::queue_full);
  BOOST_CHECK_EQUAL(why_of(report, patient.s), error::queue_full);
  BOOST_CHECK_EQUAL(why_of(report, gone.s), error::lost);
  BOOST_CHECK_EQUAL(why_of(report, thrown_out.s), error::evicted);
  // Pending ones stay, and get their copy; the patient one was spared the eviction.
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 1);
  late.own->stall_writes(false);
  co_await expect(late.peer, texts("begun", "news"));
  patient.own->stall_writes(false);
  co_await expect(patient.peer, texts("begun", "queued"));
  lobby.publish("again");
  co_await expect(patient.peer, texts("again"));
  co_await expect(late.peer, texts("again"));
  co_await expect(good.peer, texts("begun", "queued", "news", "again"));
}
BOOST_AUTO_TEST_CASE(the_report_says_who_did_not_get_it_and_why) { run(who_and_why); }

task<> own_reasons(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto impatient = bounded(overflow::wait);
  impatient.heartbeat.write_wait = 1s;
  auto refused = member_of(home, bounded(overflow::close)); // its queue is full at the broadcast
  auto evicted = member_of(home, bounded(overflow::wait, 2));
  auto vanished = member_of(home);
  auto reset = member_of(home);
  auto broken = member_of(home);
  auto left = member_of(home);
  auto stuck = member_of(home, impatient);
  auto closing = member_of(home);
  std::vector<seat> seats;
  by_hand *const members[] = {&refused, &evicted, &vanished, &reset,
                              &broken,  &left,    &stuck,    &closing};
  for (auto *m : members) {
    seats.push_back(co_await seated(lobby, m->s));
    m->own->stall_writes(m != &broken);
  }
  lobby.publish("begun", {.except = broken.s});
  co_await once_round();
  lobby.publish("queued", {.only = same(refused.s)});
  co_await once_round();
  closing.s.start_close();
  broken.own->fail_write(1, make_error_code(boost::system::errc::broken_pipe));
  running<broadcast_report> all(home, lobby.broadcast("news"));
  co_await rounds(2);
  BOOST_CHECK(!all.over());
  lobby.publish("too much", {.only = same(evicted.s)});
  lobby.publish("too much", {.only = same(evicted.s)});
  vanished.peer.close();
  reset.peer.carrier().close(true);
  co_await left.peer.send(8, close_payload(4001, "enough"));
  co_await rounds(2);
  left.peer.close();
  co_await rounds(2);
  BOOST_CHECK(!all.over()); // one is stuck
  home.advance(1100ms);
  const auto report = co_await all.end();
  BOOST_CHECK_EQUAL(report.failed, std::size(members));
  BOOST_CHECK_EQUAL(report.failed, report.total());
  BOOST_CHECK_EQUAL(why_of(report, refused.s), error::evicted);
  BOOST_CHECK_EQUAL(why_of(report, evicted.s), error::evicted);
  BOOST_CHECK_EQUAL(why_of(report, vanished.s), error::lost);
  BOOST_CHECK_EQUAL(why_of(report, reset.s), error::lost);
  BOOST_CHECK_EQUAL(why_of(report, broken.s), error::lost);
  BOOST_CHECK_EQUAL(why_of(report, stuck.s), error::write_timeout);
  BOOST_CHECK_EQUAL(why_of(report, closing.s), error::not_open);
  const auto goodbye = why_of(report, left.s);
  BOOST_CHECK_EQUAL(goodbye, error::closed);
  BOOST_CHECK_EQUAL(goodbye.detail().close_code, 4001);
  BOOST_CHECK_EQUAL(goodbye.detail().close_reason, "enough");
  BOOST_CHECK(goodbye.detail().by_peer);
  // The session's own words, not others of the same meaning.
  for (auto *m : {&refused, &evicted, &vanished, &reset, &broken, &stuck}) {
    co_await until([&] { return m->s.state() == session_state::closed; });
    BOOST_CHECK_EQUAL(why_of(report, m->s).message(), m->s.core()->end().message());
  }
}
BOOST_AUTO_TEST_CASE(a_failed_member_has_the_reason_of_its_session) { run(own_reasons); }

task<> waited_for(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home, bounded(overflow::wait));
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish(std::string("m0"));
  lobby.publish(std::string("m1"));
  co_await once_round();
  running<broadcast_report> one(home, lobby.broadcast("m2"));
  running<broadcast_report> two(home, lobby.broadcast("m3"));
  running<result<>> own(home, a.s.send("m4"));
  co_await rounds(3);
  BOOST_CHECK(!one.over() && !two.over() && !own.over());
  const auto before = lobby.stats().deliveries;
  a.own->stall_writes(false);
  co_await expect(a.peer, numbered(0, 5));
  BOOST_CHECK_EQUAL((co_await one.end()).delivered, 1);
  BOOST_CHECK_EQUAL((co_await two.end()).delivered, 1);
  BOOST_CHECK((co_await own.end()).has_value());
  BOOST_CHECK_EQUAL(lobby.stats().deliveries, before + 2);
}
BOOST_AUTO_TEST_CASE(a_full_queue_under_wait_is_waited_for) { run(waited_for); }

task<> in_order(shard &home) {
  home.use_manual_clock(); // who is evicted has its close_timeout, however slowly this is run
  // A small message that would fit does not overtake a large one of the same room that waits.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto options = bounded(overflow::wait, 0);
  options.queue_bytes = 200;
  auto a = member_of(home, options);
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish(pattern(100, 1));
  co_await once_round();
  running<broadcast_report> large(home, lobby.broadcast(pattern(150, 2)));
  co_await rounds(2);
  running<broadcast_report> small(home, lobby.broadcast("small"));
  co_await rounds(2);
  BOOST_CHECK(!large.over() && !small.over());
  a.own->stall_writes(false);
  co_await expect(a.peer, texts(pattern(100, 1), pattern(150, 2), "small"));
  BOOST_CHECK_EQUAL((co_await large.end()).delivered, 1);
  BOOST_CHECK_EQUAL((co_await small.end()).delivered, 1);

  // Nor does a publish: it may not wait, so it evicts.
  a.own->stall_writes(true);
  lobby.publish(pattern(100, 1));
  co_await once_round();
  running<broadcast_report> again(home, lobby.broadcast(pattern(150, 2)));
  co_await rounds(2);
  lobby.publish("overtaking");
  co_await rounds(2);
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 1);
  a.own->stall_writes(false);
  co_await expect(a.peer, texts(pattern(100, 1)));
  home.advance(60ms);
  BOOST_CHECK_EQUAL((co_await again.end()).failed, 1);
}
BOOST_AUTO_TEST_CASE(nothing_overtakes_a_copy_that_waits) { run(in_order); }

task<> left_meanwhile(shard &home) {
  const auto rooms = make_hub(home);
  auto a = member_of(home, bounded(overflow::wait));
  auto lobby = rooms->get("lobby");
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish("m0");
  lobby.publish("m1");
  co_await once_round();
  {
    running<broadcast_report> given_up(home, lobby.broadcast("m2"));
    co_await rounds(2);
    // The member leaves and the last handles go while its copy waits.
    seat_a.leave();
    lobby = room();
    co_await rounds(2);
    BOOST_CHECK(!given_up.over());
    a.own->stall_writes(false);
    co_await expect(a.peer, numbered(0, 3));
    BOOST_CHECK_EQUAL((co_await given_up.end()).delivered, 1);
  }
  co_await rounds(2);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
}
BOOST_AUTO_TEST_CASE(a_member_that_leaves_still_gets_what_waits_for_it) { run(left_meanwhile); }

task<> ends_meanwhile(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto waiting = member_of(home, bounded(overflow::wait));
  auto queued = member_of(home);
  auto closing = member_of(home);
  std::vector<seat> seats;
  by_hand *const members[] = {&waiting, &queued, &closing};
  for (auto *m : members) {
    seats.push_back(co_await seated(lobby, m->s));
    m->own->stall_writes(true);
  }
  lobby.publish("m0");
  lobby.publish("m1");
  co_await once_round();
  running<broadcast_report> all(home, lobby.broadcast("m2"));
  co_await rounds(2);
  closing.s.start_close();
  waiting.peer.close();
  queued.peer.carrier().close(true);
  co_await rounds(2);
  BOOST_CHECK(!all.over()); // the closing one may still get it
  closing.own->stall_writes(false);
  co_await expect(closing.peer, numbered(0, 3));
  const auto report = co_await all.end();
  BOOST_CHECK_EQUAL(report.delivered, 1);
  BOOST_CHECK_EQUAL(report.failed, 2);
  // One that is closing already, and one that ends in the turn of the broadcast.
  running<broadcast_report> next(home, lobby.broadcast("m3"));
  co_await once_round();
  const auto second = co_await next.end();
  BOOST_CHECK_EQUAL(second.failed, second.total());
  auto last = member_of(home);
  auto seat_last = co_await seated(lobby, last.s);
  auto terms = std::shared_ptr<const detail::publish_terms>();
  running<result<broadcast_report>> third(
      home, lobby.core()->broadcast(message("m4"), terms, 0ms, false, detail::departure()));
  asio::post(home.context(), [s = last.s] { s.core()->abort(failure(error::aborted)); });
  const auto none = co_await third.end();
  BOOST_CHECK_EQUAL(none->total(), none->failed + none->delivered);
}
BOOST_AUTO_TEST_CASE(members_whose_sessions_end_are_failed) { run(ends_meanwhile); }

task<> unfit(shard &home) {
  // A message with a line feed can't go to a member that speaks lines: dropped, not waited for.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto [near, far] = transport::make_memory_pair(home, home);
  auto options = quiet();
  options.frame = framing::lines;
  auto lines = open_framed(std::move(near), options);
  auto other = open_framed(std::move(far), options);
  auto held = co_await seated(lobby, lines);
  const auto alone = co_await lobby.broadcast("a\nb");
  BOOST_CHECK_EQUAL(alone.dropped, 1);
  BOOST_CHECK_EQUAL(alone.total(), 1);
  lobby.publish("before");
  lobby.publish("x\ny");
  const auto among = co_await lobby.broadcast("c\nd");
  BOOST_CHECK_EQUAL(among.dropped, 1);
  BOOST_CHECK_EQUAL((co_await lobby.broadcast("after")).delivered, 1);
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 3);
  BOOST_CHECK_EQUAL(lobby.stats().deliveries, 2);
  BOOST_CHECK_EQUAL((co_await other.receive())->text(), "before");
  BOOST_CHECK_EQUAL((co_await other.receive())->text(), "after");
}
BOOST_AUTO_TEST_CASE(what_a_framing_cannot_carry_is_dropped) { run(unfit); }

task<> cancelled(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto waiting = member_of(home, bounded(overflow::wait));
  auto queued = member_of(home);
  auto seat_a = co_await seated(lobby, waiting.s);
  auto seat_b = co_await seated(lobby, queued.s);
  waiting.own->stall_writes(true);
  queued.own->stall_writes(true);
  lobby.publish("m0");
  lobby.publish("m1");
  co_await once_round();
  for (int i = 0; i < 5; ++i) {
    running<broadcast_report> all(home, lobby.broadcast("never mind"));
    co_await rounds(2);
    all.cancel();
    co_await all.ended();
    BOOST_CHECK(all.aborted());
  }
  // Nothing waits on: only what was queued is left.
  BOOST_CHECK(!waiting.s.core()->has_send_waiters());
  waiting.own->stall_writes(false);
  queued.own->stall_writes(false);
  co_await expect(waiting.peer, numbered(0, 2));
  BOOST_CHECK_EQUAL((co_await next_texts(queued.peer, 7)).size(), 7);
  co_await rounds(2);
  BOOST_CHECK(silent(waiting.peer));
  // Cancelled before it began to wait.
  running<broadcast_report> early(home, lobby.broadcast("m2"));
  early.cancel();
  co_await early.ended();
}
BOOST_AUTO_TEST_CASE(cancelling_stops_waiting) { run(cancelled); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
