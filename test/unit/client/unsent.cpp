// Messages that get old, that newer ones replace, that find no room: and who is told of them.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

using namespace client_test;
using chorus::client;
using chorus::client_send_options;
using chorus::overflow;

namespace {

chorus::client_options reporting(std::vector<std::string> urls, event_log &log) {
  auto o = eager(std::move(urls));
  o.on_unsent = [&log](const chorus::unsent_message &m) {
    log.add(std::string(to_string(m.reason)) + ":" + m.content.str() +
            (m.key.empty() ? "" : "@" + m.key));
  };
  o.on_disconnect = [&log](const failure &) { log.add("gone"); };
  return o;
}

client_send_options keyed(std::string_view key) {
  client_send_options o;
  o.key = key;
  return o;
}

client_send_options mortal(std::chrono::milliseconds life, std::string_view key = {}) {
  client_send_options o;
  o.key = key;
  o.time_to_live = life;
  return o;
}

// Texts with a space after each but the last.
task<> expect_texts(peer &p, std::string texts) {
  std::string seen;
  while (seen.size() < texts.size()) {
    const auto got = co_await p.read_text();
    BOOST_REQUIRE(got.has_value());
    seen += (seen.empty() ? "" : " ") + *got;
  }
  BOOST_TEST(seen == texts);
}

constexpr std::size_t huge = 24 << 20; // more than the kernel takes from a peer that reads nothing

} // namespace

BOOST_AUTO_TEST_SUITE(unsent)

BOOST_AUTO_TEST_CASE(what_is_too_old_is_told_of_when_it_gets_old) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    event_log log(here.rt.executor());
    auto o = reporting({nobody.url()}, log);
    o.backoff.initial = o.backoff.cap = 1h;
    client c(here.rt, std::move(o));
    co_await c.send("stays");
    co_await c.send("long", mortal(10s));
    co_await c.send("short", mortal(1s)); // though a later one is looked after already
    while (c.state() != chorus::client_state::disconnected)
      co_await turns();
    co_await turns(10);
    home.advance(900ms);
    co_await turns(10);
    BOOST_TEST(log.joined() == "");
    home.advance(200ms);
    co_await log.wait("expired:short");
    BOOST_TEST(c.stats().queued_messages == 2U);
    home.advance(9s);
    co_await log.wait("expired:long");
    BOOST_TEST(log.joined() == "expired:short expired:long");
    const auto s = c.stats();
    BOOST_TEST(s.queued_messages == 1U);
    BOOST_TEST(s.queued_bytes == 5U);
    BOOST_TEST(s.messages_dropped == 2U);
    BOOST_TEST(s.messages_expired == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(what_is_too_old_makes_room_and_is_not_sent) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    event_log log(here.rt.executor());
    auto o = reporting({l.url()}, log);
    o.outbox_messages = 2;
    client c(here.rt, std::move(o));
    co_await c.send("old", mortal(1s));
    co_await c.send("kept");
    BOOST_CHECK(c.try_send("no room").error() == error::queue_full);
    background<result<>> waiting(here.rt.executor(), c.send("waits", mortal(1h)));
    co_await turns();
    BOOST_TEST(!waiting.done());
    home.advance(2s);
    BOOST_TEST((co_await waiting.get()).has_value()); // without a connection
    auto p = co_await l.accept_open();
    co_await expect_texts(p, "kept waits");
    co_await log.wait("expired:old");
    BOOST_TEST(c.stats().messages_sent == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_newer_message_takes_the_place_of_its_key) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = reporting({l.url()}, log);
    o.outbox_messages = 3;
    client c(here.rt, std::move(o));
    co_await c.send("x1", keyed("x"));
    co_await c.send("plain");
    co_await c.send("y1", keyed("y"));
    for (const auto *text : {"x2", "x3"}) // there is no room for more, but for these
      BOOST_TEST(c.try_send(text, keyed("x")).has_value());
    BOOST_CHECK(c.try_send("z", keyed("z")).error() == error::queue_full);
    auto p = co_await l.accept_open();
    co_await expect_texts(p, "x3 plain y1");
    co_await log.wait("replaced:x2@x");
    BOOST_TEST(log.joined() == "replaced:x1@x replaced:x2@x");
    BOOST_TEST(c.stats().messages_replaced == 2U);
    BOOST_TEST(c.stats().queued_bytes == 0U);
  }(w));
}

