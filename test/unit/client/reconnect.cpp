// What a client does when connections fail, end, and come back.

#include "attempt.hpp"

#include <array>

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

chorus::client_options logged(std::vector<std::string> urls, event_log &log) {
  auto o = eager(std::move(urls));
  o.on_connect = [&log](chorus::session &) { log.add("connect"); };
  o.on_disconnect = [&log](const failure &) { log.add("disconnect"); };
  o.on_error = [&log](const failure &) { log.add("error"); };
  o.on_state = [&log](client_state s) { log.add(std::string(to_string(s))); };
  return o;
}

} // namespace

BOOST_AUTO_TEST_SUITE(reconnecting)

BOOST_AUTO_TEST_CASE(comes_back_after_every_kind_of_loss) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    client c(here.rt, logged({l.url()}, log));
    for (int round = 0; round < 8; ++round) {
      auto p = co_await l.accept_open();
      BOOST_TEST((co_await c.connected()).has_value());
      BOOST_CHECK(c.state() == client_state::open);
      switch (round % 4) {
      case 0:
        p.reset();
        break;
      case 1:
        p.close();
        break;
      case 2:
        co_await p.close_with(1001);
        break;
      default:
        co_await p.close_with(4001);
        break;
      }
      co_await log.wait("disconnect", static_cast<std::size_t>(round) + 1);
    }
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST(c.stats().connects == 9U);
    BOOST_TEST(c.stats().reconnects == 8U);
    BOOST_TEST(c.stats().attempts == 9U);
    BOOST_TEST(c.stats().downtime.count() > 0);
  }(w));
}

BOOST_AUTO_TEST_CASE(callbacks_come_in_order) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    client c(here.rt, logged({l.url()}, log));
    auto first = co_await l.accept();
    co_await first.read_head();
    co_await first.write("HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n");
    auto second = co_await l.accept_open();
    co_await c.connected();
    co_await second.close_with(1000);
    auto third = co_await l.accept_open();
    co_await c.connected();
    background<result<>> closing(here.rt.executor(), c.close());
    co_await third.read_frame();
    co_await third.write(peer::close_frame(1000));
    third.close();
    BOOST_TEST((co_await closing.get()).has_value());
    // The state it begins with is no change.
    BOOST_TEST(log.joined() == "error DISCONNECTED CONNECTING connect OPEN disconnect DISCONNECTED "
                               "CONNECTING connect OPEN CLOSING disconnect CLOSED");
  }(w));
}

