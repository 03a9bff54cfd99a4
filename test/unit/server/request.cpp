#include <chorus/server/request_data.hpp>
#include <chorus/server/upgrade.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

using namespace chorus;
using namespace chorus::detail;

BOOST_AUTO_TEST_SUITE(server_request)

namespace {

task<> serve(session, request) { co_return; }

request make(const std::string &target) {
  router r;
  r.add("/chat/{room}/{who}", session_handler(serve));
  http_head head;
  head.start("GET", target, 11);
  head.add("Host", "example.org");
  head.add("Cookie", "a");
  head.add("cookie", "b");
  auto match = r.find(split_target(head.target()).path, route_kind::session);
  return make_request(std::move(head), std::move(match), "192.0.2.1:5");
}

} // namespace

BOOST_AUTO_TEST_CASE(everything_of_a_request) {
  auto r = make("/chat/caf%C3%A9/a%2Fb?x=1&y=a+b%21&x=2&flag&=odd&bad=%zz");
  const request copy = r;
  r = request(); // the copy keeps it all
  BOOST_TEST(copy.method() == "GET");
  BOOST_TEST(copy.target() == "/chat/caf%C3%A9/a%2Fb?x=1&y=a+b%21&x=2&flag&=odd&bad=%zz");
  BOOST_TEST(copy.path() == "/chat/caf\xC3\xA9/a/b");
  BOOST_TEST(copy.query() == "x=1&y=a+b%21&x=2&flag&=odd&bad=%zz");
  BOOST_TEST(copy.param("room") == "caf\xC3\xA9");
  BOOST_TEST(copy.param("who") == "a/b");
  BOOST_TEST(copy.param("other") == "");
  BOOST_TEST(copy.query_param("x") == "1");
  BOOST_TEST(copy.query_param("y") == "a b!");
  BOOST_TEST(copy.query_param("flag") == "");
  BOOST_TEST(copy.query_param("bad") == "%zz");
  BOOST_TEST(copy.query_param("none") == "");
  BOOST_TEST(copy.header("COOKIE") == "a");
  BOOST_TEST(copy.header("none") == "");
  BOOST_REQUIRE(copy.headers().size() == 3u);
  BOOST_TEST(copy.headers()[2].second == "b");
  BOOST_TEST(copy.remote_address() == "192.0.2.1:5");
}

// A session keeps its request, so nothing is kept for what is no field.
BOOST_AUTO_TEST_CASE(separators_without_fields_cost_nothing) {
  const auto r = make("/chat/a/b?" + std::string(10'000, '&') + "x=1&&y&" + std::string(10, '&'));
  BOOST_TEST(r.query_param("x") == "1");
  BOOST_TEST(r.has_query("y"));
  BOOST_TEST(r.core()->decoded->query_fields.size() == 2u);
  BOOST_TEST(r.core()->decoded->query_fields.capacity() < 10u);
}

BOOST_AUTO_TEST_CASE(an_empty_request_answers_nothing) {
  const request none;
  BOOST_TEST(none.path() == "");
  BOOST_TEST(none.param("x") == "");
  BOOST_TEST(none.query_param("x") == "");
  BOOST_TEST(none.headers().empty());
}

BOOST_AUTO_TEST_CASE(origins) {
  const std::vector<std::string> none;
  BOOST_TEST(origin_allowed("http://example.org", "example.org", none));
  BOOST_TEST(origin_allowed("https://Example.org:443", "example.org", none));
  BOOST_TEST(origin_allowed("https://example.org", "example.org:443", none));
  BOOST_TEST(origin_allowed("http://127.0.0.1:8080", "127.0.0.1:8080", none));
  BOOST_TEST(origin_allowed("http://[::1]:8080", "[::1]:8080", none));
  BOOST_TEST(!origin_allowed("http://example.org:8080", "example.org", none));
  BOOST_TEST(!origin_allowed("http://example.org.evil.test", "example.org", none));
  BOOST_TEST(!origin_allowed("http://evil.test", "example.org", none));
  BOOST_TEST(!origin_allowed("null", "null", none));
  BOOST_TEST(!origin_allowed("", "", none));
  BOOST_TEST(!origin_allowed("http://", "", none));
  const std::vector<std::string> some{"https://friend.test/", "null"};
  BOOST_TEST(origin_allowed("https://FRIEND.test", "example.org", some));
  BOOST_TEST(origin_allowed("null", "example.org", some));
  BOOST_TEST(!origin_allowed("http://friend.test", "example.org", some));
  const std::vector<std::string> all{"*"};
  BOOST_TEST(origin_allowed("http://evil.test", "example.org", all));
}

BOOST_AUTO_TEST_CASE(subprotocols) {
  const std::vector<std::string> supported{"chat.v2", "chat.v1"};
  const std::vector<std::string_view> both{"chat.v1", "chat.v2"};
  const std::vector<std::string_view> old{"other", "chat.v1"};
  const std::vector<std::string_view> wrong{"CHAT.V1"};
  BOOST_TEST(choose_subprotocol(supported, both) == "chat.v2");
  BOOST_TEST(choose_subprotocol(supported, old) == "chat.v1");
  BOOST_TEST(choose_subprotocol(supported, wrong) == "");
  BOOST_TEST(choose_subprotocol(supported, {}) == "");
}

BOOST_AUTO_TEST_CASE(the_answer_to_an_upgrade) {
  BOOST_TEST(
      write_switching("dGhlIHNhbXBsZSBub25jZQ==", "chat", "permessage-deflate") ==
      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
      "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
      "Sec-WebSocket-Protocol: chat\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\r\n");
}

BOOST_AUTO_TEST_SUITE_END()
