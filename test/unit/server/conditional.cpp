#include <chorus/server/conditional.hpp>
#include <chorus/server/http_date.hpp>
#include <chorus/server/request_data.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <utility>
#include <vector>

using namespace chorus;
using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_conditional)

namespace {

using fields = std::vector<std::pair<std::string, std::string>>;

constexpr std::int64_t modified = 784111777; // Sun, 06 Nov 1994 08:49:37 GMT
constexpr std::int64_t now = 1800000000;
const std::string date = "Sun, 06 Nov 1994 08:49:37 GMT";
const std::string earlier = "Sun, 06 Nov 1994 08:49:36 GMT";
const std::string later = "Sun, 06 Nov 1994 08:49:38 GMT";
const validators current{"\"v1\"", modified};

request ask(const fields &all, std::string_view method = "GET") {
  http_head head;
  head.start(method, "/f", 11);
  for (const auto &[name, value] : all)
    head.add(name, value);
  return make_request(std::move(head), {}, "");
}

char checked(const fields &all, const validators &v = current) {
  switch (check_preconditions(ask(all), v, now)) {
  case precondition::holds:
    return '2';
  case precondition::not_modified:
    return '3';
  default:
    return '4';
  }
}

// "whole", "416", or first+size.
std::string chosen(const fields &all, std::uint64_t size = 100, std::string_view method = "GET") {
  byte_range part;
  switch (choose_range(ask(all, method), current, size, now, part)) {
  case range_verdict::whole:
    return "whole";
  case range_verdict::unsatisfiable:
    return "416";
  default:
    return std::to_string(part.first) + "+" + std::to_string(part.size);
  }
}
std::string range(const std::string &value, std::uint64_t size = 100) {
  return chosen({{"Range", value}}, size);
}

} // namespace

BOOST_AUTO_TEST_CASE(entity_tags) {
  BOOST_TEST(checked({}) == '2');
  BOOST_TEST(checked({{"If-None-Match", "\"v1\""}}) == '3');
  BOOST_TEST(checked({{"If-None-Match", "W/\"v1\""}}) == '3');
  BOOST_TEST(checked({{"If-None-Match", "\"v0\", \"a,b\" ,W/\"v1\""}}) == '3');
  BOOST_TEST(checked({{"If-None-Match", "\"v0\""}, {"if-none-match", "\"v1\""}}) == '3');
  BOOST_TEST(checked({{"If-None-Match", " * "}}) == '3');
  for (const char *other :
       {"", "\"v0\"", "v1", "\"v1", "\"V1\"", "\"v1 \"", "w/\"v1\"", "\"\"", ","})
    BOOST_TEST(checked({{"If-None-Match", other}}) == '2', other);
  BOOST_TEST(checked({{"If-Match", "\"v1\""}}) == '2');
  BOOST_TEST(checked({{"If-Match", "*"}}) == '2');
  BOOST_TEST(checked({{"If-Match", "W/\"v1\""}}) == '4'); // compared strongly
  BOOST_TEST(checked({{"If-Match", "\"v0\""}}) == '4');
}

BOOST_AUTO_TEST_CASE(dates) {
  BOOST_TEST(checked({{"If-Modified-Since", date}}) == '3');
  BOOST_TEST(checked({{"If-Modified-Since", later}}) == '3');
  BOOST_TEST(checked({{"If-Modified-Since", "Sunday, 06-Nov-94 08:49:37 GMT"}}) == '3');
  BOOST_TEST(checked({{"If-Modified-Since", earlier}}) == '2');
  BOOST_TEST(checked({{"If-Modified-Since", "yesterday"}}) == '2');
  BOOST_TEST(checked({{"If-Unmodified-Since", date}}) == '2');
  BOOST_TEST(checked({{"If-Unmodified-Since", earlier}}) == '4');
  BOOST_TEST(checked({{"If-Unmodified-Since", "yesterday"}}) == '2');
  // Where there is a tag the date does not count.
  BOOST_TEST(checked({{"If-None-Match", "\"v0\""}, {"If-Modified-Since", date}}) == '2');
  BOOST_TEST(checked({{"If-Match", "\"v1\""}, {"If-Unmodified-Since", earlier}}) == '2');
  BOOST_TEST(checked({{"If-Match", "\"v0\""}, {"If-None-Match", "\"v1\""}}) == '4');
  const validators undated{"\"v1\"", std::nullopt};
  BOOST_TEST(checked({{"If-Modified-Since", later}}, undated) == '2');
  BOOST_TEST(checked({{"If-Unmodified-Since", earlier}}, undated) == '2');
}

BOOST_AUTO_TEST_CASE(ranges) {
  BOOST_TEST(chosen({}) == "whole");
  BOOST_TEST(range("bytes=0-0") == "0+1");
  BOOST_TEST(range("bytes=0-99") == "0+100");
  BOOST_TEST(range("bytes=10-19") == "10+10");
  BOOST_TEST(range("bytes=99-") == "99+1");
  BOOST_TEST(range("bytes=0-") == "0+100");
  BOOST_TEST(range("bytes=50-1000") == "50+50");
  BOOST_TEST(range("bytes=50-99999999999999999999999") == "50+50");
  BOOST_TEST(range("bytes=50-18446744073709551615") == "50+50");
  BOOST_TEST(range("bytes=-1") == "99+1");
  BOOST_TEST(range("bytes=-100") == "0+100");
  BOOST_TEST(range("bytes=-1000") == "0+100");
  BOOST_TEST(range("Bytes= 1-2 ") == "1+2");
  BOOST_TEST(range("bytes=100-") == "416");
  BOOST_TEST(range("bytes=100-200") == "416");
  BOOST_TEST(range("bytes=99999999999999999999999-") == "416");
  BOOST_TEST(range("bytes=-0") == "416");
  BOOST_TEST(range("bytes=0-", 0) == "416");
  BOOST_TEST(range("bytes=-5", 0) == "whole");
  BOOST_TEST(range("bytes=18446744073709551615-", 18446744073709551615u) == "416");
  for (const char *ignored :
       {"bytes=", "bytes=-", "bytes=5", "bytes=9-5", "bytes=a-b", "bytes=0x1-2", "bytes=1 -2",
        "bytes=+1-2", "bytes=--1", "bytes=0-1,5-6", "bytes=1-2-3", "lines=0-1", "bytes 0-1", "=0-1",
        "bytes=1-2x", "", "b"})
    BOOST_TEST(range(ignored) == "whole", ignored);
  BOOST_TEST(chosen({{"Range", "bytes=0-1"}, {"Range", "bytes=5-6"}}) == "whole");
  BOOST_TEST(chosen({{"Range", "bytes=0-1"}}, 100, "HEAD") == "whole");
}

BOOST_AUTO_TEST_CASE(ranges_of_the_same_file_only) {
  const auto with = [](const std::string &condition) {
    return chosen({{"Range", "bytes=0-1"}, {"If-Range", condition}});
  };
  BOOST_TEST(with("\"v1\"") == "0+2");
  BOOST_TEST(with(date) == "0+2");
  for (const std::string &other : {std::string("\"v0\""), std::string("W/\"v1\""), earlier, later,
                                   std::string("v1"), std::string(), std::string("*")})
    BOOST_TEST(with(other) == "whole", other);
}

BOOST_AUTO_TEST_SUITE_END()
