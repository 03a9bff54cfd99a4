// What becomes of messages that a connection had taken when it ended: sent again, or counted.

#include "scripted.hpp"

using namespace client_test;
using chorus::client;

namespace {

// More than the kernel takes from a peer that reads nothing.
constexpr std::size_t huge = 24 << 20;

// Sends `count` messages and has the peer read them all.
task<> deliver(client &c, peer &p, int count) {
  for (int i = 0; i < count; ++i)
    BOOST_TEST((co_await c.send(std::to_string(i))).has_value());
  for (int i = 0; i < count; ++i) {
    const auto got = co_await p.read_text();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST(*got == std::to_string(i));
  }
}

// The session's ping, which the peer answers.
task<> ping(world &w, client &c, peer &p) {
  using round_trip = result<std::chrono::nanoseconds>;
  background<round_trip> pinging(w.rt.executor(), [](chorus::session s) -> task<round_trip> {
    co_return co_await s.ping();
  }(c.current()));
  const auto f = co_await p.read_frame();
  BOOST_REQUIRE(f.has_value());
  BOOST_TEST(f->opcode == 9U);
  auto pong = peer::encode(10, f->payload);
  co_await p.write(std::move(pong));
  BOOST_TEST((co_await pinging.get()).has_value());
}

chorus::client_options watched(std::vector<std::string> urls, event_log &log) {
  auto o = eager(std::move(urls));
  o.on_disconnect = [&log](const failure &) { log.add("gone"); };
  return o;
}

} // namespace

BOOST_AUTO_TEST_SUITE(accounting)

BOOST_AUTO_TEST_CASE(the_answer_to_our_close_confirms_everything) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    co_await deliver(c, p, 5);
    background<result<>> closing(here.rt.executor(), c.close());
    BOOST_TEST(!(co_await p.read_text()).has_value()); // answers the close
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());
    BOOST_TEST(c.stats().messages_sent == 5U);
    BOOST_TEST(c.stats().messages_unconfirmed == 0U);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_close_without_an_answer_confirms_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client c(here.rt, eager({l.url()}));
    auto p = co_await l.accept_open();
    co_await deliver(c, p, 5);
    background<result<>> closing(here.rt.executor(), c.close());
    const auto bye = co_await p.read_frame();
    BOOST_REQUIRE(bye.has_value());
    BOOST_TEST(bye->opcode == 8U);
    p.reset();
    BOOST_TEST(!(co_await closing.get()).has_value());
    BOOST_TEST(c.stats().messages_unconfirmed == 5U);
  }(w));
}

// It had read them all, but how should the client know.
BOOST_AUTO_TEST_CASE(a_close_by_the_peer_confirms_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    client c(here.rt, watched({l.url()}, log));
    auto p = co_await l.accept_open();
    co_await deliver(c, p, 5);
    BOOST_TEST(c.stats().messages_unconfirmed == 0U); // as long as it is open
    co_await p.close_with(1001);
    co_await log.wait("gone");
    BOOST_TEST(c.stats().messages_unconfirmed == 5U);
  }(w));
}

BOOST_AUTO_TEST_CASE(an_answered_ping_confirms_what_was_before_it) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    client c(here.rt, watched({l.url()}, log));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    co_await deliver(c, p, 5);
    co_await ping(here, c, p);
    const auto round_trip = c.stats().last_round_trip;
    BOOST_TEST(round_trip.count() > 0);
    co_await deliver(c, p, 2);
    co_await p.close_with(1001);
    co_await log.wait("gone");
    BOOST_TEST(c.stats().messages_unconfirmed == 2U);
    BOOST_TEST(c.stats().messages_sent == 7U);
    BOOST_TEST((c.stats().last_round_trip == round_trip)); // known without a connection, too
  }(w));
}

BOOST_AUTO_TEST_CASE(framed_connections_confirm_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({"tcp://127.0.0.1:" + std::to_string(l.port())});
    o.session.frame = chorus::framing::lines;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept();
    for (int i = 0; i < 3; ++i)
      BOOST_TEST((co_await c.send("line")).has_value());
    BOOST_TEST((co_await c.flush()).has_value());
    background<result<>> closing(here.rt.executor(), c.close());
    co_await p.wait_gone();
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());
    BOOST_TEST(c.stats().messages_sent == 3U);
    BOOST_TEST(c.stats().messages_unconfirmed == 3U);
  }(w));
}

// What had begun and what had not, when the peer reads nothing and goes.
BOOST_AUTO_TEST_CASE(a_message_cut_in_the_middle_is_unconfirmed_and_the_rest_is_sent_again) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = watched({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    o.outbox_bytes = 4 * huge;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST((co_await c.send(std::string(huge, 'h'))).has_value());
    for (int i = 0; i < 3; ++i)
      BOOST_TEST((co_await c.send(std::to_string(i))).has_value());
    BOOST_TEST(c.stats().messages_sent == 4U);
    BOOST_TEST(!(co_await p.read_frame_head()).empty()); // the huge one has begun
    p.reset();
    co_await log.wait("gone");
    BOOST_TEST(c.stats().messages_unconfirmed == 1U);
    BOOST_TEST(c.stats().messages_sent == 1U);
    BOOST_TEST(c.stats().queued_messages == 3U);
    auto again = co_await l.accept_open();
    for (int i = 0; i < 3; ++i)
      BOOST_TEST((co_await again.read_text()).value_or("nothing") == std::to_string(i));
    BOOST_TEST(c.stats().messages_sent == 4U);
    BOOST_TEST(c.stats().messages_dropped == 0U);
  }(w));
}

