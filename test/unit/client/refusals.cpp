// `connect` against servers that refuse, talk nonsense, stall and vanish.

#include "attempt.hpp"

using namespace client_test;

namespace {

// Answers the request with `answer` and then closes; how `connect` ended.
task<failure> answered_with(world &w, std::string answer, connect_options o = {}) {
  listener l(w);
  auto a = dial(w, l, o);
  auto p = co_await l.accept();
  co_await p.read_head();
  co_await p.write(std::move(answer));
  auto r = co_await a.get();
  p.close();
  co_return r ? failure() : r.error();
}

} // namespace

BOOST_AUTO_TEST_SUITE(refusing)

BOOST_AUTO_TEST_CASE(a_refusal_tells_status_headers_body_and_what_to_do) {
  world w;
  w.run([](world &here) -> task<> {
    const auto why = co_await answered_with(
        here, "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic\r\nContent-Length: 9\r\n\r\n"
              "no ticket");
    BOOST_CHECK(why == error::upgrade_refused);
    BOOST_CHECK(why == chorus::condition::refused);
    BOOST_CHECK(why.detail().where == chorus::stage::upgrade);
    BOOST_TEST(why.detail().status == 401U);
    BOOST_TEST(why.detail().body == "no ticket");
    BOOST_REQUIRE(why.detail().headers.size() == 2U);
    BOOST_TEST(why.detail().headers[0].first == "WWW-Authenticate");
    BOOST_TEST(why.detail().headers[0].second == "Basic");
    BOOST_TEST(why.detail().address.find("127.0.0.1:") == 0U);
    BOOST_TEST(says(why, "401 Unauthorized"));
    BOOST_TEST(says(why, "Authorization"));
  }(w));
}

