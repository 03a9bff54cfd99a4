#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_close)

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_CASE(a_local_close_tells_code_and_reason_to_both) {
  run([](shard &home) -> task<> {
    for (const bool server_closes : {true, false}) {
      auto p = session_pair(home, unhurried());
      auto &one = server_closes ? p.server : p.client;
      auto &other = server_closes ? p.client : p.server;
      auto sent = co_await one.send("last words");
      BOOST_CHECK(sent.has_value());
      running<result<>> closing(home, one.close(close_code{4001}, "grüße"));
      running<result<>> twice(home, one.close(close_code::normal, "other"));
      co_await once_round();
      BOOST_CHECK_EQUAL(one.state(), session_state::closing);
      auto refused = co_await one.send("too late");
      BOOST_REQUIRE(refused.has_error());
      BOOST_CHECK_EQUAL(refused.error(), error::not_open);
      auto m = co_await other.receive();
      BOOST_CHECK_EQUAL(m.value().text(), "last words");
      auto end = co_await other.receive();
      BOOST_REQUIRE(end.has_error());
      BOOST_CHECK_EQUAL(end.error(), error::closed);
      BOOST_CHECK_EQUAL(end.error().detail().close_code, 4001u);
      BOOST_CHECK_EQUAL(end.error().detail().close_reason, "grüße");
      BOOST_CHECK(end.error().detail().by_peer);
      auto closed = co_await closing.end();
      BOOST_CHECK(closed.has_value());
      closed = co_await twice.end();
      BOOST_CHECK(closed.has_value());
      BOOST_CHECK_EQUAL(one.state(), session_state::closed);
      BOOST_CHECK_EQUAL(one.end(), error::closed);
      BOOST_CHECK_EQUAL(one.end().detail().close_code, 4001u);
      BOOST_CHECK(!one.end().detail().by_peer);
      auto gone = co_await other.wait_closed();
      BOOST_CHECK_EQUAL(gone, error::closed);
      BOOST_CHECK_EQUAL(one.stats().messages_confirmed, 1u);
      auto again = co_await one.close();
      BOOST_CHECK(again.has_value());
    }
  });
}

// RFC 6455 section 7.1.5: what the peer's close frame said is not lost when it is an answer.
BOOST_AUTO_TEST_CASE(the_answer_to_a_close_is_kept) {
  run([](shard &home) -> task<> {
    struct answer {
      std::string payload;
      unsigned code;
      std::string reason;
    };
    const std::vector<answer> answers{
        {close_payload(1000, ""), 1000, ""},
        {close_payload(1011, "internal fault"), 1011, "internal fault"},
        {"", 1005, ""}};
    for (const auto &a : answers) {
      auto h = session_and_peer(home, role::client, unhurried());
      running<result<>> closing(home, h.s.close(close_code::normal, "done"));
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.close_code(), 1000u);
      co_await h.peer.send(8, a.payload);
      h.peer.shutdown();
      auto closed = co_await closing.end();
      BOOST_CHECK(closed.has_value());
      const auto end = h.s.end();
      BOOST_CHECK_EQUAL(end, error::closed);
      BOOST_CHECK(!end.detail().by_peer);
      BOOST_CHECK_EQUAL(end.detail().close_code, 1000u);
      BOOST_CHECK_EQUAL(end.detail().close_reason, "done");
      BOOST_CHECK_EQUAL(end.detail().answer_code, a.code);
      BOOST_CHECK_EQUAL(end.detail().answer_reason, a.reason);
    }
  });
}

BOOST_AUTO_TEST_CASE(both_at_once_close_in_order) {
  run([](shard &home) -> task<> {
    auto p = session_pair(home, unhurried());
    running<result<>> a(home, p.server.close(close_code::going_away, "server"));
    running<result<>> b(home, p.client.close(close_code::normal, "client"));
    auto first = co_await a.end();
    auto second = co_await b.end();
    BOOST_CHECK(first.has_value());
    BOOST_CHECK(second.has_value());
  });
}

