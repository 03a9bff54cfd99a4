// RESP2 cut at every byte, and what is none; slots, INFO, and what a cluster says of itself.

#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/cluster/redis_topology.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace chorus::detail;

namespace {

BOOST_AUTO_TEST_SUITE(redis_protocol)

std::string shown(const redis_reply &r) {
  switch (r.is) {
  case redis_reply::type::nil:
    return "nil";
  case redis_reply::type::number:
    return std::to_string(r.number);
  case redis_reply::type::text:
    return "'" + r.text + "'";
  case redis_reply::type::status:
    return "+" + r.text;
  case redis_reply::type::error:
    return "-" + r.text;
  case redis_reply::type::list:
    break;
  }
  std::string all = "[";
  for (const auto &one : r.items)
    all += shown(one) + " ";
  return all + "]";
}

// All replies of a reader that is fed in pieces; an error ends them as "!".
std::vector<std::string> read_all(const std::vector<std::string_view> &pieces) {
  redis_reader reader;
  std::vector<std::string> found;
  for (const auto piece : pieces) {
    reader.feed(piece);
    for (;;) {
      auto next = reader.next();
      if (!next) {
        BOOST_TEST((next.error() == chorus::error::protocol));
        found.push_back("!");
        BOOST_TEST(!reader.next().has_value()); // for good
        return found;
      }
      if (!*next)
        break;
      found.push_back(shown(**next));
    }
  }
  return found;
}

BOOST_AUTO_TEST_CASE(replies_are_the_same_wherever_they_are_cut) {
  const std::string bytes =
      "+OK\r\n-ERR no\r\n:-42\r\n$-1\r\n*-1\r\n$0\r\n\r\n" + std::string("$5\r\na\0\r\nb\r\n", 11) +
      "*0\r\n*3\r\n$1\r\nx\r\n*2\r\n:1\r\n*1\r\n-E\r\n+s\r\n:9223372036854775807\r\n";
  const auto whole = read_all({bytes});
  const std::vector<std::string> expected{"+OK",
                                          "-ERR no",
                                          "-42",
                                          "nil",
                                          "nil",
                                          "''",
                                          std::string("'a\0\r\nb'", 7),
                                          "[]",
                                          "['x' [1 [-E ] ] +s ]",
                                          "9223372036854775807"};
  BOOST_TEST(whole == expected, boost::test_tools::per_element());
  const std::string_view view(bytes);
  for (std::size_t a = 0; a <= view.size(); ++a) {
    BOOST_TEST((read_all({view.substr(0, a), view.substr(a)}) == expected));
    for (std::size_t b = a; b <= view.size(); b += 7)
      BOOST_TEST(
          (read_all({view.substr(0, a), view.substr(a, b - a), view.substr(b)}) == expected));
  }
  std::vector<std::string_view> each;
  for (std::size_t i = 0; i != view.size(); ++i)
    each.push_back(view.substr(i, 1));
  BOOST_TEST((read_all(each) == expected));
}

BOOST_AUTO_TEST_CASE(what_is_no_resp_is_refused) {
  for (const std::string_view bad :
       {"HTTP/1.1 400 Bad Request\r\n", "\x16\x03\x01", "$x\r\n", "*x\r\n", ":x\r\n", "$-2\r\n",
        "*-2\r\n", ":\r\n", "$99999999999999999999\r\n", "*99999999999\r\n",
        "*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n",
        "+OK\r\n*2\r\n:1\r\nx\r\n"}) {
    const auto found = read_all({bad});
    BOOST_TEST(!found.empty(), bad);
    if (!found.empty())
      BOOST_TEST(found.back() == "!", bad);
    for (std::size_t cut = 0; cut <= bad.size(); ++cut)
      BOOST_TEST((read_all({bad.substr(0, cut), bad.substr(cut)}) == found));
  }
}

BOOST_AUTO_TEST_CASE(an_announced_length_costs_nothing) {
  for (const std::string_view large : {"$500000000\r\nabc", "*2000000000\r\n:1\r\n"}) {
    redis_reader reader;
    reader.feed(large);
    const auto next = reader.next();
    BOOST_REQUIRE(next.has_value());
    BOOST_TEST(!next->has_value());
    BOOST_TEST(reader.in_the_middle());
  }
}

BOOST_AUTO_TEST_CASE(commands_are_lists_of_strings) {
  std::string out;
  write_redis_command(out, {"SET", std::string_view("a\0b", 3), ""});
  BOOST_TEST(out == std::string("*3\r\n$3\r\nSET\r\n$3\r\na\0b\r\n$0\r\n\r\n", 28));
}

BOOST_AUTO_TEST_CASE(slots_are_those_of_redis) {
  // As CLUSTER KEYSLOT says.
  BOOST_TEST(redis_slot("123456789") == 12739U);
  BOOST_TEST(redis_slot("") == 0U);
  BOOST_TEST(redis_slot("foo") == 12182U);
  BOOST_TEST(redis_slot("{user1000}.following") == redis_slot("user1000"));
  BOOST_TEST(redis_slot("foo{}{bar}") == 8363U);
  BOOST_TEST(redis_slot("foo{{bar}}zap") == redis_slot("{bar"));
  BOOST_TEST(redis_slot("foo{bar}{zap}") == redis_slot("bar"));
  BOOST_TEST(redis_slot("x{y") == redis_slot("x{y"));
}

BOOST_AUTO_TEST_CASE(info_is_found_by_name) {
  const std::string_view text =
      "# Server\r\nredis_version:7.0.1\r\nrun_id:abc\r\nxrun_id:no\r\nlast:1";
  BOOST_TEST(redis_info(text, "run_id") == "abc");
  BOOST_TEST(redis_info(text, "redis_version") == "7.0.1");
  BOOST_TEST(redis_info(text, "last") == "1");
  BOOST_TEST(redis_info(text, "run") == "");
}

redis_reply reply_of(std::string_view bytes) {
  redis_reader reader;
  reader.feed(bytes);
  return std::move(*reader.next().value());
}

BOOST_AUTO_TEST_CASE(the_map_of_a_cluster_is_read) {
  const redis_address asked{"10.0.0.9", "7000", ""};
  const auto ranges = read_redis_slots(
      reply_of("*3\r\n*3\r\n:0\r\n:5460\r\n*3\r\n$9\r\n127.0.0.1\r\n:7001\r\n$2\r\nid\r\n"
               "*4\r\n:5461\r\n:10922\r\n*3\r\n$0\r\n\r\n:7002\r\n$2\r\nid\r\n*3\r\n$1\r\nr\r\n:"
               "1\r\n$1\r\nx\r\n"
               "*3\r\n:10923\r\n:16383\r\n*2\r\n$-1\r\n:7003\r\n"),
      asked);
  BOOST_REQUIRE(ranges.has_value());
  BOOST_REQUIRE_EQUAL(ranges->size(), 3U);
  BOOST_TEST(to_string((*ranges)[0].master) == "127.0.0.1:7001");
  BOOST_TEST((*ranges)[0].last == 5460U);
  BOOST_TEST(to_string((*ranges)[1].master) == "10.0.0.9:7002");
  BOOST_TEST(to_string((*ranges)[2].master) == "10.0.0.9:7003");
  for (const std::string_view bad :
       {"+OK\r\n", "*1\r\n:1\r\n", "*1\r\n*2\r\n:0\r\n:1\r\n",
        "*1\r\n*3\r\n:5\r\n:4\r\n*2\r\n$1\r\nh\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:16384\r\n*2\r\n$1\r\nh\r\n:1\r\n",
        "*1\r\n*3\r\n:0\r\n:1\r\n*2\r\n$1\r\nh\r\n:0\r\n", "*1\r\n*3\r\n:0\r\n:1\r\n*0\r\n"})
    BOOST_TEST((read_redis_slots(reply_of(bad), asked).error() == chorus::error::protocol));
  BOOST_TEST((read_redis_slots(reply_of("*0\r\n"), asked).error() == chorus::error::not_open));
}

BOOST_AUTO_TEST_CASE(redirections_are_read) {
  const redis_address asked{"10.0.0.9", "7000", ""};
  const auto moved = read_redis_redirect("MOVED 3999 ::1:6381", asked);
  BOOST_REQUIRE(moved.has_value());
  BOOST_TEST(moved->slot == 3999U);
  BOOST_TEST(to_string(moved->to) == "[::1]:6381");
  const auto near = read_redis_redirect("ASK 1 :6381", asked);
  BOOST_REQUIRE(near.has_value());
  BOOST_TEST(to_string(near->to) == "10.0.0.9:6381");
  for (const auto *bad : {"", "MOVED", "MOVED 1", "MOVED 1 h", "MOVED 16384 h:1", "MOVED x h:1",
                          "MOVED -1 h:1", "MOVED 1 h:0", "MOVED 1 h:x", "MOVED 1 h:", "MOVED:1"})
    BOOST_TEST(!read_redis_redirect(bad, asked).has_value(), bad);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
