#include "support.hpp"

BOOST_AUTO_TEST_SUITE(session_cancel)

using namespace chorus;
using namespace chorus::test;

namespace {

// A verb, as something that can be started on a session and tells how it ended.
enum class verb { receive, receive_some, send, flush, ping, close, wait_closed };
constexpr std::array all_verbs{verb::receive, verb::receive_some, verb::send,       verb::flush,
                               verb::ping,    verb::close,        verb::wait_closed};

std::ostream &operator<<(std::ostream &out, verb v) {
  static constexpr std::array names{"receive", "receive_some", "send",       "flush",
                                    "ping",    "close",        "wait_closed"};
  return out << names[static_cast<std::size_t>(v)];
}

template <class T> failure outcome_of(const result<T> &r) { return r ? failure() : r.error(); }

task<failure> start(session s, verb v) {
  switch (v) {
  case verb::receive:
    co_return outcome_of(co_await s.receive());
  case verb::receive_some:
    co_return outcome_of(co_await s.receive_some());
  case verb::send:
    co_return outcome_of(co_await s.send(std::string(5000, 's')));
  case verb::flush:
    co_return outcome_of(co_await s.flush());
  case verb::ping:
    co_return outcome_of(co_await s.ping());
  case verb::close:
    co_return outcome_of(co_await s.close());
  case verb::wait_closed:
    break;
  }
  co_return co_await s.wait_closed();
}

// As `start`, for a coroutine that was cancelled before and asked not to be thrown at.
task<failure> start_cancelled(session s, verb v) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_await asio::this_coro::reset_cancellation_state(asio::enable_total_cancellation());
  for (;;) {
    const auto state = co_await asio::this_coro::cancellation_state;
    if (state.cancelled() != asio::cancellation_type::none)
      break;
    co_await once_round();
  }
  co_return co_await start(s, v);
}

task<failure> start_polite(session s, verb v) {
  co_await asio::this_coro::throw_if_cancelled(false);
  co_return co_await start(s, v);
}

// A session on which every verb has to wait.
task<by_hand> clogged(shard &home) {
  auto options = quiet();
  options.queue_bytes = 4000;
  auto h = session_and_peer(home, role::server, options, 500);
  auto sent = co_await h.s.send(pattern(3900));
  BOOST_REQUIRE(sent.has_value());
  co_await until([&] { return h.s.core()->out().blocked(); });
  co_return std::move(h);
}

} // namespace

BOOST_AUTO_TEST_CASE(every_verb_can_be_cancelled_while_it_waits) {
  run([](shard &home) -> task<> {
    for (const auto v : all_verbs) {
      auto h = co_await clogged(home);
      running<failure> one(home, start(h.s, v));
      co_await rounds(5);
      BOOST_CHECK_MESSAGE(!one.over(), v);
      one.cancel();
      co_await one.ended();
      BOOST_CHECK_MESSAGE(one.aborted(), v);
      running<failure> polite(home, start_polite(h.s, v));
      co_await rounds(5);
      BOOST_CHECK_MESSAGE(!polite.over(), v);
      polite.cancel();
      co_await polite.ended();
      BOOST_CHECK_MESSAGE(polite.value() == error::cancelled, v << ": " << polite.value());
      // The session goes on, unless it was told to close.
      if (v == verb::close) {
        BOOST_CHECK_EQUAL(h.s.state(), session_state::closing);
        continue;
      }
      BOOST_CHECK(h.s.is_open());
      co_await h.peer.send(1, "go on");
      auto m = co_await h.s.receive();
      BOOST_CHECK_EQUAL(m.value().text(), "go on");
      auto f = co_await h.peer.next();
      BOOST_CHECK(f.payload == pattern(3900));
    }
  });
}

