// Who is a member, and until when.

#include "unit/server/room_support.hpp"

#include <stdexcept>

#include <boost/asio/io_context.hpp>

#include <thread>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_members)

task<> join_leave_and_join_again(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  BOOST_CHECK_EQUAL(lobby.name(), "lobby");
  BOOST_CHECK_EQUAL(lobby.size(), 2);
  BOOST_CHECK(seat_a.room() == lobby);
  auto ids = co_await lobby.members();
  std::sort(ids.begin(), ids.end());
  const std::vector<session_id> both{a.s.id(), b.s.id()};
  BOOST_CHECK_EQUAL_COLLECTIONS(ids.begin(), ids.end(), both.begin(), both.end());

  lobby.publish("m0");
  co_await expect(a.peer, numbered(0, 1));
  co_await expect(b.peer, numbered(0, 1));
  seat_a.leave();
  BOOST_CHECK_EQUAL(lobby.size(), 1);
  lobby.publish("m1");
  co_await expect(b.peer, numbered(1, 2));
  BOOST_CHECK(silent(a.peer));
  seat_a = co_await seated(lobby, a.s);
  lobby.publish("m2");
  co_await expect(a.peer, numbered(2, 3));
  co_await expect(b.peer, numbered(2, 3));
  const auto stats = lobby.stats();
  BOOST_CHECK_EQUAL(stats.members, 2);
  BOOST_CHECK_EQUAL(stats.published, 3);
  BOOST_CHECK_EQUAL(stats.deliveries, 5);
  BOOST_CHECK_EQUAL(stats.dropped, 0);
  BOOST_CHECK_EQUAL(stats.evicted, 0);
}
BOOST_AUTO_TEST_CASE(a_member_gets_what_is_published_while_it_has_a_seat) {
  run(join_leave_and_join_again);
}

task<> two_seats(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto one = co_await seated(lobby, a.s);
  auto two = co_await seated(lobby, a.s);
  BOOST_CHECK_EQUAL(lobby.size(), 1);
  lobby.publish("m0");
  co_await expect(a.peer, numbered(0, 1));
  one = seat(); // assignment leaves, too
  BOOST_CHECK_EQUAL(lobby.size(), 1);
  one.leave();
  lobby.publish("m1");
  co_await expect(a.peer, numbered(1, 2));
  two.leave();
  two.leave();
  BOOST_CHECK_EQUAL(lobby.size(), 0);
  two.publish("nobody"); // an empty seat
  BOOST_CHECK_EQUAL(lobby.stats().published, 2);
  co_await rounds(3);
  BOOST_CHECK(silent(a.peer));
}
BOOST_AUTO_TEST_CASE(two_seats_of_one_session_get_one_copy) { run(two_seats); }

task<> foreign_destruction(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto held = co_await seated(lobby, a.s);
  std::thread([gone = std::move(held)]() mutable { gone = seat(); }).join();
  co_await until([&] { return lobby.size() == 0; });
}
BOOST_AUTO_TEST_CASE(a_seat_destroyed_on_a_foreign_thread_leaves) { run(foreign_destruction); }

