// Lanes: which waiting message leaves next, and what gives way when the queue is full.

#include "pressure.hpp"

#include <map>

BOOST_AUTO_TEST_SUITE(session_lanes)

using namespace chorus;
using namespace chorus::test;

namespace {

task<> give(by_hand &h, int number, lane how, std::string key = {}, std::size_t size = 100) {
  auto sent = co_await h.s.send(numbered(number, size), {.key = key, .lane = how});
  BOOST_REQUIRE_MESSAGE(sent.has_value(), number << ": " << sent.error().message());
}

// In a row, without a turn of the loop between them.
void give_at_once(by_hand &h, int number, lane how) {
  const auto sent = h.s.try_send(numbered(number, 100), {.lane = how});
  BOOST_REQUIRE(sent.has_value());
}

std::vector<int> joined(std::initializer_list<std::vector<int>> parts) {
  std::vector<int> all;
  for (const auto &p : parts)
    all.insert(all.end(), p.begin(), p.end());
  return all;
}

} // namespace

BOOST_AUTO_TEST_CASE(control_goes_first_and_latest_last) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    co_await give(h, 41, lane::latest);
    co_await give(h, 1, lane::reliable);
    co_await give(h, 21, lane::control);
    co_await give(h, 42, lane::latest);
    co_await give(h, 2, lane::reliable);
    co_await give(h, 22, lane::control);
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 6u);
    auto got = co_await read_numbers(h, 42);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 21, 22, 1, 2, 41, 42}));
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 0u);
    BOOST_CHECK_EQUAL(h.s.stats().messages_sent, 7u);
  });
}

// Also what has only been collected for the flush at the end of the turn has not begun.
BOOST_AUTO_TEST_CASE(control_overtakes_what_one_turn_collects) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    give_at_once(h, 1, lane::reliable);
    give_at_once(h, 2, lane::reliable);
    give_at_once(h, 41, lane::latest);
    give_at_once(h, 21, lane::control);
    give_at_once(h, 3, lane::reliable);
    auto got = co_await read_numbers(h, 41);
    BOOST_CHECK_EQUAL(text_of(got), text_of({21, 1, 2, 3, 41}));
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 0u);
  });
}

BOOST_AUTO_TEST_CASE(no_lane_starves_a_lower_one) {
  run([](shard &home) -> task<> {
    for (const std::size_t capacity : {150u, 1000u, 100'000u}) {
      auto h = session_and_peer(home, role::server, bounded(overflow::wait, 100'000), capacity);
      if (capacity < 3000)
        co_await block(h);
      for (int i = 1; i <= 10; ++i)
        give_at_once(h, 200 + i, lane::reliable);
      give_at_once(h, 301, lane::latest);
      give_at_once(h, 302, lane::latest);
      for (int i = 1; i <= 20; ++i)
        give_at_once(h, 100 + i, lane::control);
      auto got = co_await read_numbers(h, 302);
      if (capacity < 3000)
        got.erase(got.begin());
      BOOST_CHECK_EQUAL(text_of(got), text_of(joined({range(101, 108),
                                                      {201},
                                                      range(109, 116),
                                                      {202},
                                                      range(117, 120),
                                                      range(203, 208),
                                                      {301},
                                                      range(209, 210),
                                                      {302}})));
    }
  });
}

// Control messages that come one by one, each when the one before has gone.
BOOST_AUTO_TEST_CASE(a_stream_of_control_messages_starves_nobody) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 110);
    co_await block(h);
    for (int i = 1; i <= 3; ++i)
      co_await give(h, i, lane::reliable);
    std::vector<int> got;
    int next = 100;
    while (got.empty() || got.back() != 3) {
      give_at_once(h, next++, lane::control);
      auto f = co_await h.peer.next();
      got.push_back(number_of(f.payload));
      BOOST_REQUIRE_LT(next, 150);
    }
    BOOST_CHECK_LE(got.size(), 32u);
  });
}

BOOST_AUTO_TEST_CASE(latest_keeps_the_newest_of_a_key_in_its_place) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    for (int i = 1; i <= 30; ++i)
      co_await give(h, i, lane::latest, i % 3 == 0 ? "c" : i % 3 == 1 ? "a" : "b");
    co_await give(h, 40, lane::latest);
    co_await give(h, 41, lane::latest);
    co_await give(h, 50, lane::reliable, "a"); // of another lane: it replaces nothing
    BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 6u);
    auto got = co_await read_numbers(h, 41);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 50, 28, 29, 30, 40, 41}));
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 27u);
    BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
  });
}

