// JSON messages: what is refused, where the fault is, and the way over a session.

#include "unit/session/support.hpp"

#include <chorus/json/json.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace chorus::test {
namespace {

namespace json = boost::json;

BOOST_AUTO_TEST_SUITE(json_messages)

bool says(const failure &f, std::string_view part) {
  return f.message().find(part) != std::string::npos;
}

BOOST_AUTO_TEST_CASE(a_value_becomes_a_text_message_and_back) {
  const json::value value{{"name", "a \"b\"\n\u00e4"}, {"list", {1, 2.5, nullptr, true}}};
  const auto m = to_message(value);
  BOOST_CHECK(m.is_text());
  BOOST_CHECK(m.text().find('\n') == std::string_view::npos);
  const auto back = to_json(m);
  BOOST_REQUIRE(back.has_value());
  BOOST_CHECK(*back == value);
  BOOST_CHECK(to_json(binary(m.text())).value() == value);
  BOOST_CHECK(to_json(message(" 7 ")).value() == json::value(7));
}

BOOST_AUTO_TEST_CASE(a_fault_is_named_with_its_position) {
  struct fault {
    std::string_view text;
    std::string_view at;
  };
  const fault faults[] = {
      {"{\"a\": x}", "at byte 6 of 8"},
      {"[1, 2", "at byte 5 of 5"},
      {"", "at byte 0 of 0"},
      {"[1] 2", "at byte 4 of 5"},
      {"{\"a\" 1}", "at byte 5 of 7"},
      {"nul", "at byte 3 of 3"},
      {"[1,]", "at byte 3 of 4"},
      {"\"\x01\"", "at byte 1 of 3"},
      {"\"\xff\xff\"", "at byte 1 of 4"},
  };
  for (const auto &f : faults)
    BOOST_TEST_CONTEXT(f.text) {
      const auto r = to_json(message(f.text));
      BOOST_REQUIRE(r.has_error());
      BOOST_CHECK_MESSAGE(says(r.error(), f.at), r.error().message());
      BOOST_CHECK(r.error().code().failed());
      BOOST_CHECK(r.error().code().category() ==
                  json::make_error_code(json::error::syntax).category());
    }
}

BOOST_AUTO_TEST_CASE(nesting_is_bounded) {
  const auto nested = [](std::size_t depth) {
    return std::string(depth, '[') + std::string(depth, ']');
  };
  BOOST_CHECK(to_json(message(nested(32))).has_value());
  const auto deep = to_json(message(nested(33)));
  BOOST_REQUIRE(deep.has_error());
  BOOST_CHECK(deep.error().code() == json::error::too_deep);
  BOOST_CHECK_MESSAGE(says(deep.error(), "at byte 32 of 66"), deep.error().message());
  BOOST_CHECK(to_json(message(nested(33)), {.max_depth = 33}).has_value());
  BOOST_CHECK(to_json(message(nested(1'000'000))).has_error());
}

task<> over_a_session(shard &home) {
  auto [server, client] = session_pair(home);
  const json::value question{{"question", "how many?"}};
  BOOST_CHECK((co_await send_json(client, question)).has_value());
  const auto got = co_await receive_json(server);
  BOOST_REQUIRE(got.has_value());
  BOOST_CHECK(*got == question);

  BOOST_CHECK((co_await server.send("{]")).has_value());
  BOOST_CHECK((co_await server.send(binary("[[[1]]]"))).has_value());
  BOOST_CHECK((co_await server.send("[[[1]]]")).has_value());
  BOOST_CHECK((co_await server.send("8")).has_value());
  const auto malformed = co_await receive_json(client);
  BOOST_REQUIRE(malformed.has_error());
  BOOST_CHECK_MESSAGE(says(malformed.error(), "not valid JSON at byte 1 of 2"),
                      malformed.error().message());
  BOOST_CHECK((co_await receive_json(client)).has_value());
  BOOST_CHECK((co_await receive_json(client, {.max_depth = 2})).error().code() ==
              json::error::too_deep);
  BOOST_CHECK((co_await receive_json(client)).value() == json::value(8));
  BOOST_CHECK(client.state() == session_state::open);

  server.start_close();
  const auto over = co_await receive_json(client);
  BOOST_REQUIRE(over.has_error());
  BOOST_CHECK_EQUAL(over.error(), error::closed);
  BOOST_CHECK((co_await send_json(client, question)).has_error());
  BOOST_CHECK_EQUAL((co_await receive_json(session())).error(), error::not_open);
}
BOOST_AUTO_TEST_CASE(sent_and_received_over_a_session) { run(over_a_session); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
