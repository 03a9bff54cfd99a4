// What `connect` and `client` refuse before anything is dialled, and what the request looks like.

#include <chorus/client/client.hpp>
#include <chorus/client/plan.hpp>
#include <chorus/client/upgrade.hpp>

#include <boost/test/unit_test.hpp>

#include <array>
#include <stdexcept>
#include <string>

using chorus::connect_options;
using chorus::error;
using chorus::header;
using chorus::detail::make_plan;
using namespace std::chrono_literals;

namespace {

std::string sentence_of(std::string_view url, const connect_options &options) {
  const auto plan = make_plan(url, options);
  BOOST_REQUIRE(!plan.has_value());
  const auto why = plan.error();
  BOOST_CHECK(why == error::bad_option);
  return why.message();
}

std::string with_header(std::string_view name, std::string_view value) {
  const std::array<header, 1> headers{{{name, value}}};
  connect_options o;
  o.headers = headers;
  return sentence_of("ws://h/", o);
}

bool says(const std::string &sentence, std::string_view part) {
  return sentence.find(part) != std::string::npos;
}

} // namespace

BOOST_AUTO_TEST_SUITE(plans)

BOOST_AUTO_TEST_CASE(headers_that_break_out_of_their_line_are_refused) {
  for (const auto *value : {"a\r\nHost: evil", "a\n", "\r", " a", "a ", "a\x01", "a\x7f"})
    BOOST_TEST(says(with_header("X-A", value), "X-A"));
  for (const auto *name : {"", "A B", "A:", "A\r\nB", "\xc3\xa9"})
    BOOST_TEST(says(with_header(name, "v"), "can't be sent"));
  BOOST_TEST(!says(with_header("X-A", "secret\n"), "secret"));
}

BOOST_AUTO_TEST_CASE(reserved_headers_are_refused) {
  for (const auto *name :
       {"Host", "host", "UPGRADE", "Connection", "Sec-WebSocket-Key", "sec-websocket-version",
        "Sec-WebSocket-Anything", "Content-Length", "Transfer-Encoding"})
    BOOST_TEST(says(with_header(name, "v"), "belongs to the handshake"));
  BOOST_TEST(says(with_header("Sec-WebSocket-Protocol", "v"), "subprotocols"));
  BOOST_TEST(says(with_header("Sec-WebSocket-Extensions", "v"), "compression"));
}

BOOST_AUTO_TEST_CASE(bad_options_are_refused) {
  const std::array<std::string_view, 2> twice{"a", "a"};
  const std::array<std::string_view, 1> blank{"a b"};
  const std::array<std::string_view, 1> empty{""};
  connect_options o;
  o.subprotocols = twice;
  BOOST_TEST(says(sentence_of("ws://h/", o), "listed twice"));
  o.subprotocols = blank;
  BOOST_TEST(says(sentence_of("ws://h/", o), "no token"));
  o.subprotocols = empty;
  BOOST_TEST(says(sentence_of("ws://h/", o), "no token"));
  o.subprotocols = {};
  o.upgrade_timeout = 0ms;
  BOOST_TEST(says(sentence_of("ws://h/", o), "upgrade_timeout"));
  o.upgrade_timeout = 1s;
  o.resolve_timeout = -1ms;
  BOOST_TEST(says(sentence_of("ws://h/", o), "resolve_timeout"));
  o.resolve_timeout = 1s;
  o.max_response_bytes = 0;
  BOOST_TEST(says(sentence_of("ws://h/", o), "max_response_bytes"));
  o.max_response_bytes = 100;
  o.session.compression.enabled = true;
  o.session.compression.client_max_window_bits = 16;
  BOOST_TEST(says(sentence_of("ws://h/", o), "window"));
}

BOOST_AUTO_TEST_CASE(pong_wait_exceeds_ping_interval) {
  connect_options o;
  const auto is_good = [&](auto ping, auto pong) {
    o.session.heartbeat.ping_interval = ping;
    o.session.heartbeat.pong_wait = pong;
    const auto plan = make_plan("ws://h/", o);
    if (!plan) {
      BOOST_CHECK(plan.error() == error::bad_option);
      BOOST_TEST(says(plan.error().message(), "ping_interval"));
      BOOST_TEST(says(plan.error().message(), "pong_wait"));
    }
    return plan.has_value();
  };
  BOOST_TEST(is_good(1000ms, 1001ms));
  BOOST_TEST(!is_good(1000ms, 1000ms));
  BOOST_TEST(!is_good(1000ms, 1ms));
  BOOST_TEST(is_good(1000ms, 0ms));
  BOOST_TEST(is_good(0ms, 1ms));
  BOOST_TEST(is_good(0ms, 0ms));
}