BOOST_AUTO_TEST_CASE(a_message_that_grows_stays_within_the_bound) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    for (int i = 1; i <= 7; ++i)
      co_await give(h, i, lane::latest, "k" + std::to_string(i), 1000);
    co_await give(h, 17, lane::latest, "k7", 3000);
    BOOST_CHECK_LE(h.s.stats().queued_bytes, 10'000u);
    auto got = co_await read_numbers(h, 17);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 3, 4, 5, 6, 17}));
  });
}

BOOST_AUTO_TEST_CASE(latest_is_dropped_first_whatever_the_policy) {
  run([](shard &home) -> task<> {
    for (const auto policy : {overflow::wait, overflow::drop_newest, overflow::drop_oldest,
                              overflow::latest, overflow::close}) {
      auto h = session_and_peer(home, role::server, bounded(policy), 1000);
      co_await block(h);
      co_await give(h, 1, lane::reliable, {}, 2000);
      for (int i = 21; i <= 25; ++i)
        co_await give(h, i, lane::latest, {}, 1000);
      for (int i = 2; i <= 4; ++i)
        co_await give(h, i, lane::reliable, {}, 1000);
      co_await give(h, 50, lane::control, {}, 1000);
      auto got = co_await read_numbers(h, 25);
      BOOST_CHECK_EQUAL(text_of(got), text_of({0, 50, 1, 2, 3, 4, 25}));
      BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 4u);
    }
  });
}

BOOST_AUTO_TEST_CASE(latest_is_not_dropped_in_vain) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::drop_newest), 1000);
    co_await block(h);
    co_await give(h, 1, lane::reliable, {}, 5000);
    co_await give(h, 21, lane::latest, {}, 500);
    const auto sent = h.s.try_send(numbered(2, 6000));
    BOOST_CHECK_EQUAL(sent.error(), error::queue_full);
    auto got = co_await read_numbers(h, 21);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 1, 21}));
  });
}

BOOST_AUTO_TEST_CASE(latest_never_waits_and_closes_nobody) {
  run([](shard &home) -> task<> {
    for (const auto policy : {overflow::wait, overflow::close}) {
      auto h = session_and_peer(home, role::server, bounded(policy), 1000);
      co_await block(h);
      co_await give(h, 1, lane::reliable, {}, 7000);
      const auto tried = h.s.try_send(numbered(21, 1000), {.lane = lane::latest});
      BOOST_CHECK_EQUAL(tried.error(), error::queue_full);
      running<result<>> waiting(home, h.s.send(numbered(2, policy == overflow::wait ? 1000 : 1)));
      auto sent = co_await h.s.send(numbered(22, 1000), {.lane = lane::latest});
      BOOST_CHECK_EQUAL(sent.error(), error::queue_full);
      BOOST_CHECK(h.s.is_open());
      auto got = co_await read_numbers(h, 2);
      BOOST_CHECK_EQUAL(text_of(got), text_of({0, 1, 2}));
      co_await waiting.ended();
    }
  });
}

// A send that waits gets the room of what lane::latest holds, as soon as that is enough.
BOOST_AUTO_TEST_CASE(those_who_wait_go_before_latest) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    co_await give(h, 1, lane::reliable, {}, 5000);
    co_await give(h, 21, lane::latest, "k", 1000);
    running<result<>> waiting(home, h.s.send(numbered(2, 9000)));
    co_await rounds(3);
    BOOST_CHECK(!waiting.over());
    co_await h.peer.next(); // and with it the rest of the first one begins to go
    auto got = co_await read_numbers(h, 2);
    BOOST_CHECK_EQUAL(text_of(got), text_of({1, 2}));
    co_await waiting.ended();
  });
}

