#include "pressure.hpp"

#include <thread>

BOOST_AUTO_TEST_SUITE(session_bounds)

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_CASE(a_message_larger_than_the_bound_goes_alone) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    auto first = co_await h.s.send(numbered(1, 50'000)); // nothing else is queued
    BOOST_REQUIRE(first.has_value());
    running<result<>> second(home, h.s.send(numbered(2, 60'000)));
    running<result<>> third(home, h.s.send(numbered(3, 10)));
    co_await rounds(5);
    BOOST_CHECK(!second.over());
    BOOST_CHECK(!third.over());
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(number_of(f.payload), 1);
    auto sent = co_await second.end();
    BOOST_CHECK(sent.has_value());
    BOOST_CHECK_LT(h.s.stats().queued_bytes, 60'100u);
    f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(number_of(f.payload), 2);
    BOOST_CHECK_EQUAL(f.payload.size(), 60'000u);
    f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(number_of(f.payload), 3);
  });
}

BOOST_AUTO_TEST_CASE(the_bound_in_messages_holds) {
  run([](shard &home) -> task<> {
    auto options = bounded(overflow::drop_newest);
    options.queue_messages = 4;
    auto h = session_and_peer(home, role::server, options, 1000);
    co_await block(h);
    int accepted = 0;
    for (int i = 1; i <= 10; ++i) {
      auto sent = co_await h.s.send(numbered(i, 10));
      accepted += sent.has_value();
    }
    BOOST_CHECK_EQUAL(accepted, 4);
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 4u);
  });
}

BOOST_AUTO_TEST_CASE(messages_past_their_time_to_live_are_dropped) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    for (int i = 1; i <= 6; ++i) {
      auto sent = co_await h.s.send(
          numbered(i, 100), {.time_to_live = std::chrono::milliseconds(i % 2 ? 0 : 100 * i)});
      BOOST_CHECK(sent.has_value());
    }
    home.advance(500ms);
    auto got = co_await read_numbers(h, 6);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 1, 3, 5, 6}));
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 2u);
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
  });
}

// A queue full of what has expired is not full.
BOOST_AUTO_TEST_CASE(expired_messages_make_room) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    for (const auto policy : {overflow::wait, overflow::drop_newest, overflow::close}) {
      auto h = session_and_peer(home, role::server, bounded(policy), 1000);
      co_await block(h);
      for (int i = 1; i <= 6; ++i) {
        auto sent = co_await h.s.send(numbered(i), {.time_to_live = 100ms});
        BOOST_REQUIRE(sent.has_value());
      }
      home.advance(200ms);
      auto sent = h.s.try_send(numbered(7, 5000));
      BOOST_CHECK_MESSAGE(sent.has_value(), to_string(policy));
      if (!sent)
        continue;
      auto got = co_await read_numbers(h, 7);
      BOOST_CHECK_EQUAL(text_of(got), text_of({0, 7}));
      BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 6u);
    }
  });
}