BOOST_AUTO_TEST_CASE(fatal_refusals_end_it) {
  world w;
  w.run([](world &here) -> task<> {
    for (const std::string status :
         {"401 No", "403 No", "400 No", "426 No", "302 Else", "200 OK"}) {
      listener l(here);
      client c(here.rt, eager({l.url()}));
      auto p = co_await l.accept();
      co_await p.read_head();
      auto answer = "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n";
      co_await p.write(std::move(answer));
      const auto why = co_await c.connected();
      BOOST_TEST_CONTEXT(status) {
        BOOST_REQUIRE(!why.has_value());
        BOOST_CHECK(why.error() == error::upgrade_refused);
        BOOST_CHECK(c.state() == client_state::closed);
        BOOST_CHECK(c.last_failure() == error::upgrade_refused);
        BOOST_TEST(c.stats().attempts == 1U);
      }
      const auto got = co_await c.receive();
      BOOST_CHECK(got.error() == error::upgrade_refused);
      const auto sent = co_await c.send("x");
      BOOST_CHECK(sent.error() == error::upgrade_refused);
      BOOST_TEST((co_await c.close()).has_value());
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(an_invalid_handshake_and_a_fatal_close_end_it) {
  world w;
  w.run([](world &here) -> task<> {
    {
      listener l(here);
      client c(here.rt, eager({l.url()}));
      auto p = co_await l.accept();
      co_await p.read_head();
      co_await p.write("SSH-2.0-OpenSSH_9.2\r\n\r\n");
      const auto why = co_await c.connected();
      BOOST_CHECK(why.error() == error::upgrade_invalid);
    }
    for (unsigned code : {1002U, 1003U, 1007U, 1008U, 1009U, 1010U}) {
      listener l(here);
      client c(here.rt, eager({l.url()}));
      auto p = co_await l.accept_open();
      co_await c.connected();
      co_await p.close_with(code);
      const auto why = co_await c.receive();
      BOOST_TEST_CONTEXT(code) {
        BOOST_CHECK(why.error() == error::closed);
        BOOST_TEST(why.error().detail().close_code == code);
        BOOST_TEST(why.error().detail().by_peer);
        BOOST_CHECK(c.state() == client_state::closed);
      }
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(transient_refusals_do_not_end_it) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    for (const std::string status : {"404 No", "429 Slow", "500 Oh", "503 Later"}) {
      auto p = co_await l.accept();
      co_await p.read_head();
      auto answer = "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n";
      co_await p.write(std::move(answer));
    }
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST(c.stats().attempts == 5U);
    BOOST_TEST(c.last_failure().detail().status == 503U);
  }(w));
}

BOOST_AUTO_TEST_CASE(attempts_run_out) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    auto o = eager({nobody.url()});
    o.max_attempts = 3;
    client c(here.rt, std::move(o));
    const auto why = co_await c.connected();
    BOOST_REQUIRE(!why.has_value());
    BOOST_CHECK(why.error() == error::attempts_exhausted);
    BOOST_TEST(why.error().message().find("3 attempts") != std::string::npos);
    BOOST_TEST(why.error().message().find("nothing accepts") != std::string::npos);
    BOOST_TEST(c.stats().attempts == 3U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_success_renews_the_attempts) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.max_attempts = 3;
    client c(here.rt, std::move(o));
    for (int round = 0; round < 3; ++round) {
      for (int failed = 0; failed < 2; ++failed) {
        auto p = co_await l.accept();
        p.reset();
      }
      auto p = co_await l.accept_open();
      BOOST_TEST((co_await c.connected()).has_value());
      p.reset();
    }
    for (int failed = 0; failed < 3; ++failed) {
      auto p = co_await l.accept();
      p.reset();
    }
    const auto why = co_await c.receive();
    BOOST_CHECK(why.error() == error::attempts_exhausted);
  }(w));
}

BOOST_AUTO_TEST_CASE(fails_over_in_order_and_round) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    listener second(here);
    listener third(here);
    auto o = eager({nobody.url(), second.url("/2"), third.url("/3")});
    o.proven_after = 1h; // no connection of this test is proven
    client c(here.rt, std::move(o));
    {
      auto p = co_await second.accept_open();
      co_await c.connected();
      p.reset();
    }
    {
      auto p = co_await third.accept();
      BOOST_TEST((co_await p.read_head()).find("GET /3 ") == 0U);
      p.reset();
    }
    auto p = co_await second.accept_open(); // past the first, which is still dead
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST(c.stats().attempts == 5U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_proven_connection_starts_over_with_the_first) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port first(here);
    listener second(here);
    auto o = eager({first.url(), second.url()});
    o.proven_after = 0ms;
    client c(here.rt, std::move(o));
    auto p = co_await second.accept_open();
    co_await c.connected();
    listener again(here, first.port()); // nobody else could get it meanwhile
    p.reset();
    auto back = co_await again.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST(c.stats().attempts == 3U); // at once, not after trying the second in vain
  }(w));
}

BOOST_AUTO_TEST_CASE(reconnect_now_does_not_wait) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = logged({l.url()}, log);
    o.backoff.initial = 1h;
    o.backoff.cap = 1h;
    client c(here.rt, std::move(o));
    {
      auto p = co_await l.accept_open();
      co_await c.connected();
      p.reset();
    }
    co_await log.wait("DISCONNECTED");
    BOOST_CHECK(c.state() == client_state::disconnected);
    c.reconnect_now();
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    c.reconnect_now(); // nothing to hurry, now or later
    co_await turns();
    BOOST_CHECK(c.state() == client_state::open);
    p.reset();
    co_await log.wait("DISCONNECTED", 2);
    co_await turns(20);
    BOOST_CHECK(c.state() == client_state::disconnected);
    BOOST_TEST(c.stats().attempts == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(deadlines_of_an_attempt_are_transient) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    listener l(here);
    auto o = eager({l.url()});
    o.upgrade_timeout = 30ms;
    client c(here.rt, std::move(o));
    auto silent = co_await l.accept();
    const auto again = [&c] { return c.stats().attempts == 2; };
    co_await pass_time(home, again);
    co_await silent.wait_gone();
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_CHECK(c.last_failure() == error::upgrade_timeout);
    BOOST_TEST(c.last_failure().message().find("30 ms") != std::string::npos);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
