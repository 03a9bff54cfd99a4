// JSON-RPC in both directions over one session.

#include "unit/json/rpc_support.hpp"

#include <boost/describe/class.hpp>

#include <stdexcept>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(rpc_both_ways)

struct pair_of_names {
  std::string first;
  std::string second;
};
BOOST_DESCRIBE_STRUCT(pair_of_names, (), (first, second))

const std::string long_name = "a name too long to be stored in the string itself";

rpc_methods every_form() {
  rpc_methods methods;
  methods.add("nothing", []() -> task<> { co_return; });
  methods.add("raw", [](json::value params) -> task<result<json::value>> { co_return params; });
  methods.add("call", [](rpc_call call) -> task<std::string> { co_return call.method(); });
  methods.add("call_raw", [](rpc_call call, json::value params) -> task<json::value> {
    co_return json_array(call.is_notification(), params);
  });
  methods.add("one", [](int n) -> task<int> { co_return n + 1; });
  methods.add("word", [](std::string word) -> task<std::string> { co_return word + "!"; });
  methods.add("two",
              [](int a, std::string b) -> task<std::string> { co_return b + std::to_string(a); });
  methods.add("call_two", [](rpc_call call, int a, int b) -> task<std::string> {
    co_return call.method() + std::to_string(a + b);
  });
  methods.add("whole",
              [](std::vector<int> all) -> task<result<std::size_t>> { co_return all.size(); });
  methods.add("named", [](pair_of_names p) -> task<result<pair_of_names>> {
    co_return pair_of_names{p.second, p.first};
  });
  methods.add("void_result", []() -> task<result<>> { co_return result<>(); });
  methods.add("refuse", []() -> task<result<int>> {
    co_return rpc_failure(-7, "no such room", json_object("room", "blue"));
  });
  methods.add("fail", []() -> task<result<int>> {
    co_return failure(error::room_closed, stage::open, "a secret sentence");
  });
  methods.add("throw", []() -> task<int> {
    throw std::runtime_error("a secret text");
    co_return 1;
  });
  methods.add("throw_before", [](int) mutable -> task<int> { throw 5; });
  return methods;
}

task<> calls_that_are_none(shard &home) {
  auto [server, client] = session_pair(home);
  rpc answering(server, every_form());
  rpc peer(client);
  const std::pair<const char *, const char *> wrong[] = {
      {R"([1])", "name of a method"},
      {R"({"params": [1]})", "name of a method"},
      {R"({"method": 1})", "name of a method"},
      {R"({"method": "raw", "id": 1})", "leave out \"id\""},
      {R"({"method": "raw", "jsonrpc": "1.0"})", "2.0"},
      {R"({"method": "raw", "parms": [1]})", "no member \"parms\""},
      {R"({"method": "raw", "params": 1})", "wrap it in an array"},
  };
  for (const auto &[text, why] : wrong) {
    const auto call = json::parse(text);
    const auto answer = co_await peer.request(call);
    BOOST_REQUIRE(answer.has_error());
    BOOST_CHECK(answer.error().code() == error::bad_option);
    BOOST_TEST(answer.error().message().find(why) != std::string::npos, answer.error().message());
  }
  BOOST_CHECK_EQUAL(peer.stats().requests_sent, 0U);
}

