#include <chorus/base/url.hpp>

#include <boost/test/unit_test.hpp>

#include <ostream>
#include <string>
#include <vector>

using chorus::url;
using chorus::url_scheme;

namespace {

struct good {
  std::string text;
  url_scheme scheme;
  std::string host;
  unsigned port;
  std::string target;
  std::string authority;
  std::string normal;
};

struct refusal {
  std::string text;
  std::string says; // part of the sentence
};

const std::vector<good> good_urls{
    {"ws://example.org", url_scheme::ws, "example.org", 80, "/", "example.org",
     "ws://example.org/"},
    {"wss://example.org", url_scheme::wss, "example.org", 443, "/", "example.org",
     "wss://example.org/"},
    {"WSS://Example.ORG:443/Chat", url_scheme::wss, "example.org", 443, "/Chat", "example.org",
     "wss://example.org/Chat"},
    {"ws://h:443/", url_scheme::ws, "h", 443, "/", "h:443", "ws://h:443/"},
    {"ws://h:8080/a/b?c=d&e=%20", url_scheme::ws, "h", 8080, "/a/b?c=d&e=%20", "h:8080",
     "ws://h:8080/a/b?c=d&e=%20"},
    {"ws://h?q", url_scheme::ws, "h", 80, "/?q", "h", "ws://h/?q"},
    {"ws://h:/x", url_scheme::ws, "h", 80, "/x", "h", "ws://h/x"},
    {"ws://h:65535", url_scheme::ws, "h", 65535, "/", "h:65535", "ws://h:65535/"},
    {"ws://h/who@where:8", url_scheme::ws, "h", 80, "/who@where:8", "h", "ws://h/who@where:8"},
    {"ws://h//two?a?b/", url_scheme::ws, "h", 80, "//two?a?b/", "h", "ws://h//two?a?b/"},
    {"ws://127.0.0.1:9/", url_scheme::ws, "127.0.0.1", 9, "/", "127.0.0.1:9", "ws://127.0.0.1:9/"},
    {"ws://[::1]", url_scheme::ws, "::1", 80, "/", "[::1]", "ws://[::1]/"},
    {"ws://[2001:DB8::1]:81/x", url_scheme::ws, "2001:db8::1", 81, "/x", "[2001:db8::1]:81",
     "ws://[2001:db8::1]:81/x"},
    {"ws://[::ffff:192.0.2.1]:81", url_scheme::ws, "::ffff:192.0.2.1", 81, "/",
     "[::ffff:192.0.2.1]:81", "ws://[::ffff:192.0.2.1]:81/"},
    {"ws://[fe80::1%25eth0]:81/x", url_scheme::ws, "fe80::1%eth0", 81, "/x", "[fe80::1]:81",
     "ws://[fe80::1%25eth0]:81/x"},
    {"ws://a_b-c.d", url_scheme::ws, "a_b-c.d", 80, "/", "a_b-c.d", "ws://a_b-c.d/"},
    {"tcp://h:9000", url_scheme::tcp, "h", 9000, "", "h:9000", "tcp://h:9000"},
    {"tcp://h:9000/", url_scheme::tcp, "h", 9000, "", "h:9000", "tcp://h:9000"},
    {"tls://[::1]:9000", url_scheme::tls, "::1", 9000, "", "[::1]:9000", "tls://[::1]:9000"},
    {"LocalHost:8080", url_scheme::tcp, "localhost", 8080, "", "localhost:8080",
     "tcp://localhost:8080"},
    {"192.0.2.1:80", url_scheme::tcp, "192.0.2.1", 80, "", "192.0.2.1:80", "tcp://192.0.2.1:80"},
    {"[::1]:9000", url_scheme::tcp, "::1", 9000, "", "[::1]:9000", "tcp://[::1]:9000"},
};

const std::vector<refusal> bad_urls{
    {"", "empty"},
    {"localhost:", "no scheme: start it with"},
    {":8080", "no scheme"},
    {"localhost:8080/path", "only host:port alone"},
    {"localhost:0", "number from 1 to 65535"},
    {"localhost:65536", "number from 1 to 65535"},
    {"::1:8080", "more than one colon"},
    {"example.org/path:80", "no scheme: start it with"},
    {"user:secret@example.org:80", "no place for credentials"},
    {"example.org", "no scheme: start it with"},
    {"example.org/path", "no scheme"},
    {"//example.org/", "no scheme"},
    {"://example.org/", "no scheme"},
    {"/?u=ws://example.org", "no scheme"},
    {"http://example.org/", "write ws:// instead"},
    {"HTTPS://example.org/", "write wss:// instead"},
    {"ftp://example.org/", "none of ws://"},
    {"ws:/example.org", "no scheme"},
    {"ws://", "names no host"},
    {"ws:///path", "names no host"},
    {"ws://:80/", "names no host"},
    {"ws://?q", "names no host"},
    {"ws://h:0/", "number from 1 to 65535"},
    {"ws://h:65536/", "number from 1 to 65535"},
    {"ws://h:8o/", "number from 1 to 65535"},
    {"ws://h:-1/", "number from 1 to 65535"},
    {"ws://h:+1/", "number from 1 to 65535"},
    {"ws://h:99999999999999999999/", "number from 1 to 65535"},
    {"ws://::1/", "more than one colon"},
    {"ws://[::1/", "not closed"},
    {"ws://[::1]8080/", "only a colon and a port"},
    {"ws://[1.2.3.4]/", "no IPv6 address"},
    {"ws://[]/", "no IPv6 address"},
    {"ws://[::1%25]/", "zone"},
    {"ws://[::1%25a/b]/", "bracket"},
    {"tcp://user:secret@h:1", "no place for credentials"},
    {"ws://a@b@h/", "written as %40"},
    {"ws://@h/", "names no user"},
    {"ws://:secret@h/", "names no user"},
    {"ws://a%3Ab:c@h/", "can't hold a colon"},
    {"ws://a:b%0D@h/", "control character"},
    {"ws://a%4:b@h/", "% that two hexadecimal digits"},
    {"ws://a:b@/", "names no host"},
    {"ws://h/#top", "no fragment"},
    {"ws://h#", "no fragment"},
    {"ws://h/a b", "blank"},
    {"ws://h/\r\nHost: x", "control character"},
    {std::string("ws://h/\0x", 9), "control character"},
    {"ws://h/%", "% that two hexadecimal digits"},
    {"ws://h/%4", "% that two hexadecimal digits"},
    {"ws://h/%zz", "% that two hexadecimal digits"},
    {"ws://h/?a=%g0", "% that two hexadecimal digits"},
    {"ws://h/a\"b", "write it as %22"},
    {"ws://h/<", "write it as %3C"},
    {"ws://h/caf\xc3\xa9", "write it as %C3"},
    {"ws://caf\xc3\xa9/", "xn--"},
    {"ws://h%41/", "no host name has"},
    {"ws://a!b/", "no host name has"},
    {"ws://" + std::string(254, 'a') + "/", "longer than 253"},
    {"ws://h/" + std::string(9000, 'a'), "longer than 8192"},
    {"tcp://h", "needs a port"},
    {"tls://h:/", "needs a port"},
    {"tcp://h:1/path", "ends after its port"},
    {"tcp://h:1?q", "ends after its port"},
    {"unix://", "names no socket"},
    {"unix:///run/a?b", "no query"},
    {"unix:///run/" + std::string(110, 'a'), "longer than the 107 bytes"},
    {"unix:///run/%00", "zero byte"},
    {"ws+unix://:/chat", "names no socket"},
    {"ws+unix:///run/a:chat", "must begin with a slash"},
    {"ws+unix:///run/a:", "must begin with a slash"},
};

} // namespace

