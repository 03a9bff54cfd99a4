// Which URL an attempt goes to, and what it says of who asks.

#include "attempt.hpp"

#include <map>
#include <set>

using namespace client_test;
using chorus::client;
using chorus::url_order;
using header_list = std::vector<std::pair<std::string, std::string>>;

namespace {

constexpr const char *busy = "HTTP/1.1 503 Later\r\nContent-Length: 0\r\n\r\n";

chorus::client_options ordered(std::vector<std::string> urls, url_order order) {
  auto o = eager(std::move(urls));
  o.order = order;
  o.proven_after = 0ms; // every connection proves itself
  return o;
}

// The paths that were asked for, all of them refused for a while.
task<std::vector<std::string>> asked(listener &l, std::size_t count) {
  std::vector<std::string> paths;
  while (paths.size() < count) {
    auto p = co_await l.accept();
    const auto head = co_await p.read_head();
    paths.push_back(head.substr(4, head.find(' ', 4) - 4));
    co_await p.write(busy);
  }
  co_return paths;
}

std::vector<std::string> many(const listener &l, int n) {
  std::vector<std::string> urls;
  for (int i = 0; i < n; ++i)
    urls.push_back(l.url("/" + std::to_string(i)));
  return urls;
}

task<> end(client &c, peer p) {
  auto closing = c.close();
  p.close();
  co_await std::move(closing);
}

} // namespace

BOOST_AUTO_TEST_SUITE(choosing)

BOOST_AUTO_TEST_CASE(a_sticky_client_comes_back_to_the_url_that_worked) {
  world w;
  w.run([](world &here) -> task<> {
    listener first(here);
    listener second(here);
    client c(here.rt, ordered({first.url(), second.url()}, url_order::sticky));
    auto refused = co_await first.accept();
    co_await refused.read_head();
    co_await refused.write(busy);
    for (int round = 0; round < 3; ++round) {
      auto p = co_await second.accept_open();
      co_await c.connected();
      p.reset();
    }
    // It moves on when that one fails.
    auto gone = co_await second.accept();
    gone.reset();
    auto p = co_await first.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    co_await end(c, std::move(p));
  }(w));
}

BOOST_AUTO_TEST_CASE(in_order_a_client_begins_again_with_the_first) {
  world w;
  w.run([](world &here) -> task<> {
    listener first(here);
    listener second(here);
    client c(here.rt, ordered({first.url(), second.url()}, url_order::in_order));
    auto refused = co_await first.accept();
    co_await refused.read_head();
    co_await refused.write(busy);
    auto p = co_await second.accept_open();
    co_await c.connected();
    p.reset();
    auto back = co_await first.accept_open();
    BOOST_TEST((co_await c.connected()).has_value());
    co_await end(c, std::move(back));
  }(w));
}

BOOST_AUTO_TEST_CASE(shuffled_every_round_has_all_urls_once) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    constexpr std::size_t urls = 6;
    constexpr std::size_t rounds = 4;
    std::set<std::vector<std::string>> orders;
    for (int i = 0; i < 3; ++i) {
      client c(here.rt, ordered(many(l, urls), url_order::shuffled));
      const auto paths = co_await asked(l, urls * rounds);
      for (std::size_t r = 0; r < rounds; ++r) {
        const auto from = paths.begin() + static_cast<std::ptrdiff_t>(r * urls);
        const std::vector<std::string> round(from, from + urls);
        BOOST_TEST((std::set<std::string>(round.begin(), round.end()).size()) == urls);
        orders.insert(round);
      }
    }
    // Twelve times the same of 720 orders is what a client that does not shuffle has.
    BOOST_TEST(orders.size() > 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(fresh_headers_are_asked_for_before_every_attempt) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    int asked_for = 0;
    auto o = eager({l.url()});
    o.headers = {{"Authorization", "Bearer stale"}, {"X-Fixed", "yes"}};
    o.user_agent = "game/3";
    o.fresh_headers = [&asked_for]() -> task<result<header_list>> {
      ++asked_for;
      co_await turns();
      co_return header_list{{"authorization", "Bearer " + std::to_string(asked_for)}};
    };
    client c(here.rt, std::move(o));
    for (int attempt = 1; attempt <= 3; ++attempt) {
      auto p = co_await l.accept();
      const auto head = co_await p.read_head();
      BOOST_TEST(peer::field(head, "authorization") == "Bearer " + std::to_string(attempt));
      BOOST_TEST(peer::field(head, "Authorization").empty());
      BOOST_TEST(peer::field(head, "X-Fixed") == "yes");
      BOOST_TEST(peer::field(head, "User-Agent") == "game/3");
      co_await p.write(busy);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(their_failure_is_that_of_the_attempt) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    int asked_for = 0;
    auto o = eager({l.url()});
    o.fresh_headers = [&asked_for]() -> task<result<header_list>> {
      co_await turns(1);
      if (++asked_for < 3) // passes
        co_return failure(error::timed_out, chorus::stage::configure, "no token yet");
      if (asked_for == 3)
        co_return header_list{{"Host", "elsewhere"}};
      co_return header_list{};
    };
    client c(here.rt, std::move(o));
    const auto up = co_await c.connected();
    BOOST_REQUIRE(!up.has_value());
    BOOST_CHECK(up.error() == error::bad_option);
    BOOST_TEST(asked_for == 3);
    BOOST_TEST(c.stats().attempts == 3U);
  }(w));
}

BOOST_AUTO_TEST_CASE(close_does_not_wait_for_fresh_headers) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    o.fresh_headers = [&log]() -> task<result<header_list>> {
      log.add("asked");
      asio::steady_timer never(co_await asio::this_coro::executor,
                               asio::steady_timer::time_point::max());
      co_await never.async_wait(asio::use_awaitable);
      co_return header_list{};
    };
    client c(here.rt, std::move(o));
    co_await log.wait("asked");
    auto closing = c.close();
    co_await std::move(closing);
    BOOST_CHECK(c.state() == chorus::client_state::closed);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