task<> forms(shard &home) {
  auto [server, client] = session_pair(home);
  std::string reported;
  rpc_options options;
  options.on_error = [&](std::string_view method, std::string_view what) {
    reported.append(method).append(": ").append(what).append("; ");
  };
  rpc answering(server, every_form(), options);
  rpc peer(client);
  BOOST_CHECK((co_await peer.request("nothing")).value().is_null());
  BOOST_CHECK((co_await peer.request("raw")).value().is_null());
  BOOST_CHECK((co_await peer.request("raw", json_array(1, long_name))).value() ==
              json_array(1, long_name));
  BOOST_CHECK_EQUAL((co_await peer.request<std::string>("call")).value(), "call");
  BOOST_CHECK((co_await peer.request("call_raw", json_array(3))).value() ==
              json_array(false, json_array(3)));
  BOOST_CHECK_EQUAL((co_await peer.request<int>("one", json_array(4), {.timeout = 60s})).value(),
                    5);
  BOOST_CHECK_EQUAL((co_await peer.request<std::string>("word", json_array(long_name))).value(),
                    long_name + "!");
  BOOST_CHECK_EQUAL((co_await peer.request<std::string>("two", json_array(1, "x"))).value(), "x1");
  BOOST_CHECK_EQUAL((co_await peer.request<std::string>("call_two", json_array(1, 2))).value(),
                    "call_two3");
  BOOST_CHECK_EQUAL((co_await peer.request<int>("whole", std::vector<int>(7))).value(), 7);
  // A whole request as JSON.
  const auto call = json::parse(R"({"jsonrpc": "2.0", "method": "call_two", "params": [3, 4]})");
  BOOST_CHECK((co_await peer.request(call, {.timeout = 60s})).value() == "call_two7");
  BOOST_CHECK((co_await peer.request(call.as_object())).value() == "call_two7");
  const auto bare = json::parse(R"({"method": "nothing"})");
  BOOST_CHECK((co_await peer.request(bare)).value().is_null());
  const pair_of_names names{long_name, "b"};
  const auto swapped = co_await peer.request<pair_of_names>("named", names);
  BOOST_CHECK_EQUAL(swapped.value().second, long_name);
  BOOST_CHECK((co_await peer.request("named", names)).value() ==
              json_object("first", "b", "second", long_name));
  BOOST_CHECK((co_await peer.request("void_result")).value().is_null());

  const auto refused = co_await peer.request("refuse");
  BOOST_REQUIRE(refused.has_error());
  const auto why = rpc_error_of(refused.error());
  BOOST_REQUIRE(why.has_value());
  BOOST_CHECK_EQUAL(why->code, -7);
  BOOST_CHECK_EQUAL(why->message, "no such room");
  BOOST_CHECK(why->data == json_object("room", "blue"));
  BOOST_CHECK_EQUAL(refused.error().message(), "no such room");

  for (const auto *method : {"fail", "throw"}) {
    const auto failed = co_await peer.request(method);
    BOOST_CHECK(failed.error().code() == rpc_code::internal_error);
    BOOST_CHECK_EQUAL(failed.error().message(), "Internal error");
    BOOST_CHECK(rpc_error_of(failed.error())->data.is_null());
  }
  BOOST_CHECK((co_await peer.request("throw_before", json_array(1))).error().code() ==
              rpc_code::internal_error);
  BOOST_CHECK_EQUAL(reported, "throw: a secret text; throw_before: an exception of unknown type; ");
  BOOST_CHECK_EQUAL(answering.stats().handlers_failed, 2U);

  BOOST_CHECK((co_await peer.request("missing")).error().code() == rpc_code::method_not_found);
  const auto wrong = co_await peer.request("named", json_object("first", 1, "second", "b"));
  BOOST_CHECK(wrong.error().code() == rpc_code::invalid_params);
  const auto data = rpc_error_of(wrong.error())->data;
  BOOST_CHECK_MESSAGE(data.as_string().find("/first") != json::string::npos, json::serialize(data));
  BOOST_CHECK((co_await peer.request("two", json_array(1))).error().code() ==
              rpc_code::invalid_params);
  BOOST_CHECK((co_await peer.request("one")).error().code() == rpc_code::invalid_params);
  const auto no_int = co_await peer.request<int>("word", json_array("x"));
  BOOST_CHECK(no_int.error().code() == json::condition::conversion_error);
  BOOST_CHECK(!rpc_error_of(no_int.error()));

  BOOST_CHECK_EQUAL((co_await peer.request("one", json::value(1))).error(), error::bad_option);
  BOOST_CHECK_EQUAL((co_await peer.notify("one", json::value("x"))).error(), error::bad_option);
  BOOST_CHECK_EQUAL((co_await rpc().request("one")).error(), error::not_open);
  BOOST_CHECK_EQUAL(co_await rpc().ended(), error::not_open);
  BOOST_CHECK_EQUAL(peer.stats().in_flight, 0U);
  BOOST_CHECK_EQUAL(peer.stats().answers, peer.stats().requests_sent);
}
BOOST_AUTO_TEST_CASE(every_form_of_handler_and_error) { run(forms); }
BOOST_AUTO_TEST_CASE(an_object_that_is_no_request_is_not_sent) { run(calls_that_are_none); }

// Each side asks the other while it is asked itself, and the answers come in another order.
task<> interleaved(shard &home) {
  auto [server, client] = session_pair(home);
  struct gated {
    std::vector<detail::parked *> waiting;
  };
  auto gate = std::make_shared<gated>();
  rpc_methods methods;
  methods.add("later", [gate](int n) -> task<int> {
    detail::parked me;
    gate->waiting.push_back(&me);
    co_await me.park();
    co_return n * 10;
  });
  methods.add("ask_back", [](rpc_call call, int n) -> task<result<int>> {
    if (n == 0)
      co_return 0;
    auto deeper = co_await call.peer().request<int>("ask_back", json_array(n - 1));
    if (deeper.has_error())
      co_return deeper.error();
    co_return *deeper + 1;
  });
  rpc one(server, methods);
  rpc two(client, methods);
  constexpr int count = 100;
  std::vector<std::unique_ptr<running<result<int>>>> asked;
  for (int i = 0; i < count; ++i) {
    auto &who = i % 2 == 0 ? one : two;
    asked.push_back(std::make_unique<running<result<int>>>(
        home,
        who.request<int>("later", json_array(i), {.timeout = std::chrono::milliseconds::max()})));
  }
  co_await until([&] { return gate->waiting.size() == count; });
  BOOST_CHECK_EQUAL(one.stats().running + two.stats().running, std::size_t{count});
  BOOST_CHECK_EQUAL(one.stats().in_flight, std::size_t{count / 2});
  BOOST_CHECK_EQUAL((co_await one.request<int>("ask_back", json_array(20))).value(), 20);
  while (!gate->waiting.empty()) {
    gate->waiting.back()->wake_later();
    gate->waiting.pop_back();
  }
  for (int i = 0; i < count; ++i)
    BOOST_CHECK_EQUAL((co_await asked[static_cast<std::size_t>(i)]->end()).value(), i * 10);
  BOOST_CHECK_EQUAL(one.stats().in_flight + two.stats().in_flight, 0U);
}
BOOST_AUTO_TEST_CASE(concurrent_requests_both_ways) { run(interleaved); }

