// `close` in every state: it always completes, and everybody who waits is told.

#include "scripted.hpp"

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

// Verbs that wait while the client closes.
struct waiters {
  waiters(world &w, client &c)
      : receiving(w.rt.executor(), c.receive()), connecting(w.rt.executor(), c.connected()) {}
  background<result<message>> receiving;
  background<result<>> connecting;

  task<> told(error expected) {
    const auto r = co_await receiving.get();
    BOOST_REQUIRE(!r.has_value());
    BOOST_CHECK(r.error() == expected);
    co_await connecting.get();
  }
};

task<> check_closed(client &c) {
  BOOST_CHECK(c.state() == client_state::closed);
  BOOST_TEST((co_await c.close()).has_value()); // again
  const auto received = co_await c.receive();
  BOOST_CHECK(received.error() == error::closed);
  const auto sent = co_await c.send("x");
  BOOST_CHECK(sent.error() == error::closed);
  BOOST_CHECK(c.try_send("x").error() == error::closed);
  const auto opened = co_await c.connected();
  BOOST_CHECK(opened.error() == error::closed);
  const auto flushed = co_await c.flush();
  BOOST_CHECK(flushed.error() == error::closed);
  BOOST_TEST(!c.current());
}

} // namespace

BOOST_AUTO_TEST_SUITE(closing)

BOOST_AUTO_TEST_CASE(before_the_first_attempt_began) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    BOOST_TEST((co_await c.close()).has_value());
    co_await check_closed(c);
  }(w));
}

BOOST_AUTO_TEST_CASE(while_connecting) {
  world w;
  w.run([](world &here) -> task<> {
    for (int step = 0; step < 10; ++step) {
      listener l(here);
      client c(here.rt, eager({l.url()}));
      waiters others(here, c);
      co_await c.send("never sent");
      co_await turns(step);
      BOOST_TEST((co_await c.close()).has_value());
      co_await others.told(error::closed);
      BOOST_TEST(c.stats().messages_dropped == 1U);
      co_await check_closed(c);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(while_the_server_is_silent) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept();
    co_await p.read_head();
    BOOST_TEST((co_await c.close()).has_value());
    co_await check_closed(c);
    co_await p.wait_gone();
  }(w));
}

BOOST_AUTO_TEST_CASE(while_backing_off) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    auto o = eager({nobody.url()});
    o.backoff.initial = 1h;
    o.backoff.cap = 1h;
    client c(here.rt, std::move(o));
    waiters others(here, c);
    while (c.state() != client_state::disconnected)
      co_await turns();
    BOOST_TEST((co_await c.close()).has_value());
    co_await others.told(error::closed);
    co_await check_closed(c);
  }(w));
}

BOOST_AUTO_TEST_CASE(while_open_it_sends_what_is_queued_first) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.session.close_timeout = 10min; // nothing here waits for its end
    o.session.queue_bytes = 5'000;   // most of it waits in the outbox
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    co_await c.connected();
    waiters others(here, c);
    constexpr int count = 2000;
    for (int i = 0; i < count; ++i)
      BOOST_REQUIRE((co_await c.send(std::to_string(i) + std::string(450, ' '))).has_value());
    background<result<>> ending(here.rt.executor(), c.close(chorus::close_code::going_away, "bye"));
    co_await turns();
    BOOST_CHECK(c.state() == client_state::closing);
    BOOST_CHECK(c.try_send("late").error() == error::not_open);
    int got = 0;
    for (;;) {
      auto f = co_await p.read_frame();
      BOOST_REQUIRE(f.has_value());
      if (f->opcode == 8) {
        BOOST_TEST((f->payload == std::string("\x03\xe9"
                                              "bye")));
        break;
      }
      BOOST_REQUIRE(std::stoi(f->payload) == got);
      ++got;
    }
    BOOST_TEST(got == count);
    co_await p.write(peer::close_frame(1001));
    p.close();
    BOOST_TEST((co_await ending.get()).has_value());
    co_await others.told(error::closed);
    BOOST_TEST(c.stats().messages_dropped == 0U);
    BOOST_TEST(c.stats().messages_unconfirmed == 0U);
    co_await check_closed(c);
  }(w));
}

