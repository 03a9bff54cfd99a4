#include "support.hpp"

#include <chorus/protocol/deflate.hpp>

BOOST_AUTO_TEST_SUITE(session_verbs)

using namespace chorus;
using namespace chorus::test;

namespace {

// Sends each message from `from` while `to` receives, and compares.
task<> passes(shard &home, session from, session to, std::vector<message> messages) {
  running<result<>> sender(home, [](session s, std::vector<message> all) -> task<result<>> {
    for (auto &m : all) {
      auto sent = co_await s.send(m);
      if (!sent)
        co_return sent;
    }
    co_return result<>();
  }(from, messages));
  for (const auto &m : messages) {
    auto got = co_await to.receive();
    BOOST_REQUIRE(got.has_value());
    BOOST_REQUIRE_EQUAL(got->kind(), m.kind());
    BOOST_REQUIRE_EQUAL(got->size(), m.size());
    BOOST_REQUIRE(*got == m);
  }
  auto sent = co_await sender.end();
  BOOST_CHECK(sent.has_value());
}

std::vector<message> of_every_size() {
  std::vector<message> all;
  for (const std::size_t size :
       {std::size_t{0}, std::size_t{1}, std::size_t{125}, std::size_t{126}, std::size_t{4096},
        std::size_t{8191}, std::size_t{8192}, std::size_t{65535}, std::size_t{65536},
        std::size_t{1} << 20, std::size_t{16} << 20, std::size_t{3}}) {
    all.push_back(text(pattern(size, static_cast<unsigned>(size))));
    all.push_back(binary(pattern(size, static_cast<unsigned>(size) + 7)));
  }
  return all;
}

} // namespace

BOOST_AUTO_TEST_CASE(every_size_and_kind_passes_both_ways) {
  run([](shard &home) -> task<> {
    auto p = session_pair(home);
    auto all = of_every_size();
    co_await passes(home, p.client, p.server, all);
    co_await passes(home, p.server, p.client, all);
    BOOST_CHECK_EQUAL(p.server.stats().messages_received, all.size());
    BOOST_CHECK_EQUAL(p.server.stats().messages_sent, all.size());
    BOOST_CHECK_EQUAL(p.server.stats().bytes_sent, p.client.stats().bytes_received);
    BOOST_CHECK_EQUAL(p.client.stats().bytes_sent, p.server.stats().bytes_received);
    BOOST_CHECK_EQUAL(p.server.stats().queued_bytes, 0u);
    BOOST_CHECK_EQUAL(p.client.stats().queued_messages, 0u);
  });
}

// Reads and writes of few bytes at a time: every position is a cut.
BOOST_AUTO_TEST_CASE(small_reads_and_writes_make_no_difference) {
  run([](shard &home) -> task<> {
    for (const std::size_t limit : {1U, 2U, 7U, 1000U}) {
      auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 4096});
      a->limit(limit);
      b->limit(limit);
      auto server = open(std::move(a), role::server, quiet());
      auto client = open(std::move(b), role::client, quiet());
      std::vector<message> all;
      for (unsigned i = 0; i < 40; ++i)
        all.push_back(i % 2 ? text(pattern(i * 13, i)) : binary(pattern(i * 17, i)));
      all.push_back(text(pattern(limit * 20000 > 100000 ? 100000 : limit * 20000, 5)));
      co_await passes(home, client, server, all);
      co_await passes(home, server, client, all);
    }
  });
}

BOOST_AUTO_TEST_CASE(fragments_with_a_ping_between_make_one_message) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::server, role::client}) {
      auto h = session_and_peer(home, side);
      co_await h.peer.send(1, "one ", false);
      co_await h.peer.send(0, "two ", false);
      co_await h.peer.send(9, "are you there");
      co_await h.peer.send(0, "", false);
      co_await h.peer.send(0, "three", true);
      co_await h.peer.send(2, "next");
      auto m = co_await h.s.receive();
      BOOST_REQUIRE(m.has_value());
      BOOST_CHECK_EQUAL(*m, message("one two three"));
      auto n = co_await h.s.receive();
      BOOST_REQUIRE(n.has_value());
      BOOST_CHECK_EQUAL(*n, binary("next"));
      auto pong = co_await h.peer.next();
      BOOST_CHECK_EQUAL(pong.op, 10u);
      BOOST_CHECK_EQUAL(pong.payload, "are you there");
      BOOST_CHECK_EQUAL(pong.masked, side == role::client);
    }
  });
}

