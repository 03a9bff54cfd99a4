#include <chorus/server/http_date.hpp>

#include <boost/test/unit_test.hpp>

using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_http_dates)

namespace {
constexpr std::int64_t example = 784111777; // of RFC 9110 section 5.6.7
constexpr std::int64_t later = 1800000000;  // in 2027
} // namespace

BOOST_AUTO_TEST_CASE(three_forms_are_read) {
  for (const char *text : {"Sun, 06 Nov 1994 08:49:37 GMT", "Sunday, 06-Nov-94 08:49:37 GMT",
                           "Sun Nov  6 08:49:37 1994"}) {
    const auto seconds = parse_http_date(text, later);
    BOOST_REQUIRE_MESSAGE(seconds, text);
    BOOST_TEST(*seconds == example);
  }
  BOOST_TEST(*parse_http_date("Wed Nov 16 08:49:37 1994", later) == example + 10 * 86400);
  BOOST_TEST(*parse_http_date("Friday, 01-Jan-27 00:00:00 GMT", later) == 1798761600);
  BOOST_TEST(*parse_http_date("Friday, 01-Jan-77 00:00:00 GMT", later) == 3376684800); // 2077
  BOOST_TEST(*parse_http_date("Friday, 01-Jan-78 00:00:00 GMT", later) == 252460800);  // 1978
}

BOOST_AUTO_TEST_CASE(anything_else_is_no_date) {
  const std::string good = "Sun, 06 Nov 1994 08:49:37 GMT";
  for (std::size_t n = 0; n < good.size(); ++n)
    BOOST_TEST(!parse_http_date(good.substr(0, n), later));
  for (const char *bad :
       {"Sun, 06 Nov 1994 08:49:37 GMT ", "Sun, 06 Nov 1994 24:49:37 GMT",
        "Sun, 31 Feb 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:60:37 GMT",
        "Sun, 06 Nov 1994 08:49:37 CET", "Sun, 6 Nov 1994 08:49:37 GMT", "yesterday",
        "Sun, -6 Nov 1994 08:49:37 GMT", "Son, 06 Nov 1994 08:49:37 GMT", "784111777"})
    BOOST_TEST(!parse_http_date(bad, later), bad);
}

BOOST_AUTO_TEST_CASE(one_form_is_written) {
  BOOST_TEST(format_http_date(example) == "Sun, 06 Nov 1994 08:49:37 GMT");
  BOOST_TEST(format_http_date(0) == "Thu, 01 Jan 1970 00:00:00 GMT");
  for (const std::int64_t seconds : {std::int64_t{951782399}, std::int64_t{951782400}, later})
    BOOST_TEST(*parse_http_date(format_http_date(seconds), later) == seconds);
  BOOST_TEST(parse_http_date(http_date_now(), later).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
