// Token buckets with a time that is given, and sessions under a rate with a clock that is moved.

#include "support.hpp"

#include <chorus/session/rate.hpp>

BOOST_AUTO_TEST_SUITE(session_rate)

using namespace chorus;
using namespace chorus::test;
using namespace std::chrono_literals;
using chorus::detail::rate_gate;
using chorus::detail::token_bucket;

namespace {
constexpr detail::time_point start{std::chrono::hours(1)};
}

BOOST_AUTO_TEST_CASE(a_burst_and_then_the_rate) {
  token_bucket b(10, 5, start);
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(b.open(start));
    b.take(1, start);
  }
  BOOST_TEST(!b.open(start));
  BOOST_TEST((b.open_at(start) == start + 100ms));
  BOOST_TEST(!b.open(start + 100ms - 1ns));
  BOOST_TEST(b.open(start + 100ms));
  b.take(1, start + 100ms);
  BOOST_TEST(!b.open(start + 199ms));
  // However long nothing came, no more than the burst is saved.
  for (int i = 0; i < 5; ++i) {
    BOOST_TEST(b.open(start + 24h));
    b.take(1, start + 24h);
  }
  BOOST_TEST(!b.open(start + 24h));
  // Time that goes backwards neither gives nor takes.
  BOOST_TEST(!b.open(start));
  BOOST_TEST((b.open_at(start + 24h) == start + 24h + 100ms));
}

BOOST_AUTO_TEST_CASE(debts_are_paid_off) {
  token_bucket b(1000, 100, start);
  b.take(5100, start);
  BOOST_TEST((b.open_at(start) == start + 5001ms));
  BOOST_TEST(!b.open(start + 5s));
  BOOST_TEST(b.open(start + 5001ms));
  b.take(UINT64_MAX, start + 5001ms); // bounded
  BOOST_TEST((b.open_at(start + 5001ms) > start + 1000h));
}

BOOST_AUTO_TEST_CASE(extremes) {
  token_bucket none(0, 0, start);
  none.take(1'000'000, start);
  BOOST_TEST(none.open(start));
  BOOST_TEST((none.open_at(start) == start));
  token_bucket most(UINT32_MAX, UINT32_MAX, start);
  most.take(UINT32_MAX, start);
  BOOST_TEST(!most.open(start));
  BOOST_TEST(most.open(start + 1ns));
  BOOST_TEST(most.open(start + std::chrono::hours(24 * 365 * 100)));
  token_bucket least(1, 1, start);
  least.take(1, start);
  BOOST_TEST((least.open_at(start) == start + 1s));
}

// Whatever the pattern, over any time no more passes than the rate, one burst and one message.
BOOST_AUTO_TEST_CASE(never_more_than_the_rate) {
  rate_options options;
  options.messages_per_second = 7;
  options.bytes_per_second = 1000;
  options.burst_bytes = 300;
  rate_gate gate(options, start);
  std::uint64_t bytes = 0, messages = 0;
  unsigned seed = 1;
  auto now = start;
  for (int i = 0; i < 20'000; ++i) {
    seed = seed * 1664525 + 1013904223;
    now += std::chrono::microseconds(seed % 50'000);
    const std::size_t size = (seed >> 8) % 400;
    if (gate.pass(size, now)) {
      bytes += size;
      ++messages;
    }
    const double seconds = std::chrono::duration<double>(now - start).count();
    BOOST_REQUIRE_LE(static_cast<double>(messages), 7 * seconds + 7 + 1e-6);
    BOOST_REQUIRE_LE(static_cast<double>(bytes), 1000 * seconds + 300 + 400 + 1e-6);
  }
  const double seconds = std::chrono::duration<double>(now - start).count();
  // And not much less than one of them allows.
  BOOST_TEST(
      (static_cast<double>(messages) > 6 * seconds || static_cast<double>(bytes) > 900 * seconds));
}

namespace {

struct rated {
  session s;
  raw_peer peer;
  std::vector<std::string> got;
};

rated under_a_rate(shard &home, const rate_options &rate, const session_options &options) {
  auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 4096});
  detail::session_setup setup;
  setup.carrier = std::move(a);
  setup.options = std::make_shared<const session_options>(options);
  setup.terms = std::make_unique<detail::session_terms>();
  setup.terms->rate = detail::make_inbound_rate(rate, home.now(), nullptr);
  return {detail::make_session(std::move(setup)), raw_peer(std::move(b), role::client), {}};
}

task<int> take_all(session s, int &count) {
  while (auto m = co_await s.receive())
    ++count;
  co_return count;
}

} // namespace

BOOST_AUTO_TEST_CASE(delayed_to_the_tick_and_the_heartbeat_blames_nobody) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    rate_options rate;
    rate.messages_per_second = 1;
    rate.burst_messages = 3;
    auto options = quiet();
    options.heartbeat.ping_interval = 100ms;
    options.heartbeat.pong_wait = 200ms;
    auto h = under_a_rate(home, rate, options);
    int count = 0;
    running<int> receiving(home, take_all(h.s, count));
    std::string all;
    for (int i = 0; i < 6; ++i)
      all += h.peer.encoded(1, std::to_string(i));
    co_await h.peer.write(all);
    co_await rounds(5);
    BOOST_CHECK_EQUAL(count, 3);
    // One a second, and none sooner; five times pong_wait passes before each.
    for (int expected = 3; expected < 6; ++expected) {
      for (int i = 0; i < 9; ++i) {
        home.advance(100ms);
        co_await rounds(3);
      }
      BOOST_CHECK_EQUAL(count, expected);
      BOOST_REQUIRE(h.s.is_open());
      home.advance(100ms + home.tick());
      co_await rounds(5);
      BOOST_CHECK_EQUAL(count, expected + 1);
      home.advance(-home.tick());
    }
    BOOST_REQUIRE(h.s.is_open());
    // Read at last, a peer that says nothing is given up as ever.
    h.peer.pump();
    for (int i = 0; i < 30 && h.s.is_open(); ++i) {
      home.advance(100ms);
      co_await rounds(3);
    }
    BOOST_CHECK_EQUAL(h.s.end(), error::timed_out);
    co_await receiving.ended();
  });
}

// The peer's own writes stop: what it can send ahead is bounded.
BOOST_AUTO_TEST_CASE(delay_pushes_back) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    rate_options rate;
    rate.bytes_per_second = 10;
    auto h = under_a_rate(home, rate, quiet());
    int count = 0;
    running<int> receiving(home, take_all(h.s, count));
    const auto one = h.peer.encoded(1, std::string(100, 'x'));
    std::size_t sent = 0;
    for (int i = 0; i < 1000; ++i) {
      sent += h.peer.try_write(one);
      co_await once_round();
    }
    BOOST_CHECK_LE(sent, 3 * 4096u);
    BOOST_CHECK_EQUAL(count, 1);
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
    h.s.start_close();
    h.peer.close();
    co_await receiving.ended();
  });
}

BOOST_AUTO_TEST_SUITE_END()
