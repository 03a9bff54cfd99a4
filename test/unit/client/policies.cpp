// Whether and when a client tries again: policies, hints of servers and of the network, figures.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

using namespace client_test;
using chorus::client;
using chorus::client_state;
using chorus::reconnect_policy;
using chorus::reconnect_question;
using delay = std::optional<std::chrono::milliseconds>;

namespace {

chorus::client_options with(std::string url, reconnect_policy policy) {
  chorus::client_options o;
  o.urls = {std::move(url)};
  o.reconnect = std::move(policy);
  o.proven_after = 10s;
  return o;
}

task<> pass(chorus::detail::shard &home, chorus::detail::duration d) {
  home.advance(d);
  co_await turns(10);
}

// The client waits at least `least` and at most `most` before its next attempt.
task<> waits(chorus::detail::shard &home, client &c, std::chrono::milliseconds least,
             std::chrono::milliseconds most) {
  while (c.state() != client_state::disconnected)
    co_await turns();
  co_await turns(10);
  const auto before = c.stats().attempts;
  co_await pass(home, least - 20ms);
  BOOST_TEST_CONTEXT(least.count()) {
    BOOST_TEST(c.stats().attempts == before);
    co_await pass(home, most - least + 40ms); // a tick of the wheel included
    BOOST_TEST(c.stats().attempts == before + 1);
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(policies)

BOOST_AUTO_TEST_CASE(the_ready_made_ones) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    {
      client c(here.rt, with(nobody.url(), reconnect_policy::constant(3s, chorus::jitter::none)));
      for (int i = 0; i < 4; ++i)
        co_await waits(home, c, 3s, 3s);
    }
    {
      client c(here.rt, with(nobody.url(), reconnect_policy::constant(10s)));
      for (int i = 0; i < 4; ++i)
        co_await waits(home, c, 8s, 12s);
    }
    {
      chorus::backoff_options doubling;
      doubling.initial = 1s;
      doubling.factor = 2;
      doubling.spread = chorus::jitter::none;
      client c(here.rt, with(nobody.url(), reconnect_policy::exponential(doubling)));
      for (const auto expected : {1s, 2s, 4s})
        co_await waits(home, c, expected, expected);
    }
    {
      client c(here.rt, with(nobody.url(), reconnect_policy::none()));
      const auto why = co_await c.connected();
      BOOST_CHECK(why.error() == error::connect_failed);
      BOOST_TEST(c.stats().attempts == 1U);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(none_ends_with_the_first_loss) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, with(l.url(), reconnect_policy::none()));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    p.reset();
    const auto got = co_await c.receive();
    BOOST_CHECK(got.error() == error::lost);
    BOOST_CHECK(c.state() == client_state::closed);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_function_of_ones_own_sees_all_and_decides) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    std::vector<reconnect_question> asked;
    const std::vector<delay> answers = {500ms, -1s, 7s, std::nullopt};
    client c(here.rt, with(l.url(), [&](const reconnect_question &q) -> delay {
               asked.push_back(q);
               return answers.at(asked.size() - 1);
             }));
    {
      auto p = co_await l.accept();
      co_await p.read_head();
      co_await p.write("HTTP/1.1 503 Later\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n");
    }
    co_await waits(home, c, 500ms, 500ms);
    {
      auto p = co_await l.accept_open();
      co_await c.connected();
      p.reset();
    }
    while (asked.size() < 2)
      co_await turns();
    co_await pass(home, 20ms);
    {
      auto p = co_await l.accept_open();
      co_await c.connected();
      co_await pass(home, 11s); // proven
      co_await p.close_with(1012);
    }
    co_await waits(home, c, 7s, 7s);
    {
      auto p = co_await l.accept();
      p.reset();
    }
    BOOST_TEST(!(co_await c.connected()).has_value());
    BOOST_REQUIRE(asked.size() == 4U);
    BOOST_TEST(asked[0].in_row == 1U);
    BOOST_TEST(!asked[0].connected);
    BOOST_CHECK(asked[0].why == error::upgrade_refused);
    BOOST_CHECK(asked[0].server_asks == delay(20s));
    BOOST_TEST(asked[1].in_row == 2U);
    BOOST_TEST(asked[1].connected);
    BOOST_CHECK(!asked[1].server_asks);
    BOOST_TEST(asked[2].in_row == 1U); // it had proven itself
    BOOST_TEST(asked[3].in_row == 2U);
    BOOST_TEST(asked[0].random != asked[1].random);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_function_that_throws_ends_the_client) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    client c(here.rt, with(nobody.url(), [](const reconnect_question &) -> delay {
               throw std::runtime_error("no idea");
             }));
    const auto why = co_await c.connected();
    BOOST_REQUIRE(!why.has_value());
    BOOST_CHECK(why.error() == error::handler_failed);
    BOOST_TEST(why.error().message() == "the handler reconnect threw: no idea");
  }(w));
}

