#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_live)

using namespace chorus;
using namespace chorus::test;

namespace {

using round_trip = result<std::chrono::nanoseconds>;

session_options beating(std::chrono::milliseconds ping, std::chrono::milliseconds pong,
                        std::chrono::milliseconds write = 0ms,
                        std::chrono::milliseconds idle = 0ms) {
  auto options = quiet();
  options.heartbeat = {
      .ping_interval = ping, .pong_wait = pong, .write_wait = write, .idle_limit = idle};
  return options;
}

constexpr auto write_takes = 3ms;

// A stream whose writes return late, as when the peer runs in between.
class slow_to_return final : public stream {
public:
  explicit slow_to_return(stream_ptr inner) : stream(inner->home()), inner_(std::move(inner)) {}

  transport::io_result read_some(std::span<std::byte> into) noexcept override {
    return inner_->read_some(into);
  }
  transport::io_result write_some(std::span<const iovec> from) noexcept override {
    const auto done = inner_->write_some(from);
    const auto until = std::chrono::steady_clock::now() + write_takes;
    while (std::chrono::steady_clock::now() < until) {
    }
    return done;
  }
  error_code error() const noexcept override { return inner_->error(); }
  void listen(transport::ready_listener *l) noexcept override { inner_->listen(l); }
  void set_interest(unsigned flags) noexcept override { inner_->set_interest(flags); }
  void shutdown_write() noexcept override { inner_->shutdown_write(); }
  void close(bool abortive) noexcept override { inner_->close(abortive); }
  std::string local_address() const override { return inner_->local_address(); }
  std::string remote_address() const override { return inner_->remote_address(); }

private:
  stream_ptr inner_;
};

} // namespace

BOOST_AUTO_TEST_CASE(a_ping_gives_the_round_trip) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side);
      BOOST_CHECK(h.s.stats().last_round_trip == 0ns);
      running<round_trip> first(home, h.s.ping());
      running<round_trip> second(home, h.s.ping());
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 9u);
      co_await rounds(5);
      BOOST_CHECK_EQUAL(h.peer.pump(), 0u); // they share one
      co_await h.peer.send(10, "not the answer");
      co_await rounds(5);
      BOOST_CHECK(!first.over());
      co_await h.peer.send(10, f.payload);
      auto a = co_await first.end();
      auto b = co_await second.end();
      BOOST_REQUIRE(a.has_value());
      BOOST_REQUIRE(b.has_value());
      BOOST_CHECK(*a == *b);
      BOOST_CHECK(*a > 0ns);
      BOOST_CHECK(h.s.stats().last_round_trip == *a);
      co_await h.peer.send(10, f.payload); // an old answer again is no harm
      running<round_trip> third(home, h.s.ping());
      auto g = co_await h.peer.next();
      BOOST_CHECK_EQUAL(g.op, 9u);
      BOOST_CHECK_NE(g.payload, f.payload);
      co_await h.peer.send(10, g.payload);
      auto c = co_await third.end();
      BOOST_CHECK(c.has_value());
    }
  });
}

// The peer may have answered before the write returns, which is part of the way.
BOOST_AUTO_TEST_CASE(a_round_trip_begins_before_the_write) {
  run([](shard &home) -> task<> {
    auto [a, b] = socket_streams(home);
    auto slow = std::make_unique<slow_to_return>(std::move(a));
    auto s = open(std::move(slow), role::client, quiet());
    auto other = open(std::move(b), role::server, quiet());
    auto trip = co_await s.ping();
    BOOST_REQUIRE(trip.has_value());
    BOOST_CHECK(*trip >= write_takes);
    s.abort();
    other.abort();
  });
}

BOOST_AUTO_TEST_CASE(a_ping_times_out_alone) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server);
    running<round_trip> hasty(home, h.s.ping(100ms));
    running<round_trip> patient(home, h.s.ping(10s));
    auto f = co_await h.peer.next();
    home.advance(95ms);
    co_await rounds(3);
    BOOST_CHECK(!hasty.over());
    home.advance(10ms);
    auto a = co_await hasty.end();
    BOOST_REQUIRE(a.has_error());
    BOOST_CHECK_EQUAL(a.error(), error::timed_out);
    BOOST_CHECK(!patient.over());
    BOOST_CHECK(h.s.is_open());
    co_await h.peer.send(10, f.payload);
    auto b = co_await patient.end();
    BOOST_CHECK(b.has_value());
  });
}

