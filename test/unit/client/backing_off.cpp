// When a client tries again, by a clock that the test moves.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

#include <algorithm>

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

chorus::client_options paced(std::vector<std::string> urls) {
  chorus::client_options o;
  o.urls = std::move(urls);
  o.backoff.initial = 1s;
  o.backoff.factor = 2;
  o.backoff.cap = 60s;
  o.backoff.spread = chorus::jitter::none;
  o.proven_after = 10s;
  return o;
}

// Moves the clock; whatever begins by that has begun afterwards.
task<> pass(chorus::detail::shard &home, chorus::detail::duration d) {
  home.advance(d);
  co_await turns(10);
}

// The client waits `expected` before its next attempt, and no longer.
task<> waits(chorus::detail::shard &home, client &c, std::chrono::milliseconds expected) {
  while (c.state() != client_state::disconnected)
    co_await turns();
  co_await turns(10);
  const auto before = c.stats().attempts;
  co_await pass(home, expected - 20ms);
  BOOST_TEST_CONTEXT(expected.count()) {
    BOOST_TEST(c.stats().attempts == before);
    co_await pass(home, 40ms); // a tick of the wheel included
    BOOST_TEST(c.stats().attempts == before + 1);
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(backing_off)

BOOST_AUTO_TEST_CASE(each_failure_waits_longer_up_to_the_cap) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    client c(here.rt, paced({nobody.url()}));
    for (auto expected : {1s, 2s, 4s, 8s, 16s, 32s, 60s, 60s})
      co_await waits(home, c, expected);
  }(w));
}

BOOST_AUTO_TEST_CASE(only_a_proven_connection_starts_over) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, paced({l.url()}));
    for (auto expected : {1s, 2s, 4s, 8s}) { // opened, and gone before it was proven
      auto p = co_await l.accept_open();
      BOOST_TEST((co_await c.connected()).has_value());
      co_await pass(home, 9s);
      p.reset();
      co_await waits(home, c, expected);
    }
    for (auto expected : {1s, 2s}) {
      auto p = co_await l.accept_open();
      BOOST_TEST((co_await c.connected()).has_value());
      co_await pass(home, expected == 1s ? 11s : 0s);
      p.reset();
      co_await waits(home, c, expected);
    }
  }(w));
}

// Clients that lost their server together must not come back together.
BOOST_AUTO_TEST_CASE(jitter_spreads_the_clients) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    constexpr std::size_t count = 20;
    std::deque<client> clients;
    for (std::size_t i = 0; i < count; ++i) {
      auto o = paced({nobody.url()});
      o.backoff.initial = o.backoff.cap = 1000s;
      o.backoff.spread = chorus::jitter::full;
      clients.emplace_back(here.rt, std::move(o));
    }
    const auto came_back = [&clients] {
      return static_cast<std::size_t>(std::count_if(
          clients.begin(), clients.end(), [](const client &c) { return c.stats().attempts > 1; }));
    };
    const auto waiting = [&clients] {
      return std::all_of(clients.begin(), clients.end(),
                         [](const client &c) { return c.state() == client_state::disconnected; });
    };
    while (!waiting())
      co_await turns();
    std::size_t before = 0;
    std::size_t most = 0;
    for (int step = 0; step < 10; ++step) {
      co_await pass(home, 101s);
      const auto now = came_back();
      most = std::max(most, now - before);
      before = now;
    }
    BOOST_TEST(before == count);
    // All in one tenth of the time by chance: once in 10^19 runs.
    BOOST_TEST(most < count);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_hint_counts_from_when_the_client_is_disconnected) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    auto o = paced({nobody.url()});
    client *made = nullptr;
    int hints = 5;
    o.on_state = [&](client_state s) {
      if (s == client_state::disconnected && --hints >= 0)
        made->reconnect_now();
    };
    client c(here.rt, std::move(o));
    made = &c;
    while (c.stats().attempts < 6) // without the clock
      co_await turns();
    co_await waits(home, c, 32s);
    co_await c.close();
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
