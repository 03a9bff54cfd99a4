// Every example of section 7 of the JSON-RPC 2.0 specification, as it stands there.

#include "unit/json/rpc_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(rpc_specification)

rpc_methods methods_of_the_examples() {
  rpc_methods methods;
  methods.add("subtract", [](json::value params) -> task<result<std::int64_t>> {
    if (const auto *named = params.if_object())
      co_return named->at("minuend").as_int64() - named->at("subtrahend").as_int64();
    co_return params.as_array().at(0).as_int64() - params.as_array().at(1).as_int64();
  });
  methods.add("sum", [](std::vector<int> all) -> task<int> {
    int sum = 0;
    for (const int n : all)
      sum += n;
    co_return sum;
  });
  methods.add("get_data", []() -> task<json::value> { co_return json_array("hello", 5); });
  for (const auto *name : {"update", "notify_hello", "notify_sum"})
    methods.add(name, [](json::value) -> task<> { co_return; });
  return methods;
}

struct example {
  std::string_view sent;
  std::string_view answer; // empty: nothing is returned
};
constexpr example examples[] = {
    {R"({"jsonrpc": "2.0", "method": "subtract", "params": [42, 23], "id": 1})",
     R"({"jsonrpc": "2.0", "result": 19, "id": 1})"},
    {R"({"jsonrpc": "2.0", "method": "subtract", "params": [23, 42], "id": 2})",
     R"({"jsonrpc": "2.0", "result": -19, "id": 2})"},
    {R"({"jsonrpc": "2.0", "method": "subtract", "params": {"subtrahend": 23, "minuend": 42}, "id": 3})",
     R"({"jsonrpc": "2.0", "result": 19, "id": 3})"},
    {R"({"jsonrpc": "2.0", "method": "subtract", "params": {"minuend": 42, "subtrahend": 23}, "id": 4})",
     R"({"jsonrpc": "2.0", "result": 19, "id": 4})"},
    {R"({"jsonrpc": "2.0", "method": "update", "params": [1,2,3,4,5]})", ""},
    {R"({"jsonrpc": "2.0", "method": "foobar"})", ""},
    {R"({"jsonrpc": "2.0", "method": "foobar", "id": "1"})",
     R"({"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "1"})"},
    {R"({"jsonrpc": "2.0", "method": "foobar, "params": "bar", "baz])",
     R"({"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null})"},
    {R"({"jsonrpc": "2.0", "method": 1, "params": "bar"})",
     R"({"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null})"},
    {R"([
  {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
  {"jsonrpc": "2.0", "method"
])",
     R"({"jsonrpc": "2.0", "error": {"code": -32700, "message": "Parse error"}, "id": null})"},
    {"[]",
     R"({"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null})"},
    {"[1]",
     R"([
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}
])"},
    {"[1,2,3]",
     R"([
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
  {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null}
])"},
    {R"([
        {"jsonrpc": "2.0", "method": "sum", "params": [1,2,4], "id": "1"},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]},
        {"jsonrpc": "2.0", "method": "subtract", "params": [42,23], "id": "2"},
        {"foo": "boo"},
        {"jsonrpc": "2.0", "method": "foo.get", "params": {"name": "myself"}, "id": "5"},
        {"jsonrpc": "2.0", "method": "get_data", "id": "9"}
    ])",
     R"([
        {"jsonrpc": "2.0", "result": 7, "id": "1"},
        {"jsonrpc": "2.0", "result": 19, "id": "2"},
        {"jsonrpc": "2.0", "error": {"code": -32600, "message": "Invalid Request"}, "id": null},
        {"jsonrpc": "2.0", "error": {"code": -32601, "message": "Method not found"}, "id": "5"},
        {"jsonrpc": "2.0", "result": ["hello", 5], "id": "9"}
    ])"},
    {R"([
        {"jsonrpc": "2.0", "method": "notify_sum", "params": [1,2,4]},
        {"jsonrpc": "2.0", "method": "notify_hello", "params": [7]}
    ])",
     ""},
};

task<> answer_the_examples(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(server, methods_of_the_examples());
  for (const auto &e : examples) {
    co_await client.send(e.sent);
    if (e.answer.empty()) {
      co_await nothing_came(client);
      continue;
    }
    const auto answer = co_await next_json(client);
    BOOST_CHECK_MESSAGE(answer == parsed(e.answer),
                        std::string(e.sent) + "\nanswered " + json::serialize(answer));
  }
  BOOST_CHECK_EQUAL(peer.stats().malformed, 1U + 1U + 1U + 1U + 1U + 3U + 1U);
  BOOST_CHECK_EQUAL(peer.stats().running, 0U);
}
BOOST_AUTO_TEST_CASE(the_examples_are_answered_as_they_say) { run(answer_the_examples); }

// The same from the asking side: what is sent is what the examples show.
task<> ask_the_examples(shard &home) {
  auto [server, client] = session_pair(home);
  rpc peer(client);
  running<result<int>> first(home, peer.request<int>("subtract", json_array(42, 23)));
  BOOST_CHECK(co_await next_json(server) == parsed(examples[0].sent));
  co_await server.send(examples[0].answer);
  BOOST_CHECK_EQUAL((co_await first.end()).value(), 19);
  running<result<int>> second(home, peer.request<int>("subtract", json_array(23, 42)));
  BOOST_CHECK(co_await next_json(server) == parsed(examples[1].sent));
  co_await server.send(examples[1].answer);
  BOOST_CHECK_EQUAL((co_await second.end()).value(), -19);
  co_await peer.notify("update", json_array(1, 2, 3, 4, 5));
  BOOST_CHECK(co_await next_json(server) == parsed(examples[4].sent));
  co_await peer.notify("foobar");
  BOOST_CHECK(co_await next_json(server) == parsed(examples[5].sent));
}
BOOST_AUTO_TEST_CASE(the_examples_are_asked_as_they_say) { run(ask_the_examples); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