BOOST_AUTO_TEST_CASE(the_queue_never_exceeds_its_bound_by_more_than_a_message) {
  run([](shard &home) -> task<> {
    for (const auto policy :
         {overflow::wait, overflow::drop_newest, overflow::drop_oldest, overflow::latest}) {
      for (const auto side : {role::server, role::client}) {
        auto h = session_and_peer(home, side, bounded(policy, 20'000), 3000);
        running<bool> reader(home, [](raw_peer &p) -> task<bool> {
          for (;;) {
            auto f = co_await p.next();
            if (f.op != 1 && f.op != 2)
              co_return f.op == 8;
          }
        }(h.peer));
        std::vector<running<result<>>> sends;
        std::size_t worst = 0;
        for (unsigned i = 0; i < 600; ++i) {
          sends.emplace_back(home, h.s.send(pattern(i * 7919U % 10'000U, i)));
          if (i % 4 == 0)
            co_await once_round();
          worst = std::max(worst, h.s.stats().queued_bytes);
        }
        for (auto &s : sends)
          co_await s.ended();
        BOOST_CHECK_LE(worst, 20'000u + 10'014u);
        BOOST_CHECK_GT(worst, 10'000u);
        h.s.start_close();
        BOOST_CHECK(co_await reader.end());
        BOOST_CHECK_EQUAL(h.s.stats().messages_sent + h.s.stats().messages_dropped, 600u);
        h.peer.close();
      }
    }
  });
}

// When the session ends those who wait are told how.
BOOST_AUTO_TEST_CASE(those_who_wait_are_told_how_the_session_ended) {
  run([](shard &home) -> task<> {
    for (const bool abort : {false, true}) {
      auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
      co_await block(h);
      std::vector<running<result<>>> sends;
      for (int i = 1; i <= 20; ++i)
        sends.emplace_back(home, h.s.send(numbered(i)));
      running<result<>> flushing(home, h.s.flush());
      co_await rounds(5);
      BOOST_CHECK(!sends.back().over());
      BOOST_CHECK(!flushing.over());
      if (abort)
        h.s.abort();
      else
        h.peer.close();
      auto last = co_await sends.back().end();
      BOOST_REQUIRE(last.has_error());
      BOOST_CHECK_EQUAL(last.error(), abort ? error::aborted : error::lost);
      auto flushed = co_await flushing.end();
      BOOST_REQUIRE(flushed.has_error());
      BOOST_CHECK_EQUAL(flushed.error(), abort ? error::aborted : error::lost);
    }
  });
}

// When output began to wait is told by the clock, not by when the loop last turned.
BOOST_AUTO_TEST_CASE(the_write_deadline_counts_from_when_output_blocked) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 1000);
    co_await once_round();
    const auto before = detail::clock::now();
    co_await once_round(); // resumed by Asio itself, outside any turn of the shard
    auto sent = co_await h.s.send(pattern(200'000));
    BOOST_REQUIRE(sent.has_value());
    co_await until([&] { return h.s.core()->out().blocked(); });
    BOOST_CHECK(h.s.core()->out().blocked_since() >= before);
  });
}

BOOST_AUTO_TEST_CASE(flush_completes_when_the_kernel_has_everything) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 1000);
    auto empty = co_await h.s.flush();
    BOOST_CHECK(empty.has_value());
    for (int i = 0; i < 5; ++i)
      BOOST_REQUIRE(h.s.try_send(numbered(i)).has_value());
    running<result<>> flushing(home, h.s.flush());
    running<result<>> cancelled(home, h.s.flush());
    co_await rounds(5);
    BOOST_CHECK(!flushing.over());
    cancelled.cancel();
    co_await cancelled.ended();
    BOOST_CHECK(cancelled.aborted());
    auto got = co_await read_numbers(h, 4);
    auto flushed = co_await flushing.end();
    BOOST_CHECK(flushed.has_value());
    BOOST_CHECK_EQUAL(h.s.stats().messages_sent, 5u);
  });
}

// Messages on their way from other threads count against the bound, and none vanishes uncounted.
BOOST_AUTO_TEST_CASE(what_other_threads_send_is_bounded_too) {
  run([](shard &home) -> task<> {
    for (const auto policy : {overflow::wait, overflow::drop_newest, overflow::drop_oldest})
      for (const bool blocked : {false, true}) {
        auto h = session_and_peer(home, role::server, bounded(policy), 1000);
        if (blocked)
          co_await block(h);
        std::uint64_t accepted = 0;
        std::size_t refused = 0;
        // The loop is busy all the while: waiting for this thread.
        std::thread([s = h.s, &accepted, &refused]() mutable {
          for (int i = 0; i < 500; ++i) {
            const auto sent = s.try_send(numbered(i));
            if (sent)
              ++accepted;
            else if (sent.error() == error::queue_full)
              ++refused;
          }
        }).join();
        BOOST_CHECK_EQUAL(accepted + refused, 500u);
        BOOST_CHECK_LE(accepted * 1000, 10'000u);
        BOOST_CHECK_GT(accepted, 0u);
        co_await rounds(10);
        while (h.s.stats().queued_bytes != 0) {
          h.peer.pump();
          co_await once_round();
        }
        const auto after = h.s.stats();
        BOOST_CHECK_EQUAL(after.messages_sent + after.messages_dropped,
                          accepted + (blocked ? 1 : 0));
      }
  });
}

BOOST_AUTO_TEST_SUITE_END()