BOOST_AUTO_TEST_CASE(codes_that_may_not_stand_on_the_wire_do_not) {
  run([](shard &home) -> task<> {
    for (const unsigned code : {1005U, 1006U, 1015U, 0U, 999U, 5000U}) {
      auto h = session_and_peer(home, role::server, unhurried());
      h.s.start_close(static_cast<close_code>(code), "reason");
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 8u);
      BOOST_CHECK(f.payload.empty());
      co_await h.peer.send(8, "");
      auto end = co_await h.s.wait_closed();
      BOOST_CHECK_EQUAL(end, error::closed);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_long_reason_is_cut_between_characters) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, unhurried());
    std::string reason = "x";
    while (reason.size() < 200)
      reason += "ü";
    h.s.start_close(close_code::normal, reason);
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.payload.size(), 125u);
    BOOST_CHECK_EQUAL(f.payload.substr(2), reason.substr(0, 123));
    co_await h.peer.send(8, close_payload(1000));
    auto end = co_await h.s.wait_closed();
    BOOST_CHECK_EQUAL(end, error::closed);
  });
}

BOOST_AUTO_TEST_CASE(a_close_without_a_code_is_answered_in_kind) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, unhurried());
    co_await h.peer.send(8, "");
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.op, 8u);
    BOOST_CHECK(f.payload.empty());
    auto end = co_await h.s.receive();
    BOOST_REQUIRE(end.has_error());
    BOOST_CHECK_EQUAL(end.error(), error::closed);
    BOOST_CHECK_EQUAL(end.error().detail().close_code, 1005u);
    co_await h.peer.read_to_end(); // the server ends the connection (RFC 6455 section 7.1.1)
  });
}

BOOST_AUTO_TEST_CASE(a_close_while_blocked_flushes_first) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side, unhurried(), 500);
      for (unsigned i = 0; i < 10; ++i) {
        auto sent = co_await h.s.send(pattern(900, i));
        BOOST_REQUIRE(sent.has_value());
      }
      running<result<>> closing(home, h.s.close(close_code::service_restart, "later"));
      co_await rounds(5);
      BOOST_CHECK(!closing.over());
      for (unsigned i = 0; i < 10; ++i) {
        auto f = co_await h.peer.next();
        BOOST_CHECK(f.payload == pattern(900, i));
      }
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.close_code(), 1012u);
      co_await h.peer.send(8, f.payload);
      if (side == role::client) {
        co_await rounds(5);
        BOOST_CHECK(!closing.over()); // the server ends the connection
        h.peer.close();
      }
      auto closed = co_await closing.end();
      BOOST_CHECK(closed.has_value());
    }
  });
}

// The peer closes while much is queued for it: what was accepted goes first, then the answer.
BOOST_AUTO_TEST_CASE(a_peers_close_is_answered_after_what_is_queued) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, unhurried(), 500);
    for (unsigned i = 0; i < 5; ++i) {
      auto sent = co_await h.s.send(pattern(900, i));
      BOOST_REQUIRE(sent.has_value());
    }
    co_await h.peer.send(8, close_payload(1000, "bye"));
    auto end = co_await h.s.receive();
    BOOST_CHECK(end.has_error() && end.error() == error::closed);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
    auto refused = co_await h.s.send("too late");
    BOOST_CHECK(refused.has_error() && refused.error() == error::closed);
    for (unsigned i = 0; i < 5; ++i) {
      auto f = co_await h.peer.next();
      BOOST_CHECK(f.payload == pattern(900, i));
    }
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.close_code(), 1000u);
    co_await h.peer.read_to_end();
    BOOST_CHECK(!h.peer.reset);
    auto gone = co_await h.s.wait_closed();
    BOOST_CHECK_EQUAL(gone, error::closed);
  });
}

