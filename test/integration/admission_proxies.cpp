// Whose address it is when a proxy stands in front.

#include "admission_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/client/connect.hpp>

using namespace server_test;

BOOST_AUTO_TEST_SUITE(admission_proxies)

namespace {

constexpr std::string_view line = "PROXY TCP4 203.0.113.7 192.0.2.1 5060 443\r\n";
const std::string
    binary("\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x10\xcb\0\x71\x08\xc0\0\x02\x01\x13\xc4\x01\xbb"
           "\x04\0\x01x",
           32);

} // namespace

BOOST_AUTO_TEST_CASE(forwarded_for_is_believed_of_trusted_proxies_only) {
  chorus::server_options options;
  options.trusted_proxies = {"127.0.0.2", "10.0.0.0/8"};
  options.max_connections_per_address = 1;
  admitting f(options);
  auto proxied = wire_from("127.0.0.2", f.port());
  BOOST_TEST(
      upgraded(ask(proxied, "/where", "X-Forwarded-For: 1.1.1.1, 203.0.113.7, 10.1.1.1\r\n")));
  BOOST_TEST(said_by(proxied) == "203.0.113.7 203.0.113.7");
  // The limit is the client's, not the proxy's.
  auto second = wire_from("127.0.0.2", f.port());
  BOOST_TEST(upgraded(ask(second, "/where", "X-Forwarded-For: 203.0.113.8\r\n")));
  auto third = wire_from("127.0.0.2", f.port());
  BOOST_TEST(ask(third, "/where", "X-Forwarded-For: 9.9.9.9, 203.0.113.8\r\n")
                 .starts_with("HTTP/1.1 429 "));
  // Whoever connects directly is who it is.
  auto direct = wire_from("127.0.0.3", f.port());
  BOOST_TEST(upgraded(ask(direct, "/where", "X-Forwarded-For: 203.0.113.9\r\n")));
  BOOST_TEST(said_by(direct).starts_with("127.0.0.3:"));
  auto page = wire_from("127.0.0.2", f.port());
  page.send("GET /where/page HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 203.0.113.9\r\n\r\n");
  BOOST_TEST(page.read_response().ends_with("\r\n\r\n203.0.113.9"));
}

BOOST_AUTO_TEST_CASE(malformed_proxies_are_said_at_the_start) {
  for (const char *bad : {"10.0.0.0/40", "proxy.example.org"}) {
    running loop;
    chorus::server_options options;
    options.trusted_proxies = {bad};
    chorus::server server(loop.rt(), options);
    const auto up = loop.wait(server.start());
    BOOST_REQUIRE(!up);
    BOOST_TEST((up.error() == chorus::error::bad_option));
    BOOST_TEST(has(up.error().message(), "trusted_proxies"));
    BOOST_TEST(has(up.error().message(), bad));
  }
  running loop;
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::trusted;
  chorus::server server(loop.rt(), options);
  const auto up = loop.wait(server.start());
  BOOST_REQUIRE(!up);
  BOOST_TEST(has(up.error().message(), "trusted_proxies"));
}

