#include <chorus/server/http.hpp>
#include <chorus/server/http_date.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

using namespace chorus::detail;
using chorus::response;

BOOST_AUTO_TEST_SUITE(server_http)

namespace {

const std::string simple = "GET /a/b?x=1 HTTP/1.1\r\n"
                           "Host: example.org\r\n"
                           "X-One:  first \r\n"
                           "x-one: second\r\n"
                           "X-Empty:\r\n"
                           "\r\n";

// Feeds all of `text` and answers the outcome; bodies are kept.
http_progress feed_all(http_reader &reader, std::string_view text, std::size_t step) {
  auto progress = http_progress::need_more;
  while (!text.empty() && progress == http_progress::need_more) {
    progress = reader.feed(text.substr(0, step));
    text.remove_prefix(std::min(step, text.size()));
    if (progress == http_progress::head)
      progress = reader.read_body(true);
  }
  return progress;
}

unsigned refusal_of(const std::string &text, http_limits limits = {}) {
  http_reader reader(limits);
  const auto progress = feed_all(reader, text, text.size());
  if (progress != http_progress::failed)
    return 0;
  BOOST_TEST(!reader.reason().empty());
  http_reader slow(limits);
  BOOST_TEST((feed_all(slow, text, 1) == http_progress::failed));
  BOOST_TEST(slow.status() == reader.status());
  return reader.status();
}

} // namespace

BOOST_AUTO_TEST_CASE(a_head_is_read_however_it_is_cut) {
  for (std::size_t cut = 0; cut <= simple.size(); ++cut) {
    http_reader reader;
    BOOST_TEST(!reader.begun());
    auto progress = http_progress::need_more;
    if (cut > 0)
      progress = reader.feed(std::string_view(simple).substr(0, cut));
    BOOST_TEST((progress == http_progress::complete) == (cut == simple.size()));
    if (cut > 0)
      BOOST_TEST(reader.begun());
    if (cut < simple.size())
      progress = reader.feed(std::string_view(simple).substr(cut));
    BOOST_REQUIRE((progress == http_progress::complete));
    const auto head = reader.take_head();
    BOOST_TEST(head.method() == "GET");
    BOOST_TEST(head.target() == "/a/b?x=1");
    BOOST_TEST(head.version() == 11u);
    BOOST_TEST(head.size() == 4u);
    BOOST_TEST(head.find("host") == "example.org");
    BOOST_TEST(head.find("X-ONE") == "first");
    BOOST_TEST(head.count("x-one") == 2u);
    BOOST_TEST(head.find("X-Empty") == "");
    BOOST_TEST(head.find("absent") == "");
    BOOST_TEST(head.fields()[2].value == "second");
    BOOST_TEST(reader.keep_alive());
    BOOST_TEST(reader.take_leftover() == "");
  }
}

BOOST_AUTO_TEST_CASE(what_follows_the_head_is_left_over) {
  http_reader reader;
  BOOST_TEST((reader.feed(simple + "\x81\x85 not http") == http_progress::complete));
  BOOST_TEST(reader.take_leftover() == "\x81\x85 not http");
}

BOOST_AUTO_TEST_CASE(requests_follow_each_other) {
  http_reader reader;
  const std::string two = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGE";
  BOOST_TEST((reader.feed(two) == http_progress::complete));
  BOOST_TEST(reader.take_head().target() == "/1");
  BOOST_TEST((reader.next() == http_progress::complete));
  BOOST_TEST(reader.take_head().target() == "/2");
  BOOST_TEST((reader.next() == http_progress::need_more));
  BOOST_TEST(reader.begun());
  BOOST_TEST((reader.feed("T /3 HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n") ==
              http_progress::complete));
  BOOST_TEST(reader.take_head().target() == "/3");
  BOOST_TEST(!reader.keep_alive());
}

// What some clients send behind a body (RFC 9112 section 2.2).
BOOST_AUTO_TEST_CASE(empty_lines_before_a_request_are_skipped) {
  const std::string request = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
  for (const std::size_t step : {1U, 2U, 3U, 1000U}) {
    http_reader reader;
    BOOST_TEST((feed_all(reader, "\r\n\r\n", step) == http_progress::need_more));
    BOOST_TEST(!reader.begun());
    BOOST_TEST((feed_all(reader, request, step) == http_progress::complete));
    BOOST_TEST(reader.take_head().target() == "/1");
    BOOST_TEST((reader.next() == http_progress::need_more));
    BOOST_TEST((feed_all(reader, "\r\n" + request, step) == http_progress::complete));
    BOOST_TEST(reader.take_head().target() == "/1");
  }
  http_reader pipelined;
  BOOST_TEST((pipelined.feed(request + "\r\n\r\n" + request) == http_progress::complete));
  BOOST_TEST((pipelined.next() == http_progress::complete));
  BOOST_TEST(pipelined.take_leftover() == "");
  // Not for ever, and nothing but whole line ends.
  std::string many;
  for (int i = 0; i < 5; ++i)
    many += "\r\n";
  BOOST_TEST(refusal_of(many + request) == 400u);
  BOOST_TEST(refusal_of("\r\r\n" + request) == 400u);
  BOOST_TEST(refusal_of("\n" + request) == 400u);
  BOOST_TEST(refusal_of(" \r\n" + request) == 400u);
}

