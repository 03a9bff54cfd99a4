#include "pressure.hpp"

BOOST_AUTO_TEST_SUITE(session_pressure)

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_CASE(wait_is_first_come_first_served) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    std::vector<running<result<>>> sends;
    for (int i = 1; i <= 30; ++i)
      sends.emplace_back(home, h.s.send(numbered(i, i % 5 == 0 ? 3000 : 500)));
    co_await rounds(5);
    BOOST_CHECK(sends.front().over());
    BOOST_CHECK(!sends.back().over());
    BOOST_CHECK_LE(h.s.stats().queued_bytes, 10'000u);
    // Nobody passes those who wait, not even with a message that would fit.
    auto refused = h.s.try_send("x");
    BOOST_REQUIRE(refused.has_error());
    BOOST_CHECK_EQUAL(refused.error(), error::queue_full);
    auto got = co_await read_numbers(h, 30);
    BOOST_CHECK_EQUAL(text_of(got), text_of(range(0, 30)));
    for (auto &s : sends) {
      auto sent = co_await s.end();
      BOOST_CHECK(sent.has_value());
    }
    BOOST_CHECK_EQUAL(h.s.stats().messages_sent, 31u);
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 0u);
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
  });
}

BOOST_AUTO_TEST_CASE(a_send_cancelled_while_it_waits_has_queued_nothing) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    std::vector<running<result<>>> sends;
    for (int i = 1; i <= 20; ++i)
      sends.emplace_back(home, h.s.send(numbered(i)));
    co_await rounds(5);
    std::vector<int> expected{0};
    for (std::size_t i = 0; i < sends.size(); ++i) {
      const bool waits = !sends[i].over();
      if (waits && i % 2 == 0)
        sends[i].cancel();
      else
        expected.push_back(static_cast<int>(i) + 1);
    }
    co_await rounds(3);
    for (auto &s : sends)
      BOOST_CHECK(!s.aborted() || s.over());
    auto got = co_await read_numbers(h, 20);
    BOOST_CHECK_EQUAL(text_of(got), text_of(expected));
    for (auto &s : sends)
      co_await s.ended();
    BOOST_CHECK_EQUAL(
        std::count_if(sends.begin(), sends.end(), [](const auto &s) { return s.aborted(); }),
        static_cast<long>(21 - expected.size()));
  });
}

// The cancellation comes when the message has been accepted already: it stays accepted, once.
BOOST_AUTO_TEST_CASE(a_send_cancelled_as_it_is_accepted_is_all_or_nothing) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    std::vector<running<result<>>> sends;
    for (int i = 1; i <= 40; ++i)
      sends.emplace_back(home, h.s.send(numbered(i)));
    co_await rounds(3);
    std::vector<int> got;
    std::size_t next = 0;
    for (;;) {
      // One piece is read, and in the same round a waiting send is cancelled.
      h.peer.pump(600);
      if (next < sends.size())
        sends[next++].cancel();
      co_await once_round();
      if (next == sends.size() && h.s.core()->out().empty() &&
          std::all_of(sends.begin(), sends.end(), [](const auto &s) { return s.over(); }))
        break;
    }
    h.s.start_close();
    for (;;) {
      auto f = co_await h.peer.next();
      if (f.op != 1)
        break;
      got.push_back(number_of(f.payload));
    }
    std::vector<int> accepted{0};
    for (std::size_t i = 0; i < sends.size(); ++i)
      if (!sends[i].aborted() && sends[i].value().has_value())
        accepted.push_back(static_cast<int>(i) + 1);
    // Whoever was told it succeeded did; whoever was cancelled while waiting queued nothing.
    BOOST_CHECK_EQUAL(text_of(got), text_of(accepted));
  });
}

BOOST_AUTO_TEST_CASE(drop_newest_refuses_the_new_one) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::drop_newest), 1000);
    co_await block(h);
    std::vector<int> expected{0};
    unsigned dropped = 0;
    for (int i = 1; i <= 30; ++i) {
      auto sent = co_await h.s.send(numbered(i));
      if (sent)
        expected.push_back(i);
      else {
        BOOST_CHECK_EQUAL(sent.error(), error::queue_full);
        ++dropped;
      }
      BOOST_CHECK_LE(h.s.stats().queued_bytes, 10'000u);
    }
    BOOST_CHECK_GT(dropped, 10u);
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, dropped);
    auto got = co_await read_numbers(h, expected.back());
    BOOST_CHECK_EQUAL(text_of(got), text_of(expected));
  });
}

BOOST_AUTO_TEST_CASE(drop_oldest_keeps_the_newest_and_the_begun_one) {
  run([](shard &home) -> task<> {
    for (const std::size_t size : {std::size_t{1000}, std::size_t{9000}}) {
      auto h =
          session_and_peer(home, role::server, bounded(overflow::drop_oldest, size * 10), 1000);
      co_await block(h);
      for (int i = 1; i <= 50; ++i) {
        auto sent = co_await h.s.send(numbered(i, size));
        BOOST_CHECK(sent.has_value());
        BOOST_CHECK_LE(h.s.stats().queued_bytes, size * 10);
      }
      const auto dropped = h.s.stats().messages_dropped;
      auto got = co_await read_numbers(h, 50);
      BOOST_CHECK_EQUAL(got.size() + dropped, 51u);
      std::vector<int> expected{0};
      for (int i = static_cast<int>(dropped) + 1; i <= 50; ++i)
        expected.push_back(i);
      BOOST_CHECK_EQUAL(text_of(got), text_of(expected));
    }
  });
}

