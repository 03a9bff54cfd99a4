#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_handles)

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_CASE(a_message_its_framing_cannot_carry_is_refused) {
  run([](shard &home) -> task<> {
    auto options = quiet();
    options.frame = framing::lines;
    auto [a, b] = socket_streams(home);
    auto left = open_framed(std::move(a), options);
    auto right = open_framed(std::move(b), options);
    auto sent = co_await left.send("two\nlines");
    BOOST_REQUIRE(sent.has_error());
    BOOST_CHECK(sent.error().code() == protocol::violation::line_contains_newline);
    auto good = co_await left.send("one line");
    BOOST_CHECK(good.has_value());
    auto m = co_await right.receive();
    BOOST_REQUIRE(m.has_value());
    BOOST_CHECK_EQUAL(m->text(), "one line");
    auto rtt = co_await left.ping();
    BOOST_REQUIRE(rtt.has_error());
    BOOST_CHECK_EQUAL(rtt.error(), error::not_open);
  });
}

// The documented forms, word for word: options and literals as temporaries in a co_await expression.
BOOST_AUTO_TEST_CASE(documented_forms_are_correct) {
  run([](shard &home) -> task<> {
    auto p = session_pair(home);
    running<bool> echo(home, [](session s) -> task<bool> {
      while (auto m = co_await s.receive())
        co_await s.send(*m);
      co_return true;
    }(p.server));
    auto &s = p.client;
    co_await s.send("x");
    co_await s.send("a string that is longer than any small buffer would hold", {.key = "k"});
    co_await s.send(std::string(100, 'y'), {.key = "k", .time_to_live = 10min});
    auto reply = co_await s.receive();
    BOOST_CHECK_EQUAL(reply.value().text(), "x");
    BOOST_CHECK_EQUAL((co_await s.receive()).value().size(), 56u);
    BOOST_CHECK_EQUAL((co_await s.receive())->size(), 100u);
    auto rtt = co_await s.ping(60s);
    BOOST_CHECK(rtt.has_value());
    auto flushed = co_await s.flush();
    BOOST_CHECK(flushed.has_value());
    auto closed = co_await s.close(close_code::normal, "done");
    BOOST_CHECK(closed.has_value());
    BOOST_CHECK(co_await echo.end());
    auto after = co_await s.send("late");
    BOOST_CHECK(after.has_error() && after.error() == error::closed);
  });
}

BOOST_AUTO_TEST_CASE(a_handle_without_a_session_answers) {
  run([](shard &) -> task<> {
    session none;
    BOOST_CHECK(!none);
    auto got = co_await none.receive();
    BOOST_CHECK(got.has_error() && got.error() == error::not_open);
    auto some = co_await none.receive_some();
    BOOST_CHECK(some.has_error() && some.error() == error::not_open);
    auto sent = co_await none.send("x");
    BOOST_CHECK(sent.has_error() && sent.error() == error::not_open);
    auto flushed = co_await none.flush();
    BOOST_CHECK(flushed.has_error());
    auto rtt = co_await none.ping();
    BOOST_CHECK(rtt.has_error());
    auto closed = co_await none.close();
    BOOST_CHECK(closed.has_error());
    auto end = co_await none.wait_closed();
    BOOST_CHECK_EQUAL(end, error::not_open);
    none.abort();
    none.start_close();
    none.ignore_input();
    BOOST_CHECK(none.try_send("x").has_error());
    BOOST_CHECK_EQUAL(none.state(), session_state::closed);
    BOOST_CHECK_EQUAL(none.id(), 0u);
    BOOST_CHECK(none.remote_address().empty());
    BOOST_CHECK_EQUAL(none.stats().messages_sent, 0u);
  });
}

BOOST_AUTO_TEST_CASE(what_a_session_says_of_itself) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    detail::session_setup setup;
    auto [a, b] = socket_streams(home);
    setup.carrier = std::move(a);
    setup.options = std::make_shared<const session_options>(quiet());
    setup.subprotocol = "chat.v2";
    const auto first = wire({.op = 1, .payload = "early", .masked = true});
    setup.received = std::as_bytes(std::span(first));
    auto s = detail::make_session(std::move(setup));
    auto t = open(std::move(b), role::client, quiet());
    BOOST_CHECK(s.is_open());
    BOOST_CHECK_NE(s.id(), t.id());
    BOOST_CHECK_NE(s.id(), 0u);
    BOOST_CHECK_EQUAL(s.subprotocol(), "chat.v2");
    BOOST_CHECK(!s.remote_address().empty());
    BOOST_CHECK(!s.compressed());
    BOOST_CHECK(!s.end().code());
    auto m = co_await s.receive(); // what came with the handshake
    BOOST_REQUIRE(m.has_value());
    BOOST_CHECK_EQUAL(m->text(), "early");
    home.advance(3s);
    BOOST_CHECK(s.uptime() == 3s);
    const auto copy = s;
    BOOST_CHECK(copy == s);
    BOOST_CHECK(!(copy == t));
    s.abort();
    home.advance(3s);
    BOOST_CHECK(s.uptime() == 3s);
    BOOST_CHECK_EQUAL(copy.state(), session_state::closed);
  });
}

BOOST_AUTO_TEST_SUITE_END()
