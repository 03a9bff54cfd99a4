#include "server_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/base/error.hpp>
#include <chorus/client/connect.hpp>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_tls)

namespace {

struct fixture {
  running loop;
  chorus::server server;
  explicit fixture(chorus::server_options options = {}, unsigned threads = 1)
      : loop(threads), server(loop.rt(), with_certificate(std::move(options))) {
    server.route("/echo", echo);
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(5s)); }

  static chorus::server_options with_certificate(chorus::server_options options) {
    options.tls = chorus::test::server_options();
    return options;
  }
};

// What comes back for `text`, or why nothing does.
task<std::string> ask(std::string url, std::string text, std::string ca) {
  chorus::tls_options trust;
  trust.ca_file = ca;
  chorus::connect_options options;
  options.tls = &trust;
  auto s = co_await chorus::connect(url, options);
  if (!s)
    co_return s.error().message();
  co_await s->send(text);
  auto answer = co_await s->receive();
  if (!answer)
    co_return answer.error().message();
  co_await s->close();
  co_return answer->str();
}

} // namespace

BOOST_AUTO_TEST_CASE(sessions_over_tls) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    const std::string text(100'000, 'x'); // several records
    BOOST_TEST(f.server.url() == "wss://" + f.server.address());
    for (int i = 0; i < 4; ++i)
      BOOST_TEST(
          (f.loop.wait(ask(f.server.url() + "/echo", text, chorus::test::pem("ca"))) == text));
    BOOST_TEST(f.server.stats().upgraded == 4u);
  }
}

BOOST_AUTO_TEST_CASE(a_refusal_reaches_the_client) {
  fixture f;
  const auto why = f.loop.wait(ask(f.server.url() + "/none", "x", chorus::test::pem("ca")));
  BOOST_TEST(has(why, "404"));
}

BOOST_AUTO_TEST_CASE(who_does_not_speak_tls_is_cut) {
  fixture f;
  wire plain(f.server.port());
  plain.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(!has(plain.read_all(), "HTTP"));
  BOOST_TEST(comes_true([&] { return f.server.stats().handshakes_failed == 1; }));
}

BOOST_AUTO_TEST_CASE(the_deadline_holds_for_tls_too) {
  chorus::server_options options;
  options.handshake_timeout = 30ms;
  fixture f(options);
  wire silent(f.server.port());
  BOOST_TEST(silent.read_all() == "");
  BOOST_TEST(comes_true([&] { return f.server.stats().handshakes_failed == 1; }));
}

BOOST_AUTO_TEST_CASE(a_stop_cuts_a_tls_handshake) {
  fixture f;
  wire silent(f.server.port());
  silent.send("\x16\x03\x01");
  BOOST_REQUIRE(comes_true([&] { return f.server.stats().accepted == 1; }));
  f.loop.wait(f.server.stop(1h));
  BOOST_TEST(silent.read_all() == "");
}

BOOST_AUTO_TEST_CASE(an_unusable_certificate_is_named) {
  running loop;
  chorus::server_options options;
  options.tls.certificate_file = "/nowhere/server.pem";
  options.tls.key_file = "/nowhere/server.key";
  chorus::server s(loop.rt(), options);
  const auto up = loop.wait(s.start());
  BOOST_REQUIRE(!up);
  BOOST_TEST((up.error() == chorus::error::tls_bad_configuration));
  BOOST_TEST(has(up.error().message(), "/nowhere/"));
}

BOOST_AUTO_TEST_SUITE_END()
