// The order of what is published from several threads, and by filters.

#include "unit/server/room_support.hpp"

#include <thread>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_order)

// On a thread of its own, which has ended when this returns.
template <class F> void elsewhere(F f) { std::thread(std::move(f)).join(); }

task<> behind_others(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto held = co_await seated(lobby, a.s);
  elsewhere([&] {
    lobby.publish("m0");
    lobby.publish("m1");
  });
  lobby.publish("m2");
  elsewhere([&] { lobby.publish("m3"); });
  const message fourth("m4");
  const auto report = co_await lobby.broadcast(fourth);
  BOOST_CHECK_EQUAL(report.delivered, 1);
  elsewhere([&] { lobby.publish("m5"); });
  lobby.publish("m6", {.only = [](const session &) { return true; }});
  elsewhere([&] { lobby.publish("m7"); });
  co_await expect(a.peer, numbered(0, 8));
  co_await rounds(3);
  BOOST_CHECK(silent(a.peer)); // nothing twice
  BOOST_CHECK_EQUAL(lobby.stats().published, 8);
  BOOST_CHECK_EQUAL(lobby.core()->counters().in_transit.load(), 0);
}
BOOST_AUTO_TEST_CASE(what_is_published_at_home_comes_behind_what_others_have) {
  run(behind_others);
}

task<> by_filters(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto held = co_await seated(lobby, a.s);
  bool told = false;
  const auto filter = [&lobby, &told](const session &) {
    if (!std::exchange(told, true))
      lobby.publish("m1");
    return true;
  };
  const message first("m0");
  const auto report = co_await lobby.broadcast(first, {.only = filter});
  BOOST_CHECK_EQUAL(report.delivered, 1);
  lobby.publish("m2");
  co_await expect(a.peer, numbered(0, 3));
}
BOOST_AUTO_TEST_CASE(what_a_filter_publishes_comes_behind_what_it_is_asked_about) {
  run(by_filters);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