BOOST_AUTO_TEST_CASE(pings_end_with_the_session) {
  run([](shard &home) -> task<> {
    for (const bool lost : {true, false}) {
      auto h = session_and_peer(home, role::server);
      running<round_trip> first(home, h.s.ping());
      running<round_trip> cancelled(home, h.s.ping());
      co_await rounds(3);
      cancelled.cancel();
      co_await cancelled.ended();
      BOOST_CHECK(cancelled.aborted());
      if (lost)
        h.peer.close();
      else
        co_await h.peer.send(8, close_payload(1000));
      auto a = co_await first.end();
      BOOST_REQUIRE(a.has_error());
      BOOST_CHECK_EQUAL(a.error(), lost ? error::lost : error::closed);
      auto late = co_await h.s.ping();
      BOOST_CHECK(late.has_error());
    }
  });
}

BOOST_AUTO_TEST_CASE(the_heartbeat_pings_at_its_interval) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side, beating(1s, 3s));
      home.advance(990ms);
      co_await rounds(5);
      BOOST_CHECK_EQUAL(h.peer.pump(), 0u);
      home.advance(20ms);
      for (int i = 0; i < 10; ++i) {
        auto f = co_await h.peer.next();
        BOOST_CHECK_EQUAL(f.op, 9u);
        co_await h.peer.send(10, f.payload);
        co_await until([&] { return h.s.core()->stats().last_round_trip != 0ns; });
        co_await rounds(3);
        BOOST_CHECK_EQUAL(h.peer.pump(), 0u);
        home.advance(1010ms);
      }
      BOOST_CHECK(h.s.is_open());
    }
  });
}

BOOST_AUTO_TEST_CASE(a_silent_peer_is_timed_out_on_the_waiting_receive) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side, beating(1s, 3s));
      running<result<message>> receiving(home, h.s.receive());
      co_await rounds(3);
      home.advance(2s);
      co_await h.peer.send(1, "one sign of life");
      auto m = co_await receiving.end();
      BOOST_CHECK(m.has_value());
      running<result<message>> again(home, h.s.receive());
      co_await rounds(3);
      for (int i = 0; i < 29; ++i) {
        home.advance(100ms);
        co_await rounds(2);
      }
      home.advance(95ms);
      co_await rounds(3);
      BOOST_CHECK(!again.over());
      home.advance(5ms + home.tick()); // pong wait and one tick after the last sign
      co_await rounds(3);
      BOOST_REQUIRE(again.over());
      BOOST_REQUIRE(again.value().has_error());
      BOOST_CHECK_EQUAL(again.value().error(), error::timed_out);
      BOOST_CHECK(again.value().error() == condition::timeout);
      BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
    }
  });
}

// Who has nothing to say and nothing to answer is not dead.
BOOST_AUTO_TEST_CASE(without_pings_silence_is_no_sign) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, beating(0ms, 3s));
    for (int i = 0; i < 100; ++i) {
      home.advance(1s);
      co_await rounds(2);
    }
    BOOST_CHECK(h.s.is_open());
  });
}

// The inbox is full, so nothing is read: the silence is this side's own.
BOOST_AUTO_TEST_CASE(the_heartbeat_does_not_blame_a_peer_that_is_not_read) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto options = beating(1s, 3s);
    options.inbox_messages = 3;
    auto h = session_and_peer(home, role::server, options);
    for (int i = 0; i < 20; ++i)
      co_await h.peer.send(1, std::to_string(i));
    co_await rounds(5);
    for (int i = 0; i < 100; ++i) {
      home.advance(100ms);
      co_await rounds(2);
    }
    BOOST_CHECK(h.s.is_open());
    for (int i = 0; i < 20; ++i) {
      auto m = co_await h.s.receive();
      BOOST_REQUIRE(m.has_value());
      BOOST_CHECK_EQUAL(m->text(), std::to_string(i));
    }
    // From now on it is read, and has pong wait from here.
    running<result<message>> receiving(home, h.s.receive());
    co_await rounds(5);
    home.advance(2900ms);
    co_await rounds(3);
    BOOST_CHECK(!receiving.over());
    home.advance(200ms);
    auto end = co_await receiving.end();
    BOOST_CHECK(end.has_error() && end.error() == error::timed_out);
  });
}

