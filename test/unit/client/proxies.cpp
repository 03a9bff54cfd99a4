// The way through proxies that do what the test says, byte by byte.

#include "attempt.hpp"

#include <chorus/base/explain.hpp>
#include <chorus/client/plan.hpp>
#include <chorus/transport/proxy.hpp>

#include <boost/asio/read.hpp>

#include <map>

using namespace client_test;
using chorus::stage;
using chorus::transport::is_listed;
using chorus::transport::parse_proxy;
using chorus::transport::proxy_for;
using chorus::transport::proxy_kind;

namespace {

// A proxy's end of a connection, spoken to in exact numbers of bytes; then it stands for the server.
class proxy_peer {
public:
  explicit proxy_peer(tcp::socket s) : socket_(std::move(s)) {}
  task<std::string> read(std::size_t n) {
    std::string out(n, '\0');
    boost::system::error_code ec;
    const auto got = co_await asio::async_read(socket_, asio::buffer(out),
                                               asio::redirect_error(asio::use_awaitable, ec));
    out.resize(got);
    co_return out;
  }
  task<> write(std::string bytes) {
    boost::system::error_code ec;
    co_await asio::async_write(socket_, asio::buffer(bytes),
                               asio::redirect_error(asio::use_awaitable, ec));
  }
  peer become_server() { return peer(std::move(socket_)); }

private:
  tcp::socket socket_;
};

std::string at(const listener &l) { return "127.0.0.1:" + std::to_string(l.port()); }
// No initializer list: g++ 12 rejects one in a coroutine's expressions.
template <class... Byte> std::string bytes(Byte... all) { return {static_cast<char>(all)...}; }

attempt dial_by(world &w, const std::string &proxy, const char *url = "ws://far.test:81/x") {
  connect_options o;
  o.proxy = proxy;
  o.connect_timeout = 20s;
  return attempt(w.rt.executor(), connect(url, o));
}

task<> serve_and_greet(peer p, attempt &a) {
  const auto head = co_await p.upgrade(peer::text("welcome"));
  BOOST_TEST(peer::field(head, "Host") == "far.test:81");
  BOOST_TEST(peer::field(head, "Proxy-Authorization").empty());
  auto s = co_await a.get();
  BOOST_REQUIRE_MESSAGE(s.has_value(), (s ? "" : s.error().message()));
  auto got = co_await s->receive();
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->text() == "welcome");
  s->abort();
}

// What an HTTP proxy's answer, after which it closes, is called.
task<failure> told(world &w, std::string answer, std::string credentials = {}) {
  listener l(w);
  auto a = dial_by(w, "http://" + credentials + at(l));
  auto p = co_await l.accept();
  co_await p.read_head();
  co_await p.write(std::move(answer));
  p.close();
  auto r = co_await a.get();
  co_return r ? failure() : r.error();
}

} // namespace

BOOST_AUTO_TEST_SUITE(proxies)

BOOST_AUTO_TEST_CASE(urls_of_proxies) {
  const auto full = parse_proxy("socks5://me:p%40ss@Proxy.test:99/", "proxy");
  BOOST_REQUIRE(full.has_value());
  BOOST_CHECK(full->kind == proxy_kind::socks5);
  BOOST_TEST(full->host == "Proxy.test");
  BOOST_TEST(full->port == "99");
  BOOST_TEST(full->user == "me");
  BOOST_TEST(full->password == "p@ss");
  BOOST_TEST(parse_proxy("http://h", "proxy")->port == "80");
  BOOST_TEST(parse_proxy("socks5h://h", "proxy")->port == "1080");
  BOOST_TEST(parse_proxy("h:3128", "proxy")->port == "3128");
  BOOST_TEST(parse_proxy("http://[::1]:8", "proxy")->host == "::1");
  BOOST_TEST(parse_proxy("http://[::1]", "proxy")->host == "::1");
  for (const auto *wrong :
       {"", "http://", "ftp://h", "https://h:1", "http://h:x", "http://h:0", "http://h:99999",
        "http://:hunter2@h", "http://a:hunter2%0a@h", "http://a:hunter2%@h", "http://h i"}) {
    const auto r = parse_proxy(wrong, "the way out");
    BOOST_TEST_CONTEXT(wrong) {
      BOOST_REQUIRE(!r.has_value());
      BOOST_CHECK(r.error() == error::bad_option);
      BOOST_TEST(says(r.error(), "the way out: "));
      BOOST_TEST(!says(r.error(), "hunter2"));
    }
  }
}

