// Members that do not keep up cost their own bounded queue, or their own connection.

#include "unit/server/room_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_pressure)

session_options slow(overflow how) {
  auto options = quiet();
  options.on_overflow = how;
  options.queue_messages = 4;
  options.close_timeout = 50ms;
  return options;
}

// One message a turn, which a keen member gets at once.
task<> one_by_one(room r, raw_peer &keen, int from, int to) {
  for (int i = from; i < to; ++i) {
    r.publish("m" + std::to_string(i));
    co_await expect(keen, numbered(i, i + 1));
  }
}

task<> newest(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home, slow(overflow::drop_newest));
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  b.own->stall_writes(true);
  co_await one_by_one(lobby, a.peer, 0, 20);
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 15);
  BOOST_CHECK_EQUAL(lobby.stats().deliveries, 25);
  BOOST_CHECK_EQUAL(b.s.stats().messages_dropped, 15);
  BOOST_CHECK_EQUAL(a.s.stats().messages_dropped, 0);
  b.own->stall_writes(false);
  // The first was under way already; four wait.
  co_await expect(b.peer, numbered(0, 5));
  lobby.publish("m20");
  co_await expect(b.peer, numbered(20, 21));
  BOOST_CHECK_EQUAL(lobby.size(), 2);
}
BOOST_AUTO_TEST_CASE(drop_newest_keeps_the_first) { run(newest); }

task<> oldest(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home, slow(overflow::drop_oldest));
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  b.own->stall_writes(true);
  co_await one_by_one(lobby, a.peer, 0, 20);
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 15);
  BOOST_CHECK_EQUAL(b.s.stats().messages_dropped, 15);
  b.own->stall_writes(false);
  auto want = numbered(0, 1);
  for (const auto &m : numbered(16, 20))
    want.push_back(m);
  co_await expect(b.peer, want);
}
BOOST_AUTO_TEST_CASE(drop_oldest_keeps_the_last) { run(oldest); }

task<> by_key(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home, slow(overflow::latest));
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  b.own->stall_writes(true);
  for (int i = 0; i < 10; ++i) {
    lobby.publish("x" + std::to_string(i), {.key = "x"});
    lobby.publish("y" + std::to_string(i), {.key = "y"});
    co_await next_texts(a.peer, 2);
  }
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 17);
  b.own->stall_writes(false);
  co_await expect(b.peer, texts("x0", "y9", "x9"));
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 0);
}
BOOST_AUTO_TEST_CASE(latest_replaces_what_waits_under_the_same_key) { run(by_key); }

task<> shown_the_door(shard &home) {
  const overflow both[] = {overflow::close, overflow::wait};
  for (const auto how : both) {
    const auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    auto options = slow(how);
    options.close_timeout = 10min; // the close is answered, however slowly this is run
    auto b = member_of(home, options);
    auto seat_a = co_await seated(lobby, a.s);
    auto seat_b = co_await seated(lobby, b.s);
    b.own->stall_writes(true);
    co_await one_by_one(lobby, a.peer, 0, 5);
    BOOST_CHECK(b.s.state() == session_state::open);
    BOOST_CHECK_EQUAL(lobby.stats().evicted, 0);
    co_await one_by_one(lobby, a.peer, 5, 20);
    BOOST_CHECK(b.s.state() != session_state::open);
    BOOST_CHECK_EQUAL(lobby.stats().evicted, 1);
    b.own->stall_writes(false);
    co_await expect(b.peer, numbered(0, 1)); // it had begun
    const auto last = co_await b.peer.next();
    BOOST_CHECK_EQUAL(last.op, 8);
    BOOST_CHECK_EQUAL(last.close_code(), 1013);
    b.peer.close();
    co_await until([&] { return lobby.size() == 1; });
    BOOST_CHECK_EQUAL((co_await b.s.receive()).error(), error::evicted);
    co_await one_by_one(lobby, a.peer, 20, 22);
  }
}
BOOST_AUTO_TEST_CASE(close_and_wait_evict_who_does_not_keep_up) { run(shown_the_door); }

task<> framed_eviction(shard &home) {
  // A connection without close frames is cut at once, in the middle of its delivery.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto [near, far] = transport::make_memory_pair(home, home, {.capacity = 8});
  auto a = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  seat seat_b;
  std::weak_ptr<detail::session_core> gone;
  {
    auto b = open_framed(std::move(near), slow(overflow::close));
    gone = b.core();
    seat_b = co_await seated(lobby, b);
  }
  for (int i = 0; i < 20; ++i)
    lobby.publish("m" + std::to_string(i));
  co_await expect(a.peer, numbered(0, 20));
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 1);
  BOOST_CHECK_EQUAL(lobby.size(), 1);
  BOOST_CHECK(gone.expired());
}
BOOST_AUTO_TEST_CASE(a_framed_member_is_cut_off_during_delivery) { run(framed_eviction); }