// The key is that of the first, which had begun.
BOOST_AUTO_TEST_CASE(an_equal_message_that_comes_back_gets_no_key) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = watched({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    o.outbox_bytes = 4 * huge;
    o.backoff.initial = o.backoff.cap = 1h;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    const message same(std::string(huge, 'h'));
    BOOST_TEST(c.try_send(same, {.key = "k"}).has_value());
    BOOST_TEST(c.try_send(same).has_value());
    BOOST_TEST(!(co_await p.read_frame_head()).empty()); // the first has begun
    p.reset();
    co_await log.wait("gone");
    BOOST_TEST(c.stats().queued_messages == 1U);
    BOOST_TEST(c.try_send("newer", {.key = "k"}).has_value());
    BOOST_TEST(c.stats().queued_messages == 2U);
    BOOST_TEST(c.stats().messages_replaced == 0U);
  }(w));
}

// With what was sent past the client between them.
BOOST_AUTO_TEST_CASE(messages_that_come_back_keep_their_keys) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = watched({l.url()}, log);
    o.backoff.initial = o.backoff.cap = 1h;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    // Within one turn, so that nothing begins.
    for (const auto *key : {"a", "b"}) {
      BOOST_TEST(c.try_send("same", {.key = key}).has_value());
      BOOST_TEST(c.current().try_send("direct").has_value());
      BOOST_TEST(c.try_send("plain").has_value());
    }
    c.current().abort();
    co_await log.wait("gone");
    BOOST_TEST(c.stats().queued_messages == 6U);
    for (const auto *key : {"a", "b"})
      BOOST_TEST(c.try_send("newer", {.key = key}).has_value());
    BOOST_TEST(c.stats().queued_messages == 6U);
    BOOST_TEST(c.stats().messages_replaced == 2U);
  }(w));
}

BOOST_AUTO_TEST_CASE(the_end_of_the_runtime_is_accounted_for) {
  std::optional<client> c;
  auto w = std::make_unique<world>();
  w->run([](world &here, std::optional<client> &out) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.session.queue_bytes = 4 * huge;
    o.outbox_bytes = 4 * huge;
    out.emplace(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    co_await deliver(*out, p, 2);
    BOOST_TEST((co_await out->send(std::string(huge, 'h'))).has_value());
    BOOST_TEST((co_await out->send("not begun")).has_value());
    BOOST_TEST(!(co_await p.read_frame_head()).empty());
  }(*w, c));
  w.reset();
  BOOST_TEST(c->stats().messages_unconfirmed == 3U);
  BOOST_TEST(c->stats().messages_sent == 3U);
  BOOST_TEST(c->stats().messages_dropped == 1U);
  BOOST_TEST(c->stats().queued_messages == 0U);
}

// The user's own context goes on without the runtime, and the client's coroutine with it.
BOOST_AUTO_TEST_CASE(the_end_of_a_runtime_is_accounted_for_once) {
  asio::io_context context;
  auto rt = std::make_unique<chorus::runtime>(context);
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  client c(*rt, eager({"ws://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port())}));
  peer p;
  asio::co_spawn(
      context,
      [](tcp::acceptor &from, client &sending, peer &to) -> task<> {
        to = peer(co_await from.async_accept(asio::use_awaitable));
        co_await to.upgrade();
        co_await deliver(sending, to, 2);
        static_cast<asio::io_context &>(from.get_executor().context()).stop();
      }(acceptor, c, p),
      [](std::exception_ptr e) {
        if (e)
          std::rethrow_exception(e);
      });
  context.run_for(30s);
  rt.reset();
  BOOST_TEST(c.stats().messages_unconfirmed == 2U);
  context.restart();
  context.poll();
  BOOST_TEST(c.stats().messages_unconfirmed == 2U);
  BOOST_TEST(c.stats().messages_sent == 2U);
}

// What `on_connect` sent was meant for its own connection.
BOOST_AUTO_TEST_CASE(what_on_connect_sent_and_had_not_begun_is_not_sent_again) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = watched({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    int round = 0;
    o.on_connect = [&round](chorus::session &s) {
      if (round++ == 0)
        (void)s.try_send(std::string(huge, 'h'));
      for (const auto *text : {"one", "two"})
        (void)s.try_send(text);
    };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("queued")).has_value());
    auto p = co_await l.accept_open();
    BOOST_TEST(!(co_await p.read_frame_head()).empty());
    p.reset();
    co_await log.wait("gone");
    auto again = co_await l.accept_open();
    for (const auto *expected : {"one", "two", "queued"})
      BOOST_TEST((co_await again.read_text()).value_or("nothing") == expected);
    BOOST_TEST((co_await c.flush()).has_value());
    BOOST_TEST(c.stats().messages_sent == 1U);
  }(w));
}

// What a user sends on the session past the client must not be taken for what `on_connect` sent.
BOOST_AUTO_TEST_CASE(direct_sends_cost_no_message_of_the_client) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = watched({l.url()}, log);
    o.session.queue_bytes = 4 * huge;
    o.outbox_bytes = 4 * huge;
    o.on_connect = [](chorus::session &s) { (void)s.try_send("hello"); };
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST((co_await p.read_text()).value_or("nothing") == "hello");
    BOOST_TEST((co_await c.send(std::string(huge, 'h'))).has_value());
    BOOST_TEST((co_await c.send("accepted")).has_value());
    for (int i = 0; i < 3; ++i)
      BOOST_TEST(c.current().try_send("direct").has_value());
    BOOST_TEST(!(co_await p.read_frame_head()).empty());
    p.reset();
    co_await log.wait("gone");
    auto again = co_await l.accept_open();
    for (const auto *expected : {"hello", "accepted"})
      BOOST_TEST((co_await again.read_text()).value_or("nothing") == expected);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