task<> batches(shard &home) {
  auto [server, client] = session_pair(home);
  auto heard = std::make_shared<int>(0);
  auto methods = every_form();
  methods.add("hear", [heard]() -> task<> {
    ++*heard;
    co_return;
  });
  rpc answering(server, methods);
  rpc peer(client);
  rpc_batch batch;
  BOOST_CHECK_EQUAL(batch.request("one", json_array(1)), 0U);
  batch.notify("hear");
  BOOST_CHECK_EQUAL(batch.request("missing"), 1U);
  BOOST_CHECK_EQUAL(batch.request("throw"), 2U);
  BOOST_CHECK_EQUAL(batch.request("one", json_array(2)), 3U);
  const auto all = co_await peer.request(batch);
  BOOST_REQUIRE(all.has_value());
  BOOST_REQUIRE_EQUAL(all->size(), 4U);
  BOOST_CHECK((*all)[0].value() == 2);
  BOOST_CHECK((*all)[1].error().code() == rpc_code::method_not_found);
  BOOST_CHECK((*all)[2].error().code() == rpc_code::internal_error);
  BOOST_CHECK((*all)[3].value() == 3);
  BOOST_CHECK_EQUAL(*heard, 1);
  BOOST_CHECK_EQUAL(client.stats().messages_received, 1U); // one array

  rpc_batch silent;
  silent.notify("hear");
  silent.notify("hear");
  const auto none = co_await peer.request(std::move(silent), {.timeout = 1s});
  BOOST_CHECK(none.has_value() && none->empty());
  co_await until([&] { return *heard == 3; });
  BOOST_CHECK_EQUAL((co_await peer.request(rpc_batch())).error(), error::bad_option);
  rpc_batch unusable;
  unusable.request("one", json::value(true));
  BOOST_CHECK_EQUAL((co_await peer.request(unusable)).error(), error::bad_option);
}
BOOST_AUTO_TEST_CASE(a_batch_is_one_message_each_way) { run(batches); }

task<> mixed(shard &home) {
  auto [server, client] = session_pair(home);
  rpc plain(server, every_form());
  co_await client.send("no json");
  BOOST_CHECK_EQUAL(error_code_of(co_await next_json(client)), -32700);
  co_await client.send(R"({"type":"chat"})");
  BOOST_CHECK_EQUAL(error_code_of(co_await next_json(client)), -32600);
  co_await client.send(binary(R"({"jsonrpc":"2.0","method":"one","params":[1],"id":null})"));
  BOOST_CHECK(co_await next_json(client) == parsed(R"({"jsonrpc":"2.0","result":2,"id":null})"));

  auto [other_server, other_client] = session_pair(home);
  std::vector<std::string> others;
  rpc_options options;
  options.on_other = [&](const message &m) { others.emplace_back(m.text()); };
  rpc tolerant(other_server, every_form(), options);
  const std::string_view foreign[] = {"no json", R"({"type":"chat"})", "[]", "[1,2]", "7", ""};
  for (const auto text : foreign)
    co_await other_client.send(text);
  co_await nothing_came(other_client);
  BOOST_CHECK_EQUAL(others.size(), std::size(foreign));
  BOOST_CHECK_EQUAL(tolerant.stats().others, std::size(foreign));
  co_await other_client.send(R"({"jsonrpc":"2.0","method":1})");
  BOOST_CHECK_EQUAL(error_code_of(co_await next_json(other_client)), -32600);
}
BOOST_AUTO_TEST_CASE(other_messages_have_their_own_handler) { run(mixed); }

task<> replaced(shard &home) {
  auto [server, client] = session_pair(home);
  rpc_methods methods;
  methods.add("version", []() -> task<int> { co_return 1; });
  rpc answering(server, methods);
  methods.add("version", []() -> task<int> { co_return 2; });
  BOOST_CHECK(methods.contains("version"));
  BOOST_CHECK(!methods.contains("other"));
  rpc peer(client);
  BOOST_CHECK_EQUAL((co_await peer.request<int>("version")).value(),
                    1); // it keeps what it was given
  answering.stop();
  BOOST_CHECK_EQUAL(co_await answering.ended(), error::not_open);
  rpc again(server, methods);
  BOOST_CHECK_EQUAL((co_await peer.request<int>("version")).value(), 2);
}
BOOST_AUTO_TEST_CASE(methods_are_a_value) { run(replaced); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