task<> cascade(shard &home) {
  // The end of one member's session makes another one leave, in the middle of a delivery to both.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto [near, far] = transport::make_memory_pair(home, home, {.capacity = 8});
  auto first = open_framed(std::move(near), slow(overflow::close));
  auto second = member_of(home);
  auto third = member_of(home);
  auto seat_first = co_await seated(lobby, first);
  auto seat_second = co_await seated(lobby, second.s);
  auto seat_third = co_await seated(lobby, third.s);
  std::stop_callback leave(first.core()->stop_token(), [&] { seat_second.leave(); });
  for (int i = 0; i < 19; ++i)
    lobby.publish("m" + std::to_string(i));
  running<broadcast_report> all(home, lobby.broadcast("m19"));
  co_await expect(third.peer, numbered(0, 20));
  const auto report = co_await all.end(); // it has an outcome for everyone
  BOOST_CHECK_EQUAL(report.total(), 3);
  BOOST_CHECK_EQUAL(outcome_of(report, first), delivery::failed);
  BOOST_CHECK_EQUAL(outcome_of(report, second.s), delivery::failed);
  BOOST_CHECK_EQUAL(outcome_of(report, third.s), delivery::delivered);
  BOOST_CHECK_EQUAL(lobby.size(), 1);
  const auto ids = co_await lobby.members();
  BOOST_REQUIRE_EQUAL(ids.size(), 1);
  BOOST_CHECK_EQUAL(ids.front(), third.s.id());
  co_await one_by_one(lobby, third.peer, 20, 22);
}
BOOST_AUTO_TEST_CASE(one_end_may_bring_another_within_a_delivery) { run(cascade); }

task<> expired(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home, slow(overflow::drop_newest));
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish("m0", {.time_to_live = 100ms}); // begun
  lobby.publish("short", {.time_to_live = 100ms});
  lobby.publish("m1");
  lobby.publish("m2", {.time_to_live = 10s});
  co_await once_round();
  home.advance(200ms);
  a.own->stall_writes(false);
  co_await expect(a.peer, numbered(0, 3));
  BOOST_CHECK_EQUAL(a.s.stats().messages_dropped, 1);
  BOOST_CHECK_EQUAL(lobby.stats().expired, 1);
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 0);
}
BOOST_AUTO_TEST_CASE(what_waits_past_its_time_to_live_is_dropped) { run(expired); }

task<> dropped_for_age_or_by_policy(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto options = slow(overflow::drop_oldest);
  options.queue_messages = 2;
  auto a = member_of(home, options);
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish("m0");
  co_await once_round();
  lobby.publish("young", {.time_to_live = 10s}); // the policy's
  lobby.publish("old", {.time_to_live = 100ms});
  lobby.publish("m1");
  co_await once_round();
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 1);
  BOOST_CHECK_EQUAL(lobby.stats().expired, 0);
  home.advance(200ms);
  lobby.publish("m2"); // in the place of the old one, which is why nothing else has to go
  co_await once_round();
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 1);
  BOOST_CHECK_EQUAL(lobby.stats().expired, 1);
  // A session's own messages make room in the same way.
  lobby.publish("old", {.key = "k", .time_to_live = 100ms});
  co_await once_round();
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 2); // m1
  home.advance(200ms);
  BOOST_CHECK(co_await a.s.send("m3"));
  BOOST_CHECK_EQUAL(lobby.stats().expired, 2);
  a.own->stall_writes(false);
  co_await expect(a.peer, texts("m0", "m2", "m3"));
  const auto stats = lobby.stats();
  BOOST_CHECK_EQUAL(stats.dropped, 2);
  BOOST_CHECK_EQUAL(stats.expired, 2);
  BOOST_CHECK_EQUAL(a.s.stats().messages_dropped, stats.dropped + stats.expired);
}
BOOST_AUTO_TEST_CASE(a_copy_is_dropped_for_its_age_or_by_the_policy) {
  run(dropped_for_age_or_by_policy);
}