BOOST_AUTO_TEST_CASE(a_peer_that_takes_nothing_is_a_write_timeout) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, beating(0ms, 0ms, 2s), 1000);
    home.advance(60s); // nothing waits, nothing happens
    BOOST_CHECK(h.s.is_open());
    auto sent = co_await h.s.send(pattern(10'000));
    BOOST_CHECK(sent.has_value());
    running<result<message>> receiving(home, h.s.receive());
    running<result<>> flushing(home, h.s.flush());
    co_await rounds(3);
    for (int i = 0; i < 5; ++i) { // each byte it takes gives it time
      home.advance(1900ms);
      co_await rounds(2);
      BOOST_CHECK(h.s.is_open());
      BOOST_CHECK_EQUAL(h.peer.pump(500), 500u);
      co_await rounds(3);
    }
    home.advance(1990ms);
    BOOST_CHECK(h.s.is_open());
    home.advance(20ms);
    auto got = co_await receiving.end();
    BOOST_REQUIRE(got.has_error());
    BOOST_CHECK_EQUAL(got.error(), error::write_timeout);
    auto flushed = co_await flushing.end();
    BOOST_CHECK(flushed.has_error() && flushed.error() == error::write_timeout);
  });
}

BOOST_AUTO_TEST_CASE(an_idle_session_closes_with_1001) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, beating(500ms, 0ms, 0ms, 3s));
    home.advance(2s);
    co_await h.peer.send(1, "a message counts");
    auto m = co_await h.s.receive();
    BOOST_CHECK(m.has_value());
    home.advance(2s);
    auto sent = co_await h.s.send("in either direction");
    BOOST_CHECK(sent.has_value());
    for (int i = 0; i < 29; ++i) { // pings and pongs do not
      home.advance(100ms);
      co_await h.peer.send(10, "");
      co_await h.peer.send(9, "");
      co_await rounds(2);
    }
    BOOST_CHECK(h.s.is_open());
    home.advance(110ms);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
    for (;;) {
      auto f = co_await h.peer.next();
      BOOST_REQUIRE_NE(f.op, 255u);
      if (f.op == 8) {
        BOOST_CHECK_EQUAL(f.close_code(), 1001u);
        break;
      }
    }
    co_await h.peer.send(8, close_payload(1001));
    auto end = co_await h.s.wait_closed();
    BOOST_CHECK_EQUAL(end, error::closed);
    BOOST_CHECK_EQUAL(end.detail().close_code, 1001u);
  });
}

BOOST_AUTO_TEST_CASE(a_pong_confirms_what_was_sent_before_the_ping) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    for (int i = 0; i < 3; ++i)
      co_await h.s.send("before");
    co_await h.s.flush();
    running<round_trip> pinging(home, h.s.ping());
    for (int i = 0; i < 3; ++i) {
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 1u);
    }
    auto ping = co_await h.peer.next();
    BOOST_CHECK_EQUAL(ping.op, 9u);
    for (int i = 0; i < 4; ++i)
      co_await h.s.send("after");
    co_await h.s.flush();
    BOOST_CHECK_EQUAL(h.s.stats().messages_confirmed, 0u);
    co_await h.peer.send(10, ping.payload);
    auto rtt = co_await pinging.end();
    BOOST_CHECK(rtt.has_value());
    BOOST_CHECK_EQUAL(h.s.stats().messages_confirmed, 3u);
    BOOST_CHECK_EQUAL(h.s.stats().messages_sent, 7u);
    h.peer.close();
    auto end = co_await h.s.wait_closed();
    BOOST_CHECK_EQUAL(end, error::lost);
    BOOST_CHECK_EQUAL(h.s.stats().messages_confirmed, 3u);
  });
}

// A ping overtakes queued messages: it confirms none of them.
BOOST_AUTO_TEST_CASE(a_ping_confirms_nothing_it_overtook) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 500);
    co_await h.s.send(pattern(2000));
    for (int i = 0; i < 5; ++i)
      co_await h.s.send(pattern(300));
    co_await until([&] { return h.s.core()->out().blocked(); });
    running<round_trip> pinging(home, h.s.ping());
    frame ping;
    int messages = 0;
    for (;;) {
      ping = co_await h.peer.next();
      if (ping.op == 9)
        break;
      ++messages;
    }
    BOOST_CHECK_EQUAL(messages, 1);
    for (int i = 0; i < 5; ++i)
      co_await h.peer.next();
    co_await h.peer.send(10, ping.payload);
    co_await pinging.ended();
    BOOST_CHECK_EQUAL(h.s.stats().messages_confirmed, 1u);
  });
}

BOOST_AUTO_TEST_SUITE_END()
