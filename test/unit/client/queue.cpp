// The outbox: order, bounds, and what becomes of each message when connections come and go.

#include "scripted.hpp"

#include <set>

using namespace client_test;
using chorus::client;

BOOST_AUTO_TEST_SUITE(queueing)

BOOST_AUTO_TEST_CASE(what_is_sent_offline_arrives_in_order) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    for (int i = 0; i < 100; ++i)
      BOOST_TEST((co_await c.send(std::to_string(i))).has_value());
    BOOST_TEST(c.stats().queued_messages == 100U);
    auto p = co_await l.accept_open();
    for (int i = 0; i < 100; ++i) {
      const auto got = co_await p.read_text();
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(*got == std::to_string(i));
    }
    BOOST_TEST((co_await c.flush()).has_value());
    BOOST_TEST(c.stats().queued_messages == 0U);
    BOOST_TEST(c.stats().queued_bytes == 0U);
    BOOST_TEST(c.stats().messages_sent == 100U);
  }(w));
}

// What a connection can't take at once goes back to where it was.
BOOST_AUTO_TEST_CASE(what_waits_behind_a_full_session_keeps_its_order) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.session.queue_messages = 3;
    o.session.on_overflow = chorus::overflow::drop_newest; // which is not for the session to decide
    o.outbox_bytes = 64 << 20;
    client c(here.rt, std::move(o));
    const std::string large(24 << 20, 'l'); // more than the kernel takes
    BOOST_TEST((co_await c.send(large)).has_value());
    for (int i = 0; i < 50; ++i)
      BOOST_TEST((co_await c.send(std::to_string(i))).has_value());
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST(c.stats().queued_messages > 40U);
    BOOST_TEST((co_await p.read_text()).value_or("").size() == large.size());
    for (int i = 0; i < 50; ++i)
      BOOST_TEST((co_await p.read_text()).value_or("nothing") == std::to_string(i));
    BOOST_TEST((co_await c.flush()).has_value());
    BOOST_TEST(c.stats().queued_messages == 0U);
    BOOST_TEST(c.stats().queued_bytes == 0U);
  }(w));
}

BOOST_AUTO_TEST_CASE(waiting_senders_keep_their_order_and_can_give_up) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_messages = 2;
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("0")).has_value());
    BOOST_TEST((co_await c.send("1")).has_value());
    const auto full = c.try_send("x");
    BOOST_CHECK(full.error() == error::queue_full);
    std::deque<background<result<>>> waiting;
    for (int i = 2; i < 6; ++i) {
      waiting.emplace_back(here.rt.executor(), c.send(std::to_string(i)));
      co_await turns(1);
    }
    co_await turns();
    for (auto &s : waiting)
      BOOST_TEST(!s.done());
    waiting[1].cancel();
    BOOST_TEST(co_await waiting[1].aborted());
    auto p = co_await l.accept_open();
    for (const auto *expected : {"0", "1", "2", "4", "5"}) {
      const auto got = co_await p.read_text();
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(*got == expected);
    }
    for (auto i : {0, 2, 3})
      BOOST_TEST((co_await waiting[static_cast<std::size_t>(i)].get()).has_value());
    BOOST_TEST(c.stats().messages_sent == 5U);
    BOOST_TEST(c.stats().messages_dropped == 0U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_small_message_does_not_overtake_a_large_one_that_waits) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_bytes = 10;
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("first...")).has_value());
    background<result<>> large(here.rt.executor(), c.send("large..."));
    co_await turns();
    BOOST_CHECK(c.try_send("s").error() == error::queue_full); // it would fit
    background<result<>> small(here.rt.executor(), c.send("s"));
    co_await turns();
    BOOST_TEST(!small.done());
    auto p = co_await l.accept_open();
    for (const auto *expected : {"first...", "large...", "s"})
      BOOST_TEST((co_await p.read_text()).value_or("nothing") == expected);
    BOOST_TEST((co_await large.get()).has_value());
    BOOST_TEST((co_await small.get()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(drop_newest_and_drop_oldest) {
  world w;
  w.run([](world &here) -> task<> {
    for (auto policy : {chorus::overflow::drop_newest, chorus::overflow::drop_oldest}) {
      const bool newest = policy == chorus::overflow::drop_newest;
      listener l(here);
      auto o = eager({l.url()});
      o.outbox_bytes = 30;
      o.outbox_overflow = policy;
      client c(here.rt, std::move(o));
      for (int i = 0; i < 5; ++i) {
        const auto r = co_await c.send(std::string(10, static_cast<char>('0' + i)));
        BOOST_TEST(r.has_value() == (i < 3 || !newest));
        if (!r)
          BOOST_CHECK(r.error() == error::queue_full);
      }
      BOOST_TEST(c.stats().messages_dropped == 2U);
      BOOST_TEST(c.stats().queued_bytes == 30U);
      auto p = co_await l.accept_open();
      for (int i = 0; i < 3; ++i) {
        const auto got = co_await p.read_text();
        BOOST_REQUIRE(got.has_value());
        BOOST_TEST(*got == std::string(10, static_cast<char>('0' + i + (newest ? 0 : 2))));
      }
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_message_beyond_the_bound_goes_alone) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_bytes = 10;
    o.session.queue_bytes = 1000;
    client c(here.rt, std::move(o));
    const std::string big(100'000, 'b');
    BOOST_TEST((co_await c.send(big)).has_value());
    BOOST_CHECK(c.try_send("x").error() == error::queue_full);
    auto p = co_await l.accept_open();
    const auto got = co_await p.read_text();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST((*got == big));
  }(w));
}

BOOST_AUTO_TEST_CASE(on_connect_speaks_first_and_only_there) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.on_connect = [](chorus::session &s) { (void)s.try_send("hello"); };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("queued")).has_value());
    for (int round = 0; round < 3; ++round) {
      auto p = co_await l.accept_open();
      const auto first = co_await p.read_text();
      BOOST_REQUIRE(first.has_value());
      BOOST_TEST(*first == "hello");
      if (round == 0) {
        const auto second = co_await p.read_text();
        BOOST_REQUIRE(second.has_value());
        BOOST_TEST(*second == "queued");
      }
      p.reset();
    }
    BOOST_TEST(c.stats().messages_sent == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(what_on_connect_sends_by_the_client_waits_its_turn) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    std::optional<client> c;
    auto o = eager({l.url()});
    o.on_connect = [&c](chorus::session &s) {
      BOOST_TEST(c->try_send("by the client").has_value());
      BOOST_TEST(s.try_send("on the session").has_value());
    };
    c.emplace(here.rt, std::move(o));
    BOOST_TEST((co_await c->send("queued")).has_value());
    auto p = co_await l.accept_open();
    for (const auto *expected : {"on the session", "queued", "by the client"})
      BOOST_TEST((co_await p.read_text()).value_or("nothing") == expected);
  }(w));
}