BOOST_AUTO_TEST_CASE(no_proxy_lists) {
  const auto *list = "example.org, .corp,10.0.0.0/8,192.0.2.7,[2001:db8::1]:443,h:81,fd00::/8";
  for (const auto *host : {"example.org", "EXAMPLE.org", "a.example.org", "x.corp", "corp",
                           "10.200.0.1", "192.0.2.7", "fd12::1"})
    BOOST_TEST(is_listed(list, host, 80), host);
  for (const auto *host : {"anexample.org", "example.org.evil", "11.0.0.1", "192.0.2.70", "h",
                           "2001:db8::1", "org", "fe80::1"})
    BOOST_TEST(!is_listed(list, host, 80), host);
  BOOST_TEST(is_listed(list, "h", 81));
  BOOST_TEST(is_listed(list, "2001:db8::1", 443));
  BOOST_TEST(is_listed("*", "anything", 1));
  BOOST_TEST(!is_listed("", "h", 1));
  BOOST_TEST(!is_listed(" ,, .", "h", 1));
  const auto *ports = "*:8080,192.0.2.0/24:81,[fd00::]/8:82,[2001:db8::/32]:83,[::1]";
  BOOST_TEST(is_listed(ports, "anything", 8080));
  BOOST_TEST(is_listed(ports, "192.0.2.9", 81));
  BOOST_TEST(is_listed(ports, "fd12::1", 82));
  BOOST_TEST(is_listed(ports, "2001:db8::1", 83));
  BOOST_TEST(is_listed(ports, "::1", 84));
  for (const auto *host : {"anything", "192.0.2.9", "fd12::1", "2001:db8::1"})
    BOOST_TEST(!is_listed(ports, host, 84), host);
  for (const auto *odd : {"h:", "[::1", "[", "]", ":", "*:", "/", "[]:80"})
    BOOST_TEST(!is_listed(odd, "h", 80), odd);
}

// Several ways to write one host.
BOOST_AUTO_TEST_CASE(no_proxy_lists_hosts_however_they_are_written) {
  for (const auto *list : {"example.invalid", "example.invalid.", ".example.invalid."})
    for (const auto *host : {"example.invalid", "example.invalid.", "a.Example.invalid."})
      BOOST_TEST(is_listed(list, host, 80), list << " " << host);
  BOOST_TEST(!is_listed("example.invalid.", "example.invalid..", 80));
  BOOST_TEST(is_listed("192.0.2.7", "::ffff:192.0.2.7", 80));
  BOOST_TEST(is_listed("[::ffff:192.0.2.7]:80", "192.0.2.7", 80));
  BOOST_TEST(is_listed("192.0.2.0/24:80", "::ffff:192.0.2.7", 80));
  BOOST_TEST(is_listed("::ffff:0:0/96", "::ffff:192.0.2.7", 80));
  BOOST_TEST(!is_listed("::/0", "192.0.2.7", 80));
  BOOST_TEST(!is_listed("192.0.2.8", "::ffff:192.0.2.7", 80));
}

BOOST_AUTO_TEST_CASE(variables_of_the_environment) {
  std::map<std::string, std::string> set;
  const auto variables = [&set](const char *name) {
    const auto found = set.find(name);
    return found == set.end() ? nullptr : found->second.c_str();
  };
  const auto chosen = [&](bool http, bool tls, const char *host = "far.test") -> std::string {
    const auto r = proxy_for(variables, http, tls, host, 80);
    if (!r)
      return "! " + r.error().message();
    return *r ? (*r)->host : "";
  };
  BOOST_TEST(chosen(true, false).empty());
  set = {{"HTTP_PROXY", "evil"}};
  BOOST_TEST(chosen(true, false).empty());
  set = {{"http_proxy", "plain"}, {"HTTPS_PROXY", "secure"}, {"all_proxy", "socks5://rest"}};
  BOOST_TEST(chosen(true, false) == "plain");
  BOOST_TEST(chosen(true, true) == "secure");
  BOOST_TEST(chosen(false, true) == "rest");
  BOOST_TEST(chosen(false, false) == "rest");
  for (const auto *here : {"localhost", "127.0.0.9", "::1", "a.localhost", "localhost.",
                           "a.LOCALHOST.", "::ffff:127.0.0.1"})
    BOOST_TEST(chosen(true, false, here).empty());
  set["NO_PROXY"] = "far.test";
  BOOST_TEST(chosen(true, false).empty());
  set["no_proxy"] = "near.test";
  BOOST_TEST(chosen(true, false) == "plain");
  set = {{"ALL_PROXY", "ftp://x"}};
  BOOST_TEST(chosen(true, false).find("! the environment's all_proxy: ") == 0U);
}