BOOST_AUTO_TEST_SUITE(url_parsing)

BOOST_AUTO_TEST_CASE(accepts_what_is_right) {
  for (const auto &g : good_urls) {
    BOOST_TEST_CONTEXT(g.text) {
      const auto u = url::parse(g.text);
      BOOST_REQUIRE(u.has_value());
      BOOST_CHECK(u->scheme() == g.scheme);
      BOOST_TEST(u->host() == g.host);
      BOOST_TEST(u->port() == g.port);
      BOOST_TEST(u->target() == g.target);
      BOOST_TEST(u->authority() == g.authority);
      BOOST_TEST(u->str() == g.normal);
      BOOST_TEST(u->socket_path() == "");
      BOOST_TEST(!u->is_unix());
      BOOST_TEST(u->is_secure() == (g.scheme == url_scheme::wss || g.scheme == url_scheme::tls));
      BOOST_TEST(u->is_websocket() == !g.target.empty());
    }
  }
}

BOOST_AUTO_TEST_CASE(schemes_are_told_from_hosts) {
  for (const auto *text : {"ws://h", "x://h", "tcp://", "WSS://h:1/?a=b://c"})
    BOOST_TEST(url::names_scheme(text), text);
  for (const auto *text : {"", "h", "h:1", "://h", "h:1/?u=ws://g", "h/ws://g", "me@h://", "?://"})
    BOOST_TEST(!url::names_scheme(text), text);
}