BOOST_AUTO_TEST_CASE(each_status_has_its_hint) {
  world w;
  w.run([](world &here) -> task<> {
    const std::vector<std::pair<std::string, std::string>> table{
        {"200 OK", "plain HTTP"},
        {"301 Moved\r\nLocation: https://x/y?t=1", "https://x/y,"},
        {"302 Found", "redirects"},
        {"400 Bad Request", "did not understand"},
        {"403 Forbidden", "Origin"},
        {"404 Not Found", "check the path"},
        {"405 Not Allowed", "the path"},
        {"410 Gone", "has gone"},
        {"418 Teapot", "check the URL"},
        {"426 Upgrade Required", "version"},
        {"429 Slow", "wait"},
        {"503 Down", "try again later"}};
    for (const auto &[status, hint] : table) {
      auto answer = "HTTP/1.1 " + status + "\r\nContent-Length: 0\r\n\r\n";
      connect_options o;
      o.max_redirects = 0;
      const auto why = co_await answered_with(here, std::move(answer), o);
      BOOST_TEST_CONTEXT(status) {
        BOOST_CHECK(why == error::upgrade_refused);
        BOOST_TEST_INFO(why.message());
        BOOST_TEST(says(why, hint));
        BOOST_TEST(!says(why, "t=1"));
      }
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_refusal_needs_no_whole_body) {
  world w;
  w.run([](world &here) -> task<> {
    // More than is wanted, without an end.
    const auto endless =
        co_await answered_with(here, "HTTP/1.1 500 Oh\r\n\r\n" + std::string(4000, 'b'));
    BOOST_CHECK(endless == error::upgrade_refused);
    BOOST_TEST(endless.detail().body == std::string(1024, 'b'));
    // Less than announced: the end of the connection ends it.
    listener l(here);
    auto a = dial(here, l);
    auto p = co_await l.accept();
    co_await p.read_head();
    co_await p.write("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf");
    p.close();
    const auto r = co_await a.get();
    BOOST_CHECK(r.error() == error::upgrade_refused);
    BOOST_TEST(r.error().detail().body == "half");
    // Less than announced: so does the deadline.
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    connect_options o;
    o.upgrade_timeout = 50ms;
    auto waits = dial(here, l, o);
    auto slow = co_await l.accept();
    co_await slow.read_head();
    co_await slow.write("HTTP/1.1 403 No\r\nContent-Length: 100\r\n\r\nhalf");
    const auto over = [&waits] { return waits.done(); };
    co_await pass_time(home, over);
    const auto late = co_await waits.get();
    BOOST_CHECK(late.error() == error::upgrade_refused);
    BOOST_TEST(late.error().detail().body == "half");
  }(w));
}

BOOST_AUTO_TEST_CASE(invalid_answers_are_told_apart) {
  world w;
  w.run([](world &here) -> task<> {
    const std::string start = "HTTP/1.1 101 Switching Protocols\r\n";
    const std::string upgrade = "Upgrade: websocket\r\n";
    const std::string connection = "Connection: Upgrade\r\n";
    const std::string wrong = "Sec-WebSocket-Accept: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    for (const auto &answer :
         {std::string("SSH-2.0-OpenSSH_9.2\r\n\r\n"), start + "\r\n",
          start + upgrade + connection + "\r\n", start + upgrade + connection + wrong + "\r\n",
          start + connection + wrong + "\r\n", start + upgrade + wrong + "\r\n",
          "HTTP/1.0 101 X\r\n" + upgrade + connection + wrong + "\r\n",
          std::string("HTTP/1.1 000 No\r\n\r\n"), start + "A: " + std::string(20'000, 'x')}) {
      const auto why = co_await answered_with(here, answer);
      BOOST_TEST_CONTEXT(answer.substr(0, 200)) {
        BOOST_CHECK(why == error::upgrade_invalid);
        BOOST_CHECK(why.detail().where == chorus::stage::upgrade);
        BOOST_TEST(says(why, "no WebSocket handshake: "));
      }
    }
  }(w));
}

// RFC 9110 section 15.2
BOOST_AUTO_TEST_CASE(interim_answers_are_no_refusal) {
  world w;
  w.run([](world &here) -> task<> {
    const std::string proceed = "HTTP/1.1 100 Continue\r\n\r\n";
    const std::string hints = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n";
    for (const bool at_once : {true, false}) {
      listener l(here);
      auto a = dial(here, l);
      auto p = co_await l.accept();
      auto answer = peer::agreement(co_await p.read_head()) + peer::text("hi");
      if (at_once) {
        answer.insert(0, proceed + hints);
      } else {
        co_await p.write(hints);
        co_await turns(20);
      }
      co_await p.write(std::move(answer));
      auto s = co_await a.get();
      BOOST_REQUIRE(s.has_value());
      BOOST_TEST((co_await s->receive()).value().text() == "hi");
      s->abort();
    }
    const auto no = co_await answered_with(
        here, hints + "HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n");
    BOOST_CHECK(no == error::upgrade_refused);
    BOOST_TEST(no.detail().status == 401U);
    std::string endless;
    while (endless.size() < 20'000)
      endless += proceed;
    const auto never = co_await answered_with(here, std::move(endless));
    BOOST_CHECK(never == error::upgrade_invalid);
    BOOST_TEST(says(never, "limit of 16384"));
  }(w));
}

BOOST_AUTO_TEST_CASE(what_was_not_offered_is_not_accepted) {
  world w;
  w.run([](world &here) -> task<> {
    for (const auto *extra :
         {"Sec-WebSocket-Protocol: chat\r\n", "Sec-WebSocket-Extensions: permessage-deflate\r\n",
          "Sec-WebSocket-Extensions: x-unknown\r\n"}) {
      listener l(here);
      auto a = dial(here, l);
      auto p = co_await l.accept();
      auto answer = peer::agreement(co_await p.read_head(), extra);
      co_await p.write(std::move(answer));
      const auto r = co_await a.get();
      BOOST_CHECK(r.error() == error::upgrade_invalid);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(silence_ends_at_the_deadline) {
  world w;
  w.run([](world &here) -> task<> {
    connect_options o;
    o.upgrade_timeout = 50ms;
    for (const auto *begun : {"", "HTTP/1.1 101 Switching Pro"}) {
      const auto why = co_await answered_with(here, begun, o);
      BOOST_CHECK(why == error::upgrade_timeout);
      BOOST_CHECK(why == chorus::condition::timeout);
      BOOST_TEST(says(why, "within 50 ms"));
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_server_that_goes_away_is_lost) {
  world w;
  w.run([](world &here) -> task<> {
    for (const auto *begun : {"", "HTTP/1.1 101 Switching Pro"})
      for (bool abortive : {false, true}) {
        listener l(here);
        auto a = dial(here, l);
        auto p = co_await l.accept();
        co_await p.read_head();
        co_await p.write(begun);
        if (abortive)
          p.reset();
        else
          p.close();
        const auto r = co_await a.get();
        BOOST_CHECK(r.error() == error::lost);
        BOOST_CHECK(r.error().detail().where == chorus::stage::upgrade);
      }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
