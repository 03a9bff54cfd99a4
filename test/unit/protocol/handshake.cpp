#include <chorus/protocol/handshake.hpp>

#include "streams.hpp"

#include <boost/test/unit_test.hpp>

#include <set>

namespace protocol = chorus::protocol;
using protocol::handshake_error;
using protocol::header_field;

namespace {

constexpr std::string_view rfc_key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr std::string_view rfc_accept = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

std::vector<header_field> good_request() {
  return {{"Host", "example.com"},
          {"Upgrade", "websocket"},
          {"Connection", "Upgrade"},
          {"Sec-WebSocket-Key", rfc_key},
          {"Sec-WebSocket-Version", "13"}};
}
std::vector<header_field> good_response() {
  return {
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", rfc_accept}};
}

using fields = std::vector<header_field>;

fields without(fields f, std::string_view name) {
  std::erase_if(f, [&](const header_field &h) { return h.name == name; });
  return f;
}
fields with(fields f, std::string_view name, std::string_view value) {
  f.push_back({name, value});
  return f;
}
fields replaced(fields f, std::string_view name, std::string_view value) {
  return with(without(std::move(f), name), name, value);
}

protocol::upgrade_check check(const fields &f) {
  return protocol::check_upgrade_request("GET", 11, "/chat", f);
}

void refused(const protocol::upgrade_check &c, handshake_error why, unsigned status,
             std::string_view header = {}) {
  BOOST_TEST(!c);
  BOOST_TEST(static_cast<int>(c.why) == static_cast<int>(why));
  BOOST_TEST(c.status == status);
  if (!header.empty())
    BOOST_TEST(std::count_if(c.headers.begin(), c.headers.end(),
                             [&](const header_field &h) { return h.name == header; }) == 1);
}

chorus::deflate_options compressing() {
  chorus::deflate_options o;
  o.enabled = true;
  return o;
}

protocol::response_check respond(const fields &f, unsigned status = 101,
                                 std::vector<std::string_view> offered = {"chat", "superchat"},
                                 const chorus::deflate_options &deflate = {}) {
  return protocol::check_upgrade_response(status, f, rfc_key, offered, deflate);
}
int why(const protocol::response_check &c) { return static_cast<int>(c.why); }
int why(handshake_error e) { return static_cast<int>(e); }

} // namespace

BOOST_AUTO_TEST_SUITE(handshake)

BOOST_AUTO_TEST_CASE(accept_value_of_the_rfc) {
  BOOST_TEST(protocol::accept_for(rfc_key) == rfc_accept);
}

BOOST_AUTO_TEST_CASE(keys_are_sixteen_fresh_bytes) {
  std::set<std::string> seen;
  for (int i = 0; i < 100; ++i) {
    const auto key = protocol::make_key();
    BOOST_TEST(check(replaced(good_request(), "Sec-WebSocket-Key", key)).status == 101U);
    seen.insert(key);
  }
  BOOST_TEST(seen.size() == 100U);
}

BOOST_AUTO_TEST_CASE(a_good_request) {
  const auto f = good_request();
  const auto c = check(f);
  BOOST_TEST(static_cast<bool>(c));
  BOOST_TEST(c.status == 101U);
  BOOST_TEST(c.key == rfc_key);
  BOOST_TEST(c.subprotocols.empty());
  BOOST_TEST(c.extensions.empty());
  BOOST_TEST(protocol::is_upgrade(f));
}

BOOST_AUTO_TEST_CASE(names_and_tokens_ignore_case_and_share_lists) {
  const fields f = {{"HOST", "h:80"},
                    {"upgrade", "h2c, WebSocket"},
                    {"connection", "keep-alive"},
                    {"CONNECTION", " ,\tUPGRADE "},
                    {"sec-websocket-key", "  dGhlIHNhbXBsZSBub25jZQ==\t"},
                    {"sec-websocket-VERSION", " 13 "},
                    {"Sec-WebSocket-Protocol", "chat , superchat"},
                    {"Sec-WebSocket-Protocol", "v2.json"},
                    {"Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits"},
                    {"Sec-WebSocket-Extensions", "x-other"}};
  const auto c = check(f);
  BOOST_REQUIRE(static_cast<bool>(c));
  BOOST_TEST(c.key == rfc_key);
  const std::vector<std::string_view> expected = {"chat", "superchat", "v2.json"};
  BOOST_TEST(c.subprotocols == expected, boost::test_tools::per_element());
  BOOST_TEST(c.extensions == "permessage-deflate; client_max_window_bits, x-other");
}

BOOST_AUTO_TEST_CASE(method_version_and_target) {
  const auto f = good_request();
  using protocol::check_upgrade_request;
  refused(check_upgrade_request("POST", 11, "/", f), handshake_error::bad_method, 405, "Allow");
  refused(check_upgrade_request("get", 11, "/", f), handshake_error::bad_method, 405, "Allow");
  refused(check_upgrade_request("GET", 10, "/", f), handshake_error::bad_http_version, 505);
  refused(check_upgrade_request("GET", 20, "/", f), handshake_error::bad_http_version, 505);
  for (const std::string_view target :
       {"", "chat", "*", "/a b", "/a#b", "/\x01", "/\xc3\xa9", "ftp://h/", "://"})
    refused(check_upgrade_request("GET", 11, target, f), handshake_error::bad_target, 400);
  for (const std::string_view target : {"/", "/a?b=c%20d", "//", "http://h/x", "wss://h"})
    BOOST_TEST(check_upgrade_request("GET", 11, target, f).status == 101U);
}

BOOST_AUTO_TEST_CASE(every_refused_request) {
  using enum handshake_error;
  const auto good = good_request();
  refused(check(without(good, "Host")), bad_host, 400);
  refused(check(with(good, "Host", "example.com")), bad_host, 400);
  refused(check(replaced(good, "Host", "")), bad_host, 400);
  refused(check(replaced(good, "Host", "a/b")), bad_host, 400);
  refused(check(without(good, "Upgrade")), no_upgrade, 426, "Upgrade");
  refused(check(replaced(good, "Upgrade", "h2c")), no_upgrade, 426, "Upgrade");
  refused(check(replaced(good, "Upgrade", "websockets")), no_upgrade, 426, "Upgrade");
  refused(check(without(good, "Connection")), no_connection_upgrade, 426, "Connection");
  refused(check(replaced(good, "Connection", "keep-alive")), no_connection_upgrade, 426);
  refused(check(without(good, "Sec-WebSocket-Version")), no_version, 400, "Sec-WebSocket-Version");
  for (const std::string_view version : {"8", "14", "013", "13, 8", ""})
    refused(check(replaced(good, "Sec-WebSocket-Version", version)), unsupported_version, 426,
            "Sec-WebSocket-Version");
  refused(check(with(good, "Sec-WebSocket-Version", "13")), unsupported_version, 426);
  refused(check(without(good, "Sec-WebSocket-Key")), no_key, 400);
  refused(check(with(good, "Sec-WebSocket-Key", rfc_key)), repeated_key, 400);
  for (const std::string_view key :
       {"", "short==", "dGhlIHNhbXBsZSBub25jZ===", "dGhlIHNhbXBsZSBub25jZQAA",
        "dGhlIHNhbXBsZSBub25j*Q==", "dGhlIHNhbXBsZSBub25jZQ==AAAA"})
    refused(check(replaced(good, "Sec-WebSocket-Key", key)), bad_key, 400);
  for (const std::string_view names : {"a, a", "a b", "a;b", "caf\xc3\xa9"})
    refused(check(with(good, "Sec-WebSocket-Protocol", names)), bad_subprotocols, 400);
  refused(check(with(with(good, "Sec-WebSocket-Protocol", "a"), "Sec-WebSocket-Protocol", "a")),
          bad_subprotocols, 400);
}

BOOST_AUTO_TEST_CASE(header_limits) {
  auto many = good_request();
  while (many.size() < 100)
    many.push_back({"X", "y"});
  BOOST_TEST(check(many).status == 101U);
  many.push_back({"X", "y"});
  refused(check(many), handshake_error::too_many_fields, 431);
  const std::string large(16 << 10, 'x');
  refused(check(with(good_request(), "X", large)), handshake_error::fields_too_large, 431);
  BOOST_TEST(why(respond(with(good_response(), "X", large))) ==
             why(handshake_error::fields_too_large));
}

BOOST_AUTO_TEST_CASE(plain_http_is_told_apart) {
  BOOST_TEST(!protocol::is_upgrade(fields{{"Host", "h"}}));
  BOOST_TEST(!protocol::is_upgrade(fields{{"Upgrade", "h2c"}}));
  BOOST_TEST(protocol::is_upgrade(fields{{"upgrade", "h2c,WEBSOCKET"}}));
}

BOOST_AUTO_TEST_CASE(a_good_response) {
  BOOST_TEST(static_cast<bool>(respond(good_response())));
  const auto c = respond(with(good_response(), "sec-websocket-protocol", " superchat "));
  BOOST_TEST(c.subprotocol == "superchat");
  BOOST_TEST(!c.deflate);
  BOOST_TEST(static_cast<bool>(respond({{"upgrade", "WebSocket"},
                                        {"connection", "x, upgrade"},
                                        {"SEC-WEBSOCKET-ACCEPT", rfc_accept}})));
}

BOOST_AUTO_TEST_CASE(every_refused_response) {
  using enum handshake_error;
  const auto good = good_response();
  for (const unsigned status : {100U, 200U, 301U, 400U, 401U, 426U, 503U})
    BOOST_TEST(why(respond(good, status)) == why(unexpected_status));
  BOOST_TEST(why(respond(without(good, "Upgrade"))) == why(response_no_upgrade));
  BOOST_TEST(why(respond(replaced(good, "Upgrade", "h2c"))) == why(response_no_upgrade));
  BOOST_TEST(why(respond(without(good, "Connection"))) == why(response_no_connection_upgrade));
  BOOST_TEST(why(respond(replaced(good, "Connection", "close"))) ==
             why(response_no_connection_upgrade));
  BOOST_TEST(why(respond(without(good, "Sec-WebSocket-Accept"))) == why(no_accept));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Accept", rfc_accept))) == why(repeated_accept));
  BOOST_TEST(why(respond(replaced(good, "Sec-WebSocket-Accept", "S3pPLMBiTxaQ9kYGzzhZRbK+xOo="))) ==
             why(wrong_accept));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Protocol", "other"))) ==
             why(subprotocol_not_offered));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Protocol", "Chat"))) ==
             why(subprotocol_not_offered));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Protocol", "chat"), 101, {})) ==
             why(subprotocol_not_offered));
  BOOST_TEST(why(respond(with(with(good, "Sec-WebSocket-Protocol", "chat"),
                              "Sec-WebSocket-Protocol", "chat"))) == why(repeated_subprotocol));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Extensions", "permessage-deflate"))) ==
             why(extension_not_offered));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Extensions", "x-other"), 101, {},
                         compressing())) == why(extension_not_offered));
  BOOST_TEST(why(respond(with(good, "Sec-WebSocket-Extensions", "permessage-deflate; what"), 101,
                         {}, compressing())) == why(bad_extension_parameters));
}

