#include <chorus/protocol/resume.hpp>

#include <boost/test/unit_test.hpp>

#include <ostream>
#include <string>

namespace chorus::protocol {
inline std::ostream &operator<<(std::ostream &out, resume_error e) {
  return out << static_cast<int>(e) << " (" << to_string(e) << ")";
}
inline std::ostream &operator<<(std::ostream &out, resume_type t) {
  return out << static_cast<int>(t);
}
inline std::ostream &operator<<(std::ostream &out, resume_gap g) { return out << to_string(g); }
} // namespace chorus::protocol

namespace {

using namespace chorus::protocol;

struct read_back {
  resume_error error = resume_error::none;
  resume_header header;
  std::size_t size = 0;
};

read_back read_header(role from, std::string_view text) {
  read_back r;
  r.error = read_resume(from, std::as_bytes(std::span(text)), r.header, r.size);
  return r;
}

BOOST_AUTO_TEST_SUITE(resume)

BOOST_AUTO_TEST_CASE(hello_round_trip) {
  const std::vector<resume_position> positions{
      {"lobby", "9f2c61d0", 18}, {"a \"room\"\n\x01\\ \xc3\xa9", "E1", 0}, {"", "z", max_offset}};
  const auto text = write_hello("b2d0c7f3a91e4d55", positions);
  const auto got = read_header(role::client, text);
  BOOST_REQUIRE_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.type, resume_type::hello);
  BOOST_CHECK_EQUAL(got.header.client, "b2d0c7f3a91e4d55");
  BOOST_CHECK(got.header.rooms == positions);
  BOOST_CHECK(!got.header.has_payload);
  BOOST_CHECK_EQUAL(got.size, text.size());
  BOOST_CHECK_EQUAL(read_header(role::client, write_hello({}, {})).error, resume_error::none);
}

BOOST_AUTO_TEST_CASE(a_hello_leaves_out_what_it_has_no_room_for) {
  std::vector<resume_position> positions;
  for (int i = 0; i < 300; ++i)
    positions.push_back({"r" + std::to_string(i), "e", 1});
  auto got = read_header(role::client, write_hello("b2d0c7f3a91e4d55", positions));
  BOOST_REQUIRE_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.rooms.size(), max_positions);
  for (auto &p : positions)
    p.room.append(1000, 'x');
  const auto text = write_hello("b2d0c7f3a91e4d55", positions);
  BOOST_CHECK_LE(text.size(), max_client_header);
  BOOST_CHECK_GT(text.size(), max_client_header - 1100);
  got = read_header(role::client, text);
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
}

BOOST_AUTO_TEST_CASE(messages_round_trip) {
  auto got = read_header(role::client, "{\"t\":\"msg\"}\nhel\nlo");
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.type, resume_type::msg);
  BOOST_CHECK_EQUAL(got.size, 12);
  got = read_header(role::server, write_msg_header("lob\"by") + "x");
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.room.value_or(""), "lob\"by");
  BOOST_CHECK(got.header.epoch.empty());
  const auto head = write_msg_header("lobby", "9f2c61d0", 18);
  BOOST_CHECK_EQUAL(head,
                    "{\"t\":\"msg\",\"room\":\"lobby\",\"epoch\":\"9f2c61d0\",\"offset\":18}\n");
  got = read_header(role::server, head + "hello");
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.epoch, "9f2c61d0");
  BOOST_CHECK_EQUAL(got.header.offset, 18);
  BOOST_CHECK_EQUAL(got.size, head.size());
  got = read_header(role::server, write_left("lobby"));
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.type, resume_type::left);
  got = read_header(role::client, write_ack("lobby", 21));
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.type, resume_type::ack);
  BOOST_CHECK_EQUAL(got.header.room.value_or(""), "lobby");
  BOOST_CHECK_EQUAL(got.header.offset, 21);
}

BOOST_AUTO_TEST_CASE(joined_round_trip) {
  BOOST_CHECK_EQUAL(write_joined({"lobby", "9f2c61d0", 18, true, 2, {}}),
                    "{\"t\":\"joined\",\"room\":\"lobby\",\"epoch\":\"9f2c61d0\",\"offset\":18,"
                    "\"recovered\":true,"
                    "\"missed\":2}");
  for (const auto gap : {resume_gap::none, resume_gap::epoch, resume_gap::trimmed,
                         resume_gap::ahead, resume_gap::no_history}) {
    joined_header h{"lobby", gap == resume_gap::no_history ? "" : "e", 4};
    if (gap != resume_gap::none)
      h.recovered = false;
    h.missed = h.epoch.empty() ? 0 : 3;
    h.why = gap;
    const auto got = read_header(role::server, write_joined(h));
    BOOST_REQUIRE_EQUAL(got.error, resume_error::none);
    BOOST_CHECK_EQUAL(got.header.type, resume_type::joined);
    BOOST_CHECK_EQUAL(got.header.room.value_or(""), "lobby");
    BOOST_CHECK_EQUAL(got.header.epoch, h.epoch);
    BOOST_CHECK(got.header.recovered == h.recovered);
    BOOST_CHECK_EQUAL(got.header.missed, h.missed);
    BOOST_CHECK_EQUAL(got.header.why, gap);
  }
  const auto other =
      read_header(role::server, R"({"t":"joined","room":"r","recovered":false,"why":"new"})");
  BOOST_CHECK_EQUAL(other.header.why, resume_gap::other);
}

