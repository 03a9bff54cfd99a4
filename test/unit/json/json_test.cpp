// JSON messages: what is refused, where the fault is, and the way over a session.

#include "unit/session/support.hpp"

#include <chorus/json/json.hpp>

#include <boost/describe/class.hpp>
#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <limits>
#include <map>

namespace chorus::test {
namespace {

namespace json = boost::json;

struct player {
  std::string name;
  std::optional<int> score;
  friend bool operator==(const player &, const player &) = default;
};
BOOST_DESCRIBE_STRUCT(player, (), (name, score))

struct game {
  std::vector<player> players;
  std::map<std::string, std::pair<int, double>> marks;
};
BOOST_DESCRIBE_STRUCT(game, (), (players, marks))

// With a conversion of its own.
struct celsius {
  double degrees = 0;
};
void tag_invoke(json::value_from_tag, json::value &to, const celsius &c) { to = c.degrees; }
celsius tag_invoke(json::value_to_tag<celsius>, const json::value &v) {
  const auto degrees = v.to_number<double>();
  if (degrees < -273.15)
    throw std::out_of_range("colder than can be");
  return {degrees};
}

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

BOOST_AUTO_TEST_CASE(a_fault_has_line_and_column) {
  json_position at;
  const auto r = parse_json("{\n  \"\u00e4\u20ac\": 1,\n  \"\u00e4\": x\n}", {}, &at);
  BOOST_REQUIRE(r.has_error());
  BOOST_CHECK_EQUAL(at.line, 3U);
  BOOST_CHECK_EQUAL(at.column, 8U);
  BOOST_CHECK_EQUAL(at.byte, 24U);
  BOOST_CHECK_MESSAGE(says(r.error(), "at byte 24 of 27 (line 3, column 8)"), r.error().message());
  BOOST_CHECK(r.error().code() == json::condition::parse_error);
}

BOOST_AUTO_TEST_CASE(size_is_bounded) {
  const auto text = '[' + std::string(100, ' ') + ']';
  BOOST_CHECK(parse_json(text, {.max_bytes = 102}).has_value());
  BOOST_CHECK(parse_json(text, {.max_bytes = 0}).has_value());
  json_position at;
  const auto large = parse_json(text, {.max_bytes = 101}, &at);
  BOOST_REQUIRE(large.has_error());
  BOOST_CHECK_EQUAL(large.error(), error::message_too_big);
  BOOST_CHECK_MESSAGE(says(large.error(), "max_bytes"), large.error().message());
  BOOST_CHECK_EQUAL(at.byte, 101U);
  BOOST_CHECK(to_json(message(std::string(std::size_t{1} << 20, ' ') + '1')).has_error());
}

BOOST_AUTO_TEST_CASE(types_become_values_and_back) {
  const player ada{"ada", 3};
  BOOST_CHECK_EQUAL(to_message(ada).text(), R"({"name":"ada","score":3})");
  BOOST_CHECK(from_json<player>(to_message(ada)).value() == ada);
  BOOST_CHECK(from_json<player>(message(R"({"name":"b","score":null})")).value() ==
              (player{"b", std::nullopt}));
  BOOST_CHECK_EQUAL(to_message(std::vector<int>{1, 2}).text(), "[1,2]");
  BOOST_CHECK_EQUAL(to_message(celsius{21.5}).text(), "2.15E1");
  BOOST_CHECK_EQUAL(from_json<celsius>(message("-3")).value().degrees, -3);
  BOOST_CHECK(from_json<json::value>(message("[1]")).value() == (json::value{1}));

  const auto built =
      json_object("who", ada, "list", json_array(1, "two", nullptr), "who", "nobody");
  BOOST_CHECK_EQUAL(to_message(built).text(), R"({"who":"nobody","list":[1,"two",null]})");
}

BOOST_AUTO_TEST_CASE(what_does_not_convert_is_named_by_its_member) {
  struct mismatch {
    std::string_view text;
    std::string_view says;
  };
  const mismatch all[] = {
      {R"({"players":[{"name":"a","score":1},{"name":"b","score":"x"}],"marks":{}})",
       "at /players/1/score: not a number, found string"},
      {R"({"players":[{"name":1,"score":2}],"marks":{}})",
       "at /players/0/name: value is not a string, found int64"},
      {R"({"players":[{"name":"a"}],"marks":{}})", "at /players/0/score: this member is missing"},
      {R"({"players":[],"marks":{},"zz":1})", "at /zz: this member is not known"},
      {R"({"players":[],"marks":{"a~/b":[1,"2"]}})", "at /marks/a~0~1b/1: not a number"},
      {R"({"players":[],"marks":{"m":[1]}})", "at /marks/m: "},
      {R"({"players":[],"marks":{"m":[1.5,1]}})", "at /marks/m/0: not exact, found double"},
      {R"({"players":3,"marks":{}})", "at /players: value is not an array, found int64"},
      {"[1]", "does not convert: value is not an object, found array"},
  };
  for (const auto &m : all)
    BOOST_TEST_CONTEXT(m.text) {
      const auto r = from_json<game>(message(m.text));
      BOOST_REQUIRE(r.has_error());
      BOOST_CHECK_MESSAGE(says(r.error(), m.says), r.error().message());
      BOOST_CHECK(r.error().code() == json::condition::conversion_error);
    }
  // An exception of one's own conversion is a failure, too; names from outside are cut and tamed.
  const auto cold = from_json<std::map<std::string, celsius>>(
      json_object(std::string(100, 'x') + "\n", 1, "no\x1bpe", -300));
  BOOST_REQUIRE(cold.has_error());
  BOOST_CHECK(cold.error().code() == json::error::exception);
  BOOST_CHECK_MESSAGE(says(cold.error(), "at /no?pe: "), cold.error().message());
  const auto longest =
      from_json<std::map<std::string, int>>(json_object(std::string(100, 'x'), "1"));
  BOOST_CHECK_MESSAGE(says(longest.error(), "at /" + std::string(64, 'x') + "...: "),
                      longest.error().message());
  BOOST_CHECK(from_json<player>(message("{")).error().code() == json::condition::parse_error);
}

task<> typed_over_a_session(shard &home) {
  auto [server, client] = session_pair(home);
  const player ada{"a name too long to be stored in the string itself", 3};
  BOOST_CHECK((co_await send_json(client, ada)).has_value());
  BOOST_CHECK((co_await send_json(client, json_object("name", ada.name, "score", 4))).has_value());
  BOOST_CHECK((co_await send_json(client, std::vector<std::string>(2, ada.name))).has_value());
  BOOST_CHECK((co_await send_json(client, json_array(ada.name, 1))).has_value());
  BOOST_CHECK((co_await server.send(to_message(ada))).has_value());
  BOOST_CHECK((co_await receive_json<player>(server)).value() == ada);
  const auto second = co_await receive_json<player>(server, {.max_depth = 1});
  BOOST_CHECK_EQUAL(second.value().score.value(), 4);
  BOOST_CHECK_EQUAL((co_await receive_json<std::vector<std::string>>(server)).value()[1], ada.name);
  const auto wrong = co_await receive_json<player>(server);
  BOOST_CHECK(wrong.error().code() == json::error::not_object);
  BOOST_CHECK(server.is_open());
  auto m = co_await client.receive();
  BOOST_CHECK(from_json<player>(*m).value() == ada);
}
BOOST_AUTO_TEST_CASE(types_over_a_session) { run(typed_over_a_session); }

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
