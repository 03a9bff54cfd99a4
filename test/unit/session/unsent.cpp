#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_unsent)

using namespace chorus;
using namespace chorus::test;

namespace {

enum class ending { peer_gone, write_fails, abort, violation };

struct plan {
  role side = role::client;
  std::optional<protocol::deflate_params> compression;
  std::vector<std::size_t> sizes;
  std::size_t capacity = 1000;
  ending how = ending::peer_gone;
};

std::string numbered(std::size_t i, std::size_t size) {
  auto out = std::to_string(i) + ":";
  if (size > out.size())
    out += pattern(size - out.size(), static_cast<unsigned>(i));
  return out;
}

// Sends everything at once to a peer that does not read, ends the connection, and checks that what had not
// begun comes back, in order and whole.
task<> check(shard &home, plan p) {
  auto options = quiet();
  options.queue_bytes = 16 << 20;
  options.compression.enabled = p.compression.has_value();
  options.compression.threshold = 50;
  auto h = session_and_peer(home, p.side, options, p.capacity, p.compression);
  if (p.how == ending::write_fails)
    h.own->fail_write(2, make_error_code(boost::system::errc::broken_pipe));
  std::vector<message> sent;
  for (std::size_t i = 0; i < p.sizes.size(); ++i)
    sent.push_back(i % 2 ? binary(numbered(i, p.sizes[i])) : text(numbered(i, p.sizes[i])));
  for (const auto &m : sent)
    BOOST_REQUIRE(h.s.try_send(m).has_value());
  co_await rounds(4);
  switch (p.how) {
  case ending::peer_gone:
    h.peer.close();
    break;
  case ending::write_fails:
    h.peer.pump(100); // room for a second attempt
    break;
  case ending::abort:
    h.s.abort();
    break;
  case ending::violation:
    co_await h.peer.write("\xff\xff");
    co_await rounds(3);
    h.peer.close();
    break;
  }
  auto end = co_await h.s.wait_closed();
  BOOST_CHECK(end.code());
  const auto stats = h.s.stats();
  auto unsent = detail::take_unsent(h.s);
  BOOST_CHECK_EQUAL(unsent.size(), stats.messages_unsent);
  BOOST_REQUIRE_LE(unsent.size() + stats.messages_sent, sent.size());
  // At most one had begun and is neither.
  BOOST_CHECK_GE(unsent.size() + stats.messages_sent + 1, sent.size());
  BOOST_CHECK_GT(unsent.size(), 0u);
  const auto first = sent.size() - unsent.size();
  for (std::size_t i = 0; i < unsent.size(); ++i)
    BOOST_REQUIRE_MESSAGE(unsent[i] == sent[first + i], "message " << first + i << " came back as "
                                                                   << unsent[i].size() << " bytes");
  BOOST_CHECK(detail::take_unsent(h.s).empty());
  BOOST_CHECK_EQUAL(h.s.stats().queued_bytes, 0u);
  BOOST_CHECK_EQUAL(h.s.stats().queued_messages, 0u);
}

std::vector<std::size_t> many(std::size_t count, std::size_t size) {
  return std::vector<std::size_t>(count, size);
}

} // namespace

BOOST_AUTO_TEST_CASE(messages_that_were_not_begun_come_back) {
  run([](shard &home) -> task<> {
    protocol::deflate_params without;
    without.server_no_context_takeover = without.client_no_context_takeover = true;
    const protocol::deflate_params with;
    const std::vector<std::vector<std::size_t>> shapes{
        many(200, 30),                                        // small ones, corked together
        {5000, 20, 30'000, 0, 8192, 8191, 100, 70'000, 3, 9}, // large between small
        many(20, 20'000),
        {100'000, 1, 2, 3},
    };
    for (const auto side : {role::client, role::server})
      for (int compression = 0; compression < 3; ++compression)
        for (const auto &sizes : shapes)
          for (const auto how :
               {ending::peer_gone, ending::write_fails, ending::abort, ending::violation}) {
            plan p;
            p.side = side;
            p.sizes = sizes;
            p.how = how;
            if (compression == 1)
              p.compression = without;
            if (compression == 2)
              p.compression = with;
            BOOST_TEST_CONTEXT("side " << static_cast<int>(side) << " compression " << compression
                                       << " messages " << sizes.size() << " ending "
                                       << static_cast<int>(how))
            co_await check(home, p);
          }
  });
}

BOOST_AUTO_TEST_CASE(a_connection_that_took_nothing_gives_everything_back) {
  run([](shard &home) -> task<> {
    for (const auto side : {role::client, role::server}) {
      auto h = session_and_peer(home, side);
      h.own->fail_write(1, make_error_code(boost::system::errc::broken_pipe));
      for (int i = 0; i < 10; ++i)
        BOOST_REQUIRE(h.s.try_send(std::to_string(i)).has_value());
      auto end = co_await h.s.wait_closed();
      BOOST_CHECK_EQUAL(end, error::lost);
      auto unsent = detail::take_unsent(h.s);
      BOOST_REQUIRE_EQUAL(unsent.size(), 10u);
      for (std::size_t i = 0; i < 10; ++i)
        BOOST_CHECK_EQUAL(unsent[i], message(std::to_string(i)));
    }
  });
}

BOOST_AUTO_TEST_CASE(framed_streams_give_back_too) {
  run([](shard &home) -> task<> {
    for (const auto how : {framing::length32, framing::lines, framing::raw}) {
      auto options = quiet();
      options.frame = how;
      auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 500});
      auto s = open_framed(std::move(a), options);
      std::vector<std::string> sent;
      for (unsigned i = 0; i < 50; ++i) {
        sent.push_back(pattern(100 + i * 50, i));
        BOOST_REQUIRE(s.try_send(how == framing::lines ? text(sent.back()) : binary(sent.back()))
                          .has_value());
      }
      co_await rounds(4);
      b->close(true);
      auto end = co_await s.wait_closed();
      BOOST_CHECK_EQUAL(end, error::lost);
      auto unsent = detail::take_unsent(s);
      BOOST_CHECK_GT(unsent.size(), 20u);
      std::string back;
      for (const auto &m : unsent)
        back += m.text();
      std::string expected;
      for (const auto &m : sent)
        expected += m;
      BOOST_REQUIRE_LE(back.size(), expected.size());
      BOOST_CHECK(expected.substr(expected.size() - back.size()) == back);
      if (how != framing::raw) {
        BOOST_CHECK_EQUAL(unsent.back().text(), sent.back());
      }
    }
  });
}

// Only a client that sends them again asks for them: a handle to a dead session holds no queue.
BOOST_AUTO_TEST_CASE(nothing_is_kept_unless_asked_for) {
  run([](shard &home) -> task<> {
    auto [a, b] = transport::make_memory_pair(home, home, {.capacity = 100});
    detail::session_setup setup;
    setup.carrier = std::move(a);
    setup.options = std::make_shared<const session_options>(quiet());
    auto s = detail::make_session(std::move(setup));
    const auto large = binary(pattern(20'000));
    for (int i = 0; i < 5; ++i)
      BOOST_REQUIRE(s.try_send(large).has_value());
    BOOST_CHECK(!large.storage().unique());
    b.reset();
    co_await s.wait_closed();
    BOOST_CHECK(large.storage().unique());
    BOOST_CHECK_EQUAL(s.stats().messages_unsent, 5u);
    BOOST_CHECK_EQUAL(s.stats().queued_bytes, 0u);
    BOOST_CHECK_EQUAL(s.stats().queued_messages, 0u);
  });
}

BOOST_AUTO_TEST_SUITE_END()
