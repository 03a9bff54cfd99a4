// Answers that come late, twice, wrong, in pieces or never, and requests that are given up.

#include "unit/json/rpc_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(rpc_answers)

std::string answer_to(std::uint64_t id, std::string_view value = "7") {
  return R"({"jsonrpc":"2.0","result":)" + std::string(value) + R"(,"id":)" + std::to_string(id) +
         '}';
}
std::uint64_t id_of(const json::value &request) {
  return request.at("id").to_number<std::uint64_t>();
}

task<> never(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client, {}, {.timeout = 20ms});
  const auto by_default = co_await peer.request("x");
  BOOST_CHECK_EQUAL(by_default.error(), error::timed_out);
  BOOST_CHECK_MESSAGE(by_default.error().message().find("20 ms") != std::string::npos,
                      by_default.error().message());
  BOOST_CHECK_EQUAL((co_await peer.request("x", nullptr, {.timeout = 5ms})).error(),
                    error::timed_out);
  rpc_batch batch;
  batch.request("a");
  batch.request("b");
  running<result<std::vector<result<json::value>>>> both(home, peer.request(batch));
  co_await next_json(server);
  co_await next_json(server);
  const auto asked = co_await next_json(server);
  co_await server.send(answer_to(id_of(asked.at(1))));
  const auto half = co_await both.end();
  BOOST_CHECK_EQUAL(half.value()[0].error(), error::timed_out);
  BOOST_CHECK(half.value()[1].value() == 7);
  BOOST_CHECK_EQUAL(peer.stats().timeouts, 3U);
  BOOST_CHECK_EQUAL(peer.stats().in_flight, 0U);
  // Later than never.
  co_await server.send(answer_to(id_of(asked.at(0))));
  co_await server.send(answer_to(1));
  co_await until([&] { return peer.stats().answers_late == 2; });
  BOOST_CHECK(client.is_open());
}
BOOST_AUTO_TEST_CASE(a_peer_that_never_answers) { run(never); }

task<> odd(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client);
  const auto ask = [&] { return running<result<json::value>>(home, peer.request("x")); };
  auto first = ask();
  const auto id = id_of(co_await next_json(server));
  for (const auto *stray :
       {R"({"jsonrpc":"2.0","result":1,"id":999})", R"({"jsonrpc":"2.0","result":1,"id":null})",
        R"({"jsonrpc":"2.0","result":1,"id":"1"})", R"({"jsonrpc":"2.0","result":1,"id":-1})",
        R"({"jsonrpc":"2.0","result":1,"id":1.5})", R"({"jsonrpc":"2.0","result":1})",
        R"({"jsonrpc":"2.0","error":{"code":-32700,"message":"Parse error"},"id":null})",
        R"({"jsonrpc":"2.0","result":1,"id":{}})", R"([{"result":1,"id":0}])"})
    co_await server.send(stray);
  co_await server.send(answer_to(id));
  co_await server.send(answer_to(id));
  BOOST_CHECK((co_await first.end()).value() == 7);
  co_await until([&] { return peer.stats().answers_late == 1; });
  BOOST_CHECK_EQUAL(peer.stats().answers_stray, 9U);
  BOOST_CHECK_EQUAL(peer.stats().answers, 1U);

  // A whole number written in another way is the same id.
  auto second = ask();
  const auto exact = std::to_string(id_of(co_await next_json(server)));
  co_await server.send(R"({"jsonrpc":"2.0","result":[null],"id":)" + exact + "e0}");
  BOOST_CHECK((co_await second.end()).value() == json_array(nullptr));

  const std::string_view broken[] = {
      R"({"jsonrpc":"1.0","result":1,"id":)",
      R"({"result":1,"id":)",
      R"({"jsonrpc":"2.0","result":1,"error":{"code":1,"message":"x"},"id":)",
      R"({"jsonrpc":"2.0","error":"x","id":)",
      R"({"jsonrpc":"2.0","error":{"message":"x"},"id":)",
      R"({"jsonrpc":"2.0","error":{"code":1},"id":)",
      R"({"jsonrpc":"2.0","error":{"code":1.5,"message":"x"},"id":)",
      R"({"jsonrpc":"2.0","error":{"code":99999999999,"message":"x"},"id":)",
  };
  for (const auto text : broken) {
    auto one = ask();
    const auto asked = std::to_string(id_of(co_await next_json(server)));
    co_await server.send(std::string(text) + asked + "}");
    const auto got = co_await one.end();
    BOOST_REQUIRE(got.has_error());
    BOOST_CHECK_MESSAGE(got.error().code() == rpc_code::invalid_answer,
                        std::string(text) + got.error().message());
  }
  // The extremes of a code, and data of any kind.
  auto last = ask();
  const auto asked = std::to_string(id_of(co_await next_json(server)));
  co_await server.send(R"({"jsonrpc":"2.0","error":{"code":0,"message":"","data":[1]},"id":)" +
                       asked + "}");
  const auto zero = co_await last.end();
  BOOST_CHECK(zero.error().code().failed());
  BOOST_CHECK_EQUAL(rpc_error_of(zero.error())->code, 0);
  BOOST_CHECK(rpc_error_of(zero.error())->data == json_array(1));
  // Nothing of this was answered.
  BOOST_CHECK(client.is_open());
  BOOST_CHECK_EQUAL(client.stats().messages_sent, 11U);
}
BOOST_AUTO_TEST_CASE(wrong_answers_are_counted_or_fail_their_request) { run(odd); }