BOOST_AUTO_TEST_CASE(a_response_with_compression) {
  const auto c =
      respond(with(good_response(), "Sec-WebSocket-Extensions",
                   "permessage-deflate; server_no_context_takeover; client_max_window_bits=9"),
              101, {}, compressing());
  BOOST_REQUIRE(c.deflate.has_value());
  BOOST_TEST((*c.deflate == protocol::deflate_params{true, true, 15, 9}));
}

BOOST_AUTO_TEST_CASE(headers_can_not_break_out_of_their_line) {
  std::string out;
  BOOST_TEST(protocol::append_header(out, "X-Name", "a value, \xc3\xa9\t."));
  BOOST_TEST(protocol::append_header(out, "X-Empty", ""));
  const std::string good = "X-Name: a value, \xc3\xa9\t.\r\nX-Empty: \r\n";
  BOOST_TEST(out == good);
  for (const auto value : std::initializer_list<std::string_view>{
           "a\r\nInjected: yes", "a\nb", "a\rb", " a", "a ", std::string_view("a\0b", 3), "a\x7f"})
    BOOST_TEST(!protocol::append_header(out, "X", value));
  for (const std::string_view name : {"", "a b", "a:", "a\r\n", "\xc3\xa9"})
    BOOST_TEST(!protocol::append_header(out, name, "v"));
  BOOST_TEST(out == good);
}

BOOST_AUTO_TEST_CASE(every_reason_has_a_sentence) {
  std::set<std::string> sentences;
  constexpr int last = static_cast<int>(handshake_error::bad_extension_parameters);
  for (int e = 1; e <= last; ++e) {
    const boost::system::error_code ec = static_cast<handshake_error>(e);
    BOOST_TEST(std::string(ec.category().name()) == "chorus.handshake");
    BOOST_TEST(ec.message().find("unknown") == std::string::npos);
    sentences.insert(ec.message());
  }
  BOOST_TEST(sentences.size() == static_cast<std::size_t>(last));
}

BOOST_AUTO_TEST_SUITE_END()