BOOST_AUTO_TEST_CASE(by_connect) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_by(here, "http://me:p%40ss@" + at(l));
    auto p = co_await l.accept();
    const auto head = co_await p.read_head();
    BOOST_TEST(head.find("CONNECT far.test:81 HTTP/1.1\r\n") == 0U);
    BOOST_TEST(peer::field(head, "Host") == "far.test:81");
    BOOST_TEST(peer::field(head, "Proxy-Authorization") == "Basic bWU6cEBzcw==");
    co_await p.write("HTTP/1.1 200 Connection established\r\nVia: x\r\n\r\n");
    co_await serve_and_greet(std::move(p), a);
  }(w));
}

// A server that speaks first, in the packet that the proxy's answer is in: no byte of it is lost.
BOOST_AUTO_TEST_CASE(what_follows_the_answer_is_the_servers) {
  world w;
  w.run([](world &here) -> task<> {
    for (const auto *head : {"HTTP/1.0 200 OK\r\n\r\n", "HTTP/1.1 200\nA: b\n\n",
                             "HTTP/1.1 200 abc\r\nA: bb\r\n\r\n"}) {
      listener l(here);
      auto a = dial_by(here, "http://" + at(l), "tcp://far.test:81");
      auto p = co_await l.accept();
      co_await p.read_head();
      co_await p.write(head + bytes(0, 0, 0, 2) + "hi");
      auto s = co_await a.get();
      BOOST_REQUIRE(s.has_value());
      auto got = co_await s->receive();
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->text() == "hi");
      s->abort();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(refusals_of_connect_are_told) {
  world w;
  w.run([](world &here) -> task<> {
    const auto wants = co_await told(
        here, "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\n"
              "Content-Length: 7\r\n\r\nwho are");
    BOOST_CHECK(wants == error::proxy_refused);
    BOOST_CHECK(wants == chorus::condition::refused);
    BOOST_CHECK(wants.detail().where == stage::proxy);
    BOOST_TEST(wants.detail().status == 407U);
    BOOST_TEST(wants.detail().body == "who are");
    BOOST_REQUIRE(!wants.detail().headers.empty());
    BOOST_TEST(wants.detail().headers[0].second == "Basic");
    BOOST_TEST(says(wants, "user and a password"));
    BOOST_TEST(chorus::is_fatal(wants));
    BOOST_TEST(wants.detail().wants_credentials);
    BOOST_TEST(says(wants, "give them in the proxy's URL"));
    // That is what squid says to a wrong password as well.
    const auto wrong = co_await told(here, "HTTP/1.1 407 No\r\n\r\n", "me:wrong@");
    BOOST_TEST(chorus::is_fatal(wrong));
    BOOST_TEST(says(wrong, "does not know this user and password"));
    BOOST_TEST(!says(wrong, "give them"));
    const auto bare = co_await told(here, "HTTP/1.1 401 No\r\n\r\n");
    BOOST_TEST(says(bare, "give them in the proxy's URL"));
    const auto down = co_await told(here, "HTTP/1.1 502 Bad Gateway\r\n\r\nendless");
    BOOST_CHECK(down == error::proxy_refused);
    BOOST_TEST(!chorus::is_fatal(down));
    BOOST_TEST(says(down, "can't reach the server"));
    for (const auto *odd : {"SSH-2.0-x\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 99 x\r\n\r\n"}) {
      const auto why = co_await told(here, odd);
      BOOST_CHECK(why == error::proxy_invalid);
      BOOST_TEST(chorus::is_fatal(why));
    }
    const auto huge = co_await told(here, "HTTP/1.1 200 OK\r\nA: " + std::string(9000, 'a'));
    BOOST_CHECK(huge == error::proxy_invalid);
    const auto gone = co_await told(here, "");
    BOOST_CHECK(gone == error::lost);
    BOOST_CHECK(gone.detail().where == stage::proxy);
    const auto harmful = co_await told(here, "HTTP/1.1 403 a\x1b[2J\rb\xc2\x9b|\xff\r\n\r\n");
    BOOST_TEST(says(harmful, "answered 403 a [2J b |? to CONNECT far.test:81"));
    BOOST_TEST(!harmful.detail().wants_credentials);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_proxy_that_is_not_there_or_says_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port dead(here);
    auto a = dial_by(here, "http://" + dead.url().substr(5));
    const auto r = co_await a.get();
    BOOST_REQUIRE(!r.has_value());
    BOOST_CHECK(r.error() == error::connect_failed);
    BOOST_TEST(says(r.error(), "the proxy 127.0.0.1:"));
    BOOST_TEST(says(r.error(), "check the proxy's address, or go without it"));
    BOOST_TEST(!says(r.error(), "is the server running"));
    BOOST_CHECK(r.error().detail().where == stage::proxy);
    BOOST_CHECK(chorus::remedy_of(r.error()) == chorus::remedy::check_proxy);
    auto b = dial_by(here, "http://no-such-proxy.invalid:3128");
    const auto unknown = co_await b.get();
    BOOST_REQUIRE(!unknown.has_value());
    BOOST_CHECK(unknown.error().detail().where == stage::proxy);
    BOOST_CHECK(chorus::remedy_of(unknown.error()) == chorus::remedy::check_proxy);

    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    listener l(here);
    connect_options o;
    const auto proxy = "socks5://" + at(l);
    o.proxy = proxy;
    o.connect_timeout = 50ms;
    attempt silent(here.rt.executor(), connect("ws://far.test/", o));
    auto p = co_await l.accept();
    const auto over = [&silent] { return silent.done(); };
    co_await pass_time(home, over);
    const auto late = co_await silent.get();
    BOOST_REQUIRE(!late.has_value());
    BOOST_CHECK(late.error() == error::proxy_timeout);
    BOOST_CHECK(late.error() == chorus::condition::timeout);
  }(w));
}

BOOST_AUTO_TEST_CASE(by_socks5_with_user_and_password) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_by(here, "socks5://me:secret@" + at(l));
    proxy_peer p(co_await l.accept_socket());
    BOOST_TEST((co_await p.read(4)) == bytes(5, 2, 0, 2));
    co_await p.write(bytes(5, 2));
    BOOST_TEST((co_await p.read(11)) == bytes(1, 2) + "me" + bytes(6) + "secret");
    co_await p.write(bytes(1, 0));
    BOOST_TEST((co_await p.read(15)) == bytes(5, 1, 0, 3, 8) + "far.test" + bytes(0, 81));
    co_await p.write(bytes(5, 0, 0, 3, 4) + "here" + bytes(1, 2));
    co_await serve_and_greet(p.become_server(), a);
  }(w));
}

