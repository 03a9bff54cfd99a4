// What a peer can make grow, and what happens when it is full; handlers that outlive their session.

#include "unit/json/rpc_support.hpp"

#include <boost/asio/detached.hpp>

#include <atomic>
#include <thread>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(rpc_bounds)

struct stuck {
  std::size_t begun = 0;
  std::size_t destroyed = 0;
  bool thrown = false;
};
rpc_methods methods_that_stay(const std::shared_ptr<stuck> &seen) {
  struct witness {
    explicit witness(std::shared_ptr<stuck> s) : seen(std::move(s)) { ++seen->begun; }
    witness(const witness &) = delete;
    ~witness() { ++seen->destroyed; }
    std::shared_ptr<stuck> seen;
  };
  rpc_methods methods;
  methods.add("stay", [seen](rpc_call) -> task<> {
    witness w(seen);
    try {
      co_await sleep(1h);
    } catch (const boost::system::system_error &) {
      seen->thrown = true;
      throw;
    }
  });
  methods.add("now", []() -> task<int> { co_return 1; });
  return methods;
}

task<> own_requests(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client, {}, {.max_requests = 2});
  running<result<json::value>> a(home, peer.request("x"));
  running<result<json::value>> b(home, peer.request("x"));
  co_await next_json(server);
  co_await next_json(server);
  const auto third = co_await peer.request("x");
  BOOST_CHECK_EQUAL(third.error(), error::limit_reached);
  BOOST_CHECK_MESSAGE(third.error().message().find("max_requests") != std::string::npos,
                      third.error().message());
  a.cancel();
  co_await a.ended();
  running<result<json::value>> c(home, peer.request("x")); // the id came free
  co_await next_json(server);
  rpc_batch two;
  two.request("x");
  BOOST_CHECK_EQUAL((co_await peer.request(two)).error(), error::limit_reached);
  BOOST_CHECK_EQUAL(peer.stats().in_flight, 2U);
}
BOOST_AUTO_TEST_CASE(requests_in_flight_are_bounded) { run(own_requests); }

task<> handlers(shard &home) {
  auto [server, client] = session_pair(home);
  const auto seen = std::make_shared<stuck>();
  rpc answering(server, methods_that_stay(seen), {.max_handlers = 3, .max_batch = 4});
  co_await client.send(R"([{"jsonrpc":"2.0","method":"stay","id":1},
                           {"jsonrpc":"2.0","method":"stay"},
                           {"jsonrpc":"2.0","method":"stay","id":2}])");
  co_await until([&] { return seen->begun == 3; });
  co_await client.send(R"({"jsonrpc":"2.0","method":"now","id":3})");
  const auto busy = co_await next_json(client);
  BOOST_CHECK_EQUAL(error_code_of(busy), static_cast<int>(rpc_code::busy));
  BOOST_CHECK(busy.at("id") == 3);
  co_await client.send(R"({"jsonrpc":"2.0","method":"now"})");
  co_await nothing_came(client);
  BOOST_CHECK_EQUAL(answering.stats().refused, 2U);
  BOOST_CHECK_EQUAL(answering.stats().running, 3U);
  co_await client.send("[1,1,1,1,1]");
  const auto large = co_await next_json(client);
  BOOST_CHECK_EQUAL(error_code_of(large), -32600);
  BOOST_CHECK(large.at("error").at("data").as_string().find('4') != json::string::npos);

  // They end with the session.
  client.start_close();
  BOOST_CHECK_EQUAL(co_await answering.ended(), error::closed);
  co_await until([&] { return seen->destroyed == 3; });
  BOOST_CHECK(seen->thrown);
  BOOST_CHECK_EQUAL(answering.stats().running, 0U);
  BOOST_CHECK_EQUAL(answering.stats().handlers_failed, 0U);
}
BOOST_AUTO_TEST_CASE(handlers_are_bounded_and_end_with_the_session) { run(handlers); }

task<> documents(shard &home) {
  auto [server, client] = session_pair(home);
  rpc answering(server, {}, {.limits = {.max_depth = 4, .max_bytes = 100}});
  co_await client.send(R"({"jsonrpc":"2.0","method":"x","params":[[[[]]]],"id":1})");
  const auto deep = co_await next_json(client);
  BOOST_CHECK_EQUAL(error_code_of(deep), -32700);
  BOOST_CHECK(deep.at("error").at("data").as_string().find("deep") != json::string::npos);
  co_await client.send(std::string(101, '1'));
  const auto large = co_await next_json(client);
  BOOST_CHECK_EQUAL(error_code_of(large), -32700);
  BOOST_CHECK(large.at("error").at("data").as_string().find("max_bytes") != json::string::npos);
}
BOOST_AUTO_TEST_CASE(depth_and_size_are_bounded) { run(documents); }