BOOST_AUTO_TEST_CASE(one_that_does_not_fit_in_the_place_of_its_key_waits) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_bytes = 10;
    client c(here.rt, std::move(o));
    co_await c.send("x1", keyed("x"));
    co_await c.send("12345678");
    BOOST_CHECK(c.try_send("x-too-long", keyed("x")).error() == error::queue_full);
    BOOST_TEST(c.stats().queued_messages == 2U);
    auto p = co_await l.accept_open();
    co_await expect_texts(p, "x1 12345678");
  }(w));
}

BOOST_AUTO_TEST_CASE(each_policy_tells_what_it_drops) {
  world w;
  w.run([](world &here) -> task<> {
    for (const auto policy : {overflow::drop_oldest, overflow::latest, overflow::drop_newest}) {
      dead_port nobody(here);
      event_log log(here.rt.executor());
      auto o = reporting({nobody.url()}, log);
      o.outbox_messages = 2;
      o.outbox_overflow = policy;
      client c(here.rt, std::move(o));
      for (const auto *text : {"0", "1", "2", "3"})
        (void)c.try_send(text);
      if (policy != overflow::drop_newest) {
        co_await log.wait("overflow:1");
        BOOST_TEST(log.joined() == "overflow:0 overflow:1");
      }
      BOOST_TEST(c.stats().messages_dropped == 2U);
      background<result<>> closing(here.rt.executor(), c.close());
      BOOST_TEST((co_await closing.get()).has_value());
      // Told before the close has completed.
      BOOST_TEST(log.joined() == (policy == overflow::drop_newest
                                      ? "left_over:0 left_over:1"
                                      : "overflow:0 overflow:1 left_over:2 left_over:3"));
      BOOST_TEST(c.stats().messages_left == 2U);
      BOOST_TEST(c.stats().messages_dropped == 4U);
    }
  }(w));
}

// Far more than a report queue holds, a slow handler, and a client that ends by itself.
BOOST_AUTO_TEST_CASE(all_that_is_left_at_the_end_is_told) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    std::size_t told = 0;
    bool ended = false;
    o.on_unsent = [&](const chorus::unsent_message &m) -> task<> {
      BOOST_TEST(m.content.text() == std::to_string(told));
      BOOST_CHECK(m.why == error::upgrade_refused);
      BOOST_TEST(!ended);
      if (++told % 100 == 0)
        co_await turns(1);
    };
    o.on_state = [&ended](chorus::client_state s) { ended = s == chorus::client_state::closed; };
    client c(here.rt, std::move(o));
    constexpr std::size_t count = 5000;
    for (std::size_t i = 0; i < count; ++i)
      BOOST_REQUIRE(c.try_send(std::to_string(i)).has_value());
    auto p = co_await l.accept();
    co_await p.read_head();
    co_await p.write("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    BOOST_CHECK((co_await c.flush()).error() == error::upgrade_refused);
    BOOST_TEST(ended);
    BOOST_TEST(told == count);
    BOOST_TEST(c.stats().messages_left == count);
    BOOST_TEST(c.stats().unsent_unreported == 0U);
  }(w));
}

// The reports of what is dropped in a loop that never waits are bounded, the figures are not.
BOOST_AUTO_TEST_CASE(reports_nobody_takes_stay_bounded) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    auto o = eager({nobody.url()});
    o.outbox_messages = 1;
    o.outbox_overflow = overflow::drop_oldest;
    std::size_t told = 0;
    o.on_unsent = [&told](const chorus::unsent_message &) { ++told; };
    client c(here.rt, std::move(o));
    for (int i = 0; i < 5001; ++i)
      (void)c.try_send("x");
    BOOST_TEST(told == 0U);
    co_await turns();
    const auto s = c.stats();
    BOOST_TEST(s.messages_dropped == 5000U);
    BOOST_TEST(told == 1024U);
    BOOST_TEST(s.unsent_unreported == 5000U - 1024U);
  }(w));
}