BOOST_AUTO_TEST_CASE(fragments_of_a_large_message_are_joined) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    const auto whole = pattern(600'000);
    std::string bytes;
    for (std::size_t at = 0; at < whole.size(); at += 100'000)
      bytes += h.peer.encoded(at == 0 ? 2 : 0, std::string_view(whole).substr(at, 100'000),
                              at + 100'000 >= whole.size());
    running<bool> writer(home, [](raw_peer &p, std::string b) -> task<bool> {
      co_await p.write(std::move(b));
      co_return true;
    }(h.peer, bytes));
    auto m = co_await h.s.receive();
    BOOST_REQUIRE(m.has_value());
    BOOST_CHECK(m->text() == whole);
    co_await writer.ended();
  });
}

BOOST_AUTO_TEST_CASE(a_batch_takes_all_that_came_in_one_read) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    std::string bytes;
    for (int i = 0; i < 20; ++i)
      bytes += h.peer.encoded(1, "message " + std::to_string(i));
    bytes += h.peer.encoded(2, "");
    running<result<message_batch>> waiting(home, h.s.receive_some());
    co_await rounds(3);
    BOOST_REQUIRE(!waiting.over());
    co_await h.peer.write(bytes);
    auto batch = co_await waiting.end();
    BOOST_REQUIRE(batch.has_value());
    BOOST_REQUIRE_EQUAL(batch->size(), 21u);
    for (std::size_t i = 0; i < 20; ++i)
      BOOST_CHECK_EQUAL((*batch)[i].text(), "message " + std::to_string(i));
    BOOST_CHECK_EQUAL((*batch)[20].size(), 0u);
    BOOST_CHECK_EQUAL((*batch)[20].kind(), message_kind::binary);
    // One taken outlives the batch and what is read after it.
    auto kept = batch->take(7);
    auto empty = batch->take(20);
    batch = failure(error::cancelled);
    for (int i = 0; i < 3; ++i) {
      co_await h.peer.send(1, std::string(10'000, '#'));
      auto next = co_await h.s.receive_some();
      BOOST_REQUIRE(next.has_value());
    }
    BOOST_CHECK_EQUAL(kept, message("message 7"));
    BOOST_CHECK(empty.empty());
  });
}

BOOST_AUTO_TEST_CASE(a_batch_of_one_empty_message_can_be_taken_from) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    co_await h.peer.send(1, "");
    co_await until([&] { return h.s.stats().messages_received == 1; });
    auto batch = co_await h.s.receive_some(); // from the inbox
    BOOST_REQUIRE(batch.has_value());
    BOOST_REQUIRE_EQUAL(batch->size(), 1u);
    auto m = batch->take(0);
    BOOST_CHECK(m.empty());
    BOOST_CHECK(m.is_text());
  });
}

// More than is copied: the batch takes the shard's buffer with it. Large messages come owned.
BOOST_AUTO_TEST_CASE(batches_of_large_reads_hold_across_further_reads) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, quiet(), 1 << 20);
    auto other = session_and_peer(home, role::server);
    std::vector<std::string> sent;
    std::string bytes;
    for (unsigned i = 0; i < 60; ++i)
      sent.push_back(pattern(i % 10 == 9 ? 100'000 : 1000 + i, i));
    for (const auto &m : sent)
      bytes += h.peer.encoded(1, m);
    running<bool> writer(home, [](raw_peer &p, std::string b) -> task<bool> {
      co_await p.write(std::move(b));
      co_return true;
    }(h.peer, bytes));
    std::vector<message_batch> batches;
    std::vector<message> taken;
    std::size_t count = 0;
    while (count < sent.size()) {
      auto batch = co_await h.s.receive_some();
      BOOST_REQUIRE(batch.has_value());
      count += batch->size();
      for (std::size_t i = 0; i < batch->size(); ++i)
        taken.push_back(batch->take(i));
      batches.push_back(std::move(*batch));
      // Another connection reads in between, through the same shard.
      co_await other.peer.send(1, std::string(50'000, '!'));
      auto m = co_await other.s.receive();
      BOOST_REQUIRE(m.has_value());
    }
    std::size_t at = 0;
    for (const auto &batch : batches)
      for (const auto &view : batch) {
        BOOST_REQUIRE(view.text() == sent[at]);
        BOOST_REQUIRE(taken[at].text() == sent[at]);
        ++at;
      }
    co_await writer.ended();
    batches.clear();
    for (std::size_t i = 0; i < taken.size(); ++i)
      BOOST_REQUIRE(taken[i].text() == sent[i]);
  });
}

BOOST_AUTO_TEST_CASE(receive_and_receive_some_may_take_turns) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server);
    std::string bytes;
    for (int i = 0; i < 300; ++i)
      bytes += h.peer.encoded(1, std::to_string(i));
    running<bool> writer(home, [](raw_peer &p, std::string b) -> task<bool> {
      co_await p.write(std::move(b));
      co_return true;
    }(h.peer, bytes));
    int expected = 0;
    while (expected < 300) {
      auto m = co_await h.s.receive();
      BOOST_REQUIRE(m.has_value());
      BOOST_REQUIRE_EQUAL(m->text(), std::to_string(expected++));
      if (expected % 3 == 0 && expected < 300) {
        auto batch = co_await h.s.receive_some();
        BOOST_REQUIRE(batch.has_value());
        for (const auto &view : *batch)
          BOOST_REQUIRE_EQUAL(view.text(), std::to_string(expected++));
      }
    }
    co_await writer.ended();
  });
}