// An answer against the cancellation of its request: whichever comes first, the request ends once, its
// id is free, and every answer is accounted for.
task<> race(shard &home) {
  auto [server, client] = session_pair(home);
  rpc_methods methods;
  methods.add("now", []() -> task<int> { co_return 1; });
  rpc answering(server, methods);
  rpc peer(client);
  constexpr std::uint64_t times = 10'000;
  std::uint64_t answered = 0;
  std::uint64_t cancelled = 0;
  unsigned random = 1;
  for (std::uint64_t i = 0; i < times; ++i) {
    running<result<json::value>> one(home, peer.request("now"));
    random = random * 1664525U + 1013904223U;
    co_await rounds(static_cast<int>(random >> 29)); // 0 to 7
    one.cancel();
    co_await one.ended();
    if (one.aborted())
      ++cancelled;
    else if (one.value().has_value())
      ++answered;
  }
  BOOST_CHECK_EQUAL(answered + cancelled, times);
  BOOST_CHECK_GT(answered, times / 20);
  BOOST_CHECK_GT(cancelled, times / 20);
  BOOST_CHECK((co_await peer.request("now")).has_value());
  const auto stats = peer.stats();
  BOOST_CHECK_EQUAL(stats.in_flight, 0U);
  BOOST_CHECK_EQUAL(stats.answers_stray, 0U);
  // An answer that was there when its request was cancelled in the same turn counts as an answer.
  BOOST_CHECK_EQUAL(stats.answers + stats.answers_late, stats.requests_sent);
  BOOST_CHECK_EQUAL(answering.stats().requests_received, stats.requests_sent);
  BOOST_CHECK_GE(stats.answers, answered + 1);
}
BOOST_AUTO_TEST_CASE(cancellation_races_the_answer) { run(race); }

task<> cancelled_before(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client);
  running<result<json::value>> request(home, peer.request("x"));
  request.cancel();
  running<result<>> notification(home, peer.notify("x"));
  notification.cancel();
  running<failure> end(home, peer.ended());
  end.cancel();
  co_await request.ended();
  co_await notification.ended();
  co_await end.ended();
  BOOST_CHECK(end.aborted());
  BOOST_CHECK_EQUAL(peer.stats().in_flight, 0U);
  co_await peer.notify("y");
  while (true) {
    const auto seen = co_await next_json(server);
    if (seen.at("method") == "y")
      break;
  }
}
BOOST_AUTO_TEST_CASE(verbs_that_are_cancelled_at_once) { run(cancelled_before); }

task<> ends(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client);
  running<result<json::value>> waits(home, peer.request("x"));
  running<failure> end(home, peer.ended());
  co_await next_json(server);
  server.start_close(close_code::going_away, "bye");
  const auto got = co_await waits.end();
  BOOST_CHECK_EQUAL(got.error(), error::closed);
  BOOST_CHECK_EQUAL(got.error().detail().close_code, 1001);
  BOOST_CHECK_EQUAL(co_await end.end(), error::closed);
  BOOST_CHECK_EQUAL((co_await peer.request("x")).error(), error::closed);
  BOOST_CHECK_EQUAL((co_await peer.notify("x")).error(), error::closed);
  BOOST_CHECK_EQUAL(co_await peer.ended(), error::closed);
}
BOOST_AUTO_TEST_CASE(the_end_of_the_session_ends_requests) { run(ends); }

task<> stops(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client);
  running<result<json::value>> waits(home, peer.request("x"));
  co_await next_json(server);
  {
    auto gone = std::move(peer); // the request keeps the rpc
    peer = rpc();
  }
  co_await server.send(R"({"jsonrpc":"2.0","result":1,"id":1})");
  BOOST_CHECK((co_await waits.end()).value() == 1);
  // Now nobody does: who receives next gets what comes next.
  co_await rounds(5);
  co_await server.send("for the next reader");
  BOOST_CHECK_EQUAL((co_await client.receive()).value().text(), "for the next reader");

  rpc second(client);
  running<result<json::value>> abandoned(home, second.request("y"));
  co_await next_json(server);
  second.stop();
  BOOST_CHECK_EQUAL((co_await abandoned.end()).error(), error::not_open);
  BOOST_CHECK(client.is_open());

  // Somebody else is reading.
  running<result<message>> reader(home, client.receive());
  co_await rounds(2);
  rpc third(client);
  BOOST_CHECK_EQUAL(co_await third.ended(), error::busy);
  reader.cancel();
  co_await reader.ended();
}
BOOST_AUTO_TEST_CASE(an_rpc_that_stops_leaves_the_session) { run(stops); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