BOOST_AUTO_TEST_CASE(only_websockets_have_headers_and_subprotocols) {
  const std::array<header, 1> headers{{{"A", "b"}}};
  const std::array<std::string_view, 1> names{"a"};
  connect_options o;
  o.headers = headers;
  BOOST_TEST(says(sentence_of("tcp://h:1", o), "only a WebSocket"));
  o.headers = {};
  o.subprotocols = names;
  BOOST_TEST(says(sentence_of("unix:///s", o), "only a WebSocket"));
}

BOOST_AUTO_TEST_CASE(urls_are_checked) {
  const auto plan = make_plan("localhost", {});
  BOOST_REQUIRE(!plan.has_value());
  BOOST_CHECK(plan.error() == error::bad_url);
}

BOOST_AUTO_TEST_CASE(the_request_is_what_the_rfc_asks_for) {
  const std::array<header, 2> headers{{{"Authorization", "Bearer x"}, {"Origin", "https://o"}}};
  const std::array<std::string_view, 2> names{"chat.v2", "chat"};
  connect_options o;
  o.headers = headers;
  o.subprotocols = names;
  const auto plan = make_plan("ws://Example.org:8080/a?b=c", o);
  BOOST_REQUIRE(plan.has_value());
  BOOST_TEST(chorus::detail::upgrade_request(**plan, "dGhlIHNhbXBsZSBub25jZQ==") ==
             "GET /a?b=c HTTP/1.1\r\n"
             "Host: example.org:8080\r\n"
             "Upgrade: websocket\r\n"
             "Connection: Upgrade\r\n"
             "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
             "Sec-WebSocket-Version: 13\r\n"
             "Sec-WebSocket-Protocol: chat.v2, chat\r\n"
             "Authorization: Bearer x\r\n"
             "Origin: https://o\r\n"
             "\r\n");
}

BOOST_AUTO_TEST_CASE(compression_is_offered_only_when_wanted) {
  connect_options o;
  const auto without = make_plan("ws://h/", o);
  BOOST_TEST(!says(chorus::detail::upgrade_request(**without, "k"), "permessage-deflate"));
  o.session.compression.enabled = true;
  const auto with = make_plan("ws://h/", o);
  BOOST_TEST(says(chorus::detail::upgrade_request(**with, "k"),
                  "Sec-WebSocket-Extensions: permessage-deflate"));
}

BOOST_AUTO_TEST_CASE(a_client_refuses_what_it_could_never_use) {
  chorus::runtime rt;
  const auto refused = [&](chorus::client_options o, std::string_view part) {
    try {
      chorus::client c(rt, std::move(o));
    } catch (const std::invalid_argument &e) {
      BOOST_TEST_INFO(e.what());
      BOOST_TEST(says(e.what(), part));
      return;
    }
    BOOST_ERROR("no exception");
  };
  chorus::client_options good;
  good.urls = {"ws://127.0.0.1:1/"};
  BOOST_CHECK_NO_THROW(chorus::client(rt, good));

  auto o = good;
  o.urls = {};
  refused(o, "urls is empty");
  o = good;
  o.urls.push_back("localhost");
  refused(o, "no scheme");
  o = good;
  o.headers = {{"Host", "x"}};
  refused(o, "Host");
  o = good;
  o.subprotocols = {"a b"};
  refused(o, "no token");
  o = good;
  o.outbox_overflow = chorus::overflow::close;
  refused(o, "outbox_overflow");
  o = good;
  o.authenticate_timeout = std::chrono::milliseconds(0);
  refused(o, "authenticate_timeout");
  o = good;
  o.check_timeout = std::chrono::milliseconds(-1);
  refused(o, "check_timeout");
  o = good;
  o.reconnect = chorus::reconnect_policy::constant(std::chrono::milliseconds(-1));
  refused(o, "initial");
  o = good;
  o.outbox_bytes = 0;
  refused(o, "outbox_bytes");
  o = good;
  o.backoff.factor = 0.5;
  refused(o, "factor");
  o = good;
  o.shard = 7;
  refused(o, "shard 7");
  o = good;
  o.session.heartbeat.pong_wait = o.session.heartbeat.ping_interval;
  refused(o, "pong_wait");
  o = good;
  o.ignore_input = true;
  o.on_message = [](const chorus::message &) {};
  refused(o, "ignore_input");
  // Headers are for the WebSocket URLs among them.
  o = good;
  o.urls = {"ws://127.0.0.1:1/", "tcp://127.0.0.1:1"};
  o.headers = {{"A", "b"}};
  BOOST_CHECK_NO_THROW(chorus::client(rt, o));
}