BOOST_AUTO_TEST_CASE(prepared_messages_arrive_like_others) {
  run([](shard &home) -> task<> {
    auto p = session_pair(home);
    const prepared_message small(text("prepared"));
    const prepared_message large(binary(pattern(300'000)));
    for (auto *from : {&p.server, &p.client}) {
      auto &to = from == &p.server ? p.client : p.server;
      for (int i = 0; i < 3; ++i) {
        auto first = co_await from->send(small);
        BOOST_CHECK(first.has_value());
        auto second = co_await from->send(large);
        BOOST_CHECK(second.has_value());
        BOOST_CHECK(from->try_send(small).has_value());
        auto a = co_await to.receive();
        BOOST_REQUIRE(a.has_value());
        BOOST_CHECK_EQUAL(*a, small.content());
        auto b = co_await to.receive();
        BOOST_REQUIRE(b.has_value());
        BOOST_CHECK(*b == large.content());
        auto c = co_await to.receive();
        BOOST_REQUIRE(c.has_value());
        BOOST_CHECK_EQUAL(*c, small.content());
      }
    }
  });
}

BOOST_AUTO_TEST_CASE(compressed_messages_arrive_whole) {
  run([](shard &home) -> task<> {
    for (const bool takeover : {false, true})
      for (const int bits : {15, 9}) {
        auto options = quiet();
        options.compression.enabled = true;
        options.compression.threshold = 20;
        protocol::deflate_params params;
        params.server_no_context_takeover = params.client_no_context_takeover = !takeover;
        params.server_max_window_bits = params.client_max_window_bits = bits;
        auto p = session_pair(home, options, params);
        BOOST_CHECK(p.server.compressed());
        std::vector<message> all;
        for (unsigned i = 0; i < 50; ++i)
          all.push_back(i % 2 ? text(std::string(i * 50, 'z') + "tail")
                              : binary(pattern(i * 400, i)));
        all.push_back(text(std::string(1 << 20, 'q')));
        all.push_back(binary(pattern(1 << 20)));
        co_await passes(home, p.client, p.server, all);
        co_await passes(home, p.server, p.client, all);
        // They were: what went is smaller than what it says.
        BOOST_CHECK_LT(p.server.stats().bytes_sent, (std::uint64_t{3} << 20) / 2);
      }
  });
}

BOOST_AUTO_TEST_CASE(framed_streams_carry_messages) {
  run([](shard &home) -> task<> {
    for (const auto how : {framing::length32, framing::lines}) {
      auto options = unhurried();
      options.frame = how;
      auto [a, b] = socket_streams(home);
      auto left = open_framed(std::move(a), options);
      auto right = open_framed(std::move(b), options);
      std::vector<message> all;
      for (const std::size_t size : {0U, 1U, 100U, 8192U, 100'000U, 1U << 20, 5U})
        all.push_back(how == framing::lines ? text(pattern(size)) : binary(pattern(size)));
      co_await passes(home, left, right, all);
      co_await passes(home, right, left, all);
      auto closed = co_await left.close();
      BOOST_CHECK_MESSAGE(closed.has_value(), (closed ? failure() : closed.error()));
      auto end = co_await right.receive();
      BOOST_REQUIRE(end.has_error());
      BOOST_CHECK_EQUAL(end.error(), error::closed);
    }
  });
}

BOOST_AUTO_TEST_CASE(raw_streams_carry_chunks) {
  run([](shard &home) -> task<> {
    auto options = unhurried();
    options.frame = framing::raw;
    auto [a, b] = socket_streams(home);
    auto left = open_framed(std::move(a), options);
    auto right = open_framed(std::move(b), options);
    const auto whole = pattern(1 << 20);
    running<result<>> sender(home, [](session s, std::string bytes) -> task<result<>> {
      for (std::size_t at = 0; at < bytes.size(); at += 5000) {
        auto sent = co_await s.send(binary(std::string_view(bytes).substr(at, 5000)));
        if (!sent)
          co_return sent;
      }
      co_return co_await s.close();
    }(left, whole));
    std::string got;
    while (auto m = co_await right.receive())
      got += m->text();
    BOOST_CHECK(got == whole);
    BOOST_CHECK_EQUAL(right.end(), error::closed);
    auto sent = co_await sender.end();
    BOOST_CHECK(sent.has_value());
  });
}

BOOST_AUTO_TEST_SUITE_END()