// What a lost connection gives back keeps its key and its time to live.
BOOST_AUTO_TEST_CASE(what_comes_back_keeps_its_terms) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    event_log log(here.rt.executor());
    auto o = reporting({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    o.session.heartbeat.write_wait = 0ms;
    o.outbox_bytes = 4 * huge;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    // In the session's queue, so that what follows is handed to it before the kernel blocks.
    const auto all = [](client &to) {
      BOOST_TEST(to.try_send("x1", keyed("x")).has_value());
      BOOST_TEST(to.try_send("old", mortal(10s)).has_value());
      BOOST_TEST(to.try_send("same").has_value());
      BOOST_TEST(to.try_send("same", mortal(1h)).has_value());
    };
    BOOST_TEST(c.try_send(std::string(huge, 'h')).has_value());
    BOOST_TEST(c.try_send("waits", keyed("x")).has_value());
    all(c);
    BOOST_TEST(!(co_await p.read_frame_head()).empty()); // the huge one has begun
    co_await turns(10);
    // With so much ahead of them, messages with terms wait in the outbox, where newer ones replace them.
    BOOST_TEST(c.stats().queued_messages == 4U);
    BOOST_TEST(c.stats().messages_replaced == 1U);
    p.reset();
    co_await log.wait("gone");
    home.advance(20s);
    co_await turns(10);
    auto q = co_await l.accept_open();
    co_await expect_texts(q, "x1 same same");
    co_await log.wait("expired:old");
    BOOST_TEST(c.stats().messages_sent == 4U);
    BOOST_TEST(c.stats().messages_unconfirmed == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(what_the_session_gives_back_keeps_its_terms) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    event_log log(here.rt.executor());
    auto o = reporting({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    o.session.heartbeat.write_wait = 0ms;
    o.outbox_bytes = 4 * huge;
    // Dies in the turn in which it was connected: nothing it was given has begun.
    bool first = true;
    std::optional<client> c;
    o.on_state = [&](chorus::client_state s) {
      if (s != chorus::client_state::open || !std::exchange(first, false))
        return;
      here.rt.core()->shards.front()->post([&c] {
        BOOST_TEST(c->try_send("x1", keyed("x")).has_value());
        BOOST_TEST(c->try_send("plain").has_value());
        BOOST_TEST(c->try_send("old", mortal(10s)).has_value());
        BOOST_TEST(c->try_send("y1", keyed("y")).has_value());
        c->current().abort();
      });
    };
    c.emplace(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    co_await log.wait("gone");
    BOOST_TEST(c->stats().queued_messages == 4U);
    BOOST_TEST(c->try_send("x2", keyed("x")).has_value());
    home.advance(20s);
    auto q = co_await l.accept_open();
    co_await expect_texts(q, "x2 plain y1");
    BOOST_TEST(c->stats().messages_replaced == 1U);
    BOOST_TEST(c->stats().messages_expired == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(flush_does_not_wait_for_what_was_dropped) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    dead_port nobody(here);
    client c(here.rt, eager({nobody.url()}));
    co_await c.send("x", mortal(1s));
    background<result<>> flushing(here.rt.executor(), c.flush());
    co_await turns(10);
    BOOST_TEST(!flushing.done());
    home.advance(2s);
    BOOST_TEST((co_await flushing.get()).has_value());
  }(w));
}

// Each message sent again drops another one: the shard has time for the rest all the same.
BOOST_AUTO_TEST_CASE(a_handler_that_sends_again_holds_nobody_up) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    auto o = eager({nobody.url()});
    o.backoff.initial = o.backoff.cap = 1h;
    o.outbox_messages = 2;
    o.outbox_overflow = overflow::drop_oldest;
    client *made = nullptr;
    std::size_t told = 0;
    o.on_unsent = [&](const chorus::unsent_message &m) {
      ++told;
      (void)made->try_send(m.content);
    };
    client c(here.rt, std::move(o));
    made = &c;
    for (const auto *text : {"a", "b", "c"})
      (void)c.try_send(text);
    while (told < 100)
      co_await turns();
    (void)co_await c.close();
    BOOST_TEST(c.stats().messages_left == 2U);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