// One that can't fit whatever is dropped is refused, and the others stay.
BOOST_AUTO_TEST_CASE(drop_oldest_does_not_drop_in_vain) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::drop_oldest), 1000);
    co_await block(h);
    for (int i = 1; i <= 5; ++i) {
      auto sent = co_await h.s.send(numbered(i));
      BOOST_CHECK(sent.has_value());
    }
    auto huge = co_await h.s.send(numbered(99, 20'000));
    BOOST_REQUIRE(huge.has_error());
    BOOST_CHECK_EQUAL(huge.error(), error::queue_full);
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 1u);
    auto got = co_await read_numbers(h, 5);
    BOOST_CHECK_EQUAL(text_of(got), text_of(range(0, 5)));
  });
}

BOOST_AUTO_TEST_CASE(latest_replaces_by_key_in_place) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::latest), 1000);
    co_await block(h);
    const std::vector<std::string> keys{"position", "health", "score"};
    for (int i = 1; i <= 300; ++i) {
      auto sent = co_await h.s.send(numbered(i, 100 + static_cast<std::size_t>(i)),
                                    {.key = keys[static_cast<std::size_t>(i) % 3]});
      BOOST_CHECK(sent.has_value());
      if (i == 2) {
        auto other = co_await h.s.send(numbered(1000));
        BOOST_CHECK(other.has_value());
      }
      BOOST_CHECK_LE(h.s.stats().queued_messages, 4u);
    }
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 297u);
    auto got = co_await read_numbers(h, 300);
    const std::vector<int> expected{0, 298, 299, 1000, 300};
    BOOST_CHECK_EQUAL(text_of(got), text_of(expected));
    // Nothing of the accounts is left behind.
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 0u);
  });
}

// A larger value under the same key has to fit, too.
BOOST_AUTO_TEST_CASE(latest_keeps_the_bound_when_values_grow) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::latest), 1000);
    co_await block(h);
    std::vector<std::string> keys;
    for (int i = 0; i < 20; ++i)
      keys.push_back("k" + std::to_string(i));
    for (int round = 1; round <= 10; ++round)
      for (std::size_t k = 0; k < keys.size(); ++k) {
        auto sent = co_await h.s.send(
            numbered(round * 100 + static_cast<int>(k), 100 * static_cast<std::size_t>(round)),
            {.key = keys[k]});
        BOOST_CHECK(sent.has_value());
        BOOST_CHECK_LE(h.s.stats().queued_bytes, 10'000u + 1000u);
      }
    h.s.start_close();
    auto got = co_await read_numbers(h, -1);
    BOOST_CHECK(std::find(got.begin(), got.end(), 1019) != got.end());
    BOOST_CHECK_EQUAL(got.size() + h.s.stats().messages_dropped, 201u);
  });
}

BOOST_AUTO_TEST_CASE(close_evicts_with_1013) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::close), 1000);
    co_await block(h);
    running<result<message>> receiving(home, h.s.receive());
    int accepted = 0;
    std::optional<failure> why;
    for (int i = 1; i <= 30 && !why; ++i) {
      auto sent = co_await h.s.send(numbered(i));
      if (sent)
        ++accepted;
      else
        why = sent.error();
    }
    BOOST_REQUIRE(why.has_value());
    BOOST_CHECK_EQUAL(*why, error::evicted);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
    auto got = co_await receiving.end();
    BOOST_REQUIRE(got.has_error());
    BOOST_CHECK_EQUAL(got.error(), error::evicted);
    // The begun message is finished, nothing else but the close follows.
    auto f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(number_of(f.payload), 0);
    f = co_await h.peer.next();
    BOOST_CHECK_EQUAL(f.close_code(), 1013u);
    co_await h.peer.send(8, close_payload(1013));
    h.peer.close();
    auto end = co_await h.s.wait_closed();
    BOOST_CHECK_EQUAL(end, error::evicted);
    BOOST_CHECK_EQUAL(h.s.end().detail().close_code, 1013u);
    BOOST_CHECK_EQUAL(h.s.stats().messages_unsent, static_cast<unsigned>(accepted));
  });
}

// A reader that never reads costs its own connection, at the close timeout.
BOOST_AUTO_TEST_CASE(an_evicted_peer_that_never_reads_is_gone_at_the_timeout) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, bounded(overflow::close), 1000);
    co_await block(h);
    for (int i = 1; i <= 30; ++i)
      co_await h.s.send(numbered(i));
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
    home.advance(4900ms);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
    home.advance(200ms);
    BOOST_CHECK_EQUAL(h.s.state(), session_state::closed);
    BOOST_CHECK_EQUAL(h.s.end(), error::evicted);
  });
}

BOOST_AUTO_TEST_SUITE_END()