task<> replaced_when_old(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home, slow(overflow::latest));
  auto seat_a = co_await seated(lobby, a.s);
  a.own->stall_writes(true);
  lobby.publish("m0");
  co_await once_round();
  lobby.publish("replaced", {.key = "k", .time_to_live = 100ms});
  lobby.publish("old", {.key = "k", .time_to_live = 100ms});
  co_await once_round();
  home.advance(200ms);
  lobby.publish("m1", {.key = "k", .time_to_live = 100ms});
  co_await once_round();
  a.own->stall_writes(false);
  co_await expect(a.peer, numbered(0, 2));
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 1);
  BOOST_CHECK_EQUAL(lobby.stats().expired, 1);
}
BOOST_AUTO_TEST_CASE(a_copy_that_is_replaced_is_counted_once) { run(replaced_when_old); }

task<> expired_broadcast(shard &home) {
  home.use_manual_clock();
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto options = slow(overflow::wait);
  options.queue_messages = 1;
  auto queued = member_of(home, options);
  auto waiting = member_of(home, options);
  auto quick = member_of(home, options);
  auto seat_a = co_await seated(lobby, queued.s);
  auto seat_b = co_await seated(lobby, waiting.s);
  auto seat_c = co_await seated(lobby, quick.s);
  queued.own->stall_writes(true);
  waiting.own->stall_writes(true);
  lobby.publish("m0");
  co_await once_round();
  lobby.publish("m1", {.except = queued.s});
  co_await once_round();
  running<broadcast_report> whole(home,
                                  lobby.broadcast("old", {.deadline = 10s, .time_to_live = 100ms}));
  co_await rounds(2);
  home.advance(200ms);
  co_await rounds(2);
  // Its place in the queue is free again, which saves the member from being evicted.
  lobby.publish("m2", {.except = waiting.s});
  co_await once_round();
  BOOST_CHECK_EQUAL(lobby.stats().expired, 1);
  home.advance(11s);
  const auto report = co_await whole.end();
  BOOST_CHECK_EQUAL(report.delivered, 1);
  BOOST_CHECK_EQUAL(report.dropped, 2);
  BOOST_CHECK_EQUAL(report.total(), 3);
  for (const auto &m : report.members)
    BOOST_CHECK_EQUAL(m.why, m.id == queued.s.id() ? error::timed_out : error::queue_full);
  queued.own->stall_writes(false);
  waiting.own->stall_writes(false);
  co_await expect(queued.peer, texts("m0", "m2"));
  co_await expect(waiting.peer, texts("m0", "m1"));
  co_await expect(quick.peer, texts("m0", "m1", "old", "m2"));
  const auto stats = lobby.stats();
  BOOST_CHECK_EQUAL(stats.evicted, 0);
  BOOST_CHECK_EQUAL(stats.expired, 1);
  BOOST_CHECK_EQUAL(stats.dropped, 1);
}
BOOST_AUTO_TEST_CASE(a_broadcast_reports_expired_copies_as_dropped) { run(expired_broadcast); }

task<> never_reading(shard &home) {
  // Ten of forty never read. The bytes that wait for each stay within its own bound.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  const overflow policies[] = {overflow::drop_newest, overflow::drop_oldest, overflow::latest,
                               overflow::close, overflow::wait};
  std::vector<by_hand> keen, idle;
  std::vector<seat> seats;
  for (int i = 0; i < 30; ++i)
    keen.push_back(member_of(home));
  for (int i = 0; i < 10; ++i) {
    auto options = quiet();
    options.on_overflow = policies[i % 5];
    options.queue_bytes = 4096;
    idle.push_back(member_of(home, options, 1024));
  }
  for (const auto &m : keen)
    seats.push_back(co_await seated(lobby, m.s));
  for (const auto &m : idle)
    seats.push_back(co_await seated(lobby, m.s));
  const auto text = pattern(100);
  for (int i = 0; i < 300; ++i) {
    lobby.publish(text + std::to_string(i));
    for (auto &m : keen) {
      const auto got = co_await next_texts(m.peer, 1);
      BOOST_REQUIRE_EQUAL(got.size(), 1);
      BOOST_REQUIRE_EQUAL(got.front(), text + std::to_string(i));
    }
    for (const auto &m : idle)
      BOOST_REQUIRE_LE(m.s.stats().queued_bytes, 4096 + 2 * (text.size() + 14));
  }
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 4);
  BOOST_CHECK_GT(lobby.stats().dropped, 0);
  for (const auto &m : keen)
    BOOST_CHECK_EQUAL(m.s.stats().messages_dropped, 0);
}
BOOST_AUTO_TEST_CASE(members_that_never_read_cost_the_others_nothing) { run(never_reading); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