BOOST_AUTO_TEST_CASE(expect_continue_is_asked_before_the_body) {
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n"
                           "Content-Length: 2\r\n\r\n";
  http_reader reader;
  BOOST_TEST((reader.feed(head) == http_progress::head));
  BOOST_TEST(reader.expects_continue());
  BOOST_TEST(reader.body_follows());
  BOOST_TEST((reader.read_body(true) == http_progress::need_more));
  BOOST_TEST(!reader.body_follows());
  BOOST_TEST((reader.feed("ab") == http_progress::complete));
  BOOST_TEST(reader.take_body() == "ab");
  http_reader hasty; // it did not wait
  BOOST_TEST((hasty.feed(head + "a") == http_progress::head));
  BOOST_TEST(!hasty.expects_continue());
  http_reader old; // a field that HTTP/1.0 does not have
  BOOST_TEST((old.feed("POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n") ==
              http_progress::head));
  BOOST_TEST(!old.expects_continue());
}

BOOST_AUTO_TEST_CASE(refusals) {
  BOOST_TEST(refusal_of("\x16\x03\x01 a TLS hello\r\n\r\n") == 400u);
  BOOST_TEST(refusal_of("GET / HTTP/1.1\r\nHost a\r\n\r\n") == 400u);
  BOOST_TEST(refusal_of("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n") == 400u);
  BOOST_TEST(refusal_of(std::string("GET / HTTP/1.1\r\nA: x\0y\r\n\r\n", 26)) == 400u);
  BOOST_TEST(refusal_of("GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n") == 400u);
  BOOST_TEST(refusal_of("GET / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n") ==
             400u);
  BOOST_TEST(refusal_of("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n") == 505u);
  BOOST_TEST(refusal_of("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1048577\r\n\r\n") == 413u);
  BOOST_TEST(refusal_of("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n100001\r\n") == 413u);
}

BOOST_AUTO_TEST_CASE(heads_are_bounded) {
  const http_limits limits{.max_header_bytes = 512, .max_fields = 5};
  const std::string begin = "GET / HTTP/1.1\r\n";
  std::string fields;
  for (int i = 0; i < 6; ++i)
    fields += "A: b\r\n";
  BOOST_TEST(refusal_of(begin + fields + "\r\n", limits) == 431u);
  BOOST_TEST(refusal_of(begin + "A: " + std::string(600, 'x') + "\r\n\r\n", limits) == 431u);
  BOOST_TEST(refusal_of("GET /" + std::string(600, 'x') + " HTTP/1.1\r\n\r\n", limits) == 431u);
  // It is refused before its end has come.
  http_reader endless(limits);
  std::size_t fed = 0;
  while (fed < 4096 && endless.feed("xxxxxxxx") == http_progress::need_more)
    fed += 8;
  BOOST_TEST(fed <= 512u);
  BOOST_TEST(endless.status() == 431u);
}

BOOST_AUTO_TEST_CASE(responses) {
  response page("hello");
  page.set("X-Mine", "1");
  page.set("Content-Length", "99");
  BOOST_TEST(write_response(page, false, true).text ==
             "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-Mine: 1\r\n"
             "Content-Length: 5\r\n\r\nhello");
  BOOST_TEST(write_response(page, true, false).text ==
             "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nX-Mine: 1\r\n"
             "Content-Length: 5\r\nConnection: close\r\n\r\n");
  response empty;
  empty.status(204);
  BOOST_TEST(write_response(empty, false, true).text == "HTTP/1.1 204 No Content\r\n\r\n");
}

BOOST_AUTO_TEST_CASE(a_header_cannot_break_out_of_its_line) {
  response page("x");
  page.set("X-Bad", "1\r\nSet-Cookie: stolen");
  const auto out = write_response(page, false, true);
  BOOST_TEST(!out.complete);
  BOOST_TEST(out.text.find("stolen") == std::string::npos);
}

BOOST_AUTO_TEST_CASE(a_refusal_carries_its_sentence) {
  const header_field allow[] = {{"Allow", "GET"}};
  auto text = write_refusal(405, "Use GET.", allow);
  const auto date = text.find("Date: "); // RFC 9110 section 6.6.1
  BOOST_REQUIRE(date != std::string::npos);
  const auto end = text.find("\r\n", date);
  BOOST_TEST(parse_http_date(text.substr(date + 6, end - date - 6), seconds_now()).has_value());
  text.erase(date, end + 2 - date);
  BOOST_TEST(text == "HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n"
                     "Content-Type: text/plain; charset=utf-8\r\nContent-Length: 9\r\n"
                     "Connection: close\r\n\r\nUse GET.\n");
}

BOOST_AUTO_TEST_SUITE_END()