// A peer that takes little: the session's queue fills, then the outbox; the connection dies; what had
// not begun is sent again, in order, and what had is counted.
BOOST_AUTO_TEST_CASE(nothing_is_lost_or_doubled_across_reconnects) {
  world w;
  w.run([](world &here) -> task<> {
    // So much that the kernel's buffers, lost at every cut, hold but a part of it.
    constexpr int count = 4000;
    constexpr std::size_t size = 20'000;
    listener l(here);
    auto o = eager({l.url()});
    o.session.queue_bytes = 5 * size;
    o.outbox_messages = 50;
    o.outbox_bytes = 100 * size;
    o.session.close_timeout = 10min; // nothing here waits for its end
    event_log log(here.rt.executor());
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    client c(here.rt, std::move(o));
    background<bool> sender(here.rt.executor(), [](client &from) -> task<bool> {
      for (int i = 0; i < count; ++i) {
        const auto r = co_await from.send(std::to_string(i) + " " + std::string(size, 'p'));
        if (!r)
          co_return false;
      }
      co_return true;
    }(c));

    std::vector<int> received;
    const auto take = [&received](const std::string &text) { received.push_back(std::stoi(text)); };
    for (int round = 0; round < 5; ++round) {
      auto p = co_await l.accept_open();
      for (int i = 0; i < 100; ++i) {
        const auto got = co_await p.read_text();
        BOOST_REQUIRE(got.has_value());
        take(*got);
      }
      p.reset();
      co_await log.wait("gone", static_cast<std::size_t>(round) + 1);
    }
    const auto cut = c.stats();
    // The last connection takes everything; the close confirms it.
    auto p = co_await l.accept_open();
    background<bool> rest(here.rt.executor(), [](peer &from, std::vector<int> &out) -> task<bool> {
      for (;;) {
        const auto got = co_await from.read_text();
        if (!got)
          break;
        out.push_back(std::stoi(*got));
      }
      from.close();
      co_return true;
    }(p, received));
    BOOST_TEST(co_await sender.get());
    BOOST_TEST((co_await c.close()).has_value());
    co_await rest.get();

    for (std::size_t i = 1; i < received.size(); ++i)
      BOOST_REQUIRE(received[i] > received[i - 1]); // in order, none twice
    const auto end = c.stats();
    BOOST_TEST(end.messages_dropped == 0U);
    BOOST_TEST(end.queued_messages == 0U);
    BOOST_TEST(end.messages_sent == static_cast<std::uint64_t>(count));
    BOOST_TEST(end.messages_unconfirmed == cut.messages_unconfirmed);
    // Unconfirmed are those the peer took before it died, and those that died with it. Only these may
    // be missing; whatever is missing is among them.
    const auto missing = static_cast<std::uint64_t>(count) - received.size();
    BOOST_TEST(missing > 0U);
    BOOST_TEST(missing <= end.messages_unconfirmed);
    BOOST_TEST(end.messages_unconfirmed == missing + 500U);
  }(w));
}

BOOST_AUTO_TEST_CASE(what_no_connection_could_carry_is_refused) {
  world w;
  w.run([](world &here) -> task<> {
    auto o = eager({"tcp://127.0.0.1:1"});
    o.session.frame = chorus::framing::lines;
    client c(here.rt, std::move(o));
    const auto r = co_await c.send("two\nlines");
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST(c.stats().queued_messages == 0U);
  }(w));
}

BOOST_AUTO_TEST_CASE(flush_waits_for_a_connection_and_can_give_up) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    co_await c.send("x");
    background<result<>> given_up(here.rt.executor(), c.flush());
    background<result<>> patient(here.rt.executor(), c.flush());
    co_await turns();
    given_up.cancel();
    BOOST_TEST(co_await given_up.aborted());
    BOOST_TEST(!patient.done());
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await patient.get()).has_value());
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
