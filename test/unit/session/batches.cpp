// What a connection may cost while its messages are taken in batches or not at all, and closes that
// come behind a batch.
#include "support.hpp"

#include <chorus/protocol/deflate.hpp>

BOOST_AUTO_TEST_SUITE(session_batches)

using namespace chorus;
using namespace chorus::test;

namespace {

protocol::deflate_params without_takeover() {
  protocol::deflate_params params;
  params.server_no_context_takeover = params.client_no_context_takeover = true;
  return params;
}

session_options inflating() {
  auto options = quiet();
  options.compression.enabled = true;
  options.inbox_bytes = 128 << 10;
  return options;
}

constexpr std::size_t inflated_size = 64 << 10;

// Frames of a client's, each some hundred bytes that become 64 KiB.
std::string bombs(int count) {
  protocol::deflater deflater(role::client, without_takeover(), deflate_options{.enabled = true});
  const std::string content(inflated_size, '0');
  byte_buffer packed;
  deflater.compress(std::as_bytes(std::span(content)), packed);
  const auto one = wire(
      frame{.op = 2,
            .payload = std::string(reinterpret_cast<const char *>(packed.data()), packed.size()),
            .fin = true,
            .masked = true,
            .rsv1 = true});
  std::string all;
  while (count-- > 0)
    all += one;
  return all;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_batch_of_inflated_messages_is_bounded) {
  run([](shard &home) -> task<> {
    auto h = session_and_peer(home, role::server, inflating(), 64 * 1024, without_takeover());
    constexpr std::size_t count = 200;
    const auto all = bombs(count);
    BOOST_REQUIRE_EQUAL(h.peer.try_write(all), all.size()); // one read's worth
    std::size_t got = 0;
    while (got < count) {
      auto batch = co_await h.s.receive_some();
      BOOST_REQUIRE(batch.has_value());
      std::size_t bytes = 0;
      for (std::size_t i = 0; i < batch->size(); ++i)
        bytes += (*batch)[i].size();
      BOOST_CHECK_EQUAL(bytes, batch->size() * inflated_size);
      BOOST_CHECK_LE(bytes, (std::size_t{1} << 20) + inflated_size);
      got += batch->size();
    }
    BOOST_CHECK_EQUAL(got, count);
  });
}

// Whoever takes everything at once must not keep the others waiting for all of it.
BOOST_AUTO_TEST_CASE(inflating_yields_to_the_others) {
  run([](shard &home) -> task<> {
    for (const bool batches : {false, true}) {
      auto h = session_and_peer(home, role::server, inflating(), 64 * 1024, without_takeover());
      auto count = std::make_shared<std::size_t>(0);
      constexpr std::size_t messages = 200;
      running<result<>> taker(
          home, [](session s, std::shared_ptr<std::size_t> n, bool some) -> task<result<>> {
            while (*n < messages) {
              if (some) {
                auto batch = co_await s.receive_some();
                if (!batch)
                  co_return batch.error();
                *n += batch->size();
              } else {
                auto m = co_await s.receive();
                if (!m)
                  co_return m.error();
                ++*n;
              }
            }
            co_return result<>();
          }(h.s, count, batches));
      co_await rounds(2);
      const auto all = bombs(messages);
      BOOST_REQUIRE_EQUAL(h.peer.try_write(all), all.size());
      std::size_t turns = 0;
      for (auto before = *count; *count < messages; before = *count) {
        co_await once_round();
        BOOST_CHECK_LE((*count - before) * inflated_size, (std::size_t{2} << 20) + inflated_size);
        turns += *count != before ? 1U : 0U;
      }
      BOOST_CHECK_GE(turns, 6U);
      auto end = co_await taker.end();
      BOOST_CHECK(end.has_value());
    }
  });
}

// A peer that fills the inbox and goes leaves what it has sent, at the price of what it has sent.
BOOST_AUTO_TEST_CASE(what_a_gone_peer_left_is_inflated_as_it_is_taken) {
  run([](shard &home) -> task<> {
    for (const bool found_by_write : {false, true}) {
      auto [a, b] = socket_streams(home);
      auto s = open(std::move(a), role::server, inflating(), without_takeover());
      raw_peer peer(std::move(b), role::client);
      constexpr std::uint64_t count = 400;
      const auto all = bombs(count);
      BOOST_REQUIRE_EQUAL(peer.try_write(all), all.size());
      co_await until([&] { return s.stats().messages_received > 0; });
      co_await rounds(10);
      const auto before = s.stats().messages_received;
      BOOST_CHECK_LE(before * inflated_size, std::uint64_t{512} << 10);
      if (found_by_write)
        BOOST_CHECK(s.try_send("into the void").has_value());
      peer.close();
      co_await s.wait_closed();
      BOOST_CHECK_LE((s.stats().messages_received - before) * inflated_size,
                     (std::uint64_t{1} << 20) + inflated_size);
      for (std::uint64_t i = 0; i < count; ++i) {
        auto m = co_await s.receive();
        BOOST_REQUIRE_MESSAGE(m.has_value(), i);
        BOOST_REQUIRE_EQUAL(m->size(), inflated_size);
      }
      auto end = co_await s.receive();
      BOOST_REQUIRE(end.has_error());
      BOOST_CHECK_EQUAL(end.error(), error::lost);
    }
  });
}

// Messages and a close in one read: the answers go before the answer to the close.
BOOST_AUTO_TEST_CASE(a_close_behind_a_batch_is_answered_after_the_batch) {
  run([](shard &home) -> task<> {
    for (const bool must_wait : {false, true}) {
      auto options = quiet();
      options.queue_bytes = must_wait ? 1000 : 1 << 20;
      auto h = session_and_peer(home, role::server, options, must_wait ? 1000 : 64 * 1024);
      running<failure> echo(home, [](session s) -> task<failure> {
        for (;;) {
          auto batch = co_await s.receive_some();
          if (!batch)
            co_return batch.error();
          for (std::size_t i = 0; i < batch->size(); ++i) {
            auto sent = co_await s.send(batch->take(i));
            if (!sent)
              co_return sent.error();
          }
        }
      }(h.s));
      co_await rounds(2);
      std::string all;
      for (int i = 0; i < 20; ++i)
        all += h.peer.encoded(1, std::to_string(i) + std::string(40, '.'));
      all += h.peer.encoded(8, close_payload(1000));
      if (must_wait) {
        // What is accepted in one turn before the first write must not fit.
        all.clear();
        for (int i = 0; i < 8; ++i)
          all += h.peer.encoded(1, std::to_string(i) + std::string(100, '.'));
        all += h.peer.encoded(8, close_payload(1000));
        BOOST_CHECK(h.s.try_send(std::string(1900, 'f')).has_value());
      }
      BOOST_REQUIRE_EQUAL(h.peer.try_write(all), all.size());
      int answers = 0;
      for (;;) {
        auto f = co_await h.peer.next();
        BOOST_REQUIRE_NE(f.op, 255U);
        if (f.op == 8) {
          BOOST_CHECK_EQUAL(f.close_code(), 1000U);
          break;
        }
        if (f.payload.front() != 'f') {
          BOOST_CHECK_EQUAL(std::stoi(f.payload), answers);
          ++answers;
        }
      }
      BOOST_CHECK_EQUAL(answers, must_wait ? 8 : 20);
      auto end = co_await echo.end();
      BOOST_CHECK_EQUAL(end, error::closed);
    }
  });
}

// A handler that is busy with something else is not waited for, also when it has waited to send first.
BOOST_AUTO_TEST_CASE(a_close_behind_a_batch_is_answered_whatever_its_taker_does) {
  run([](shard &home) -> task<> {
    for (const bool sends_first : {false, true}) {
      auto options = quiet();
      options.queue_bytes = 1000;
      auto h = session_and_peer(home, role::server, options, 1000);
      auto go_on = std::make_shared<bool>(false);
      running<result<>> taker(home,
                              [](session s, std::shared_ptr<bool> go, bool send) -> task<result<>> {
                                auto batch = co_await s.receive_some();
                                if (!batch)
                                  co_return batch.error();
                                result<> sent;
                                if (send)
                                  sent = co_await s.send(batch->take(0));
                                const auto may_go_on = [go] { return *go; };
                                co_await until(may_go_on);
                                co_return sent;
                              }(h.s, go_on, sends_first));
      co_await rounds(2);
      if (sends_first)
        BOOST_CHECK(h.s.try_send(std::string(1900, 'f')).has_value());
      const auto all = h.peer.encoded(1, std::string(200, 'a')) + h.peer.encoded(1, "b") +
                       h.peer.encoded(8, close_payload(1000));
      BOOST_REQUIRE_EQUAL(h.peer.try_write(all), all.size());
      std::string before;
      frame f;
      for (f = co_await h.peer.next(); f.op == 1; f = co_await h.peer.next())
        before += f.payload.front();
      BOOST_CHECK_EQUAL(before, sends_first ? "fa" : "");
      BOOST_CHECK_EQUAL(f.op, 8U);
      BOOST_CHECK_EQUAL(f.close_code(), 1000U);
      BOOST_CHECK(!taker.over());
      *go_on = true;
      auto sent = co_await taker.end();
      BOOST_CHECK(sent.has_value());
    }
  });
}

// The taker's send waits for room when it is cancelled: nobody else would answer the close then.
BOOST_AUTO_TEST_CASE(a_close_behind_a_batch_is_answered_when_its_taker_is_cancelled) {
  run([](shard &home) -> task<> {
    auto options = quiet();
    options.queue_bytes = 1000;
    auto h = session_and_peer(home, role::server, options, 1000);
    running<result<>> taker(home, [](session s) -> task<result<>> {
      auto batch = co_await s.receive_some();
      if (!batch)
        co_return batch.error();
      co_return co_await s.send(batch->take(0));
    }(h.s));
    co_await rounds(2);
    BOOST_CHECK(h.s.try_send(std::string(1900, 'f')).has_value());
    const auto all =
        h.peer.encoded(1, std::string(200, 'a')) + h.peer.encoded(8, close_payload(1000));
    BOOST_REQUIRE_EQUAL(h.peer.try_write(all), all.size());
    co_await rounds(5);
    BOOST_CHECK(!taker.over());
    taker.cancel();
    frame f;
    for (f = co_await h.peer.next(); f.op == 1; f = co_await h.peer.next())
      BOOST_CHECK_EQUAL(f.payload.front(), 'f');
    BOOST_CHECK_EQUAL(f.op, 8U);
    BOOST_CHECK_EQUAL(f.close_code(), 1000U);
  });
}

BOOST_AUTO_TEST_SUITE_END()
