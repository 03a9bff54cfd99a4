// Getting in at a NATS server: passwords, tokens and TLS, and what is said when it does not let in.

#include "integration/nats_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/cluster/nats_link.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <filesystem>

namespace {

using namespace nats_test;
using chorus::test::key;
using chorus::test::pem;

std::vector<std::string> tls(const std::string &name) {
  return {"tls { cert_file: \"" + pem(name) + "\", key_file: \"" + key(name) + "\" }"};
}

std::string url(const nats_process &server, const std::string &scheme,
                const std::string &login = {}) {
  return scheme + "://" + login + "127.0.0.1:" + std::to_string(server.port());
}

// One that gives up soon and tries again soon.
asker node(const std::string &url, const std::string &ca = {}) {
  chorus::nats_options o;
  o.connect_timeout = 10s;
  o.answer_timeout = 20s;
  o.ca_file = ca;
  return node_at(url, std::move(o));
}

void is_let_in(const std::string &url, const std::string &ca = {}) {
  BOOST_TEST_CONTEXT(url) {
    auto one = node(url, ca);
    const auto sent = one.publish("r", "1");
    BOOST_CHECK_MESSAGE(sent.has_value(), one.engine->status().why);
    BOOST_CHECK(one.engine->status().connected);
  }
}

void is_refused(const std::string &url, const std::string &ca, const std::string &reason) {
  BOOST_TEST_CONTEXT(url) {
    auto one = node(url, ca);
    std::string why; // the first thing that it says
    BOOST_CHECK(becomes_true([&] {
      why = one.engine->status().why;
      return why != "it has not connected yet";
    }));
    BOOST_CHECK(why.find(reason) != why.npos);
    BOOST_TEST_MESSAGE(why);
    BOOST_CHECK(!one.engine->status().connected);
    BOOST_CHECK(why.find("secret") == why.npos);
    BOOST_CHECK(one.publish("r", "1").error() == chorus::error::lost);
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(nats_login)

BOOST_AUTO_TEST_CASE(by_user_and_password) {
  const nats_process server({"authorization { user: \"ann\", password: \"s@:/?% secret\" }"});
  is_let_in(url(server, "nats", "ann:s%40%3A%2F%3F%25%20secret@"));
  is_refused(url(server, "nats", "ann:wrongsecret@"), {}, "Authorization Violation");
  is_refused(url(server, "nats"), {}, "Authorization Violation");
}

BOOST_AUTO_TEST_CASE(by_token) {
  const nats_process server({"authorization { token: \"one/secret\" }"});
  is_let_in(url(server, "nats", "one%2Fsecret@"));
  is_refused(url(server, "nats", "wrongsecret@"), {}, "Authorization Violation");
}

BOOST_AUTO_TEST_CASE(by_tls) {
  const nats_process server(tls("server"));
  is_let_in(url(server, "tls"), pem("ca"));
  is_refused(url(server, "tls"), {}, "unable to get local issuer certificate");
  is_refused(url(server, "tls"), pem("stranger_ca"), "unable to get local issuer certificate");
  is_refused(url(server, "nats"), {}, "unable to get local issuer certificate");
}

BOOST_AUTO_TEST_CASE(not_with_the_certificate_of_another_host) {
  const nats_process server(tls("other"));
  is_refused(url(server, "tls"), pem("ca"), "IP address mismatch");
}

BOOST_AUTO_TEST_CASE(not_with_a_certificate_that_is_over) {
  const nats_process server(tls("expired"));
  is_refused(url(server, "tls"), pem("ca"), "certificate has expired");
}

BOOST_AUTO_TEST_CASE(not_without_tls_where_the_url_asks_for_it) {
  const nats_process server;
  is_refused(url(server, "tls"), pem("ca"), "Secure Connection not available");
}

BOOST_AUTO_TEST_CASE(a_file_of_authorities_that_is_not_there_yet_is_waited_for) {
  const nats_process server(tls("server"));
  const auto later = server.folder() / "ca.pem";
  auto one = node(url(server, "tls"), later.string());
  BOOST_REQUIRE(
      becomes_true([&] { return one.engine->status().why.find("refuses") != std::string::npos; }));
  BOOST_TEST_MESSAGE(one.engine->status().why);
  std::filesystem::copy_file(pem("ca"), later);
  BOOST_CHECK(becomes_true([&] { return one.engine->status().connected; }));
  BOOST_CHECK(one.publish("r", "1").has_value());
}

// However often it is refused, nothing of it stays; and libnats' threads may tell it things meanwhile.
BOOST_AUTO_TEST_CASE(who_is_refused_leaves_nothing) {
  using chorus::detail::nats_link;
  BOOST_REQUIRE(becomes_true([] { return nats_link::open_inboxes() == 0; }));
  const nats_process server({"authorization { token: \"one\" }"});
  const auto o = patient();
  std::atomic<int> woken{0};
  {
    nats_link link(chorus::detail::parse_nats_target(url(server, "nats", "two@"), o).value(), o);
    int refused = 0;
    for (int i = 0; i < 50; ++i) {
      refused += !link.connect([&] { ++woken; });
      BOOST_REQUIRE_EQUAL(nats_link::open_inboxes(), 1u);
    }
    BOOST_CHECK_EQUAL(refused, 49); // the first goes on by itself, and says nothing
  }
  BOOST_CHECK_EQUAL(nats_link::open_inboxes(), 0u);
  const int before = woken;
  nats_link good(chorus::detail::parse_nats_target(url(server, "nats", "one@"), o).value(), o);
  BOOST_CHECK(good.connect([] {}));
  BOOST_CHECK_EQUAL(nats_link::open_inboxes(), 1u);
  BOOST_CHECK_EQUAL(woken, before);
}

// What is published then would overtake what was under way, and is not known to be lost yet.
BOOST_AUTO_TEST_CASE(nothing_waits_for_a_connection_that_is_not_known_of) {
  using chorus::detail::nats_link;
  nats_process server;
  const auto o = patient();
  nats_link link(chorus::detail::parse_nats_target(server.url(), o).value(), o);
  const auto is_told = [&] {
    for (const auto &e : link.take())
      if (e.what == chorus::detail::nats_event::kind::up)
        return true;
    return false;
  };
  BOOST_REQUIRE(link.connect([] {}));
  BOOST_REQUIRE(becomes_true(is_told));
  BOOST_CHECK(link.publish("a", {}, "1", {}));
  for (int i = 0; i < 2; ++i) {
    server.kill();
    BOOST_REQUIRE(becomes_true([&] { return !link.open(); }));
    BOOST_CHECK(link.publish("a", {}, "2", {}).error() == chorus::error::lost);
    server.start();
    BOOST_REQUIRE(becomes_true([&] { return link.open(); }));
    BOOST_CHECK(link.publish("a", {}, "2", {}).error() == chorus::error::lost);
    BOOST_REQUIRE(becomes_true(is_told));
    BOOST_CHECK(link.publish("a", {}, "3", {}));
  }
}

BOOST_AUTO_TEST_SUITE_END()
