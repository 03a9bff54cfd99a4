#include "support.hpp"

#include <chorus/operators.hpp>

BOOST_AUTO_TEST_SUITE(session_receive)

using namespace chorus;
using namespace chorus::test;
using namespace chorus::operators;

namespace {

task<bool> send_counted(session s, int count) {
  for (int i = 0; i < count; ++i) {
    auto sent = co_await s.send(std::to_string(i));
    if (!sent)
      co_return false;
    // Now and then several in one turn, now and then none.
    for (int skip = (i * 7919) % 5; skip > 2; --skip)
      co_await once_round();
  }
  co_return true;
}

task<> expire(std::chrono::microseconds d) {
  asio::steady_timer timer(co_await asio::this_coro::executor, d);
  co_await timer.async_wait(asio::use_awaitable);
}

session_options small_inbox(std::size_t bytes, std::size_t messages) {
  auto options = quiet();
  options.inbox_bytes = bytes;
  options.inbox_messages = messages;
  return options;
}

task<bool> writes(raw_peer &p, std::string bytes) {
  co_await p.write(std::move(bytes));
  co_return !p.write_failed();
}

} // namespace

// Delivery races a cancellation in every way: nothing is lost, doubled or out of order.
BOOST_AUTO_TEST_CASE(cancelled_receives_lose_nothing) {
  run([](shard &home) -> task<> {
    constexpr int count = 10'000;
    auto p = session_pair(home);
    running<bool> sender(home, send_counted(p.client, count));
    int expected = 0;
    int timeouts = 0;
    for (int race = 0; expected < count; ++race) {
      auto winner = co_await (p.server.receive() || expire(std::chrono::microseconds(race % 40)));
      if (winner.index() == 1) {
        ++timeouts;
        continue;
      }
      auto &m = std::get<0>(winner);
      BOOST_REQUIRE(m.has_value());
      BOOST_REQUIRE_EQUAL(m->text(), std::to_string(expected));
      ++expected;
    }
    BOOST_CHECK_GT(timeouts, 0);
    BOOST_TEST_MESSAGE("the timer won " << timeouts << " times");
    BOOST_CHECK(co_await sender.end());
  });
}

BOOST_AUTO_TEST_CASE(cancelled_batches_lose_nothing) {
  run([](shard &home) -> task<> {
    constexpr int count = 10'000;
    auto p = session_pair(home);
    running<bool> sender(home, send_counted(p.client, count));
    int expected = 0;
    for (int race = 0; expected < count; ++race) {
      if (race % 3 == 0) {
        auto winner = co_await (p.server.receive() || expire(std::chrono::microseconds(race % 40)));
        if (winner.index() == 1)
          continue;
        BOOST_REQUIRE_EQUAL(std::get<0>(winner).value().text(), std::to_string(expected++));
        continue;
      }
      auto winner =
          co_await (p.server.receive_some() || expire(std::chrono::microseconds(race % 40)));
      if (winner.index() == 1)
        continue;
      auto &batch = std::get<0>(winner);
      BOOST_REQUIRE(batch.has_value());
      BOOST_REQUIRE(!batch->empty());
      for (const auto &view : *batch)
        BOOST_REQUIRE_EQUAL(view.text(), std::to_string(expected++));
    }
    BOOST_CHECK(co_await sender.end());
  });
}

// Delivery and cancellation in the same turn, by hand rather than by luck.
BOOST_AUTO_TEST_CASE(a_cancellation_in_the_turn_of_the_delivery_loses_nothing) {
  run([](shard &home) -> task<> {
    for (int rounds_between = 0; rounds_between < 6; ++rounds_between) {
      auto h = session_and_peer(home, role::server);
      running<result<message>> first(home, h.s.receive());
      co_await rounds(3);
      co_await h.peer.send(1, "one");
      co_await rounds(rounds_between);
      first.cancel();
      co_await first.ended();
      if (!first.aborted()) {
        BOOST_CHECK_EQUAL(first.value().value().text(), "one");
        continue;
      }
      auto again = co_await h.s.receive();
      BOOST_REQUIRE(again.has_value());
      BOOST_CHECK_EQUAL(again->text(), "one");
    }
  });
}

