#include "support.hpp"

#include <chorus/base/explain.hpp>

BOOST_AUTO_TEST_SUITE(session_ending)

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_CASE(an_abort_drops_everything_at_once) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 500);
    running<result<message>> receiving(home, h.s.receive());
    running<failure> waiting(home, h.s.wait_closed());
    running<result<>> flushing(home, [](session s) -> task<result<>> {
      co_await s.send(pattern(5000));
      co_return co_await s.flush();
    }(h.s));
    co_await rounds(5);
    h.s.abort();
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
    BOOST_CHECK_EQUAL(h.s.end(), error::aborted);
    auto got = co_await receiving.end();
    BOOST_CHECK(got.has_error() && got.error() == error::aborted);
    auto flushed = co_await flushing.end();
    BOOST_CHECK(flushed.has_error() && flushed.error() == error::aborted);
    auto end = co_await waiting.end();
    BOOST_CHECK_EQUAL(end, error::aborted);
    auto closed = co_await h.s.close();
    BOOST_CHECK(closed.has_error() && closed.error() == error::aborted);
    auto rtt = co_await h.s.ping();
    BOOST_CHECK(rtt.has_error() && rtt.error() == error::aborted);
    h.s.abort();
    co_await h.peer.read_to_end();
    BOOST_CHECK(h.peer.reset);
  });
}

// A close needs the peer's answer, so it reads past a full inbox; what it has no room for is dropped.
BOOST_AUTO_TEST_CASE(a_close_with_a_full_inbox_still_sees_the_answer) {
  run([](shard &home) -> task<> {
    for (const bool framed : {false, true}) {
      auto options = unhurried();
      options.inbox_messages = 5;
      auto [a, b] = socket_streams(home);
      session s =
          framed ? open_framed(std::move(a), options) : open(std::move(a), role::server, options);
      session t = framed ? open_framed(std::move(b), unhurried())
                         : open(std::move(b), role::client, unhurried());
      for (int i = 0; i < 100; ++i) {
        auto sent = co_await t.send(std::to_string(i));
        BOOST_REQUIRE(sent.has_value());
      }
      co_await rounds(20);
      auto closed = co_await s.close();
      BOOST_CHECK_MESSAGE(closed.has_value(), (closed ? failure() : closed.error()));
      // What is there is a prefix.
      int count = 0;
      while (auto m = co_await s.receive())
        BOOST_CHECK_EQUAL(m->text(), std::to_string(count++));
      BOOST_CHECK_GE(count, 5);
    }
  });
}

BOOST_AUTO_TEST_CASE(the_last_handle_closes_an_unowned_session) {
  run([](shard &home) -> task<> {
    auto [a, b] = socket_streams(home);
    detail::session_setup setup;
    setup.carrier = std::move(a);
    setup.side = role::client;
    setup.options = std::make_shared<const session_options>(quiet());
    setup.close_when_unowned = true;
    raw_peer peer(std::move(b), role::server);
    std::optional<session> s(detail::make_session(std::move(setup)));
    std::optional<session> copy(*s);
    BOOST_CHECK(*copy == *s);
    auto sent = co_await s->send("goodbye");
    BOOST_CHECK(sent.has_value());
    s.reset();
    co_await rounds(5);
    BOOST_CHECK(copy->is_open());
    {
      // A coroutine that receives holds the session, too.
      running<result<message>> receiving(home, copy->receive());
      co_await rounds(3);
      copy.reset();
      co_await rounds(3);
      co_await peer.send(1, "for whoever waits");
      auto m = co_await receiving.end();
      BOOST_CHECK_EQUAL(m.value().text(), "for whoever waits");
    }
    auto f = co_await peer.next();
    BOOST_CHECK_EQUAL(f.payload, "goodbye");
    f = co_await peer.next();
    BOOST_CHECK_EQUAL(f.close_code(), 1000u);
    co_await peer.send(8, f.payload);
    peer.close();
    co_await rounds(10);
  });
}

namespace {

struct witness : detail::session_observer {
  void on_session_closed(const session &s) noexcept override {
    ++told;
    state = s.state();
    end = s.end();
    id = s.id();
  }
  int told = 0;
  session_state state = session_state::open;
  failure end;
  session_id id = 0;
};

} // namespace

