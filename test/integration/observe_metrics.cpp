#include "observe_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/client/connect.hpp>

using namespace observe_test;

BOOST_AUTO_TEST_SUITE(observe_metrics)

BOOST_AUTO_TEST_CASE(sessions_and_messages_are_counted_as_they_came) {
  for (const unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    f.start();
    constexpr int rounds[] = {5, 7, 0};
    std::vector<wire> peers;
    for (const int n : rounds) {
      peers.push_back(open_session(f.port(), "/echo"));
      for (int i = 0; i < n; ++i) {
        peers.back().send(text_frame("hello"));
        BOOST_TEST(peers.back().read_frame().payload == "hello");
      }
    }
    auto now = f.until([](const scraped &s) {
      return s["chorus_sessions_opened_total"] == 3 && s["chorus_handlers"] == 3;
    });
    BOOST_TEST(now["chorus_sessions"] == 3);
    BOOST_TEST(now["chorus_connections_accepted_total"] == 3);
    BOOST_TEST(now["chorus_messages_received_total"] == 12);
    BOOST_TEST(now["chorus_messages_sent_total"] == 12);
    BOOST_TEST(now["chorus_received_bytes_total"] == 12 * (6 + 5)); // masked
    BOOST_TEST(now["chorus_sent_bytes_total"] == 12 * (2 + 5));
    BOOST_TEST(now["chorus_queue_bytes"] == 0);
    BOOST_TEST(now["chorus_queue_oldest_seconds"] == 0);
    BOOST_TEST(now.sum("chorus_sessions_closed_total") == 0);

    peers[0].send(close_frame(1000));
    BOOST_TEST(peers[0].read_frame().close_code() == 1000u);
    peers[1].send(close_frame(4321));
    BOOST_TEST(peers[1].read_frame().close_code() == 4321u);
    peers[2].close();
    now = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
    BOOST_TEST(now[code("1000", "peer")] == 1);
    BOOST_TEST(now[code("4xxx", "peer")] == 1);
    BOOST_TEST(now[code("1006", "server")] == 1);
    BOOST_TEST(now.sum("chorus_sessions_closed_total") == 3);
    BOOST_TEST(now["chorus_sessions_ended_total{how=\"closed\"}"] == 2);
    BOOST_TEST(now["chorus_sessions_ended_total{how=\"lost\"}"] == 1);
    // What has ended still counts, closes and their answers included.
    BOOST_TEST(now["chorus_messages_received_total"] == 12);
    BOOST_TEST(now["chorus_received_bytes_total"] == 12 * (6 + 5) + 2 * (6 + 2));
    BOOST_TEST(now["chorus_sent_bytes_total"] == 12 * (2 + 5) + 2 * (2 + 2));
  }
}

BOOST_AUTO_TEST_CASE(closes_of_the_server_are_its_own) {
  fixture f;
  f.server->route("/done", [](session, request) -> task<> { co_return; });
  f.server->route("/broken", [](session, request) -> task<> {
    throw std::runtime_error("broken");
    co_return;
  });
  f.start();
  for (const auto *path : {"/done", "/broken", "/broken"}) {
    auto w = open_session(f.port(), path);
    const auto closed = w.read_frame();
    w.send(close_frame(closed.close_code()));
    w.read_all();
  }
  const auto now = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
  BOOST_TEST(now[code("1000", "server")] == 1);
  BOOST_TEST(now[code("1011", "server")] == 2);
  BOOST_TEST(now["chorus_handler_failures_total"] == 2);
}

