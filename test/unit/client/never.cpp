// Times that are to be as long as can be: they mean never, not at once.

#include "attempt.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/server.hpp>

using namespace client_test;
using chorus::client;
using chorus::heartbeat_options;
using chorus::reconnect_policy;

namespace {

constexpr auto never = std::chrono::milliseconds::max();
constexpr heartbeat_options none{.ping_interval = 0ms, .pong_wait = 0ms, .write_wait = 0ms};

chorus::client_options patient(std::vector<std::string> urls) {
  auto o = eager(std::move(urls));
  o.session.heartbeat = none;
  return o;
}

chorus::detail::shard &simulated(world &w) {
  auto &home = *w.rt.core()->shards.front();
  home.use_manual_clock();
  return home;
}

task<> months_pass(chorus::detail::shard &home) {
  for (int i = 0; i < 3; ++i) {
    home.advance(24h * 30);
    co_await turns(10);
  }
}

std::vector<heartbeat_options> endless() {
  std::vector<heartbeat_options> all(5, none);
  all[0].ping_interval = never;
  all[1].ping_interval = 24h * 300;
  all[1].pong_wait = never;
  all[2].write_wait = never;
  all[3].idle_limit = never;
  all[4] = {never, never, never, never};
  return all;
}

} // namespace

BOOST_AUTO_TEST_SUITE(never_means_never)

BOOST_AUTO_TEST_CASE(heartbeats) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    for (const auto &heartbeat : endless()) {
      listener l(here);
      connect_options o;
      o.session.heartbeat = heartbeat;
      o.session.queue_bytes = std::size_t{64} << 20;
      auto a = dial(here, l, o);
      auto p = co_await l.accept_open();
      auto s = co_await a.get();
      BOOST_REQUIRE(s.has_value());
      co_await months_pass(home);
      BOOST_TEST(s->try_send("text").has_value());
      const auto first = co_await p.read_frame();
      BOOST_REQUIRE(first.has_value());
      BOOST_TEST(first->payload == "text"); // no ping before it
      BOOST_TEST(s->try_send(std::string(24 << 20, 'h')).has_value());
      BOOST_TEST(!(co_await p.read_frame_head()).empty()); // the kernel takes no more
      co_await months_pass(home);
      BOOST_TEST(s->is_open());
      s->abort();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(heartbeats_of_servers) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    for (const auto &heartbeat : endless()) {
      chorus::server_options so;
      so.session.heartbeat = heartbeat;
      chorus::server srv(here.rt, so);
      srv.route("/echo", [](session s, chorus::request) -> task<> {
        for (;;) {
          auto m = co_await s.receive();
          if (!m)
            break;
          co_await s.send(*std::move(m));
        }
      });
      BOOST_REQUIRE((co_await srv.start()).has_value());
      connect_options o;
      o.session.heartbeat = none;
      const auto url = "ws://127.0.0.1:" + std::to_string(srv.port()) + "/echo";
      auto s = co_await connect(url, o);
      BOOST_REQUIRE(s.has_value());
      co_await months_pass(home);
      BOOST_TEST(s->try_send("text").has_value());
      const auto echo = co_await s->receive();
      BOOST_TEST(echo.has_value());
      s->abort();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(close_timeout) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    listener l(here);
    connect_options o;
    o.session.heartbeat = none;
    o.session.close_timeout = never;
    auto a = dial(here, l, o);
    auto p = co_await l.accept_open();
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    background<result<>> closing(here.rt.executor(), s->close());
    const auto bye = co_await p.read_frame();
    BOOST_REQUIRE(bye.has_value());
    co_await months_pass(home);
    BOOST_TEST(!closing.done());
    auto answer = peer::encode(8, bye->payload);
    co_await p.write(std::move(answer));
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());

    auto co = patient({l.url()});
    co.session.close_timeout = never;
    client c(here.rt, std::move(co));
    auto q = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    background<result<>> ending(here.rt.executor(), c.close());
    const auto end = co_await q.read_frame();
    BOOST_REQUIRE(end.has_value());
    co_await months_pass(home);
    BOOST_TEST(!ending.done());
    auto answered = peer::encode(8, end->payload);
    co_await q.write(std::move(answered));
    q.close();
    BOOST_TEST((co_await ending.get()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(authenticate_timeout) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    listener l(here);
    event_log log(here.rt.executor());
    auto o = patient({l.url()});
    o.authenticate_timeout = never;
    o.authenticate = [&log](session s) -> task<result<>> {
      log.add("asked");
      const auto welcome = co_await s.receive();
      co_return welcome ? result<>() : result<>(welcome.error());
    };
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    co_await log.wait("asked");
    co_await months_pass(home);
    BOOST_REQUIRE(c.stats().attempts == 1U);
    co_await p.write(peer::text("welcome"));
    BOOST_TEST((co_await c.connected()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(check_timeout) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    listener l(here);
    auto o = patient({l.url()});
    o.check_timeout = never;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    c.reconnect_now();
    const auto ping = co_await p.read_frame();
    BOOST_REQUIRE(ping.has_value());
    BOOST_TEST(ping->opcode == 9U);
    co_await months_pass(home);
    BOOST_CHECK(c.state() == chorus::client_state::open);
    BOOST_TEST(c.stats().attempts == 1U);
  }(w));
}

// And a session's own ping.
BOOST_AUTO_TEST_CASE(ping_timeout) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    listener l(here);
    connect_options o;
    o.session.heartbeat = none;
    auto a = dial(here, l, o);
    auto p = co_await l.accept_open();
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    using round_trip = result<std::chrono::nanoseconds>;
    background<round_trip> pinging(here.rt.executor(), s->ping(never));
    const auto ping = co_await p.read_frame();
    BOOST_REQUIRE(ping.has_value());
    co_await months_pass(home);
    BOOST_TEST(!pinging.done());
    auto pong = peer::encode(10, ping->payload);
    co_await p.write(std::move(pong));
    BOOST_TEST((co_await pinging.get()).has_value());
    s->abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(proven_after) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    listener l(here);
    auto o = patient({l.url("/0"), l.url("/1")});
    o.backoff.initial = 0ms;
    o.proven_after = never;
    client c(here.rt, std::move(o));
    for (const auto *next : {"GET /0 ", "GET /1 ", "GET /0 "}) { // none has proven itself
      auto p = co_await l.accept();
      const auto head = co_await p.upgrade();
      BOOST_TEST(head.find(next) == 0U);
      BOOST_TEST((co_await c.connected()).has_value());
      co_await months_pass(home);
      const auto before = c.stats().attempts;
      p.reset();
      while (c.state() == chorus::client_state::open)
        co_await turns();
      while (c.stats().attempts == before) {
        home.advance(1ms);
        co_await turns();
      }
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(backoff) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = simulated(here);
    dead_port nobody(here);
    std::vector<chorus::client_options> all(4, patient({nobody.url()}));
    all[0].backoff.initial = all[0].backoff.cap = never;
    all[1].reconnect = reconnect_policy::constant(never, chorus::jitter::none);
    all[2].reconnect = reconnect_policy::constant(never, chorus::jitter::partial);
    all[3].reconnect = reconnect_policy::exponential(
        {.initial = never, .cap = never, .spread = chorus::jitter::partial});
    for (auto &o : all) {
      client c(here.rt, std::move(o));
      while (c.state() != chorus::client_state::disconnected)
        co_await turns();
      co_await months_pass(home);
      BOOST_TEST(c.stats().attempts == 1U);
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
