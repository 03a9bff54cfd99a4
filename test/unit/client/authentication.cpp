// Saying who one is on each new connection, before anything else is said.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

// Sends a token and wants to read "welcome"; says what the server's answer means.
task<result<>> log_in(chorus::session s) {
  const auto sent = co_await s.send("token");
  if (!sent)
    co_return sent.error();
  const auto answer = co_await s.receive();
  if (!answer)
    co_return answer.error();
  if (answer->text() == "welcome")
    co_return result<>();
  if (answer->text() == "never")
    co_return failure(error::auth_refused, chorus::stage::open, "the server says never");
  co_return failure(error::auth_failed, chorus::stage::open, "the server says " + answer->str());
}

chorus::client_options known(const listener &l) {
  auto o = eager({l.url()});
  o.authenticate = log_in;
  return o;
}

task<> expect(peer &p, std::string_view text) {
  const auto got = co_await p.read_text();
  BOOST_TEST(got.value_or("nothing") == text);
}

} // namespace

BOOST_AUTO_TEST_SUITE(authentication)

BOOST_AUTO_TEST_CASE(comes_first_on_each_connection) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = known(l);
    o.on_connect = [&log](chorus::session &s) {
      log.add("connect");
      (void)s.try_send("hello");
    };
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("queued")).has_value());
    for (std::size_t round = 1; round < 4; ++round) {
      auto p = co_await l.accept_open();
      co_await expect(p, "token");
      co_await turns(10);
      BOOST_CHECK(c.state() == client_state::connecting);
      BOOST_TEST(log.all().size() == 2 * (round - 1));
      co_await p.write(peer::text("welcome") + peer::text("news"));
      co_await expect(p, "hello");
      if (round == 1)
        co_await expect(p, "queued");
      auto got = co_await c.receive(); // not the answer, which was log_in's
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->text() == "news");
      p.reset();
      co_await log.wait("gone", round);
    }
    BOOST_TEST(c.stats().messages_sent == 1U);
    BOOST_TEST(c.stats().connects == 3U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_refusal_is_fatal_or_not_as_it_says) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = known(l);
    o.on_connect = [&log](chorus::session &) { log.add("connect"); };
    o.on_error = [&log](const failure &why) { log.add(why.message()); };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("queued")).has_value());
    {
      auto p = co_await l.accept_open();
      co_await expect(p, "token");
      co_await p.write(peer::text("later"));
      const auto bye = co_await p.read_frame();
      BOOST_REQUIRE(bye.has_value());
      BOOST_TEST(bye->opcode == 8U); // and not what is queued
      p.close();
    }
    {
      auto p = co_await l.accept_open();
      co_await expect(p, "token");
      p.reset(); // a connection that is lost meanwhile is no refusal for good
    }
    auto p = co_await l.accept_open();
    co_await expect(p, "token");
    co_await p.write(peer::text("never"));
    const auto why = co_await c.connected();
    BOOST_REQUIRE(!why.has_value());
    BOOST_CHECK(why.error() == error::auth_refused);
    BOOST_CHECK(c.state() == client_state::closed);
    BOOST_TEST(log.all().size() == 3U);
    BOOST_TEST(log.all().front() == "the server says later");
    BOOST_TEST(c.stats().attempts == 3U);
    BOOST_TEST(c.stats().connects == 0U);
    BOOST_TEST(c.stats().messages_left == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_close_with_policy_violation_meanwhile_is_fatal) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, known(l));
    auto p = co_await l.accept_open();
    co_await expect(p, "token");
    co_await p.close_with(1008);
    const auto why = co_await c.connected();
    BOOST_REQUIRE(!why.has_value());
    BOOST_CHECK(why.error() == error::closed);
    BOOST_TEST(why.error().detail().close_code == 1008U);
  }(w));
}

BOOST_AUTO_TEST_CASE(it_has_a_deadline) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    auto o = known(l);
    o.authenticate_timeout = 3s;
    o.backoff.initial = 0ms;
    client c(here.rt, std::move(o));
    {
      auto silent = co_await l.accept_open();
      co_await expect(silent, "token");
      home.advance(2900ms);
      co_await turns(20);
      BOOST_TEST(c.last_failure().message().find("authenticate_timeout") == std::string::npos);
      home.advance(200ms);
      co_await silent.wait_gone();
    }
    while (c.last_failure() != error::auth_timeout)
      co_await turns();
    BOOST_TEST(c.last_failure().message().find("3000 ms") != std::string::npos);
    home.advance(1s);
    auto p = co_await l.accept_open();
    co_await expect(p, "token");
    co_await p.write(peer::text("welcome"));
    BOOST_TEST((co_await c.connected()).has_value());
    home.advance(10s); // the deadline was that of the authentication
    co_await turns(20);
    BOOST_CHECK(c.state() == client_state::open);
  }(w));
}

BOOST_AUTO_TEST_CASE(it_is_cancelled_by_the_end_of_the_client) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool destroy : {true, false}) {
      listener l(here);
      auto c = std::make_unique<client>(here.rt, known(l));
      auto p = co_await l.accept_open();
      co_await expect(p, "token");
      if (destroy) {
        c.reset();
      } else {
        BOOST_TEST((co_await c->close()).has_value());
      }
      co_await p.wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(one_that_throws_is_a_failed_attempt) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    int round = 0;
    o.authenticate = [&round](chorus::session) -> task<result<>> {
      if (++round == 1)
        throw std::runtime_error("no token file");
      co_return result<>();
    };
    client c(here.rt, std::move(o));
    auto first = co_await l.accept_open();
    auto second = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_CHECK(c.last_failure() == error::handler_failed);
    BOOST_TEST(c.last_failure().message() == "the handler authenticate threw: no token file");
  }(w));
}

// Whenever the close comes, the connection does not outlive it.
BOOST_AUTO_TEST_CASE(closing_as_the_connection_opens_leaves_none_behind) {
  world w;
  w.run([](world &here) -> task<> {
    for (int later = 0; later < 12; ++later) {
      listener l(here);
      auto o = known(l);
      o.session.close_timeout = 1ms; // nobody answers
      o.authenticate = [](chorus::session) -> task<result<>> { co_return result<>(); };
      client c(here.rt, std::move(o));
      auto p = co_await l.accept_open();
      co_await turns(later);
      background<result<>> ending(here.rt.executor(), c.close());
      co_await ending.get();
      co_await p.wait_gone();
      BOOST_CHECK(c.state() == client_state::closed);
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
