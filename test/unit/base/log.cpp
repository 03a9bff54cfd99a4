#include <chorus/base/log.hpp>

#include <boost/json/parse.hpp>
#include <boost/test/unit_test.hpp>

#include <limits>
#include <string>
#include <vector>

using namespace chorus;
using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(log_records)

namespace {

std::string json(std::string_view event, std::vector<log_field> fields,
                 std::uint64_t connection = 0) {
  return to_json_line({log_level::warn, log_room::session, connection, event, fields}, log_time{});
}

std::string text(std::string_view event, std::vector<log_field> fields,
                 std::uint64_t connection = 0) {
  return to_text_line({log_level::warn, log_room::session, connection, event, fields});
}

class counting final : public log_sink {
public:
  using log_sink::log_sink;
  void write(const log_record &) noexcept override { ++written; }
  int written = 0;
};

} // namespace

BOOST_AUTO_TEST_CASE(levels_are_read_from_text) {
  const auto all = parse_log_levels("debug");
  BOOST_REQUIRE(all.has_value());
  BOOST_CHECK(all->rooms[0] == log_level::debug);
  BOOST_CHECK((*all)[log_room::program] == log_level::debug);

  const auto some = parse_log_levels("warn,session=trace,server=off");
  BOOST_REQUIRE(some.has_value());
  BOOST_CHECK((*some)[log_room::client] == log_level::warn);
  BOOST_CHECK((*some)[log_room::session] == log_level::trace);
  BOOST_CHECK((*some)[log_room::server] == log_level::off);

  const auto rest = parse_log_levels("session=debug"); // the others stay as they are by default
  BOOST_REQUIRE(rest.has_value());
  BOOST_CHECK((*rest)[log_room::server] == log_level::info);
  BOOST_CHECK((*rest)[log_room::session] == log_level::debug);

  for (const auto *wrong :
       {"", "loud", "session", "session=", "=debug", "attic=debug", "session=debug,info", "info,",
        "info,,session=debug", " info", "session = debug", "INFO"})
    BOOST_CHECK_MESSAGE(!parse_log_levels(wrong), wrong);
}

BOOST_AUTO_TEST_CASE(a_sink_wants_what_its_levels_let_through) {
  counting sink{*parse_log_levels("warn,session=debug,server=off")};
  BOOST_CHECK(sink.wants(log_room::client, log_level::warn));
  BOOST_CHECK(!sink.wants(log_room::client, log_level::info));
  BOOST_CHECK(sink.wants(log_room::session, log_level::debug));
  BOOST_CHECK(!sink.wants(log_room::session, log_level::trace));
  BOOST_CHECK(!sink.wants(log_room::server, log_level::error));
  sink.set_levels(log_levels(log_level::error));
  BOOST_CHECK(!sink.wants(log_room::session, log_level::warn));

  counting *none = nullptr;
  BOOST_CHECK(!detail::log_for(none, log_room::client, log_level::error));
  BOOST_CHECK(!detail::log_for(&sink, log_room::client, log_level::warn));
  BOOST_CHECK(detail::log_for(&sink, log_room::client, log_level::error) == &sink);
}

BOOST_AUTO_TEST_CASE(a_line_of_text_is_one_line) {
  BOOST_TEST(text("closed", {{"code", 1000}, {"by", "peer"}}, 7) ==
             "session closed connection=7 code=1000 by=peer");
  BOOST_TEST(text("x", {{"a", true}, {"b", -3}, {"c", 0.25}, {"d", std::uint64_t{1} << 63}}) ==
             "session x a=true b=-3 c=0.25 d=9223372036854775808");
  BOOST_TEST(text("x", {{"path", "/a b"}, {"none", ""}}) == "session x path=\"/a b\" none=\"\"");
  // What a peer sends can't look like a field or a line of its own.
  BOOST_TEST(text("x", {{"path", "/a\r\nsession closed"}}) ==
             "session x path=\"/a\\u000d\\u000asession closed\"");
  BOOST_TEST(text("x", {{"path", "a=b"}}) == "session x path=\"a=b\"");
}

BOOST_AUTO_TEST_CASE(a_line_of_json_is_valid_whatever_it_holds) {
  BOOST_TEST(json("closed", {{"code", 1000}, {"by", "peer"}, {"ok", false}}, 7) ==
             "{\"time\":\"1970-01-01T00:00:00.000Z\",\"level\":\"warn\",\"room\":\"session\","
             "\"connection\":7,\"event\":\"closed\",\"code\":1000,\"by\":\"peer\",\"ok\":false}");
  // Every byte alone, in pairs with a leading byte, and cut short.
  for (int lead : {-1, 0xc2, 0xc0, 0xe0, 0xed, 0xf0, 0xf4, 0xf5, 0xff})
    for (int c = 0; c < 256; ++c) {
      std::string value;
      if (lead >= 0)
        value.push_back(static_cast<char>(lead));
      value.push_back(static_cast<char>(c));
      const auto line = json("x", {{"v", value}});
      boost::system::error_code failed;
      const auto parsed = boost::json::parse(line, failed); // which wants valid UTF-8
      BOOST_REQUIRE_MESSAGE(!failed, line);
      BOOST_REQUIRE(line.find('\n') == line.npos);
      if (lead < 0 && c < 128)
        BOOST_REQUIRE(parsed.at("v").as_string() == std::string_view(value));
    }
  BOOST_TEST(json("x", {{"v", "h\xc3\xa9 \xf0\x9f\x98\x80"}}).find("h\xc3\xa9 \xf0\x9f\x98\x80") !=
             std::string::npos);
  for (const double odd : {std::numeric_limits<double>::infinity(), std::nan("")})
    BOOST_TEST(boost::json::parse(json("x", {{"v", odd}})).at("v").is_null());
}

BOOST_AUTO_TEST_CASE(times_are_iso_8601) {
  BOOST_TEST(to_iso8601(log_time(1'900'000'000'123ms)) == "2030-03-17T17:46:40.123Z");
  BOOST_TEST(to_iso8601(log_time(-1ms)) == "1969-12-31T23:59:59.999Z");
}

BOOST_AUTO_TEST_CASE(paths_lose_their_query) {
  BOOST_TEST(detail::loggable_path("/a/b?token=secret") == "/a/b");
  BOOST_TEST(detail::loggable_path("/a#secret") == "/a");
  BOOST_TEST(detail::loggable_path("?token=secret") == "");
  BOOST_TEST(detail::loggable_path(std::string(1000, 'a')).size() == 128u);
}

BOOST_AUTO_TEST_SUITE_END()