BOOST_AUTO_TEST_CASE(every_verb_can_be_started_already_cancelled) {
  run([](shard &home) -> task<> {
    for (const auto v : all_verbs) {
      auto h = co_await clogged(home);
      running<failure> one(home, start_cancelled(h.s, v));
      co_await rounds(3);
      one.cancel();
      co_await one.ended();
      BOOST_CHECK_MESSAGE(one.value() == error::cancelled, v << ": " << one.value());
      // And with Asio's own rule.
      running<failure> two(home, start(h.s, v));
      two.cancel(); // before it had its first turn
      co_await two.ended();
      BOOST_CHECK_MESSAGE(two.aborted(), v);
      h.s.abort();
    }
  });
}

// The runtime goes while coroutines wait in each verb: nothing leaks, and the handles answer.
BOOST_AUTO_TEST_CASE(a_runtime_may_go_while_verbs_wait) {
  session kept;
  {
    runtime rt;
    auto &home = *rt.core()->shards.front();
    rt.run([](shard &s, session *out) -> task<> {
      for (const auto v : all_verbs) {
        auto h = co_await clogged(s);
        for (int i = 0; i < 3; ++i) {
          asio::co_spawn(s.executor(), start(h.s, v), [](std::exception_ptr, failure) {});
          if (v == verb::receive || v == verb::receive_some)
            break;
        }
        co_await rounds(5);
        *out = h.s;
        // The peer stays, too: nothing but the runtime's end ends the session.
        asio::co_spawn(
            s.executor(),
            [](by_hand held) -> task<> { co_await held.peer.read(1 << 30); }(std::move(h)),
            [](std::exception_ptr) {});
        co_await rounds(2);
      }
    }(home, &kept));
  }
  BOOST_CHECK_EQUAL(kept.state(), session_state::closed);
  BOOST_CHECK_EQUAL(kept.end(), error::shut_down);
  BOOST_CHECK(kept.try_send("x").has_error());
  BOOST_CHECK_EQUAL(kept.try_send("x").error(), error::shut_down);
  kept.abort();
  kept.start_close();
  kept.ignore_input();
  BOOST_CHECK(kept.stop_token().stop_requested());
  BOOST_CHECK_GE(kept.stats().bytes_sent, 500u);
  BOOST_CHECK(!kept.remote_address().empty());
  // And a verb awaited elsewhere afterwards answers instead of hanging.
  asio::io_context elsewhere;
  for (const auto v : all_verbs) {
    std::optional<failure> got;
    asio::co_spawn(elsewhere, start(kept, v), [&](std::exception_ptr e, failure f) {
      if (!e)
        got = f;
    });
    elsewhere.restart();
    elsewhere.run();
    BOOST_REQUIRE_MESSAGE(got.has_value(), v);
    BOOST_CHECK_MESSAGE(*got == error::shut_down, v << ": " << *got);
  }
}

// Verbs awaited on another shard of the same runtime when that runtime goes.
BOOST_AUTO_TEST_CASE(a_runtime_may_go_while_its_shards_wait_for_each_other) {
  for (const unsigned waiting_on : {0U, 1U}) {
    runtime rt{runtime_options{.threads = 2}};
    auto &first = *rt.core()->shards[0];
    auto &second = *rt.core()->shards[1];
    auto &home = waiting_on == 0 ? second : first;
    auto &other = waiting_on == 0 ? first : second;
    // Not running yet, so this thread may play either of them.
    std::vector<by_hand> all;
    for (const auto v : all_verbs) {
      all.push_back(session_and_peer(home, role::server, quiet(), 500));
      asio::co_spawn(
          other.executor(),
          [](session s, verb what) -> task<failure> {
            asio::steady_timer of_this_shard(co_await asio::this_coro::executor, 1h);
            auto f = co_await start(s, what);
            co_return f;
          }(all.back().s, v),
          [](std::exception_ptr, failure) {});
    }
    rt.run([](shard &s) -> task<> {
      co_await asio::post(s.executor(), asio::use_awaitable);
      co_await rounds(200);
    }(first));
    all.clear();
  }
}

BOOST_AUTO_TEST_SUITE_END()