BOOST_AUTO_TEST_CASE(by_socks5_to_addresses) {
  world w;
  w.run([](world &here) -> task<> {
    const std::vector<std::pair<const char *, std::string>> table{
        {"tcp://192.0.2.1:258", bytes(5, 1, 0, 1, 192, 0, 2, 1, 1, 2)},
        {"tcp://[2001:db8::7]:80",
         bytes(5, 1, 0, 4, 32, 1, 13, 184, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 7, 0, 80)}};
    for (const auto &[url, request] : table) {
      listener l(here);
      auto a = dial_by(here, "socks5://" + at(l), url);
      proxy_peer p(co_await l.accept_socket());
      BOOST_TEST((co_await p.read(3)) == bytes(5, 1, 0));
      co_await p.write(bytes(5, 0));
      const auto got = co_await p.read(request.size());
      BOOST_TEST((got == request));
      co_await p.write(bytes(5, 0, 0, 4) + std::string(18, '\0'));
      auto s = co_await a.get();
      BOOST_REQUIRE(s.has_value());
      s->abort();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(refusals_of_socks5_are_told) {
  world w;
  w.run([](world &here) -> task<> {
    struct row {
      const char *user;
      std::string method;
      std::string verdict;
      std::string reply;
      error code;
      const char *says;
      bool login = false; // that is what it is about
    };
    const std::vector<row> table{
        {"", bytes(5, 0xff), "", "", error::proxy_refused, "wants authentication", true},
        {"a:b@", bytes(5, 0xff), "", "", error::proxy_refused, "takes no user", true},
        {"a:b@", bytes(5, 2), bytes(1, 1), "", error::proxy_refused, "password is wrong", true},
        {"", bytes(5, 0), "", bytes(5, 5, 0, 1, 0), error::proxy_refused, "refused the connection"},
        {"", bytes(5, 0), "", bytes(5, 2, 0, 1, 0), error::proxy_refused, "rules"},
        {"", bytes(5, 0), "", bytes(5, 200, 0, 1, 0), error::proxy_refused, "RFC 1928"},
        {"", bytes(5, 0), "", bytes(5, 0, 0, 9, 0), error::proxy_invalid, "unknown kind"},
        {"", bytes(5, 0), "", bytes(4, 0, 0, 1, 0), error::proxy_invalid, "version 5"},
        {"", bytes(5, 2), "", "", error::proxy_invalid, "not offered"},
        {"", "HT", "", "", error::proxy_invalid, "no SOCKS5 proxy"}};
    for (const auto &r : table) {
      listener l(here);
      auto a = dial_by(here, std::string("socks5://") + r.user + at(l));
      proxy_peer p(co_await l.accept_socket());
      const bool named = *r.user != '\0';
      co_await p.read(named ? 4 : 3);
      co_await p.write(r.method);
      if (!r.verdict.empty()) {
        co_await p.read(5);
        co_await p.write(r.verdict);
      }
      if (!r.reply.empty()) {
        co_await p.read(15);
        co_await p.write(r.reply);
      }
      const auto got = co_await a.get();
      BOOST_TEST_CONTEXT(r.says) {
        BOOST_REQUIRE(!got.has_value());
        BOOST_TEST_INFO(got.error().message());
        BOOST_CHECK(got.error() == r.code);
        BOOST_TEST(says(got.error(), r.says));
        BOOST_CHECK(got.error().detail().where == stage::proxy);
        BOOST_TEST(got.error().detail().wants_credentials == r.login);
        BOOST_TEST((chorus::remedy_of(got.error()) == chorus::remedy::proxy_credentials) ==
                   r.login);
        // Who logs in again and again is locked out.
        BOOST_TEST(chorus::is_fatal(got.error()) == (r.login || r.code == error::proxy_invalid));
      }
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_client_whose_login_a_proxy_refuses_does_not_come_back) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    chorus::client_options o;
    o.urls = {"ws://far.test/"};
    o.proxy = "socks5://me:bad@" + at(l);
    o.max_attempts = 2; // so that this ends in any case
    chorus::client c(here.rt, o);
    proxy_peer p(co_await l.accept_socket());
    co_await p.read(4);
    co_await p.write(bytes(5, 2));
    co_await p.read(8);
    co_await p.write(bytes(1, 1));
    const auto opened = co_await c.connected();
    BOOST_REQUIRE(!opened.has_value());
    BOOST_CHECK(opened.error() == error::proxy_refused);
    BOOST_TEST(c.stats().attempts == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(unix_sockets_need_no_proxy) {
  connect_options o;
  o.proxy = "http://h:1";
  const auto plan = chorus::detail::make_plan("ws+unix:///s", o);
  BOOST_REQUIRE(plan.has_value());
  BOOST_TEST(!(*plan)->dial.proxy.has_value());
  BOOST_TEST((*chorus::detail::make_plan("ws://localhost/", o))->dial.proxy.has_value());
  o.proxy = "ftp://h";
  BOOST_CHECK(chorus::detail::make_plan("ws://h/", o).error() == error::bad_option);
}

BOOST_AUTO_TEST_SUITE_END()