BOOST_AUTO_TEST_CASE(a_ready_made_policy_heeds_what_the_server_asks) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, with(l.url(), reconnect_policy::constant(1s, chorus::jitter::none)));
    auto p = co_await l.accept();
    co_await p.read_head();
    co_await p.write("HTTP/1.1 429 Slow\r\nRetry-After: 20\r\nContent-Length: 0\r\n\r\n");
    co_await waits(home, c, 20s, 20s);
  }(w));
}

// A connection whose other end is gone without a word.
BOOST_AUTO_TEST_CASE(reconnect_now_drops_a_connection_that_is_dead) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    auto o = with(l.url(), reconnect_policy::constant(1h));
    o.check_timeout = 2s;
    client c(here.rt, std::move(o));
    auto silent = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    c.reconnect_now();
    c.reconnect_now(); // is looking already
    const auto ping = co_await silent.read_frame();
    BOOST_REQUIRE(ping.has_value());
    BOOST_TEST(ping->opcode == 9U);
    home.advance(1900ms);
    co_await turns(20);
    BOOST_CHECK(c.state() == client_state::open);
    home.advance(300ms);
    auto next = co_await l.accept_open(); // at once: nothing waits an hour
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_CHECK(c.last_failure() == error::timed_out);
    BOOST_TEST(c.last_failure().message().find("reconnect_now") != std::string::npos);
    // A later loss waits as ever.
    next.reset();
    while (c.state() != client_state::disconnected)
      co_await turns();
    co_await pass(home, 30min);
    BOOST_TEST(c.stats().attempts == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(reconnect_now_leaves_a_living_connection_alone) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, with(l.url(), reconnect_policy::constant(1h)));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    for (int round = 0; round < 3; ++round) {
      c.reconnect_now();
      const auto ping = co_await p.read_frame();
      BOOST_REQUIRE(ping.has_value());
      BOOST_TEST(ping->opcode == 9U);
      auto answer = peer::encode(10, ping->payload) + peer::text("behind it");
      co_await p.write(std::move(answer));
      BOOST_TEST((co_await c.receive()).has_value());
      co_await turns(10);
    }
    co_await pass(home, 20s);
    BOOST_CHECK(c.state() == client_state::open);
    BOOST_TEST(c.stats().attempts == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(figures_of_all_connections) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    o.session.heartbeat.ping_interval = 0ms;
    o.session.heartbeat.pong_wait = 0ms;
    client c(here.rt, std::move(o));
    std::uint64_t received = 0;
    std::uint64_t sent = 0;
    for (std::size_t round = 1; round < 4; ++round) {
      auto p = co_await l.accept_open(peer::text("12345")); // a frame of 7 bytes
      BOOST_TEST((co_await c.receive()).has_value());
      BOOST_TEST((co_await c.send("123")).has_value()); // and of 9, with its mask
      BOOST_TEST((co_await p.read_text()).value_or("nothing") == "123");
      auto s = c.stats();
      BOOST_TEST(s.bytes_received == received + 7);
      BOOST_TEST(s.bytes_sent == sent + 9);
      p.reset();
      co_await log.wait("gone", round);
      s = c.stats();
      BOOST_TEST(s.bytes_received == received + 7);
      BOOST_TEST(s.bytes_sent == sent + 9);
      received = s.bytes_received;
      sent = s.bytes_sent;
      BOOST_CHECK(s.last_error == error::lost);
      BOOST_TEST(s.messages_received == round);
      BOOST_TEST(s.messages_sent == round);
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