BOOST_AUTO_TEST_CASE(proxy_headers_of_both_versions) {
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::required;
  options.max_connections_per_address = 1;
  admitting f(options, 2);
  wire first(f.port()), second(f.port()), third(f.port());
  BOOST_TEST(upgraded(ask(first, "/where", {}, line)));
  BOOST_TEST(said_by(first) == "203.0.113.7:5060 203.0.113.7:5060");
  BOOST_TEST(upgraded(ask(second, "/where", {}, binary)));
  BOOST_TEST(said_by(second) == "203.0.113.8:5060 203.0.113.8:5060");
  BOOST_TEST(ask(third, "/where", {}, binary).starts_with("HTTP/1.1 429 "));
  // One byte at a time; a page; the proxy's own connection.
  wire slow(f.port());
  for (const char c : "PROXY TCP6 2001:db8::1 ::1 1 2\r\n" + upgrade_request("/where"))
    slow.send({&c, 1});
  BOOST_TEST(upgraded(slow.read_response()));
  BOOST_TEST(said_by(slow) == "[2001:db8::1]:1 [2001:db8::1]:1");
  wire page(f.port());
  page.send(std::string(line) + "GET /where/page HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(page.read_response().ends_with("\r\n\r\n203.0.113.7:5060"));
  wire local(f.port());
  BOOST_TEST(upgraded(ask(local, "/where", {}, "PROXY UNKNOWN\r\n")));
  BOOST_TEST(said_by(local).starts_with("127.0.0.1:"));
}

BOOST_AUTO_TEST_CASE(bad_or_missing_headers_end_the_connection) {
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::required;
  options.handshake_timeout = 1h;
  admitting f(options);
  std::uint64_t refused = 0;
  for (const std::string_view bad :
       {std::string_view("PROXY TCP4 1.1.1.1 1.1.1.1 1 x\r\n"),
        std::string_view("GET / HTTP/1.1\r\n\r\n"), std::string_view("\x16\x03\x01\x02"),
        std::string_view(binary).substr(0, 13)}) {
    wire w(f.port());
    w.send(bad);
    w.end_output();
    BOOST_TEST(w.read_all() == "");
    BOOST_TEST(comes_true([&] { return f.stats().refused_proxy == refused + 1; }));
    ++refused;
  }
  BOOST_TEST(f.stats().upgraded == 0u);
}

BOOST_AUTO_TEST_CASE(nobody_waits_for_a_header_for_ever) {
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::required;
  options.handshake_timeout = 50ms;
  admitting f(options);
  wire silent(f.port()), half(f.port());
  half.send("PROXY TCP4 1.1");
  BOOST_TEST(silent.read_all() == "");
  BOOST_TEST(half.read_all() == "");
  BOOST_TEST(comes_true([&] { return f.stats().refused_proxy == 2; }));
}

BOOST_AUTO_TEST_CASE(from_trusted_proxies_only) {
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::trusted;
  options.trusted_proxies = {"127.0.0.2"};
  admitting f(options);
  auto proxied = wire_from("127.0.0.2", f.port());
  BOOST_TEST(upgraded(ask(proxied, "/where", "X-Forwarded-For: 9.9.9.9\r\n", line)));
  BOOST_TEST(has(said_by(proxied), "203.0.113.7:5060"));
  auto without = wire_from("127.0.0.2", f.port());
  BOOST_TEST(ask(without, "/where") == "");
  auto direct = wire_from("127.0.0.3", f.port());
  BOOST_TEST(upgraded(ask(direct, "/where")));
  BOOST_TEST(has(said_by(direct), "127.0.0.3"));
  auto forged = wire_from("127.0.0.3", f.port());
  const auto answer = ask(forged, "/where", {}, line); // a strange request line
  BOOST_TEST(answer.starts_with("HTTP/1.1 "));
  BOOST_TEST(!upgraded(answer));
}

// A proxy that passes TLS on as it is, with a header before it.
BOOST_AUTO_TEST_CASE(before_tls) {
  for (const std::string &header : {std::string(line), binary}) {
    chorus::server_options options;
    options.proxy = chorus::proxy_protocol::required;
    options.tls = chorus::test::server_options();
    admitting f(options);
    wire at_door;
    at_door.open(AF_INET);
    sockaddr_in here{};
    here.sin_family = AF_INET;
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof here;
    BOOST_REQUIRE(::bind(at_door.fd(), reinterpret_cast<sockaddr *>(&here), size) == 0);
    BOOST_REQUIRE(::listen(at_door.fd(), 1) == 0);
    ::getsockname(at_door.fd(), reinterpret_cast<sockaddr *>(&here), &size);

    std::thread proxy([&] {
      const int client = ::accept(at_door.fd(), nullptr, nullptr);
      wire server(f.port());
      server.send(header);
      const auto pass = [](int from, int to) {
        char bytes[4096];
        for (ssize_t n; (n = ::recv(from, bytes, sizeof bytes, 0)) > 0;)
          if (::send(to, bytes, static_cast<std::size_t>(n), MSG_NOSIGNAL) != n)
            break;
        ::shutdown(to, SHUT_WR);
      };
      std::thread back([&] { pass(server.fd(), client); });
      pass(client, server.fd());
      back.join();
      ::close(client);
    });
    static const auto trust = chorus::test::client_options();
    auto talk = [](std::string url) -> chorus::task<std::string> {
      chorus::connect_options how;
      how.tls = &trust;
      auto s = co_await chorus::connect(url, how);
      if (!s)
        co_return s.error().message();
      co_await s->send("?");
      const auto m = co_await s->receive();
      const std::string said(m ? m->text() : std::string_view("nothing"));
      co_await s->close();
      co_return said;
    };
    const auto said =
        f.loop.wait(talk("wss://localhost:" + std::to_string(ntohs(here.sin_port)) + "/where"));
    BOOST_TEST(said.starts_with(header == binary ? "203.0.113.8:5060 " : "203.0.113.7:5060 "),
               said);
    proxy.join();
  }
}

BOOST_AUTO_TEST_SUITE_END()
