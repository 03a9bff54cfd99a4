// How long a room that keeps history stays.

#include "unit/server/room_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_history)

room_options remembering(std::string_view name) {
  room_options r;
  r.history_messages = 100;
  r.history_linger = name == "brief" ? 0ms : 10'000ms;
  return r;
}

std::shared_ptr<hub> remembering_hub(shard &home, detail::hub_limits limits = {}) {
  auto core = std::make_shared<detail::runtime_core>();
  core->shards.push_back(home.shared_from_this());
  return std::make_shared<hub>(std::move(core), detail::room_complaints(), remembering, limits);
}

task<seat> seated_with_history(room r, session s) {
  auto joined = co_await r.join(std::move(s), {.history = 10});
  BOOST_REQUIRE(joined.has_value());
  co_return std::move(*joined);
}

task<> lingers(shard &home) {
  home.use_manual_clock();
  const auto rooms = remembering_hub(home);
  {
    auto a = member_of(home);
    auto held = co_await seated_with_history(rooms->get("lobby"), a.s);
    rooms->get("lobby").publish("m0");
    co_await expect(a.peer, numbered(0, 1));
    home.advance(60s);
    co_await rounds(2);
    BOOST_CHECK_EQUAL(rooms->size(), 1);
  }
  co_await rounds(2);
  BOOST_CHECK_EQUAL(rooms->size(), 1);
  home.advance(9s);
  co_await rounds(2);
  {
    auto b = member_of(home);
    auto held = co_await seated_with_history(rooms->get("lobby"), b.s);
    co_await expect(b.peer, numbered(0, 1));
    home.advance(60s); // with a member in it
    co_await rounds(2);
    rooms->get("lobby").publish("m1");
    co_await expect(b.peer, numbered(1, 2));
  }
  co_await rounds(2);
  home.advance(9s);
  co_await rounds(2);
  rooms->get("lobby").publish("m2"); // to nobody
  home.advance(9s);
  co_await rounds(2);
  BOOST_CHECK_EQUAL(rooms->size(), 1);
  home.advance(2s);
  co_await rounds(2);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
  BOOST_CHECK_EQUAL(rooms->budget().bytes(), 0);
  auto c = member_of(home);
  auto held = co_await seated_with_history(rooms->get("lobby"), c.s);
  co_await rounds(2);
  BOOST_CHECK(silent(c.peer)); // it is another room
}
BOOST_AUTO_TEST_CASE(an_empty_room_lingers) { run(lingers); }

task<> at_once(shard &home) {
  const auto rooms = remembering_hub(home);
  rooms->get("brief").publish("m0");
  co_await rounds(2);
  BOOST_CHECK_EQUAL(rooms->size(), 0);
}
BOOST_AUTO_TEST_CASE(a_room_without_lingering_vanishes) { run(at_once); }

task<> too_many(shard &home) {
  detail::hub_limits limits;
  limits.lingering_rooms = 3;
  const auto rooms = remembering_hub(home, limits);
  auto a = member_of(home);
  auto held = co_await seated_with_history(rooms->get("busy"), a.s);
  const auto handle = rooms->get("room 1");
  for (int i = 0; i < 10; ++i)
    rooms->get("room " + std::to_string(i)).publish("m" + std::to_string(i));
  co_await rounds(3);
  BOOST_CHECK_EQUAL(rooms->size(), 5);
  BOOST_CHECK_EQUAL(rooms->budget().idle(), 3);
  auto b = member_of(home);
  auto newest = co_await seated_with_history(rooms->get("room 9"), b.s);
  co_await expect(b.peer, numbered(9, 10));
  auto c = member_of(home);
  auto kept = co_await seated_with_history(handle, c.s); // held, but it had to forget
  co_await rounds(2);
  BOOST_CHECK(silent(c.peer));
  handle.core()->home()->run([] {});
  rooms->close();
  co_await rounds(3);
  held.leave();
  newest.leave();
  kept.leave();
  co_await rounds(3);
  BOOST_CHECK_EQUAL(rooms->size(), 1); // the one that is held
}
BOOST_AUTO_TEST_CASE(the_rooms_that_were_empty_longest_go_first) { run(too_many); }

task<> bounded_start(shard &home) {
  const auto rooms = remembering_hub(home);
  auto lobby = rooms->get("lobby");
  for (int i = 0; i < 20; ++i)
    lobby.publish("m" + std::to_string(i));
  auto options = quiet();
  options.queue_messages = 4;
  auto a = member_of(home, options);
  auto held = co_await seated_with_history(lobby, a.s);
  co_await expect(a.peer, numbered(16, 20));
  auto again = co_await seated_with_history(lobby, a.s); // a member already
  lobby.publish("m20");
  co_await expect(a.peer, numbered(20, 21));
}
BOOST_AUTO_TEST_CASE(a_plain_newcomer_gets_what_its_queue_takes) { run(bounded_start); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