BOOST_AUTO_TEST_CASE(a_second_receive_is_busy) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    running<result<message>> first(home, h.s.receive());
    co_await rounds(2);
    auto second = co_await h.s.receive();
    BOOST_REQUIRE(second.has_error());
    BOOST_CHECK_EQUAL(second.error(), error::busy);
    auto third = co_await h.s.receive_some();
    BOOST_REQUIRE(third.has_error());
    BOOST_CHECK_EQUAL(third.error(), error::busy);
    co_await h.peer.send(1, "for the first");
    auto got = co_await first.end();
    BOOST_CHECK_EQUAL(got.value().text(), "for the first");
    co_await h.peer.send(1, "next");
    auto next = co_await h.s.receive(); // the claim is free again
    BOOST_CHECK_EQUAL(next.value().text(), "next");
  });
}

// A handler that does not receive: the bound fills, then the peer can't write any more; nothing is lost
// when it catches up.
BOOST_AUTO_TEST_CASE(a_full_inbox_pushes_back_and_loses_nothing) {
  run([](shard &home) -> task<> {
    struct bounds {
      std::size_t bytes;
      std::size_t messages;
    };
    for (const auto b :
         {bounds{4000, 1024}, bounds{1 << 20, 5}, bounds{1 << 20, 1}, bounds{1, 99}}) {
      auto h = session_and_peer(home, role::server, small_inbox(b.bytes, b.messages), 2000);
      std::string bytes;
      for (int i = 0; i < 500; ++i)
        bytes += h.peer.encoded(1, std::to_string(i) + " " + std::string(i % 7 * 50U, '.'));
      running<bool> writer(home, writes(h.peer, bytes));
      co_await rounds(200);
      BOOST_CHECK(!writer.over());
      const auto stuck = h.s.stats();
      co_await rounds(200);
      BOOST_CHECK_EQUAL(h.s.stats().bytes_received, stuck.bytes_received);
      BOOST_CHECK_LT(stuck.messages_received, 100u);
      for (int i = 0; i < 500; ++i) {
        auto m = co_await h.s.receive();
        BOOST_REQUIRE(m.has_value());
        BOOST_REQUIRE_EQUAL(std::stoi(m->str()), i);
        if (i % 50 == 0)
          co_await rounds(20);
      }
      BOOST_CHECK(co_await writer.end());
    }
  });
}

BOOST_AUTO_TEST_CASE(batches_catch_up_after_a_stall) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, small_inbox(3000, 1024), 2000);
    std::string bytes;
    for (int i = 0; i < 500; ++i)
      bytes += h.peer.encoded(1, std::to_string(i) + " " + std::string(i % 7 * 50U, '.'));
    running<bool> writer(home, writes(h.peer, bytes));
    int expected = 0;
    while (expected < 500) {
      co_await rounds(30);
      auto batch = co_await h.s.receive_some();
      BOOST_REQUIRE(batch.has_value());
      for (const auto &view : *batch)
        BOOST_REQUIRE_EQUAL(std::stoi(std::string(view.text())), expected++);
    }
    BOOST_CHECK(co_await writer.end());
  });
}

