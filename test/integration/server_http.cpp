#include "server_support.hpp"

#include <chorus/base/error.hpp>

#include <stdexcept>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::response;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_http)

namespace {

task<response> hello(request r) {
  std::string body = "hello";
  if (!r.query().empty())
    body += " " + std::string(r.query_param("name"));
  co_return response(body);
}
task<response> fails(request r) {
  throw std::runtime_error("no page today for " + std::string(r.header("Authorization")) + " or " +
                           std::string(r.query_param("token")));
  co_return response("unreachable");
}
task<response> breaks_out(request) {
  response r("x");
  r.set("X-Bad", "1\r\nX-Worse: 2");
  co_return r;
}

struct fixture {
  running loop;
  chorus::server server;

  explicit fixture(chorus::server_options options = {}) : server(loop.rt(), std::move(options)) {
    server.route("/echo", echo);
    server.route("/files/{name}", echo);
    server.get("/", hello);
    server.get("/fails", fails);
    server.get("/breaks", breaks_out);
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(5s)); }

  // One exchange on a connection that the server closes.
  std::string ask(std::string_view bytes) {
    wire w(server.port());
    w.send(bytes);
    return w.read_all();
  }
};

std::string get(std::string_view target, std::string_view more = {},
                std::string_view method = "GET") {
  return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n" +
         std::string(more) + "\r\n";
}
constexpr std::string_view bye = "Connection: close\r\n";

} // namespace

