// Redirects of the upgrade: where they lead, and what goes along.

#include "attempt.hpp"

#include <chorus/client/redirect.hpp>

#include <array>

using namespace client_test;
using chorus::header;
using chorus::detail::follow;
using chorus::detail::is_redirect;
using chorus::detail::make_plan;

namespace {

std::string moved(const std::string &to) {
  return "HTTP/1.1 307 Temporary Redirect\r\nLocation: " + to + "\r\nContent-Length: 0\r\n\r\n";
}

failure redirect(std::string location, unsigned status = 302) {
  chorus::failure_detail detail;
  detail.status = status;
  detail.headers.emplace_back("location", std::move(location));
  return failure(make_error_code(error::upgrade_refused), std::move(detail));
}

std::string seen_from(std::string_view base, std::string location) {
  const auto plan = make_plan(base, {});
  BOOST_REQUIRE(plan.has_value());
  const auto next = follow(**plan, redirect(std::move(location)));
  return next ? (*next)->where.str() : "! " + next.error().message();
}

// Answers one request with a redirect; the request's head.
task<std::string> send_on(listener &l, std::string to) {
  auto p = co_await l.accept();
  auto head = co_await p.read_head();
  co_await p.write(moved(to));
  co_return head;
}

} // namespace

BOOST_AUTO_TEST_SUITE(redirects)

BOOST_AUTO_TEST_CASE(locations_are_resolved) {
  const auto *base = "ws://h:8080/a/b?x=1";
  BOOST_TEST(seen_from(base, "http://Other/p") == "ws://other/p");
  BOOST_TEST(seen_from(base, "ws://h:8080/p?y") == "ws://h:8080/p?y");
  BOOST_TEST(seen_from(base, "HTTPS://h/p") == "wss://h/p");
  BOOST_TEST(seen_from(base, "//other:1/p") == "ws://other:1/p");
  BOOST_TEST(seen_from(base, "/p/q#top") == "ws://h:8080/p/q");
  BOOST_TEST(seen_from(base, "c") == "ws://h:8080/a/c");
  BOOST_TEST(seen_from(base, "../c/./d") == "ws://h:8080/c/d");
  BOOST_TEST(seen_from(base, "/../../..") == "ws://h:8080/");
  BOOST_TEST(seen_from(base, "?y=2") == "ws://h:8080/a/b?y=2");
  BOOST_TEST(seen_from("wss://h/", "/p") == "wss://h/p");
  BOOST_TEST(seen_from("ws+unix:///s:/a", "/b") == "ws+unix:///s:/b");
}

BOOST_AUTO_TEST_CASE(some_are_never_followed) {
  BOOST_TEST(seen_from("wss://h/", "http://h/").find("never followed") != std::string::npos);
  BOOST_TEST(seen_from("wss://h/", "ws://h/").find("never followed") != std::string::npos);
  for (const auto *to : {"ftp://h/", "tcp://h:1", "javascript:alert(1)", "http://", "ws://u:p@h/",
                         "http://h:99999/", "mailto:a@b"})
    BOOST_TEST(seen_from("ws://h/", to).find("no URL of a WebSocket") != std::string::npos);
  BOOST_TEST(seen_from("ws+unix:///s:/a", "///s:/b?c") == "ws+unix:///s:/b?c");
  for (const auto *to : {"http://h/", "///t:/a", "//t:/a", "//s:/a", "///s/../t:/a"})
    BOOST_TEST(seen_from("ws+unix:///s:/a", to).find("unix socket") != std::string::npos);
  BOOST_TEST(is_redirect(redirect("/", 301)));
  BOOST_TEST(is_redirect(redirect("/", 308)));
  BOOST_TEST(!is_redirect(redirect("/", 304)));
  BOOST_TEST(!is_redirect(redirect("/", 404)));
  BOOST_TEST(!is_redirect(redirect("")));
  BOOST_TEST(!is_redirect(failure(error::lost)));
}

BOOST_AUTO_TEST_CASE(credentials_stay_with_their_server) {
  const std::array<header, 4> headers{{{"Cookie", "c=1"},
                                       {"X-Api-Key", "k"},
                                       {"Origin", "https://o"},
                                       {"Authorization", "Bearer t"}}};
  connect_options o;
  o.headers = headers;
  const auto plan = make_plan("ws://h/", o);
  BOOST_REQUIRE(plan.has_value());
  for (const auto *same : {"/b", "http://h/b", "https://h/b"}) {
    const auto next = follow(**plan, redirect(same));
    BOOST_REQUIRE(next.has_value());
    BOOST_TEST((*next)->extra_headers == (*plan)->extra_headers);
  }
  for (const auto *other : {"http://other/", "http://h:81/", "https://h:8443/", "//h.evil/"}) {
    const auto next = follow(**plan, redirect(other));
    BOOST_REQUIRE(next.has_value());
    BOOST_TEST((*next)->extra_headers == "Origin: https://o\r\n");
  }
  const auto basic = make_plan("ws://a:b@h/", {});
  BOOST_REQUIRE(basic.has_value());
  BOOST_TEST(!(*follow(**basic, redirect("/b")))->authorization.empty());
  BOOST_TEST((*follow(**basic, redirect("http://i/")))->authorization.empty());
}

BOOST_AUTO_TEST_CASE(are_followed_to_another_server) {
  world w;
  w.run([](world &here) -> task<> {
    listener first(here);
    listener second(here);
    const std::array<header, 2> headers{{{"Authorization", "Bearer secret"}, {"X-Note", "n"}}};
    connect_options o;
    o.headers = headers;
    auto a = dial(here, first, o);
    const auto head = co_await send_on(first, "/next");
    BOOST_TEST(head.find("GET /chat ") == 0U);
    const auto again =
        co_await send_on(first, "http://127.0.0.1:" + std::to_string(second.port()) + "/there?a=b");
    BOOST_TEST(again.find("GET /next ") == 0U);
    BOOST_TEST(peer::field(again, "Authorization") == "Bearer secret");
    auto p = co_await second.accept();
    const auto last = co_await p.upgrade();
    BOOST_TEST(last.find("GET /there?a=b ") == 0U);
    BOOST_TEST(peer::field(last, "Authorization").empty());
    BOOST_TEST(peer::field(last, "X-Note") == "n");
    BOOST_TEST(peer::field(last, "Host") == "127.0.0.1:" + std::to_string(second.port()));
    BOOST_TEST(peer::field(last, "Sec-WebSocket-Key") != peer::field(head, "Sec-WebSocket-Key"));
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    BOOST_TEST(s->is_open());
    s->abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_circle_ends) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    connect_options o;
    o.max_redirects = 2;
    auto a = dial(here, l, o);
    for (int i = 0; i < 3; ++i)
      co_await send_on(l, "/chat");
    const auto r = co_await a.get();
    BOOST_REQUIRE(!r.has_value());
    BOOST_CHECK(r.error() == error::upgrade_refused);
    BOOST_TEST(r.error().detail().status == 307U);
    BOOST_TEST(says(r.error(), "more than 2 times"));
    BOOST_TEST(chorus::is_fatal(r.error()));
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