BOOST_AUTO_TEST_CASE(what_is_not_known_is_ignored) {
  const auto got =
      read_header(role::client,
                  " { \"x\" : [1,-2.5e+3,{\"t\":[]},null,true,\"\\u0000\"] ,\"t\":\"h\\u0065llo\","
                  "\"room\":7,\"offset\":-1, \"rooms\":{\"a\":{\"epoch\":\"e\",\"offset\":0,"
                  "\"more\":{}}}}\r\t ");
  BOOST_CHECK_EQUAL(got.error, resume_error::none);
  BOOST_CHECK_EQUAL(got.header.type, resume_type::hello);
  BOOST_REQUIRE_EQUAL(got.header.rooms.size(), 1);
  for (const char *text : {"{\"t\":\"bye\"}", "{\"t\":\"bye\"}\npayload", "{\"t\":\"joined\"}"}) {
    const auto other = read_header(role::client, text);
    BOOST_CHECK_EQUAL(other.error, resume_error::none);
    BOOST_CHECK_EQUAL(other.header.type, resume_type::other);
  }
}

BOOST_AUTO_TEST_CASE(each_fault_has_its_name) {
  struct fault {
    const char *text;
    resume_error want;
  };
  const std::string client = "b2d0c7f3a91e4d55";
  const fault from_client[] = {
      {"", resume_error::malformed},
      {"hello", resume_error::malformed},
      {"[]", resume_error::malformed},
      {"{}{}", resume_error::malformed},
      {"{\"t\":\"hello\",}", resume_error::malformed},
      {"{\"t\":\"hello\"} x", resume_error::malformed},
      {"{\"t\":\"he\x01llo\"}", resume_error::malformed},
      {"{\"t\":\"\\x\"}", resume_error::malformed},
      {"{\"t\":\"hello\",\"x\":01}", resume_error::malformed},
      {"{\"t\":\"hello\",\"x\":1.}", resume_error::malformed},
      {"{\"t\":\"hello\",\"x\":+1}", resume_error::malformed},
      {"{\"t\":\"hello\",\"x\":nul}", resume_error::malformed},
      {"{\"t\":\"hello\",\n\"x\":1}", resume_error::malformed},
      {"{\"t\":\"hello\",\"x\":[[[[[[[[[[[[[[[[[]]]]]]]]]]]]]]]]]}", resume_error::malformed},
      {"{\"t\":\"\xff\"}", resume_error::not_utf8},
      {"{\"t\":\"hello\",\"t\":\"hello\"}", resume_error::repeated},
      {R"({"t":"hello","\u0074":"hello"})", resume_error::repeated},
      {R"({"t":"hello","rooms":{"a":{"epoch":"x","offset":1,"off\u0073et":2}}})",
       resume_error::repeated},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":{\"epoch\":\"e\",\"offset\":1},\"\\u0061\":{\"epoch\":"
       "\"e\",\"offset\":2}}}",
       resume_error::repeated},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":{\"epoch\":\"e\",\"epoch\":\"e\",\"offset\":1}}}",
       resume_error::repeated},
      {"{\"x\":1}", resume_error::incomplete},
      {"{\"t\":\"msg\"}", resume_error::incomplete},
      {"{\"t\":\"ack\",\"room\":\"a\"}", resume_error::incomplete},
      {"{\"t\":\"ack\",\"offset\":1}", resume_error::incomplete},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":{\"epoch\":\"e\"}}}", resume_error::incomplete},
      {"{\"t\":7}", resume_error::bad_value},
      {"{\"t\":\"hello\",\"client\":\"short\"}", resume_error::bad_value},
      {"{\"t\":\"hello\",\"client\":\"b2d0c7f3a91e4d5-\"}", resume_error::bad_value},
      {"{\"t\":\"hello\",\"rooms\":[]}", resume_error::bad_value},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":1}}", resume_error::bad_value},
      {"{\"t\":\"hello\",\"rooms\":{\"\\ud800\":{\"epoch\":\"e\",\"offset\":1}}}",
       resume_error::bad_value},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":{\"epoch\":\"\",\"offset\":1}}}",
       resume_error::bad_value},
      {"{\"t\":\"hello\",\"rooms\":{\"a\":{\"epoch\":\"e\",\"offset\":9007199254740992}}}",
       resume_error::bad_value},
      {"{\"t\":\"ack\",\"room\":\"a\",\"offset\":1.0}", resume_error::bad_value},
      {"{\"t\":\"ack\",\"room\":\"a\",\"offset\":-1}", resume_error::bad_value},
      {"{\"t\":\"ack\",\"room\":\"a\",\"offset\":\"1\"}", resume_error::bad_value},
      {"{\"t\":\"hello\"}\n", resume_error::stray_payload},
      {"{\"t\":\"ack\",\"room\":\"a\",\"offset\":1}\nx", resume_error::stray_payload},
  };
  for (const auto &f : from_client)
    BOOST_TEST_CONTEXT(f.text) {
      BOOST_CHECK_EQUAL(read_header(role::client, f.text).error, f.want);
    }
  const fault from_server[] = {
      {"{\"t\":\"left\"}", resume_error::incomplete},
      {"{\"t\":\"joined\"}", resume_error::incomplete},
      {"{\"t\":\"joined\",\"room\":\"a\",\"epoch\":\"e\"}", resume_error::incomplete},
      {"{\"t\":\"joined\",\"room\":\"a\",\"recovered\":1}", resume_error::bad_value},
      {"{\"t\":\"joined\",\"room\":\"a\",\"why\":1}", resume_error::bad_value},
      {"{\"t\":\"msg\",\"room\":\"a\",\"offset\":1}\n", resume_error::incomplete},
      {"{\"t\":\"msg\",\"offset\":1,\"epoch\":\"e\"}\n", resume_error::incomplete},
      {"{\"t\":\"msg\",\"room\":\"a\",\"epoch\":\"e\",\"offset\":0}\n", resume_error::bad_value},
  };
  for (const auto &f : from_server)
    BOOST_TEST_CONTEXT(f.text) {
      BOOST_CHECK_EQUAL(read_header(role::server, f.text).error, f.want);
    }
}