BOOST_AUTO_TEST_CASE(pings_are_answered_while_the_handler_is_busy) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, small_inbox(100'000, 1024));
    for (int i = 0; i < 20; ++i) {
      co_await h.peer.send(1, "unread " + std::to_string(i));
      co_await h.peer.send(9, std::to_string(i));
      auto pong = co_await h.peer.next();
      BOOST_CHECK_EQUAL(pong.op, 10u);
      BOOST_CHECK_EQUAL(pong.payload, std::to_string(i));
    }
    co_await h.peer.send(8, close_payload(1001, "leaving"));
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.close_code(), 1001u);
    // What arrived before the close is still there, then the close is told.
    for (int i = 0; i < 20; ++i) {
      auto m = co_await h.s.receive();
      BOOST_REQUIRE(m.has_value());
      BOOST_CHECK_EQUAL(m->text(), "unread " + std::to_string(i));
    }
    auto end = co_await h.s.receive();
    BOOST_REQUIRE(end.has_error());
    BOOST_CHECK_EQUAL(end.error(), error::closed);
    BOOST_CHECK_EQUAL(end.error().detail().close_code, 1001u);
    BOOST_CHECK_EQUAL(end.error().detail().close_reason, "leaving");
    BOOST_CHECK(end.error().detail().by_peer);
  });
}

// The peer hangs up, in whatever way, while the inbox is full: all it sent is received.
BOOST_AUTO_TEST_CASE(a_hang_up_while_stalled_keeps_what_arrived) {
  run([](shard &home) -> task<> {
    for (const bool with_close : {false, true})
      for (const bool half_close : {false, true}) {
        auto [a, b] = socket_streams(home);
        auto s = open(std::move(a), role::server, small_inbox(500, 1024));
        raw_peer peer(std::move(b), role::client);
        std::string bytes;
        constexpr int count = 400;
        for (int i = 0; i < count; ++i)
          bytes += peer.encoded(1, std::to_string(i) + " " + std::string(100, '.'));
        if (with_close)
          bytes += peer.encoded(8, close_payload(1000));
        // One half is read and found too much, the other the kernel holds.
        const auto half = bytes.size() / 2;
        BOOST_REQUIRE_EQUAL(peer.try_write(std::string_view(bytes).substr(0, half)), half);
        co_await rounds(20);
        BOOST_REQUIRE_EQUAL(peer.try_write(std::string_view(bytes).substr(half)),
                            bytes.size() - half);
        co_await rounds(20);
        BOOST_CHECK_LT(s.stats().messages_received, 300u);
        if (half_close)
          peer.shutdown();
        else
          peer.close();
        co_await rounds(20);
        for (int i = 0; i < count; ++i) {
          auto m = co_await s.receive();
          BOOST_REQUIRE_MESSAGE(m.has_value(),
                                i << " " << with_close << half_close << " " << m.error());
          BOOST_REQUIRE_EQUAL(std::stoi(m->str()), i);
        }
        auto end = co_await s.receive();
        BOOST_REQUIRE(end.has_error());
        BOOST_CHECK_EQUAL(end.error(), with_close ? error::closed : error::lost);
      }
  });
}