BOOST_AUTO_TEST_CASE(fatal_and_transient) {
  const auto refused = [](unsigned status) {
    chorus::failure_detail d;
    d.status = status;
    return chorus::failure(make_error_code(error::upgrade_refused), d);
  };
  for (unsigned status : {200U, 204U, 301U, 302U, 400U, 401U, 403U, 405U, 407U, 410U, 418U, 426U})
    BOOST_TEST_CONTEXT(status) BOOST_TEST(chorus::is_fatal(refused(status)));
  for (unsigned status : {404U, 408U, 421U, 423U, 425U, 429U, 500U, 502U, 503U, 504U})
    BOOST_TEST_CONTEXT(status) BOOST_TEST(!chorus::is_fatal(refused(status)));

  const auto closed = [](unsigned code, bool by_peer) {
    chorus::failure_detail d;
    d.close_code = static_cast<std::uint16_t>(code);
    d.by_peer = by_peer;
    return chorus::failure(make_error_code(error::closed), d);
  };
  for (unsigned code : {1002U, 1003U, 1007U, 1008U, 1009U, 1010U}) {
    BOOST_TEST_CONTEXT(code) BOOST_TEST(chorus::is_fatal(closed(code, true)));
    BOOST_TEST_CONTEXT(code) BOOST_TEST(!chorus::is_fatal(closed(code, false)));
  }
  for (unsigned code : {1000U, 1001U, 1005U, 1006U, 1011U, 1012U, 1013U, 1014U, 3000U, 4000U})
    BOOST_TEST_CONTEXT(code) BOOST_TEST(!chorus::is_fatal(closed(code, true)));

  for (auto e : {error::bad_url, error::bad_option, error::upgrade_invalid, error::tls_expired,
                 error::tls_wrong_host, error::tls_unknown_issuer, error::tls_bad_certificate,
                 error::tls_bad_configuration, error::tls_not_tls, error::auth_refused})
    BOOST_TEST(chorus::is_fatal(e));
  for (auto e :
       {error::resolve_failed, error::resolve_timeout, error::connect_failed,
        error::connect_timeout, error::tls_timeout, error::tls_failed, error::upgrade_timeout,
        error::lost, error::timed_out, error::write_timeout, error::protocol, error::aborted,
        error::auth_failed, error::auth_timeout, error::handler_failed})
    BOOST_TEST(!chorus::is_fatal(e));
}

BOOST_AUTO_TEST_CASE(states_have_names) {
  BOOST_TEST(to_string(chorus::client_state::connecting) == "CONNECTING");
  BOOST_TEST(to_string(chorus::client_state::open) == "OPEN");
  BOOST_TEST(to_string(chorus::client_state::disconnected) == "DISCONNECTED");
  BOOST_TEST(to_string(chorus::client_state::closing) == "CLOSING");
  BOOST_TEST(to_string(chorus::client_state::closed) == "CLOSED");
}

// The example of RFC 7617 section 2, and what a header of that name would make of it.
BOOST_AUTO_TEST_CASE(credentials_of_the_url_are_sent_as_basic_authentication) {
  const auto plan = make_plan("ws://Aladdin:open%20sesame@h/", {});
  BOOST_REQUIRE(plan.has_value());
  const auto request = chorus::detail::upgrade_request(**plan, "dGhlIHNhbXBsZSBub25jZQ==");
  BOOST_TEST(says(request, "\r\nAuthorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n"));
  BOOST_TEST(says(request, "\r\nHost: h\r\n"));
  const std::array<header, 1> headers{{{"authorization", "Bearer x"}}};
  connect_options o;
  o.headers = headers;
  BOOST_TEST(says(sentence_of("ws://a:b@h/", o), "choose one"));
}

BOOST_AUTO_TEST_CASE(the_stagger_has_a_lower_bound) {
  connect_options o;
  o.connect_stagger = 10ms;
  BOOST_TEST(make_plan("ws://h/", o).has_value());
  o.connect_stagger = 9ms;
  BOOST_TEST(says(sentence_of("ws://h/", o), "connect_stagger"));
}

BOOST_AUTO_TEST_SUITE_END()