// They had no place in the queue yet.
BOOST_AUTO_TEST_CASE(while_a_sender_waits_its_message_is_refused) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.session.close_timeout = 10min; // nothing here waits for its end
    o.session.queue_bytes = 1'000;
    o.outbox_messages = 1;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    const std::string large(24 << 20, 'l'); // more than the kernel takes
    BOOST_TEST((co_await c.send(large)).has_value());
    bool room = true;
    while (room)
      room = c.try_send("queued").has_value();
    background<result<>> waiting(here.rt.executor(), c.send("refused"));
    co_await turns();
    BOOST_TEST(!waiting.done());
    background<result<>> ending(here.rt.executor(), c.close());
    const auto told = co_await waiting.get(); // though nothing moves
    BOOST_CHECK(told.error() == error::not_open);
    BOOST_TEST((co_await p.read_text()).value_or("").size() == large.size());
    bool more = true;
    while (more) {
      const auto got = co_await p.read_text(); // answers the close
      more = got.has_value();
      if (more)
        BOOST_TEST(*got == "queued");
    }
    p.close();
    BOOST_TEST((co_await ending.get()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(a_peer_that_does_not_answer_or_read_is_aborted) {
  world w;
  w.run([](world &here) -> task<> {
    for (bool queued : {false, true}) {
      listener l(here);
      auto o = eager({l.url()});
      o.session.close_timeout = 50ms;
      o.session.queue_bytes = 10'000;
      o.outbox_bytes = 64 << 20;
      client c(here.rt, std::move(o));
      auto p = co_await l.accept_open();
      co_await c.connected();
      if (queued) // more than the kernel holds
        for (int i = 0; i < 40; ++i)
          BOOST_TEST(c.try_send(std::string(1 << 20, 'q')).has_value());
      const auto r = co_await c.close();
      BOOST_TEST_CONTEXT(queued) {
        BOOST_REQUIRE(!r.has_value());
        BOOST_CHECK(r.error() == error::aborted);
        BOOST_CHECK(c.state() == client_state::closed);
        const auto s = c.stats();
        BOOST_TEST(s.queued_messages == 0U);
        BOOST_TEST((s.messages_dropped > 0) == queued);
        BOOST_TEST(s.messages_sent + s.messages_dropped == (queued ? 40U : 0U));
      }
      co_await p.wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_peer_that_vanishes_meanwhile) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    co_await c.connected();
    background<result<>> ending(here.rt.executor(), c.close());
    co_await p.read_frame();
    p.reset();
    const auto r = co_await ending.get();
    BOOST_CHECK(r.error() == error::lost);
    BOOST_CHECK(c.state() == client_state::closed);
    BOOST_TEST(c.stats().attempts == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(with_senders_that_wait_and_a_full_inbox) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_messages = 1;
    o.session.inbox_messages = 2;
    client c(here.rt, std::move(o));
    co_await c.send("0");
    background<result<>> waiting(here.rt.executor(), c.send("1"));
    auto stale = co_await l.accept(); // else the close may come before there is a connection
    BOOST_TEST((co_await c.close()).has_value());
    BOOST_CHECK((co_await waiting.get()).error() == error::not_open);

    client full(here.rt, [&] {
      auto again = eager({l.url()});
      again.session.inbox_messages = 2;
      return again;
    }());
    std::string burst;
    for (int i = 0; i < 1000; ++i)
      burst += peer::text("x");
    auto p = co_await l.accept_open(std::move(burst));
    while (full.stats().messages_received < 2)
      co_await turns();
    background<result<>> ending(here.rt.executor(), full.close());
    co_await p.read_frame();
    co_await p.write(peer::close_frame(1000));
    p.close();
    BOOST_TEST((co_await ending.get()).has_value());
    int left = 0;
    bool more = true;
    while (more) {
      const auto got = co_await full.receive();
      more = got.has_value();
      left += more;
    }
    // What was received stays; a peer that goes on sending does not fill the memory.
    BOOST_TEST(left >= 2);
    BOOST_TEST(left <= 6);
  }(w));
}

BOOST_AUTO_TEST_CASE(closing_twice_and_cancelling_the_wait) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    co_await c.connected();
    background<result<>> given_up(here.rt.executor(), c.close());
    background<result<>> patient(here.rt.executor(), c.close(chorus::close_code::going_away));
    co_await turns();
    given_up.cancel();
    BOOST_TEST(co_await given_up.aborted());
    const auto bye = co_await p.read_frame();
    BOOST_REQUIRE(bye.has_value());
    BOOST_TEST((bye->payload == std::string("\x03\xe8"))); // the first one's
    co_await p.write(peer::close_frame(1000));
    p.close();
    BOOST_TEST((co_await patient.get()).has_value());
    co_await check_closed(c);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