task<> every_end(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto options = quiet();
  options.close_timeout = 20ms;
  options.on_overflow = overflow::close;
  options.queue_messages = 2;
  struct way {
    const char *name;
    void (*end)(by_hand &);
  };
  const way ways[] = {
      {"the peer vanishes", [](by_hand &m) { m.peer.close(); }},
      {"the peer resets", [](by_hand &m) { m.peer.carrier().close(true); }},
      {"the peer ends its side", [](by_hand &m) { m.peer.shutdown(); }},
      {"the peer closes",
       [](by_hand &m) { m.peer.try_write(m.peer.encoded(8, close_payload(1000))); }},
      {"the peer breaks the protocol", [](by_hand &m) { m.peer.try_write("\xff\xff\xff\xff"); }},
      {"this side closes", [](by_hand &m) { m.s.start_close(); }},
      {"this side aborts", [](by_hand &m) { m.s.core()->abort(failure(error::aborted)); }},
      {"a write fails",
       [](by_hand &m) {
         m.own->fail_write(1, make_error_code(boost::system::errc::broken_pipe));
         BOOST_CHECK(m.s.try_send("x").has_value());
       }},
      {"evicted",
       [](by_hand &m) {
         m.own->stall_writes(true);
         for (int i = 0; i < 4; ++i)
           (void)m.s.try_send("x");
         m.s.core()->flush_before_wait();
         for (int i = 0; i < 4; ++i)
           (void)m.s.try_send("x");
       }},
  };
  for (const auto &w : ways) {
    BOOST_TEST_CONTEXT(w.name) {
      auto m = member_of(home, options);
      auto stays = member_of(home);
      auto held = co_await seated(lobby, m.s);
      auto other = co_await seated(lobby, stays.s);
      BOOST_CHECK_EQUAL(lobby.size(), 2);
      lobby.publish("before");
      w.end(m);
      lobby.publish("after");
      co_await until([&] { return lobby.size() == 1; });
      BOOST_CHECK(m.s.state() == session_state::closed);
      co_await expect(stays.peer, texts("before", "after"));
      BOOST_CHECK_EQUAL((co_await lobby.members()).size(), 1);
      held.leave(); // long gone
      BOOST_CHECK_EQUAL(lobby.size(), 1);
    }
  }
}
BOOST_AUTO_TEST_CASE(a_session_that_ends_in_any_way_leaves) { run(every_end); }

task<> vanishing(shard &home) {
  const auto rooms = make_hub(home);
  auto a = member_of(home);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
  std::weak_ptr<detail::room_core> first;
  {
    auto lobby = rooms->get("lobby");
    first = lobby.core();
    BOOST_CHECK(rooms->get("lobby") == lobby);
    BOOST_CHECK(!(rooms->get("other") == lobby));
  }
  BOOST_CHECK(first.expired());
  BOOST_CHECK_EQUAL(rooms->size(), 0);
  auto held = co_await seated(rooms->get("lobby"), a.s);
  BOOST_CHECK_EQUAL(rooms->size(), 1); // the seat is a handle
  BOOST_CHECK_EQUAL(rooms->get("lobby").size(), 1);
  rooms->get("lobby").publish("m0");
  co_await expect(a.peer, numbered(0, 1));
  held.leave();
  co_await rounds(3);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
  auto anew = rooms->get("lobby");
  BOOST_CHECK_EQUAL(anew.stats().published, 0);
}
BOOST_AUTO_TEST_CASE(a_room_vanishes_with_its_last_handle_and_comes_anew) { run(vanishing); }

task<> everyone(shard &home) {
  const auto rooms = make_hub(home);
  auto all = rooms->everyone();
  auto a = member_of(home);
  auto b = member_of(home);
  rooms->admit(a.s);
  rooms->admit(b.s);
  BOOST_CHECK_EQUAL(all.size(), 2);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
  all.publish("m0", {.except = a.s});
  co_await expect(b.peer, numbered(0, 1));
  BOOST_CHECK(silent(a.peer));
  { auto held = co_await seated(all, a.s); }
  BOOST_CHECK_EQUAL(all.size(), 2); // still one of everyone
  a.peer.close();
  co_await until([&] { return all.size() == 1; });
}
BOOST_AUTO_TEST_CASE(everyone_is_a_room_without_seats) { run(everyone); }

task<> refused(shard &home) {
  auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);

  const auto nobody = co_await lobby.join(session());
  BOOST_REQUIRE(nobody.has_error());
  BOOST_CHECK_EQUAL(nobody.error(), error::not_open);
  const auto nowhere = co_await room().join(a.s);
  BOOST_REQUIRE(nowhere.has_error());
  BOOST_CHECK_EQUAL(nowhere.error(), error::not_open);

  asio::io_context elsewhere;
  runtime other(elsewhere);
  const auto other_rooms = make_hub(*other.core()->shards.front());
  auto strange = other_rooms->get("lobby");
  const auto foreign = co_await strange.join(a.s);
  BOOST_REQUIRE(foreign.has_error());
  BOOST_CHECK_EQUAL(foreign.error(), error::bad_option);
  BOOST_CHECK(foreign.error().message().find("another runtime") != std::string::npos);

  a.peer.close();
  co_await until([&] { return a.s.state() == session_state::closed; });
  const auto over = co_await lobby.join(a.s);
  BOOST_REQUIRE(over.has_error());
  BOOST_CHECK_EQUAL(over.error(), error::lost);

  auto b = member_of(home);
  rooms->close();
  const auto late = co_await lobby.join(b.s);
  BOOST_REQUIRE(late.has_error());
  BOOST_CHECK_EQUAL(late.error(), error::room_closed);
  rooms.reset();
  const auto orphan = co_await lobby.join(b.s);
  BOOST_REQUIRE(orphan.has_error());
  BOOST_CHECK_EQUAL(orphan.error(), error::room_closed);
  BOOST_CHECK_EQUAL(lobby.size(), 0);
}
BOOST_AUTO_TEST_CASE(joining_is_refused_with_the_reason) { run(refused); }