BOOST_AUTO_TEST_CASE(normal_form_parses_to_the_same) {
  for (const auto &g : good_urls) {
    const auto u = url::parse(g.text);
    const auto again = url::parse(u->str());
    BOOST_TEST_CONTEXT(u->str()) {
      BOOST_REQUIRE(again.has_value());
      BOOST_CHECK(*again == *u);
    }
  }
}

BOOST_AUTO_TEST_CASE(unix_sockets) {
  const auto plain = url::parse("unix:///run/app.sock");
  BOOST_REQUIRE(plain.has_value());
  BOOST_TEST(plain->socket_path() == "/run/app.sock");
  BOOST_TEST(plain->target() == "");
  BOOST_TEST(plain->is_unix());
  BOOST_TEST(!plain->is_websocket());
  BOOST_TEST(plain->host() == "");
  BOOST_TEST(plain->port() == 0U);

  const auto relative = url::parse("unix://app.sock");
  BOOST_REQUIRE(relative.has_value());
  BOOST_TEST(relative->socket_path() == "app.sock");

  const auto ws = url::parse("ws+unix:///run/app.sock:/chat/a:b?c");
  BOOST_REQUIRE(ws.has_value());
  BOOST_TEST(ws->socket_path() == "/run/app.sock");
  BOOST_TEST(ws->target() == "/chat/a:b?c");
  BOOST_TEST(ws->authority() == "localhost");
  BOOST_TEST(ws->is_websocket());
  BOOST_TEST(ws->str() == "ws+unix:///run/app.sock:/chat/a:b?c");

  const auto without = url::parse("ws+unix:///run/app.sock");
  BOOST_REQUIRE(without.has_value());
  BOOST_TEST(without->target() == "/");

  const auto encoded = url::parse("ws+unix:///run/a%3Ab%20c:/x");
  BOOST_REQUIRE(encoded.has_value());
  BOOST_TEST(encoded->socket_path() == "/run/a:b c");
  BOOST_TEST(encoded->str() == "ws+unix:///run/a%3Ab%20c:/x");
}

BOOST_AUTO_TEST_CASE(refuses_with_a_sentence) {
  for (const auto &b : bad_urls) {
    BOOST_TEST_CONTEXT(b.text) {
      const auto u = url::parse(b.text);
      BOOST_REQUIRE(!u.has_value());
      const auto why = u.error();
      BOOST_CHECK(why == chorus::error::bad_url);
      BOOST_CHECK(why.detail().where == chorus::stage::configure);
      BOOST_TEST_INFO(why.message());
      BOOST_TEST(why.message().find(b.says) != std::string::npos);
    }
  }
}

BOOST_AUTO_TEST_CASE(sentences_keep_secrets) {
  for (const auto *text : {"ws://user:hunter2@h:x/", "tcp://user:hunter2@h:1",
                           "ws://h/?token=hunter2#x", "ws://h:x/?token=hunter2",
                           "ws://h/?token=hunter2 ", "http://h/?hunter2", "tcp://h:1/hunter2"}) {
    const auto u = url::parse(text);
    BOOST_REQUIRE(!u.has_value());
    BOOST_TEST(u.error().message().find("hunter2") == std::string::npos);
  }
}

BOOST_AUTO_TEST_CASE(default_is_usable) {
  const url u;
  BOOST_TEST(u.str() == "ws://localhost/");
}

BOOST_AUTO_TEST_CASE(credentials_are_decoded_and_never_shown) {
  const auto u = chorus::url::parse("wss://J%C3%B6:p%40ss:w%20rd@Example.org:8443/a");
  BOOST_REQUIRE(u.has_value());
  BOOST_TEST(u->has_credentials());
  BOOST_TEST(u->user() == "J\xc3\xb6");
  BOOST_TEST(u->password() == "p@ss:w rd");
  BOOST_TEST(u->host() == "example.org");
  BOOST_TEST(u->authority() == "example.org:8443");
  BOOST_TEST(u->str() == "wss://example.org:8443/a");
  const auto alone = chorus::url::parse("ws://me@[::1]:8080/");
  BOOST_REQUIRE(alone.has_value());
  BOOST_TEST(alone->user() == "me");
  BOOST_TEST(alone->password().empty());
  BOOST_TEST(alone->host() == "::1");
  BOOST_TEST(!chorus::url::parse("ws://h/a@b")->has_credentials());
}

BOOST_AUTO_TEST_SUITE_END()