BOOST_AUTO_TEST_CASE(an_unanswered_close_ends_at_the_deadline) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    for (const bool reads : {true, false}) {
      auto h = session_and_peer(home, role::server, quiet(), 500);
      if (!reads) {
        auto sent = co_await h.s.send(pattern(5000));
        BOOST_REQUIRE(sent.has_value());
      }
      running<result<>> closing(home, h.s.close());
      running<result<>> impatient(home, h.s.close());
      co_await rounds(5);
      if (reads) {
        auto f = co_await h.peer.next();
        BOOST_CHECK_EQUAL(f.close_code(), 1000u);
        co_await h.peer.send(1, "the peer says something else instead");
      }
      impatient.cancel();
      co_await impatient.ended();
      BOOST_CHECK(impatient.aborted());
      home.advance(4900ms);
      co_await rounds(5);
      BOOST_CHECK(!closing.over());
      home.advance(110ms);
      auto closed = co_await closing.end();
      BOOST_REQUIRE(closed.has_error());
      BOOST_CHECK_EQUAL(closed.error(), error::aborted);
      BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
      co_await h.peer.read_to_end();
    }
  });
}

// A client whose server answered the close but never ends the connection has closed in order.
BOOST_AUTO_TEST_CASE(a_client_does_not_wait_for_ever_for_the_servers_end) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::client);
    running<result<>> closing(home, h.s.close());
    auto f = co_await h.peer.next();
    co_await h.peer.send(8, f.payload);
    co_await rounds(5);
    BOOST_CHECK(!closing.over());
    home.advance(5100ms);
    auto closed = co_await closing.end();
    BOOST_CHECK(closed.has_value());
  });
}

BOOST_AUTO_TEST_CASE(a_peer_that_vanishes_at_any_step_is_lost) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::server, role::client})
      for (const bool reset : {false, true})
        for (int step = 0; step < 7; ++step) {
          auto h = session_and_peer(home, side, unhurried());
          running<result<message>> receiving(home, h.s.receive());
          running<failure> waiting(home, h.s.wait_closed());
          auto token = h.s.stop_token();
          BOOST_CHECK(!token.stop_requested());
          const auto whole = h.peer.encoded(1, "a whole message of some length");
          std::optional<running<result<>>> closing;
          if (step == 1)
            co_await h.peer.write(whole.substr(0, 1)); // within a header
          if (step == 2)
            co_await h.peer.write(whole.substr(0, whole.size() / 2));
          if (step == 3)
            co_await h.peer.send(1, "a first fragment", false);
          if (step == 4)
            co_await h.peer.write(h.peer.encoded(9, "a ping").substr(0, 4));
          if (step == 5) {
            auto sent = co_await h.s.send("nobody reads this");
            BOOST_CHECK(sent.has_value());
          }
          if (step == 6) {
            closing.emplace(home, h.s.close());
            auto f = co_await h.peer.next();
            BOOST_CHECK_EQUAL(f.op, 8u);
          }
          co_await rounds(5);
          if (reset)
            h.peer.carrier().close(true);
          else
            h.peer.close();
          auto got = co_await receiving.end();
          BOOST_REQUIRE(got.has_error());
          BOOST_CHECK_EQUAL(got.error(), error::lost);
          BOOST_CHECK_EQUAL(got.error().detail().close_code, 1006u);
          auto end = co_await waiting.end();
          BOOST_CHECK_EQUAL(end, error::lost);
          BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
          BOOST_CHECK(token.stop_requested());
          BOOST_CHECK(h.s.stop_token().stop_requested());
          if (closing) {
            auto closed = co_await closing->end();
            BOOST_REQUIRE(closed.has_error());
            BOOST_CHECK_EQUAL(closed.error(), error::lost);
          }
        }
  });
}