BOOST_AUTO_TEST_CASE(every_refusal_names_its_status_and_reason) {
  chorus::server_options options;
  options.max_header_bytes = 1024;
  fixture f(options);
  struct {
    std::string request;
    std::string status;
    std::string part; // of head or body
  } const cases[] = {
      {get("/none", bye), "404", "nothing on this path"},
      {get("/%zz", bye), "400", "percent escape"},
      {get("/", bye, "POST"), "405", "Allow: GET, HEAD, OPTIONS\r\n"},
      {get("/echo", bye, "DELETE"), "405", "Allow: GET, OPTIONS\r\n"},
      {get("/echo", bye), "426", "Upgrade: websocket\r\n"},
      {get("/files/x", bye), "426", "Sec-WebSocket-Version: 13\r\n"},
      {"GET / HTTP/1.1\r\n\r\n", "400", "Host"},
      {"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400", "Host"},
      {"GET / HTTP/1.0\r\n\r\n", "200", "hello"},
      {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "200", "hello"},
      {"nonsense\r\n\r\n", "400", "well-formed"},
      {"\x16\x03\x01\x02 a TLS client\r\n\r\n", "400", "well-formed"},
      {"GET / HTTP/3.0\r\n\r\n", "505", "HTTP/1.1"},
      {get("/", "X: " + std::string(2000, 'x') + "\r\n"), "431", "larger"},
      {get("/", "Content-Length: 2000000\r\n", "POST") + std::string(500'000, 'x'), "413", "body"},
      {upgrade_request("/none"), "404", "nothing on this path"},
      {upgrade_request("/"), "404", "plain HTTP only"},
      {upgrade_request("/files/%4"), "400", "percent escape"},
      {upgrade_request("/echo", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"), "400", "Key"},
      {upgrade_request("/echo", "Origin: http://evil.test\r\n"), "403", "origin"},
      {upgrade_request("/echo", "Origin: http://127.0.0.1\r\nOrigin: http://127.0.0.1\r\n"), "403",
       ""},
      {get("/echo", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n"
                    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
       "426", "Sec-WebSocket-Version: 13\r\n"},
      {get("/echo", "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"), "426", "Connection"},
      {get("/echo", "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n",
           "POST"),
       "405", "Allow: GET\r\n"},
  };
  for (const auto &c : cases) {
    const auto answer = f.ask(c.request);
    BOOST_TEST_CONTEXT(c.request.substr(0, 200) << "\n" << answer) {
      BOOST_TEST(answer.starts_with("HTTP/1.1 " + c.status + " "));
      BOOST_TEST(has(answer, c.part));
      BOOST_TEST(has(answer, "Connection: close\r\n"));
      const auto date = answer.find("\r\nDate: ");
      BOOST_TEST(date != std::string::npos);
      BOOST_TEST(answer.find("\r\nDate: ", date + 1) == std::string::npos);
    }
  }
  const auto stats = f.server.stats();
  BOOST_TEST(stats.accepted == std::size(cases));
  BOOST_TEST(stats.refused_other == 7u);
  BOOST_TEST(stats.refused_origin == 2u);
  BOOST_TEST(stats.handshakes_failed == 5u);
  BOOST_TEST(stats.upgraded == 0u);
}

BOOST_AUTO_TEST_CASE(several_pages_on_one_connection) {
  fixture f;
  wire w(f.server.port());
  w.send(get("/?name=you"));
  BOOST_TEST(has(w.read_response(), "\r\n\r\nhello you"));
  w.send(get("/", "", "HEAD"));
  const auto head = w.read_response(true);
  BOOST_TEST(has(head, "Content-Length: 5\r\n"));
  BOOST_TEST(head.ends_with("\r\n\r\n"));
  w.send(get("/none")); // refusals don't end the connection
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 404 "));
  w.send(get("/", "Content-Length: 3\r\n", "POST") + "abc" + get("/?name=1") + get("/?name=2"));
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 405 "));
  BOOST_TEST(has(w.read_response(), "hello 1"));
  BOOST_TEST(has(w.read_response(), "hello 2"));
  w.send(get("/", bye));
  const auto last = w.read_all();
  BOOST_TEST(has(last, "Connection: close\r\n"));
  BOOST_TEST(last.ends_with("hello"));
  BOOST_TEST(f.server.stats().accepted == 1u);
}

BOOST_AUTO_TEST_CASE(a_connection_may_be_upgraded_after_pages) {
  fixture f;
  wire w(f.server.port());
  w.send(get("/") + upgrade_request("/echo") + text_frame("early"));
  BOOST_TEST(has(w.read_response(), "hello"));
  BOOST_TEST(has(w.read_response(), "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"));
  BOOST_TEST(w.read_frame().payload == "early");
}

BOOST_AUTO_TEST_CASE(a_page_that_fails_is_a_500) {
  std::vector<std::string> told;
  chorus::server_options options;
  options.on_error = [&](std::string_view what, const chorus::session *) {
    told.emplace_back(what);
  };
  fixture f(options);
  wire w(f.server.port());
  w.send(get("/fails?token=abra%2Fcadabra", "Authorization: Bearer hocuspocus\r\n"));
  const auto answer = w.read_response();
  BOOST_TEST(answer.starts_with("HTTP/1.1 500 "));
  BOOST_TEST(!has(answer, "no page today")); // not the visitor's business
  w.send(get("/breaks"));
  const auto other = w.read_response();
  BOOST_TEST(other.starts_with("HTTP/1.1 500 "));
  BOOST_TEST(!has(other, "X-Worse"));
  w.send(get("/"));
  BOOST_TEST(has(w.read_response(), "hello"));
  BOOST_TEST(f.server.stats().handler_failures == 2u);
  BOOST_REQUIRE(told.size() == 2u);
  BOOST_TEST(has(told[0], "no page today for *** or ***"), told[0]);
  BOOST_TEST(has(told[1], "/breaks"));
}

BOOST_AUTO_TEST_CASE(a_request_may_be_cut_anywhere) {
  fixture f;
  const auto request = upgrade_request("/echo");
  for (std::size_t cut = 1; cut < request.size(); ++cut) {
    wire w(f.server.port());
    w.send(std::string_view(request).substr(0, cut));
    BOOST_REQUIRE(comes_true([&] { return f.server.stats().accepted == cut; }));
    w.send(std::string_view(request).substr(cut));
    BOOST_REQUIRE(w.read_response().starts_with("HTTP/1.1 101 "));
  }
  // And may never go on.
  const auto cuts = request.size() - 1;
  for (std::size_t cut = 1; cut < request.size(); ++cut) {
    wire w(f.server.port());
    w.send(std::string_view(request).substr(0, cut));
  }
  BOOST_TEST(comes_true([&] { return f.server.stats().handshakes_failed == cuts; }));
  BOOST_TEST(f.server.stats().upgraded == cuts);
  BOOST_TEST(comes_true([&] { return f.server.size() == 0; }));
}

BOOST_AUTO_TEST_CASE(origins_and_subprotocols) {
  chorus::server_options options;
  options.allowed_origins = {"https://friend.test"};
  options.subprotocols = {"v2", "v1"};
  fixture f(options);
  for (const char *origin : {"https://friend.test", "http://127.0.0.1", "https://127.0.0.1:443"})
    open_session(f.server.port(), "/echo", "Origin: " + std::string(origin) + "\r\n");
  wire w(f.server.port());
  w.send(
      upgrade_request("/echo", "Sec-WebSocket-Protocol: v0, v1\r\nSec-WebSocket-Protocol: v2\r\n"));
  BOOST_TEST(has(w.read_response(), "Sec-WebSocket-Protocol: v2\r\n"));
  wire other(f.server.port());
  other.send(upgrade_request("/echo", "Sec-WebSocket-Protocol: v0\r\n"));
  BOOST_TEST(!has(other.read_response(), "Sec-WebSocket-Protocol"));
}

BOOST_AUTO_TEST_CASE(compression_is_agreed_only_when_enabled) {
  const std::string offer =
      "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
  fixture plain;
  wire w(plain.server.port());
  w.send(upgrade_request("/echo", offer));
  BOOST_TEST(!has(w.read_response(), "Sec-WebSocket-Extensions"));
  chorus::server_options options;
  options.session.compression.enabled = true;
  fixture packed(options);
  wire p(packed.server.port());
  p.send(upgrade_request("/echo", offer));
  BOOST_TEST(has(p.read_response(), "Sec-WebSocket-Extensions: permessage-deflate"));
}

BOOST_AUTO_TEST_CASE(a_handshake_has_a_deadline) {
  chorus::server_options options;
  options.handshake_timeout = 50ms;
  fixture f(options);
  {
    wire silent(f.server.port());
    BOOST_TEST(silent.read_all() == "");
    wire half;
    while_held(f.loop, [&] {
      half.open(AF_INET);
      half.connect(f.server.port());
      half.send("GET / HT");
    });
    BOOST_TEST(half.read_all().starts_with("HTTP/1.1 408 "));
    // Bytes that keep coming don't buy time.
    wire slow(f.server.port());
    const auto end = std::chrono::steady_clock::now() + patience;
    bool cut = false;
    slow.send("GET / HTTP/1.1\r\nX: ");
    while (!cut && std::chrono::steady_clock::now() < end) {
      cut = !slow.send("x") || slow.readable();
      std::this_thread::sleep_for(1ms); // the pace: long before a head is too large
    }
    BOOST_TEST(cut);
  }
  BOOST_TEST(comes_true([&] { return f.server.stats().handshakes_failed == 3; }));
  // Between pages a connection just ends.
  wire idle;
  while_held(f.loop, [&] {
    idle.open(AF_INET);
    idle.connect(f.server.port());
    idle.send(get("/"));
  });
  BOOST_TEST(idle.read_all().ends_with("hello"));
  BOOST_TEST(f.server.stats().handshakes_failed == 3u);
}

BOOST_AUTO_TEST_CASE(routes_are_fixed_by_the_start) {
  fixture f;
  BOOST_CHECK_THROW(f.server.route("/late", echo), std::logic_error);
  BOOST_CHECK_THROW(f.server.get("/late", hello), std::logic_error);
  const auto again = f.loop.wait(f.server.start());
  BOOST_REQUIRE(!again);
  BOOST_TEST((again.error() == chorus::error::busy));
}

BOOST_AUTO_TEST_CASE(where_it_listens) {
  fixture f;
  BOOST_TEST(f.server.port() != 0);
  BOOST_TEST(f.server.address() == "127.0.0.1:" + std::to_string(f.server.port()));
  BOOST_TEST(f.server.url() == "ws://" + f.server.address());
  running loop;
  chorus::server not_started(loop.rt(), {});
  BOOST_TEST(not_started.port() == 0u);
  BOOST_TEST(not_started.url() == "");
}

BOOST_AUTO_TEST_CASE(unusable_options_are_named) {
  running loop;
  const auto fails_with = [&](chorus::server_options options, chorus::error e) {
    chorus::server s(loop.rt(), std::move(options));
    const auto up = loop.wait(s.start());
    BOOST_REQUIRE(!up);
    BOOST_TEST((up.error() == e));
    BOOST_TEST(!up.error().detail().sentence.empty());
  };
  chorus::server_options options;
  options.listen = "nonsense";
  fails_with(options, chorus::error::bad_option);
  options = {};
  options.handshake_timeout = 0ms;
  fails_with(options, chorus::error::bad_option);
  options = {};
  options.subprotocols = {"two words"};
  fails_with(options, chorus::error::bad_option);
  // Whoever wants certificates shall not be served in the clear.
  options = {};
  options.tls.ca_file = "ca.pem";
  options.tls.require_client_certificate = true;
  fails_with(options, chorus::error::tls_bad_configuration);
  options = {};
  options.tls.key_file = "server.key";
  fails_with(options, chorus::error::tls_bad_configuration);
  fixture taken;
  options = {};
  options.listen = taken.server.address();
  fails_with(options, chorus::error::listen_failed);
}

BOOST_AUTO_TEST_SUITE_END()
