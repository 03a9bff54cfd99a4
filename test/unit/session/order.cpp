#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_order)

using namespace chorus;
using namespace chorus::test;

namespace {

task<result<>> send_numbered(session s, int sender, int count, std::vector<std::string> *calls) {
  for (int i = 0; i < count; ++i) {
    auto m = std::to_string(sender) + ":" + std::to_string(i) + std::string(40, '.');
    calls->push_back(m);
    auto sent = co_await s.send(m);
    if (!sent)
      co_return sent;
    if (i % 3 == 0)
      co_await once_round();
  }
  co_return result<>();
}

task<bool> receives(session s, std::vector<std::string> *got, std::size_t count) {
  while (got->size() < count) {
    auto m = co_await s.receive();
    if (!m)
      co_return false;
    got->push_back(m->str());
  }
  co_return true;
}

} // namespace

BOOST_AUTO_TEST_CASE(messages_of_a_hundred_senders_go_in_the_order_of_the_calls) {
  run([](shard &home) -> task<> {
    for (const std::size_t queue : {std::size_t{1} << 20, std::size_t{2000}}) {
      auto options = quiet();
      options.queue_bytes = queue;
      auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 700});
      auto server = open(std::move(a), role::server, options);
      auto client = open(std::move(b), role::client, options);
      std::vector<std::string> calls;
      std::vector<std::string> got;
      std::vector<running<result<>>> senders;
      for (int i = 0; i < 100; ++i)
        senders.emplace_back(home, send_numbered(server, i, 20, &calls));
      running<bool> receiver(home, receives(client, &got, 2000));
      for (auto &s : senders) {
        auto sent = co_await s.end();
        BOOST_CHECK(sent.has_value());
      }
      BOOST_CHECK(co_await receiver.end());
      BOOST_REQUIRE_EQUAL(calls.size(), 2000u);
      BOOST_CHECK(got == calls);
    }
  });
}

// The kernel has taken a part of the first message; nothing may cut in before its end.
BOOST_AUTO_TEST_CASE(control_frames_overtake_what_has_not_begun) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side, quiet(), 1000);
      const auto begun = pattern(3000, 9);
      auto sent = co_await h.s.send(begun);
      BOOST_REQUIRE(sent.has_value());
      co_await until([&] { return h.s.core()->out().blocked(); });
      for (int i = 0; i < 3; ++i) {
        auto more = co_await h.s.send("after " + std::to_string(i));
        BOOST_REQUIRE(more.has_value());
      }
      auto large = co_await h.s.send(binary(pattern(20'000, 3)));
      BOOST_REQUIRE(large.has_value());
      running<result<std::chrono::nanoseconds>> ping(home, h.s.ping());
      co_await h.peer.send(9, "urgent");
      co_await rounds(5);
      h.s.start_close(close_code::normal, "bye");
      auto f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 1u);
      BOOST_CHECK(f.payload == begun);
      f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 10u);
      BOOST_CHECK_EQUAL(f.payload, "urgent");
      f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 9u);
      co_await h.peer.send(10, f.payload);
      for (int i = 0; i < 3; ++i) {
        f = co_await h.peer.next();
        BOOST_CHECK_EQUAL(f.op, 1u);
        BOOST_CHECK_EQUAL(f.payload, "after " + std::to_string(i));
      }
      f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.op, 2u);
      BOOST_CHECK(f.payload == pattern(20'000, 3));
      // The close is no overtaker: what was accepted goes before it.
      f = co_await h.peer.next();
      BOOST_CHECK_EQUAL(f.close_code(), 1000u);
      BOOST_CHECK_EQUAL(f.payload.substr(2), "bye");
      auto rtt = co_await ping.end();
      BOOST_CHECK(rtt.has_value());
      co_await h.peer.send(8, close_payload(1000));
      h.peer.close();
      auto end = co_await h.s.wait_closed();
      BOOST_CHECK_EQUAL(end, error::closed);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_flood_of_pings_leaves_one_pong_the_newest) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 1000);
    auto sent = co_await h.s.send(pattern(5000));
    BOOST_REQUIRE(sent.has_value());
    co_await until([&] { return h.s.core()->out().blocked(); });
    const auto before = h.s.stats().queued_bytes;
    for (int i = 0; i < 10'000; ++i)
      co_await h.peer.send(9, std::to_string(i));
    const auto bytes = h.s.stats().bytes_received;
    BOOST_CHECK_GT(bytes, 0u);
    co_await h.peer.send(1, "end of flood");
    auto m = co_await h.s.receive();
    BOOST_REQUIRE(m.has_value());
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, before);
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.op, 1u);
    f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.op, 10u);
    BOOST_CHECK_EQUAL(f.payload, "9999");
    co_await rounds(5);
    BOOST_CHECK_EQUAL(h.peer.pump(), 0u);
  });
}

// A pong of which the kernel took a part is finished before the next one.
BOOST_AUTO_TEST_CASE(a_begun_control_frame_is_finished) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    h.own->limit(3);
    h.own->stall_writes(true);
    co_await h.peer.send(9, "first ping");
    co_await until([&] { return h.s.core()->out().blocked(); });
    h.own->stall_writes(false);
    for (int i = 0; i < 20; ++i) {
      co_await h.peer.send(9, "ping " + std::to_string(i));
      auto sent = co_await h.s.send("message " + std::to_string(i));
      BOOST_REQUIRE(sent.has_value());
    }
    std::vector<std::string> pongs;
    int messages = 0;
    while (messages < 20) {
      auto f = co_await h.peer.next();
      BOOST_REQUIRE(f.op == 1 || f.op == 10);
      if (f.op == 1)
        BOOST_CHECK_EQUAL(f.payload, "message " + std::to_string(messages++));
      else
        pongs.push_back(f.payload);
    }
    BOOST_REQUIRE(!pongs.empty());
    BOOST_CHECK(pongs.back() == "ping 19" || pongs.size() < 21);
  });
}

BOOST_AUTO_TEST_SUITE_END()