BOOST_AUTO_TEST_CASE(refusals_have_reasons) {
  chorus::server_options options;
  options.max_connections = 1;
  fixture f(options);
  f.start();
  const auto ask = [&](std::string text) {
    wire w(f.port());
    w.send(text);
    return w.read_response();
  };
  for (int i = 0; i < 2; ++i)
    BOOST_TEST(has(ask(upgrade_request("/nowhere")), " 404 "));
  BOOST_TEST(has(ask(upgrade_request("/echo", "Origin: https://evil.example\r\n")), " 403 "));
  BOOST_TEST(has(ask("GET /echo HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n"
                     "Connection: Upgrade\r\nSec-WebSocket-Version: 12\r\n"
                     "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"),
                 " 426 "));
  auto only = open_session(f.port(), "/echo");
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(has(ask(upgrade_request("/echo")), " 503 "));
  wire(f.port()).send("GET"); // and gone
  wire(f.port()).close();
  const auto now =
      f.until([](const scraped &s) { return s["chorus_handshakes_failed_total"] == 2; });
  BOOST_TEST(now[refused("not_found")] == 2);
  BOOST_TEST(now[refused("origin")] == 1);
  BOOST_TEST(now[refused("malformed")] == 1);
  BOOST_TEST(now[refused("limit")] == 3);
  BOOST_TEST(now.sum("chorus_refusals_total") == 7);
  BOOST_TEST(now["chorus_connections_accepted_total"] == 10);
  const auto stats = f.server->stats();
  BOOST_TEST(stats.refused_limit + stats.refused_other + stats.refused_origin == 7u);
}

BOOST_AUTO_TEST_CASE(handshakes_beyond_the_limit_are_refusals) {
  chorus::server_options options;
  options.max_handshakes = 1;
  options.handshake_timeout = 1h; // who holds the place keeps it
  fixture f(options);
  f.start();
  wire held(f.port()); // says nothing
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handshakes == 1; }));
  wire w(f.port());
  BOOST_TEST(has(w.read_all(), " 503 "));
  const auto now = f.scrape();
  BOOST_TEST(now[refused("handshake_limit")] == 1);
  BOOST_TEST(now["chorus_handshakes"] == 1);
}

BOOST_AUTO_TEST_CASE(queues_and_drops) {
  chorus::server_options options;
  options.session.on_overflow = chorus::overflow::drop_oldest;
  options.session.queue_bytes = 64 * 1024;
  options.session.heartbeat.ping_interval = 0ms;
  fixture f(options);
  event sent;
  event seen;
  std::uint64_t dropped = 0;
  std::uint64_t queued = 0;
  std::uint64_t waiting = 0;
  std::uint64_t expired = 0;
  f.server->route("/flood", [&](session s, request) -> task<> {
    const std::string text(4096, 'x');
    // Again when the kernel has found room for more after all.
    while (expired == 0) {
      for (const auto before = s.stats().messages_dropped;
           s.stats().messages_dropped < before + 50;)
        s.try_send(text);
      for (int i = 0; i < 3; ++i)
        s.try_send(std::string("late"), {.time_to_live = 1ms});
      co_await chorus::sleep(20ms);
      s.try_send(text); // which finds no room, and looks for what is too old
      expired = s.core()->out().messages_expired;
    }
    dropped = s.stats().messages_dropped;
    queued = s.stats().queued_bytes;
    waiting = s.stats().queued_messages;
    sent.set();
    co_await s.wait_closed();
    seen.set();
  });
  f.start();
  auto w = open_session(f.port(), "/flood");
  BOOST_REQUIRE(sent.wait());
  auto now = f.scrape();
  BOOST_TEST(dropped > expired);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"expired\"}"] == expired);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"drop_oldest\"}"] == dropped - expired);
  BOOST_TEST(now["chorus_queue_bytes"] == queued);
  BOOST_TEST(now["chorus_queue_messages"] == waiting);
  BOOST_TEST(now["chorus_queue_bytes"] > 0);
  // Nobody reads, so what waits only gets older.
  const auto age = now["chorus_queue_oldest_seconds"];
  BOOST_TEST(age >= 0.02);
  BOOST_TEST(f.scrape()["chorus_queue_oldest_seconds"] > age);
  w.close();
  BOOST_REQUIRE(seen.wait());
  now = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
  BOOST_TEST(now["chorus_queue_bytes"] == 0);
  BOOST_TEST(now["chorus_queue_oldest_seconds"] == 0);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"drop_oldest\"}"] == dropped - expired);
}

