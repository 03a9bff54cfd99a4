// The reconnecting client and the server together, over connections that are cut at any byte.

#include "support/fault_proxy.hpp"
#include "unit/client/scripted.hpp"

#include <chorus/server/server.hpp>

#include <atomic>
#include <random>

using namespace client_test;
using chorus::client;

namespace {

// The first connection gets far enough to learn its position; the others may end in their handshake.
std::vector<std::size_t> budgets(unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::size_t> all{4000};
  for (int i = 0; i < 60; ++i)
    all.push_back(1 + random() % (i % 3 == 0 ? 400 : 6000));
  return all;
}

chorus::server_options keeping(std::size_t messages) {
  chorus::server_options options;
  options.rooms = [messages](std::string_view) {
    chorus::room_options r;
    r.history_messages = messages;
    return r;
  };
  return options;
}

void route_rooms(chorus::server &server) {
  server.route("/r/{room}", [&server](chorus::session s, chorus::request r) -> chorus::task<> {
    auto held = co_await server.room(r.param("room")).join(s);
    while (auto m = co_await s.receive())
      held->publish(*m, {.except = s});
  });
}

task<> burst(world &w, unsigned seed) {
  chorus::server server(w.rt, keeping(100'000));
  route_rooms(server);
  BOOST_REQUIRE((co_await server.start()).has_value());
  test_support::fault_proxy between(w.rt.executor(), server.port());
  for (const auto budget : budgets(seed)) {
    test_support::faults f;
    f.cut_down = budget;
    between.next(f);
  }
  auto options = eager({between.url("/r/lobby")});
  options.resume = chorus::resume_mode::require;
  std::atomic<int> lost{0};
  options.on_recovery = [&lost](const chorus::recovery &r) { lost += r.recovered ? 0 : 1; };
  client c(w.rt, options);
  auto room = server.room("lobby");
  while (room.size() == 0)
    co_await turns();
  constexpr int count = 3000;
  const auto content = [](int i) {
    return std::to_string(i) + std::string(static_cast<std::size_t>(i % 200), '.');
  };
  int published = 0;
  std::uint64_t last = 0;
  for (int i = 0; i < count; ++i) {
    while (published < count && published < i + 100)
      room.publish(content(published++));
    const auto got = co_await c.receive_placed();
    BOOST_REQUIRE_MESSAGE(got.has_value(), got.error().message());
    BOOST_REQUIRE_EQUAL(got->content.text(), content(i));
    BOOST_REQUIRE_EQUAL(got->room, "lobby");
    BOOST_REQUIRE_GT(got->offset, last);
    last = got->offset;
  }
  BOOST_CHECK_EQUAL(lost.load(), 0);
  const auto stats = c.stats();
  BOOST_CHECK_EQUAL(stats.messages_received, static_cast<std::uint64_t>(count));
  BOOST_CHECK_EQUAL(stats.messages_doubled, 0U);
  BOOST_CHECK_EQUAL(stats.rooms_lost, 0U);
  BOOST_CHECK_GT(between.count(test_support::event::cut), 20U);
  BOOST_CHECK_GT(stats.rooms_recovered, 10U);
  co_await c.close();
  co_await server.stop(5s);
}

} // namespace

BOOST_AUTO_TEST_SUITE(resume_client)

BOOST_AUTO_TEST_CASE(every_message_once_and_in_order) {
  for (const unsigned seed : {1U, 2U, 3U, 4U}) {
    world w(seed % 2 == 0 ? 2 : 1);
    w.run(burst(w, seed));
  }
}

task<> gap(world &w) {
  event_log log(w.rt.executor());
  chorus::server server(w.rt, keeping(3));
  route_rooms(server);
  BOOST_REQUIRE((co_await server.start()).has_value());
  auto options = eager({server.url() + "/r/lobby"});
  options.backoff.initial = options.backoff.cap = 1h;
  options.resume = chorus::resume_mode::offer;
  options.on_recovery = [&log](const chorus::recovery &r) {
    log.add(r.recovered ? "recovered" : r.why);
  };
  options.on_disconnect = [&log](const failure &) { log.add("gone"); };
  client c(w.rt, options);
  auto room = server.room("lobby");
  while (room.size() == 0)
    co_await turns();
  room.publish("0");
  BOOST_CHECK_EQUAL((co_await c.receive()).value().text(), "0");
  c.current().abort();
  co_await log.wait("gone");
  while (room.size() != 0)
    co_await turns();
  for (int i = 1; i < 10; ++i)
    room.publish(std::to_string(i));
  c.reconnect_now();
  co_await log.wait("trimmed"); // told, though nothing comes
  while (room.size() == 0)
    co_await turns();
  room.publish("10");
  BOOST_CHECK_EQUAL((co_await c.receive()).value().text(), "10");
  BOOST_CHECK_EQUAL(log.joined(), "gone trimmed");
  BOOST_CHECK_EQUAL(c.stats().rooms_lost, 1U);
  co_await c.close();
  co_await server.stop(5s);
}
BOOST_AUTO_TEST_CASE(a_gap_that_cant_be_filled_is_told) {
  world w;
  w.run(gap(w));
}

// What a client publishes does not come back to it after a reconnect.
task<> own(world &w) {
  chorus::server server(w.rt, keeping(100));
  route_rooms(server);
  BOOST_REQUIRE((co_await server.start()).has_value());
  auto options = eager({server.url() + "/r/lobby"});
  options.resume = chorus::resume_mode::require;
  client a(w.rt, options);
  client b(w.rt, options);
  auto room = server.room("lobby");
  while (room.size() != 2)
    co_await turns();
  room.publish("begin");
  BOOST_CHECK_EQUAL((co_await a.receive()).value().text(), "begin");
  BOOST_CHECK_EQUAL((co_await b.receive()).value().text(), "begin");
  co_await a.send("from a");
  BOOST_CHECK_EQUAL((co_await b.receive()).value().text(), "from a");
  a.current().abort();
  while (a.stats().rooms_recovered == 0)
    co_await turns();
  room.publish("end");
  BOOST_CHECK_EQUAL((co_await a.receive()).value().text(), "end");
  BOOST_CHECK_EQUAL((co_await b.receive()).value().text(), "end");
  co_await a.close();
  co_await b.close();
  co_await server.stop(5s);
}
BOOST_AUTO_TEST_CASE(a_sender_is_not_sent_its_own) {
  world w;
  w.run(own(w));
}

BOOST_AUTO_TEST_SUITE_END()