BOOST_AUTO_TEST_CASE(bounds) {
  const auto padded = [](std::size_t size) {
    std::string text = "{\"t\":\"msg\",\"x\":\"";
    text.append(size - text.size() - 2, 'x');
    return text + "\"}";
  };
  BOOST_CHECK_EQUAL(read_header(role::client, padded(max_client_header) + "\n").error,
                    resume_error::none);
  BOOST_CHECK_EQUAL(read_header(role::client, padded(max_client_header + 1) + "\n").error,
                    resume_error::too_long);
  BOOST_CHECK_EQUAL(read_header(role::server, padded(max_server_header) + "\n").error,
                    resume_error::none);
  BOOST_CHECK_EQUAL(read_header(role::server, padded(max_server_header + 1) + "\n").error,
                    resume_error::too_long);
  std::string rooms;
  for (std::size_t i = 0; i < max_positions + 1; ++i)
    rooms += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{\"epoch\":\"e\",\"offset\":1}";
  BOOST_CHECK_EQUAL(read_header(role::client, "{\"t\":\"hello\",\"rooms\":{" + rooms + "}}").error,
                    resume_error::too_many_rooms);
}

// Cut anywhere, a header is refused, or is what it says up to its own end.
BOOST_AUTO_TEST_CASE(cut_at_every_byte) {
  const std::pair<role, std::string> whole[] = {
      {role::client,
       write_hello("b2d0c7f3a91e4d55",
                   std::vector<resume_position>{{"a\"\\\x1f\xf0\x9f\x98\x80", "e1", 7}})},
      {role::client, write_ack("lobby", 21)},
      {role::server, write_joined({"lobby", "9f2c61d0", 18, false, 2, resume_gap::trimmed})},
      {role::server, write_left("lobby")},
      {role::server, write_msg_header("lobby", "9f2c61d0", 18)},
      {role::client, std::string(plain_msg_header)},
      {role::client, R"({"t":"\u0061ck","room":"\ud83d\ude00","x":[-1.5e-7,null],"offset":3})"},
  };
  for (const auto &[from, text] : whole) {
    BOOST_TEST_CONTEXT(text) {
      BOOST_CHECK_EQUAL(read_header(from, text).error, resume_error::none);
      for (std::size_t n = 0; n < text.size(); ++n) {
        const auto cut = read_header(from, std::string_view(text).substr(0, n)).error;
        BOOST_CHECK_MESSAGE(cut != resume_error::none, "accepted the first " << n << " bytes");
        BOOST_CHECK(!to_string(cut).empty());
      }
    }
  }
  const auto smile = read_header(role::client, R"({"t":"ack","room":"\ud83d\ude00","offset":3})");
  BOOST_CHECK_EQUAL(smile.header.room.value_or(""), "\xf0\x9f\x98\x80");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