BOOST_AUTO_TEST_CASE(a_slow_member_is_evicted_and_counted) {
  chorus::server_options options;
  options.session.queue_bytes = 64 * 1024;
  options.session.on_overflow = chorus::overflow::close;
  event evicted;
  fixture f(options);
  f.server->route("/flood", [&](session s, request) -> task<> {
    const std::string text(4096, 'x');
    while (s.is_open() && co_await s.send(text)) {
    }
    evicted.set();
  });
  f.start();
  auto w = open_session(f.port(), "/flood");
  BOOST_REQUIRE(evicted.wait());
  w.close();
  const auto now = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
  BOOST_TEST(now["chorus_sessions_ended_total{how=\"evicted\"}"] == 1);
  BOOST_TEST(now[code("1013", "server")] == 1);
}

BOOST_AUTO_TEST_CASE(each_answered_ping_is_a_round_trip) {
  chorus::server_options options;
  options.session.heartbeat.ping_interval = 5ms;
  options.session.heartbeat.pong_wait = 1h;
  fixture f(options);
  f.start();
  auto w = open_session(f.port(), "/echo");
  for (int i = 0; i < 3; ++i) {
    auto ping = w.read_frame();
    BOOST_REQUIRE(ping.opcode == 9u);
    w.send(client_frame(10, ping.payload));
  }
  const auto now =
      f.until([](const scraped &s) { return s["chorus_round_trip_seconds_count"] >= 3; });
  BOOST_TEST(now["chorus_round_trip_seconds_count"] == 3);
  BOOST_TEST(now["chorus_round_trip_seconds_bucket{le=\"+Inf\"}"] == 3);
  BOOST_TEST(now["chorus_round_trip_seconds_sum"] > 0);
}

BOOST_AUTO_TEST_CASE(fan_out_is_measured_by_message) {
  fixture f;
  f.server->route("/room", [&](session s, request) -> task<> {
    auto seat = co_await f.server->room("a").join(s);
    co_await s.send("joined");
    co_await s.wait_closed();
  });
  f.start();
  std::vector<wire> members;
  for (int i = 0; i < 3; ++i) {
    members.push_back(open_session(f.port(), "/room"));
    BOOST_TEST(members.back().read_frame().payload == "joined");
  }
  BOOST_TEST(f.scrape()["chorus_rooms"] == 1);
  for (int i = 0; i < 4; ++i)
    f.server->room("a").publish(std::string("p"));
  const auto report = f.loop.wait(f.server->room("a").broadcast(std::string("b")));
  BOOST_TEST(report.delivered == 3u);
  for (auto &m : members)
    for (int i = 0; i < 5; ++i)
      m.read_frame();
  const auto now = f.until([](const scraped &s) { return s["chorus_fan_out_seconds_count"] == 5; });
  BOOST_TEST(now["chorus_fan_out_members_count"] == 5);
  BOOST_TEST(now["chorus_fan_out_members_sum"] == 15);
  BOOST_TEST(now["chorus_fan_out_members_bucket{le=\"2\"}"] == 0);
  BOOST_TEST(now["chorus_fan_out_members_bucket{le=\"5\"}"] == 5);
  BOOST_TEST(now["chorus_broadcast_seconds_count"] == 1);
}

BOOST_AUTO_TEST_CASE(tls_handshakes_are_counted_by_result) {
  chorus::server_options options;
  options.tls = chorus::test::server_options();
  fixture f(options);
  f.start();
  const auto visit = [](std::string url, std::string ca) -> task<bool> {
    chorus::tls_options trust;
    trust.ca_file = ca;
    chorus::connect_options how;
    how.tls = &trust;
    auto s = co_await chorus::connect(url, how);
    if (!s)
      co_return false;
    co_await s->close();
    co_return true;
  };
  for (int i = 0; i < 2; ++i)
    BOOST_TEST(f.loop.wait(visit(f.server->url() + "/echo", chorus::test::pem("ca"))));
  wire stranger(f.port());
  stranger.send("GET / HTTP/1.1\r\n\r\n");
  stranger.read_all();
  const auto now = f.until(
      [](const scraped &s) { return s["chorus_tls_handshakes_total{result=\"failed\"}"] == 1; });
  BOOST_TEST(now["chorus_tls_handshakes_total{result=\"completed\"}"] == 2);
  BOOST_TEST(now["chorus_tls_handshake_seconds_count"] == 2);
  BOOST_TEST(now["chorus_tls_handshake_seconds_sum"] > 0);
}

BOOST_AUTO_TEST_SUITE_END()
