// Documents with damaged bytes, thousands of them: whatever comes, the other side lives, answers the
// next good request, and what it sent is well formed.

#include "unit/json/rpc_support.hpp"

#include <random>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(rpc_mutation)

constexpr std::string_view seeds[] = {
    R"({"jsonrpc":"2.0","method":"echo","params":[1,"two",null],"id":17})",
    R"({"jsonrpc":"2.0","method":"echo","params":{"a":[1.5e3,{}]},"id":"text"})",
    R"({"jsonrpc":"2.0","method":"echo"})",
    R"({"jsonrpc":"2.0","result":[1,2],"id":1})",
    R"({"jsonrpc":"2.0","error":{"code":-32601,"message":"no","data":[1]},"id":1})",
    R"([{"jsonrpc":"2.0","method":"echo","params":[],"id":1},{"jsonrpc":"2.0","method":"echo"},
        {"jsonrpc":"2.0","result":0,"id":3},{"foo":"boo"},7])",
};
constexpr std::string_view pieces[] = {
    "\"",  "{",        "}",       "[",           "]",
    ",",   ":",        "null",    "1e400",       "-",
    "\\u", "\xc3\xa4", "\"id\":", "\"method\":", "\"jsonrpc\":\"2.0\""};

std::string damaged(std::mt19937 &random) {
  const auto below = [&](std::size_t n) { return n == 0 ? 0 : random() % n; };
  std::string text(seeds[below(std::size(seeds))]);
  for (auto n = 1 + below(4); n != 0; --n) {
    const auto at = below(text.size() + 1);
    switch (below(5)) {
    case 0:
      text.erase(at, 1 + below(8));
      break;
    case 1:
      text.insert(at, pieces[below(std::size(pieces))]);
      break;
    case 2:
      if (at < text.size())
        text[at] = static_cast<char>(1 + below(126));
      break;
    case 3:
      text.insert(at, text.substr(below(text.size()), below(40)));
      break;
    default:
      text.resize(at);
    }
  }
  return text;
}

bool well_formed(const json::value &answer) {
  if (const auto *batch = answer.if_array()) {
    for (const auto &one : *batch)
      if (!one.is_object() || !well_formed(one))
        return false;
    return !batch->empty();
  }
  const auto *o = answer.if_object();
  return o && o->contains("id") && o->at("jsonrpc") == "2.0" &&
         o->contains("result") != o->contains("error");
}

task<> mutate(shard &home) {
  auto [server, client] = session_pair(home);
  rpc_methods methods;
  methods.add("echo", [](json::value params) -> task<json::value> { co_return params; });
  rpc peer(server, methods, {.timeout = 1h});
  // Some of the damaged answers find a request that waits for them.
  std::vector<std::unique_ptr<running<result<json::value>>>> waiting;
  for (int i = 0; i < 4; ++i)
    waiting.push_back(std::make_unique<running<result<json::value>>>(home, peer.request("x")));
  std::mt19937 random(20'100'326);
  std::size_t answers = 0;
  for (int round = 0; round < 5'000; ++round) {
    const auto text = damaged(random);
    co_await client.send(binary(text)); // whatever the bytes
    co_await client.send(R"({"jsonrpc":"2.0","method":"echo","params":["good"],"id":"good"})");
    for (;;) {
      const auto seen = co_await next_json(client);
      if (seen.is_object() && seen.as_object().contains("method"))
        continue; // a request of the other side
      BOOST_REQUIRE_MESSAGE(well_formed(seen), text + "\n" + json::serialize(seen));
      ++answers;
      if (seen.is_object() && seen.at("id") == "good" && seen.as_object().contains("result") &&
          seen.at("result") == json_array("good"))
        break;
    }
  }
  BOOST_CHECK(server.is_open());
  BOOST_CHECK_GT(answers, 5'000U);
  BOOST_CHECK_EQUAL(peer.stats().running, 0U);
  BOOST_CHECK_GT(peer.stats().malformed, 1'000U);
}
BOOST_AUTO_TEST_CASE(damaged_documents) { run(mutate); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