// The same with a failure injected at each read and each write in turn, to a session that does a bit of
// everything: it always ends, with an error, and takes everybody who waits along.
BOOST_AUTO_TEST_CASE(a_failure_at_every_read_and_write_ends_the_session) {
  run([](shard &home) -> task<> {
    for (const bool reading : {true, false})
      for (std::uint64_t n = 1; n < 40; ++n) {
        auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 300});
        a->limit(40);
        if (reading)
          a->fail_read(n, make_error_code(boost::system::errc::connection_reset));
        else
          a->fail_write(n, make_error_code(boost::system::errc::broken_pipe));
        auto s = open(std::move(a), role::server, unhurried());
        auto t = open(std::move(b), role::client, unhurried());
        running<bool> theirs(home, [](session peer) -> task<bool> {
          for (int i = 0; i < 4; ++i)
            co_await peer.send(pattern(200));
          while (auto m = co_await peer.receive())
            static_cast<void>(m);
          co_return true;
        }(t));
        running<result<std::chrono::nanoseconds>> pinging(home, s.ping());
        running<bool> sending(home, [](session own) -> task<bool> {
          for (int i = 0; i < 4; ++i)
            co_await own.send(pattern(200));
          co_await own.flush();
          co_return true;
        }(s));
        int got = 0;
        while (got < 4) {
          auto m = co_await s.receive();
          if (!m)
            break;
          BOOST_CHECK(m->text() == pattern(200));
          ++got;
        }
        co_await s.close();
        BOOST_CHECK_EQUAL(s.state(), session_state::closed);
        BOOST_CHECK(s.end().code());
        co_await sending.ended();
        co_await pinging.ended();
        co_await theirs.ended();
        BOOST_CHECK_EQUAL(t.state(), session_state::closed);
      }
  });
}

namespace {

struct offence {
  std::string bytes;
  unsigned code;
  error end;
};

} // namespace

// The peer keeps sending while it is told: the close frame must arrive all the same, so the connection is
// not reset under it.
BOOST_AUTO_TEST_CASE(a_violation_is_answered_with_its_code) {
  run([](shard &home) -> task<> {
    auto options = unhurried();
    options.max_message = 1000;
    const std::vector<offence> offences{
        {wire({.op = 1, .payload = "unmasked"}), 1002, error::protocol},
        {wire({.op = 3, .payload = "?", .masked = true}), 1002, error::protocol},
        {wire({.op = 0, .payload = "?", .masked = true}), 1002, error::protocol},
        {wire({.op = 1, .payload = "\xff\xfe", .masked = true}), 1007, error::protocol},
        {wire({.op = 2, .payload = std::string(1001, 'x'), .masked = true}), 1009,
         error::message_too_big},
        {wire({.op = 8, .payload = close_payload(1005), .masked = true}), 1002, error::protocol},
    };
    for (const auto &o : offences) {
      auto [a, b] = tcp_streams(home); // the kind that a reset would hurt
      auto s = open(std::move(a), role::server, options);
      raw_peer peer(std::move(b), role::client);
      running<result<message>> receiving(home, s.receive());
      auto sent = co_await s.send("sent before");
      BOOST_CHECK(sent.has_value());
      co_await rounds(3);
      co_await peer.write(peer.encoded(1, "good"));
      auto m = co_await receiving.end();
      BOOST_CHECK_EQUAL(m.value().text(), "good");
      co_await peer.write(o.bytes);
      for (int i = 0; i < 50; ++i)
        co_await peer.write(peer.encoded(2, std::string(500, 'm')));
      auto end = co_await s.receive();
      BOOST_REQUIRE(end.has_error());
      BOOST_CHECK_EQUAL(end.error(), o.end);
      BOOST_CHECK(!end.error().message().empty());
      auto f = co_await peer.next();
      BOOST_CHECK_EQUAL(f.payload, "sent before");
      f = co_await peer.next();
      BOOST_CHECK_EQUAL(f.close_code(), o.code);
      co_await peer.read_to_end();
      BOOST_CHECK(!peer.reset);
      BOOST_CHECK_EQUAL(s.state(), session_state::closing);
      peer.close();
      auto gone = co_await s.wait_closed();
      BOOST_CHECK_EQUAL(gone, o.end);
      BOOST_CHECK_EQUAL(s.end().detail().close_code, o.code);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_violating_peer_that_stays_is_gone_at_the_deadline) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server);
    co_await h.peer.write("\xff\xff nonsense");
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.close_code(), 1002u);
    home.advance(5100ms);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
    BOOST_CHECK_EQUAL(h.s.end(), error::protocol);
  });
}

BOOST_AUTO_TEST_SUITE_END()