// The same, found out by a write.
BOOST_AUTO_TEST_CASE(a_failed_write_keeps_what_arrived) {
  run([](shard &home) -> task<> {
    for (const std::size_t inbox : {std::size_t{500}, std::size_t{1} << 20}) {
      auto h = session_and_peer(home, role::server, small_inbox(inbox, 1024));
      std::string bytes;
      for (int i = 0; i < 100; ++i)
        bytes += h.peer.encoded(1, std::to_string(i) + " " + std::string(100, '.'));
      BOOST_REQUIRE_EQUAL(h.peer.try_write(bytes), bytes.size());
      co_await rounds(20);
      h.own->fail_write(1, make_error_code(boost::system::errc::broken_pipe));
      auto sent = co_await h.s.send("into the void");
      BOOST_CHECK(sent.has_value());
      co_await rounds(20);
      for (int i = 0; i < 100; ++i) {
        auto m = co_await h.s.receive();
        BOOST_REQUIRE_MESSAGE(m.has_value(), i << " " << inbox);
        BOOST_REQUIRE_EQUAL(std::stoi(m->str()), i);
      }
      auto end = co_await h.s.receive();
      BOOST_REQUIRE(end.has_error());
      BOOST_CHECK_EQUAL(end.error(), error::lost);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_busy_peer_does_not_starve_others) {
  run([](shard &home) -> task<> {
    auto busy = session_and_peer(home, role::server, quiet(), 1 << 20);
    auto other = session_and_peer(home, role::server);
    std::string bytes;
    for (int i = 0; i < 20'000; ++i)
      bytes += busy.peer.encoded(1, std::to_string(i));
    running<bool> writer(home, writes(busy.peer, bytes));
    int received = 0;
    running<bool> reader(home, [](session s, int *count) -> task<bool> {
      while (*count < 20'000) {
        auto m = co_await s.receive();
        if (!m || m->text() != std::to_string(*count))
          co_return false;
        ++*count;
      }
      co_return true;
    }(busy.s, &received));
    co_await until([&] { return received > 0; });
    std::vector<int> seen;
    for (int i = 0; i < 20; ++i) {
      co_await other.peer.send(1, "me too");
      auto m = co_await other.s.receive();
      BOOST_REQUIRE(m.has_value());
      seen.push_back(received);
    }
    // The other one had its turn while the busy one had not finished a whole buffer.
    BOOST_CHECK_LT(seen.front(), 10'000);
    BOOST_CHECK_LT(seen[5], 20'000);
    BOOST_CHECK(co_await reader.end());
    BOOST_CHECK(co_await writer.end());
  });
}

BOOST_AUTO_TEST_CASE(ignored_input_is_dropped_and_controls_are_answered) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, small_inbox(1000, 10), 2000);
    std::string bytes;
    for (int i = 0; i < 200; ++i)
      bytes += h.peer.encoded(1, std::string(100, 'x'));
    running<bool> writer(home, writes(h.peer, bytes));
    co_await rounds(50);
    BOOST_CHECK(!writer.over()); // stalled
    h.s.ignore_input();
    BOOST_CHECK(co_await writer.end());
    co_await h.peer.send(1, std::string(300'000, 'y'));
    co_await h.peer.send(9, "still there");
    auto pong = co_await h.peer.next();
    BOOST_CHECK_EQUAL(pong.payload, "still there");
    BOOST_CHECK_EQUAL(h.s.stats().messages_received, 201u);
    co_await h.peer.send(8, close_payload(1000));
    auto end = co_await h.s.receive();
    BOOST_CHECK(end.has_error() && end.error() == error::closed);
  });
}

// Several sessions on one shard, large and small, batches and singles: the shared read buffer never mixes
// them up.
BOOST_AUTO_TEST_CASE(sessions_share_the_read_buffer_without_mixing) {
  run([](shard &home) -> task<> {
    std::vector<sessions> pairs;
    std::vector<running<bool>> work;
    for (unsigned k = 0; k < 8; ++k) {
      pairs.push_back(session_pair(home));
      work.emplace_back(home, [](session s, unsigned seed) -> task<bool> {
        for (unsigned i = 0; i < 150; ++i) {
          auto sent = co_await s.send(
              pattern((i * 7907 + seed * 31) % (i % 10 ? 3000 : 90'000), seed * 1000 + i));
          if (!sent)
            co_return false;
        }
        co_return true;
      }(pairs.back().client, k));
      work.emplace_back(home, [](session s, unsigned seed) -> task<bool> {
        for (unsigned i = 0; i < 150;) {
          std::vector<message> got;
          if (i % 3 == 0) {
            auto batch = co_await s.receive_some();
            if (!batch)
              co_return false;
            for (std::size_t j = 0; j < batch->size(); ++j)
              got.push_back(batch->take(j));
          } else {
            auto m = co_await s.receive();
            if (!m)
              co_return false;
            got.push_back(*m);
          }
          if (i % 4 == 0)
            co_await once_round();
          for (const auto &m : got) {
            if (m.text() !=
                pattern((i * 7907 + seed * 31) % (i % 10 ? 3000 : 90'000), seed * 1000 + i))
              co_return false;
            ++i;
          }
        }
        co_return true;
      }(pairs.back().server, k));
    }
    for (auto &w : work)
      BOOST_CHECK(co_await w.end());
  });
}

BOOST_AUTO_TEST_SUITE_END()
