// What a server's wish to be left alone for a while is worth, by a clock that the test moves.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/client/retry_hint.hpp>

#include <algorithm>

using namespace client_test;
using chorus::client;
using chorus::client_state;
using chorus::detail::retry_hint;

namespace {

failure closed(std::uint16_t code, std::string reason, bool by_peer = true) {
  chorus::failure_detail d;
  d.close_code = code;
  d.close_reason = std::move(reason);
  d.by_peer = by_peer;
  return failure(make_error_code(error::closed), std::move(d));
}

failure refused(unsigned status, std::string name, std::string value) {
  chorus::failure_detail d;
  d.status = status;
  d.headers = {{"Date", "9"}, {std::move(name), std::move(value)}};
  return failure(make_error_code(error::upgrade_refused), std::move(d));
}

chorus::client_options paced(std::string url) {
  chorus::client_options o;
  o.urls = {std::move(url)};
  o.backoff.initial = 10s;
  o.backoff.factor = 2;
  o.backoff.cap = 60s;
  o.backoff.spread = chorus::jitter::none;
  o.proven_after = 60s;
  return o;
}

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

std::string close_with(unsigned code, std::string_view reason) {
  const char bytes[] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return peer::encode(8, std::string(bytes, 2).append(reason));
}

// One connection that is closed with 1012 and this reason.
task<> one_life(listener &l, std::string reason) {
  auto p = co_await l.accept_open(close_with(1012, reason));
  for (;;) {
    const auto f = co_await p.read_frame();
    if (!f || f->opcode == 8)
      break;
  }
  p.close();
}

task<> one_refusal(listener &l, std::string answer) {
  auto p = co_await l.accept();
  co_await p.read_head();
  co_await p.write(std::move(answer));
  p.close();
}

} // namespace

BOOST_AUTO_TEST_SUITE(retry_hints)

BOOST_AUTO_TEST_CASE(what_counts_as_one) {
  const auto is = [](std::chrono::milliseconds expected, const failure &f) {
    const auto got = retry_hint(f);
    BOOST_TEST_CONTEXT(f.detail().close_reason) {
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->count() == expected.count());
    }
  };
  is(1250ms, closed(1012, "retry-after=1.25"));
  is(0ms, closed(1012, "retry-after=0"));
  is(7s, closed(1001, "retry-after=7"));
  is(7s, closed(1013, "retry-after=7; come later"));
  is(1ms, closed(1012, "retry-after=0.0001")); // never sooner
  is(1500ms, closed(1012, "retry-after=1.5000000000000000000000000"));
  is(std::chrono::hours(24) * 3660, closed(1012, "retry-after=99999999999999999999999"));
  is(3s, refused(503, "Retry-After", "3"));
  is(3s, refused(429, "retry-after", "3"));
}

BOOST_AUTO_TEST_CASE(what_does_not) {
  for (const auto &f :
       {closed(1000, "retry-after=1"), closed(1008, "retry-after=1"),
        closed(1012, "retry-after=1", false), closed(1012, "please retry-after=1"),
        closed(1012, "retry-after="), closed(1012, "retry-after=-1"),
        closed(1012, "retry-after=1e3"), closed(1012, "retry-after=1."),
        closed(1012, "retry-after=.5"), closed(1012, "Retry-After=1"), closed(1012, ""),
        refused(500, "Retry-After", "3"), refused(503, "Retry-After", "1.5"),
        refused(503, "Retry-After", "Fri, 31 Dec 1999 23:59:59 GMT"), refused(503, "X-Other", "3"),
        failure(error::lost)})
    BOOST_TEST_CONTEXT(f.detail().close_reason)
  BOOST_TEST(!retry_hint(f).has_value());
}

BOOST_AUTO_TEST_CASE(a_close_with_a_hint_is_waited_for_instead_of_the_backoff) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, paced(l.url()));
    co_await one_life(l, "retry-after=2.5"); // first time: shorter than the backoff's 10 s
    co_await waits(home, c, 2500ms);
    co_await one_life(l, "retry-after=30"); // longer than the backoff's 20 s
    co_await waits(home, c, 30s);
    co_await one_life(l, "no hint"); // the third attempt that proved nothing
    co_await waits(home, c, 40s);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_refusal_with_a_hint_too) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, paced(l.url()));
    co_await one_refusal(l, "HTTP/1.1 503 Busy\r\nRetry-After: 3\r\nContent-Length: 0\r\n\r\n");
    co_await waits(home, c, 3s);
    co_await one_refusal(l, "HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n");
    co_await waits(home, c, 20s);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_server_that_says_at_once_again_and_again_does_not_keep_the_client_spinning) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    client c(here.rt, paced(l.url()));
    co_await one_life(l, "retry-after=0.1");
    co_await waits(home, c, 100ms);
    co_await one_life(l, "retry-after=0.1");
    co_await waits(home, c, 20s);
  }(w));
}

BOOST_AUTO_TEST_CASE(the_maximum_bounds_it_and_zero_switches_it_off) {
  for (const auto &[most, expected] : {std::pair{5s, 5'000ms}, std::pair{0s, 10'000ms}}) {
    world w;
    w.run([](world &here, std::chrono::seconds limit, std::chrono::milliseconds wait) -> task<> {
      auto &home = *here.rt.core()->shards.front();
      home.use_manual_clock();
      listener l(here);
      auto o = paced(l.url());
      o.max_retry_after = limit;
      client c(here.rt, o);
      co_await one_life(l, "retry-after=3600");
      co_await waits(home, c, wait);
    }(w, most, expected));
  }
  world w;
  auto o = paced("ws://127.0.0.1:1/");
  o.max_retry_after = -1ms;
  BOOST_CHECK_THROW(client(w.rt, o), std::invalid_argument);
  w.run([]() -> task<> { co_return; }());
}

BOOST_AUTO_TEST_CASE(jitter_makes_it_later_never_sooner) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    auto o = paced(l.url());
    o.backoff.spread = chorus::jitter::full;
    for (int i = 0; i < 20; ++i) {
      client c(here.rt, o);
      co_await one_life(l, "retry-after=4");
      while (c.state() != client_state::disconnected)
        co_await turns();
      co_await turns(10);
      co_await pass(home, 3990ms);
      BOOST_TEST(c.stats().attempts == 1U);
      co_await pass(home, 450ms); // a tenth, and ticks of the wheel
      BOOST_TEST(c.stats().attempts == 2U);
      auto second = co_await l.accept_open();
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