BOOST_AUTO_TEST_CASE(the_observer_is_told_once) {
  run([](shard &home) -> task<> {
    for (const bool abort : {true, false}) {
      witness w;
      auto [a, b] = socket_streams(home);
      detail::session_setup setup;
      setup.carrier = std::move(a);
      setup.options = std::make_shared<const session_options>(quiet());
      setup.observer = &w;
      auto s = detail::make_session(std::move(setup));
      auto t = open(std::move(b), role::client, quiet());
      if (abort)
        s.abort();
      else
        co_await t.close();
      auto end = co_await s.wait_closed();
      BOOST_CHECK_EQUAL(w.told, 1);
      BOOST_CHECK_EQUAL(w.state, session_state::closed);
      BOOST_CHECK_EQUAL(w.end, abort ? error::aborted : error::closed);
      BOOST_CHECK_EQUAL(w.id, s.id());
      s.abort();
      BOOST_CHECK_EQUAL(w.told, 1);
      auto gone = co_await t.wait_closed();
      static_cast<void>(gone);
    }
  });
}

// A framed stream ends with the end of the stream; the rest of what is queued still goes.
BOOST_AUTO_TEST_CASE(a_framed_peers_half_close_lets_output_drain) {
  run([](shard &home) -> task<> {
    auto options = quiet();
    options.frame = framing::lines;
    auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 300});
    auto s = open_framed(std::move(a), options);
    raw_peer peer(std::move(b), role::client);
    auto sent = co_await s.send(pattern(5000));
    BOOST_CHECK(sent.has_value());
    co_await peer.write("question\n");
    auto m = co_await s.receive();
    BOOST_CHECK_EQUAL(m.value().text(), "question");
    peer.shutdown();
    auto end = co_await s.receive();
    BOOST_REQUIRE(end.has_error());
    BOOST_CHECK_EQUAL(end.error(), error::closed);
    auto bytes = co_await peer.read(5001);
    BOOST_CHECK(bytes == pattern(5000) + "\n");
    co_await peer.read_to_end();
    BOOST_CHECK(!peer.reset);
    auto gone = co_await s.wait_closed();
    BOOST_CHECK_EQUAL(gone, error::closed);
  });
}

BOOST_AUTO_TEST_CASE(a_framed_peer_of_another_protocol_is_named) {
  run([](shard &home) -> task<> {
    for (const std::string_view said : {std::string_view("HTTP/1.1 400 Bad Request\r\n\r\n"),
                                        std::string_view("\x15\x03\x01\x00\x02\x02\x46", 7)})
      for (const auto side : {role::client, role::server}) {
        auto [a, b] = transport::make_memory_pair(home, home);
        raw_peer peer(std::move(b), role::client);
        detail::session_setup setup;
        setup.carrier = std::move(a);
        setup.websocket = false;
        setup.side = side;
        setup.options = std::make_shared<const session_options>(quiet());
        auto s = detail::make_session(std::move(setup));
        co_await peer.write(std::string(said));
        auto end = co_await s.receive();
        BOOST_REQUIRE(end.has_error());
        BOOST_CHECK_EQUAL(end.error(), error::no_protocol);
        BOOST_CHECK(end.error() == condition::ended);
        const auto told = explain(end.error());
        BOOST_CHECK(told.remedy == remedy::use_other_scheme);
        BOOST_CHECK(told.what.find(said[0] == 'H' ? "HTTP" : "TLS") != told.what.npos);
        BOOST_CHECK(told.what.find("RFC 6455") == told.what.npos);
        const auto wanted = said[0] == 'H' ? "ws://" : "tls://";
        BOOST_CHECK_EQUAL(told.hint.find(wanted) != told.hint.npos, side == role::client);
      }
  });
}

BOOST_AUTO_TEST_CASE(a_framed_stream_cut_within_a_message_is_lost) {
  run([](shard &home) -> task<> {
    auto [a, b] = socket_streams(home);
    auto s = open_framed(std::move(a), quiet());
    raw_peer peer(std::move(b), role::client);
    co_await peer.write(std::string("\0\0\0\5hel", 7));
    peer.shutdown();
    auto end = co_await s.receive();
    BOOST_REQUIRE(end.has_error());
    BOOST_CHECK_EQUAL(end.error(), error::lost);
    // And one announced too long is refused before it comes.
    auto [c, d] = socket_streams(home);
    auto t = open_framed(std::move(c), quiet());
    raw_peer other(std::move(d), role::client);
    co_await other.write(std::string("\xff\xff\xff\xff", 4));
    end = co_await t.receive();
    BOOST_REQUIRE(end.has_error());
    BOOST_CHECK_EQUAL(end.error(), error::message_too_big);
  });
}

BOOST_AUTO_TEST_SUITE_END()
