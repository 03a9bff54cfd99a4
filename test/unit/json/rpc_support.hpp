#pragma once
// What the tests of JSON-RPC share: a peer that is a bare session, driven by hand.

#include "unit/session/support.hpp"

#include <chorus/json.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace chorus::test {

namespace json = boost::json;

inline json::value parsed(std::string_view text) {
  return json::parse(json::string_view(text.data(), text.size()));
}

// The next message of a bare session, as JSON.
inline task<json::value> next_json(session s) {
  auto m = co_await receive_json(s);
  BOOST_REQUIRE_MESSAGE(m.has_value(), m.error().message());
  co_return std::move(*m);
}

// Sends `probe` and shows that its answer is the next message: nothing else was sent before.
inline task<> nothing_came(session s) {
  co_await s.send(R"({"jsonrpc":"2.0","method":"no such method","id":"probe"})");
  const auto answer = co_await next_json(s);
  BOOST_CHECK_MESSAGE(answer.is_object() && answer.as_object().contains("id") &&
                          answer.at("id") == "probe",
                      json::serialize(answer));
}

inline int error_code_of(const json::value &answer) {
  const auto *error = answer.is_object() ? answer.as_object().if_contains("error") : nullptr;
  return error ? static_cast<int>(error->at("code").as_int64()) : 0;
}

} // namespace chorus::test