// A session that takes nothing for a while: requests wait in order, some are given up.
task<> pressure(shard &home) {
  auto options = quiet();
  options.queue_bytes = 1000;
  auto [s, hand, own] = session_and_peer(home, role::client, options, 1000);
  rpc peer(s);
  const auto filler = json_array(std::string(900, 'f'));
  std::vector<std::unique_ptr<running<result<json::value>>>> all;
  constexpr std::size_t count = 20;
  for (std::size_t i = 0; i < count; ++i)
    all.push_back(std::make_unique<running<result<json::value>>>(home, peer.request("x", filler)));
  running<result<>> behind(home, peer.notify("last"));
  co_await rounds(5);
  BOOST_CHECK(!behind.over());
  for (std::size_t i = count / 2; i < count; ++i)
    all[i]->cancel();
  for (std::size_t i = count / 2; i < count; ++i)
    co_await all[i]->ended();
  BOOST_CHECK_EQUAL(peer.stats().in_flight, count / 2);
  std::uint64_t expected = 1;
  for (;;) {
    const auto f = co_await hand.next();
    const auto seen = parsed(f.payload);
    if (seen.at("method") == "last")
      break;
    const auto id = seen.at("id").to_number<std::uint64_t>();
    BOOST_CHECK_EQUAL(id, expected++); // those that were given up are not sent
    co_await hand.send(1, R"({"jsonrpc":"2.0","result":)" + std::to_string(id) + R"(,"id":)" +
                              std::to_string(id) + '}');
  }
  BOOST_CHECK_EQUAL(expected, count / 2 + 1);
  BOOST_CHECK((co_await behind.end()).has_value());
  for (std::size_t i = 0; i < count / 2; ++i)
    BOOST_CHECK((co_await all[i]->end()).value() == i + 1);
}
BOOST_AUTO_TEST_CASE(requests_wait_for_room_in_order) { run(pressure); }

// A peer that asks and asks and never reads: first its handlers wait, then it is closed.
task<> flood(shard &home) {
  auto options = quiet();
  options.queue_bytes = 2000;
  auto [s, hand, own] = session_and_peer(home, role::server, options, 1000);
  rpc_methods methods;
  methods.add("large", []() -> task<std::string> { co_return std::string(900, 'x'); });
  rpc peer(s, methods, {.max_handlers = 8});
  const auto request = hand.encoded(1, R"({"jsonrpc":"2.0","method":"large","id":1})");
  std::size_t written = 0;
  while (s.is_open()) {
    written += hand.try_write(request);
    BOOST_REQUIRE_LT(peer.stats().running, 9U);
    co_await once_round();
  }
  BOOST_CHECK_GT(peer.stats().refused, 0U);
  BOOST_CHECK_GT(written, 10 * request.size());
  unsigned code = 0;
  while (code == 0) {
    const auto f = co_await hand.next();
    code = f.op == 255 ? 1 : f.close_code();
  }
  BOOST_CHECK_EQUAL(code, 1013U);
}
BOOST_AUTO_TEST_CASE(a_peer_that_never_reads_its_answers_is_closed) { run(flood); }

// Handles on another thread than the session's.
task<> elsewhere(shard &home) {
  auto [server, client] = session_pair(home);
  const auto thread = std::this_thread::get_id();
  rpc_methods methods;
  methods.add("here", [thread]() -> task<bool> { co_return std::this_thread::get_id() == thread; });
  rpc answering(server, methods);
  std::atomic<int> right{0};
  std::atomic<bool> over{false};
  const auto ask = [](rpc peer, std::atomic<int> *right_answers,
                      std::atomic<bool> *ended) -> task<> {
    for (int i = 0; i < 200; ++i) {
      const auto here = co_await peer.request<bool>("here");
      if (here.has_value() && *here)
        ++*right_answers;
      const auto told = co_await peer.notify("here");
      if (!told)
        break;
    }
    peer.stop();
    const auto why = co_await peer.ended();
    if (why == error::not_open)
      ++*right_answers;
    *ended = true;
  };
  asio::io_context other;
  asio::co_spawn(other, ask(rpc(client), &right, &over), asio::detached);
  std::thread runner([&] { other.run(); });
  co_await until([&] { return over.load(); });
  runner.join();
  BOOST_CHECK_EQUAL(right.load(), 201);
  BOOST_CHECK_EQUAL(answering.stats().requests_received, 200U);
}
BOOST_AUTO_TEST_CASE(verbs_from_another_thread) { run(elsewhere); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