BOOST_AUTO_TEST_CASE(lanes_honour_the_time_to_live) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    for (const auto how : {lane::control, lane::reliable, lane::latest}) {
      const int base = 10 * static_cast<int>(how);
      for (int i = 1; i <= 3; ++i) {
        auto sent =
            co_await h.s.send(numbered(base + i, 100), {.time_to_live = 100ms * i, .lane = how});
        BOOST_REQUIRE(sent.has_value());
      }
    }
    home.advance(250ms);
    auto got = co_await read_numbers(h, 23);
    BOOST_CHECK_EQUAL(text_of(got), text_of({0, 13, 3, 23}));
    BOOST_CHECK_EQUAL(h.s.stats().messages_dropped, 6u);
  });
}

BOOST_AUTO_TEST_CASE(a_close_goes_behind_all_lanes) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    co_await h.peer.next();
    for (int i = 1; i <= 12; ++i) {
      co_await give(h, 100 + i, lane::control, {}, 50);
      co_await give(h, 200 + i, lane::reliable, {}, 50);
      co_await give(h, 300 + i, lane::latest, {}, 50);
    }
    h.s.start_close(close_code::normal, "done");
    std::map<int, int> last;
    int count = 0;
    frame f;
    for (;;) {
      f = co_await h.peer.next();
      if (f.op != 1)
        break;
      const int n = number_of(f.payload);
      BOOST_CHECK_GT(n, last[n / 100]);
      last[n / 100] = n;
      ++count;
    }
    BOOST_CHECK_EQUAL(f.close_code(), 1000u);
    BOOST_CHECK_EQUAL(count, 36);
  });
}

BOOST_AUTO_TEST_CASE(what_waits_in_lanes_is_given_back_when_the_connection_ends) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, bounded(overflow::wait), 1000);
    co_await block(h);
    co_await give(h, 31, lane::latest);
    co_await give(h, 1, lane::reliable);
    co_await give(h, 21, lane::control);
    h.s.abort();
    BOOST_CHECK_EQUAL(h.s.stats().messages_unsent, 3u);
    std::vector<int> left;
    for (const auto &m : detail::take_unsent(h.s))
      left.push_back(number_of(m.text()));
    BOOST_CHECK_EQUAL(text_of(left), text_of({21, 1, 31}));
    co_return;
  });
}

// Compressed with a context, messages can be read only in the order in which they were encoded.
BOOST_AUTO_TEST_CASE(lanes_keep_a_compression_context_whole) {
  run([](shard &home) -> task<> {
    auto options = bounded(overflow::wait, 1'000'000);
    options.compression.enabled = true;
    options.compression.server_no_context_takeover = false;
    options.compression.threshold = 0;
    auto reading = options;
    reading.inbox_messages = 1;
    protocol::deflate_params params;
    for (const std::size_t capacity : {300u, 2000u, 20'000u}) {
      auto [a, b] = transport::make_memory_pair(home, home, {.capacity = capacity});
      auto server = open(std::move(a), role::server, options, params);
      auto client = open(std::move(b), role::client, reading, params);
      BOOST_REQUIRE(server.core()->out().wire().format().context_takeover);
      std::map<int, int> last;
      int given = 0;
      const auto take_one = [&](message m) {
        const int n = number_of(m.text());
        BOOST_CHECK_EQUAL(m.text(), std::to_string(n) + " " + pattern(200, unsigned(n)));
        BOOST_CHECK_GT(n, last[n / 1000]);
        last[n / 1000] = n;
      };
      int taken = 0;
      for (int round = 0; round < 40; ++round) {
        for (int i = 1; i <= 12; ++i) {
          const auto how = static_cast<lane>((i * 7 + round) % 3);
          const int n = 1000 * (static_cast<int>(how) + 1) + ++given;
          auto sent = co_await server.send(std::to_string(n) + " " + pattern(200, unsigned(n)),
                                           {.lane = how});
          BOOST_REQUIRE(sent.has_value());
        }
        for (int i = 0; i < 5; ++i, ++taken) {
          auto m = co_await client.receive();
          BOOST_REQUIRE_MESSAGE(m.has_value(), m.error().message());
          take_one(std::move(*m));
        }
      }
      for (; taken < given; ++taken) {
        auto m = co_await client.receive();
        BOOST_REQUIRE_MESSAGE(m.has_value(), m.error().message());
        take_one(std::move(*m));
      }
      server.abort();
      client.abort();
    }
  });
}

BOOST_AUTO_TEST_SUITE_END()