// Throws for the member with this id, and counts its runs.
struct picky {
  session_id refuses;
  int *runs;
  bool operator()(const session &s) const {
    ++*runs;
    if (s.id() == refuses)
      throw std::runtime_error("no such member in the table");
    return true;
  }
};

task<> filters_that_throw(shard &home) {
  std::vector<std::pair<std::string, session_id>> told;
  const auto rooms = make_hub(home, [&](std::string_view what, const session &member) {
    told.emplace_back(what, member.id());
  });
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home);
  auto c = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  auto seat_c = co_await seated(lobby, c.s);
  int runs = 0;
  const picky not_b{b.s.id(), &runs};
  lobby.publish("published", {.only = not_b});
  co_await expect(a.peer, texts("published"));
  co_await expect(c.peer, texts("published"));
  BOOST_CHECK_EQUAL(runs, 3);
  BOOST_CHECK_EQUAL(lobby.stats().filter_failures, 1);
  const auto report = co_await lobby.broadcast("broadcast", {.only = not_b, .deadline = 10s});
  BOOST_CHECK_EQUAL(report.delivered, 2);
  BOOST_CHECK_EQUAL(report.total(), 2);
  co_await expect(a.peer, texts("broadcast"));
  co_await expect(c.peer, texts("broadcast"));
  BOOST_CHECK_EQUAL(runs, 6);
  BOOST_CHECK_EQUAL(lobby.stats().filter_failures, 2);
  const auto nobody = co_await lobby.broadcast(
      "nobody", {.only = [](const session &) -> bool { throw 1; }, .deadline = 10s});
  BOOST_CHECK_EQUAL(nobody.total(), 0);
  BOOST_CHECK_EQUAL(lobby.stats().filter_failures, 5);
  lobby.publish("all");
  co_await expect(b.peer, texts("all")); // still a member
  BOOST_REQUIRE_EQUAL(told.size(), 5);
  for (int i = 0; i < 2; ++i) {
    BOOST_CHECK(told[static_cast<std::size_t>(i)].first.find("no such member in the table") !=
                std::string::npos);
    BOOST_CHECK_EQUAL(told[static_cast<std::size_t>(i)].second, b.s.id());
  }
}
BOOST_AUTO_TEST_CASE(a_filter_that_throws_leaves_that_member_out) { run(filters_that_throw); }

task<> filters_that_end_sessions(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  std::vector<by_hand> all;
  std::vector<seat> seats;
  for (int i = 0; i < 4; ++i) {
    all.push_back(member_of(home));
    seats.push_back(co_await seated(lobby, all.back().s));
  }
  auto *members = &all;
  // Asked about the first, it ends the second and the last.
  const auto ends = [members](const session &s) {
    if (s.id() == (*members)[0].s.id())
      for (const std::size_t i : {1U, 3U})
        (*members)[i].s.abort();
    return true;
  };
  const auto report = co_await lobby.broadcast("x", {.only = ends, .deadline = 10s});
  BOOST_CHECK_EQUAL(report.delivered, 2);
  BOOST_CHECK_EQUAL(lobby.size(), 2);
  co_await expect(all[0].peer, texts("x"));
  co_await expect(all[2].peer, texts("x"));
}
BOOST_AUTO_TEST_CASE(a_filter_may_end_sessions) { run(filters_that_end_sessions); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
