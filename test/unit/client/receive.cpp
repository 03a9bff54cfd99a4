// Receiving across connections: nothing that arrived is lost, and nobody is woken for nothing.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

#include <boost/asio/experimental/awaitable_operators.hpp>

using namespace client_test;
using chorus::client;

namespace {

task<std::string> text_of(client &c) {
  auto got = co_await c.receive();
  co_return got ? got->str() : "failed: " + got.error().message();
}

} // namespace

BOOST_AUTO_TEST_SUITE(receiving)

BOOST_AUTO_TEST_CASE(goes_on_across_connections_and_keeps_what_had_arrived) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    int expected = 0;
    int sent = 0;
    for (int round = 0; round < 5; ++round) {
      auto p = co_await l.accept_open();
      std::string burst;
      for (int i = 0; i < 50; ++i)
        burst += peer::text(std::to_string(sent++));
      co_await p.write(std::move(burst));
      if (round % 2 == 0) {
        const auto got = co_await text_of(c);
        BOOST_TEST(got == std::to_string(expected++));
      }
      // Closed in order, so that nothing is discarded on the way.
      co_await p.close_with(1001);
    }
    while (expected < sent) {
      const auto got = co_await text_of(c);
      BOOST_REQUIRE(got == std::to_string(expected));
      ++expected;
    }
    BOOST_TEST(c.stats().messages_received == static_cast<std::uint64_t>(sent));
  }(w));
}

BOOST_AUTO_TEST_CASE(a_second_receive_is_busy) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    background<result<message>> first(here.rt.executor(), c.receive());
    co_await turns();
    auto second = co_await c.receive();
    BOOST_CHECK(second.error() == error::busy);
    auto p = co_await l.accept_open(peer::text("x"));
    auto got = co_await first.get();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST(got->text() == "x");
  }(w));
}

BOOST_AUTO_TEST_CASE(on_message_hears_them_all) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    o.on_message = [&log](const message &m) { log.add(m.str()); };
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open(peer::text("a") + peer::text("b"));
    co_await log.wait("b");
    BOOST_TEST(log.joined() == "a b");
    BOOST_TEST(c.stats().messages_received == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(an_inbox_nobody_empties_stays_bounded) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    auto o = eager({l.url()});
    o.session.inbox_messages = 4;
    client c(here.rt, std::move(o));
    int sent = 0;
    auto first = co_await l.accept_open();
    for (int i = 0; i < 6; ++i)
      co_await first.write(peer::text(std::to_string(sent++)));
    co_await c.connected();
    // Not taken, so they wait: in the client up to its bound, and in the session.
    while (c.stats().messages_received < 4)
      co_await turns();
    co_await turns(20);
    BOOST_TEST(c.stats().messages_received == 4U);
    co_await first.close_with(1001);
    // What the ended connection had goes beyond the bound, but no new one is made before it is read.
    while (c.state() != chorus::client_state::disconnected)
      co_await turns();
    home.advance(1s); // the backoff is over
    co_await turns(50);
    BOOST_CHECK(c.state() == chorus::client_state::disconnected);
    BOOST_TEST(c.stats().attempts == 1U);
    for (int i = 0; i < sent; ++i)
      BOOST_TEST(co_await text_of(c) == std::to_string(i));
    auto next = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(ignored_input_blocks_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.session.inbox_messages = 2;
    o.ignore_input = true;
    client c(here.rt, std::move(o));
    for (int round = 0; round < 3; ++round) {
      auto p = co_await l.accept_open();
      std::string burst;
      for (int i = 0; i < 100; ++i)
        burst += peer::text("ignored");
      co_await p.write(std::move(burst));
      co_await p.close_with(1001);
    }
    auto got = co_await c.receive();
    BOOST_CHECK(got.error() == error::busy);
  }(w));
}

BOOST_AUTO_TEST_CASE(cancelled_before_and_while_waiting_takes_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    for (int i = 0; i < 20; ++i) {
      background<result<message>> r(here.rt.executor(), c.receive());
      co_await turns(i % 5);
      r.cancel();
      BOOST_TEST(co_await r.aborted());
    }
    // A coroutine that asked not to be thrown at gets a result.
    background<result<message>> quiet(here.rt.executor(),
                                      [](client &from) -> task<result<message>> {
                                        co_await asio::this_coro::throw_if_cancelled(false);
                                        co_return co_await from.receive();
                                      }(c));
    co_await turns();
    quiet.cancel();
    const auto r = co_await quiet.get();
    BOOST_CHECK(r.error() == error::cancelled);
    co_await p.write(peer::text("still here"));
    BOOST_TEST(co_await text_of(c) == "still here");
  }(w));
}

// Delivery against a timer: whoever wins, no message is lost, none comes twice.
BOOST_AUTO_TEST_CASE(ten_thousand_races_against_a_timer) {
  using namespace boost::asio::experimental::awaitable_operators;
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    bool stop = false;
    // How many were written, in bursts and pauses that fall on every side of the timer.
    background<int> writer(here.rt.executor(), [](peer &to, const bool &over) -> task<int> {
      asio::steady_timer pace(co_await asio::this_coro::executor);
      int written = 0;
      for (int round = 0; !over; ++round) {
        std::string burst;
        for (int n = 0; n <= round % 3; ++n)
          burst += peer::text(std::to_string(written++));
        co_await to.write(std::move(burst));
        pace.expires_after(std::chrono::microseconds(round * 37 % 1500));
        co_await pace.async_wait(asio::use_awaitable);
      }
      co_return written;
    }(p, stop));
    int next = 0;
    int cancelled = 0;
    asio::steady_timer timer(here.rt.executor());
    for (int race = 0; race < 10'000; ++race) {
      timer.expires_after(std::chrono::microseconds(race % 3 * 500));
      auto receiving = c.receive();
      auto limit = timer.async_wait(asio::use_awaitable);
      auto raced = co_await (std::move(receiving) || std::move(limit));
      if (raced.index() == 1) {
        ++cancelled;
        continue;
      }
      auto &got = std::get<0>(raced);
      BOOST_REQUIRE(got.has_value());
      BOOST_REQUIRE(got->text() == std::to_string(next));
      ++next;
    }
    stop = true;
    const int written = co_await writer.get();
    BOOST_TEST(cancelled > 100);
    BOOST_TEST(next > 100);
    while (next < written) {
      const auto got = co_await text_of(c);
      BOOST_REQUIRE(got == std::to_string(next));
      ++next;
    }
    BOOST_TEST(c.stats().messages_received == static_cast<std::uint64_t>(written));
  }(w));
}

// Else it would hear nothing more on a connection that stays open.
BOOST_AUTO_TEST_CASE(somebody_else_at_the_session_ends_the_connection) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    std::optional<background<result<message>>> foreign;
    client *made = nullptr;
    o.on_message = [&](const message &) -> task<> {
      if (!foreign)
        foreign.emplace(here.rt.executor(), made->current().receive());
      co_await turns();
    };
    o.on_disconnect = [&log](const failure &why) {
      log.add(why == error::busy ? "busy" : why.message());
    };
    client c(here.rt, std::move(o));
    made = &c;
    auto p = co_await l.accept_open(peer::text("one"));
    co_await log.wait("busy");
    BOOST_TEST(!(co_await foreign->get()).has_value());
    auto again = co_await l.accept_open();
    BOOST_TEST((co_await c.send("back")).has_value());
    BOOST_TEST((co_await again.read_text()).value_or("") == "back");
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
