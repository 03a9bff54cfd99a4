// Who may connect, and how often: origins, addresses, users.

#include "admission_support.hpp"

using namespace server_test;

BOOST_AUTO_TEST_SUITE(admission_limits)

BOOST_AUTO_TEST_CASE(a_predicate_lets_origins_in) {
  chorus::server_options options;
  options.allowed_origins = {"https://friend.test"};
  options.allow_origin = [](std::string_view origin) {
    if (origin == "https://broken.test")
      throw std::runtime_error("no list");
    return origin.ends_with(".example.org");
  };
  admitting f(options);
  const auto from = [&](std::string origin) {
    wire w(f.port());
    return ask(w, "/where", "Origin: " + origin + "\r\n");
  };
  BOOST_TEST(upgraded(from("https://friend.test")));
  BOOST_TEST(upgraded(from("https://a.example.org")));
  BOOST_TEST(upgraded(from("http://127.0.0.1")));
  for (const char *origin : {"https://evil.test", "null", "https://broken.test"}) {
    const auto answer = from(origin);
    BOOST_TEST(answer.starts_with("HTTP/1.1 403 "));
    BOOST_TEST(has(answer, "allow_origin"));
  }
  BOOST_TEST(
      from("https://a.example.org\r\nOrigin: https://b.example.org").starts_with("HTTP/1.1 403 "));
  BOOST_TEST(f.stats().refused_origin == 4u);
  BOOST_TEST(f.stats().refused_other == 0u);
  BOOST_TEST(has(f.complaints.at(0), "no list"));
}

BOOST_AUTO_TEST_CASE(sessions_per_address) {
  for (unsigned threads : {1U, 2U}) {
    chorus::server_options options;
    options.max_connections_per_address = 3;
    admitting f(options, threads);
    std::vector<wire> open;
    for (int i = 0; i < 3; ++i) {
      open.push_back(wire_from("127.0.0.2", f.port()));
      BOOST_TEST(upgraded(ask(open.back(), "/where")));
    }
    auto one_more = wire_from("127.0.0.2", f.port());
    const auto answer = ask(one_more, "/where");
    BOOST_TEST(answer.starts_with("HTTP/1.1 429 "));
    BOOST_TEST(has(answer, "Retry-After: "));
    BOOST_TEST(has(answer, "try again"));
    auto other = wire_from("127.0.0.3", f.port());
    BOOST_TEST(upgraded(ask(other, "/where")));
    BOOST_TEST(f.stats().refused_address == 1u);
    // One goes, one may come; in whatever way it goes.
    BOOST_REQUIRE(f.come_to_sessions(4));
    open.back().close();
    BOOST_REQUIRE(f.come_to_sessions(3));
    auto next = wire_from("127.0.0.2", f.port());
    BOOST_TEST(upgraded(ask(next, "/where")));
    BOOST_REQUIRE(f.come_to_sessions(4));
    next.send(close_frame(1000));
    next.read_all();
    BOOST_REQUIRE(f.come_to_sessions(3));
    // What never becomes a session gives its place back.
    for (int i = 0; i < 5; ++i) {
      auto bad = wire_from("127.0.0.2", f.port());
      BOOST_TEST(ask(bad, "/nowhere").starts_with("HTTP/1.1 404 "));
    }
    auto last = wire_from("127.0.0.2", f.port());
    BOOST_TEST(upgraded(ask(last, "/where")));
    auto over = wire_from("127.0.0.2", f.port());
    BOOST_TEST(ask(over, "/where").starts_with("HTTP/1.1 429 "));
  }
}

BOOST_AUTO_TEST_CASE(what_the_hook_refuses_holds_no_place) {
  chorus::server_options options;
  options.max_connections_per_address = 1;
  options.max_connections = 1;
  std::atomic<bool> broken{false};
  options.authorize = [&broken](chorus::request r) -> chorus::task<chorus::admission> {
    if (r.query_param("how") == "throw")
      throw std::runtime_error("broken");
    if (r.query_param("how") == "hang") {
      broken = true;
      co_await chorus::sleep(1h);
    }
    if (r.query_param("how") == "refuse")
      co_return chorus::admission::refuse(403);
    co_return chorus::admission::accept();
  };
  admitting f(options);
  for (int i = 0; i < 3; ++i)
    for (const char *how : {"throw", "refuse", "hang"}) {
      wire w(f.port());
      broken = false;
      w.send(upgrade_request("/where?how=" + std::string(how)));
      if (how == std::string_view("hang")) {
        BOOST_REQUIRE(comes_true([&] { return broken.load(); }));
        w.close();
        BOOST_REQUIRE(comes_true([&] { return f.stats().handshakes == 0; }));
      } else {
        BOOST_TEST(!upgraded(w.read_response()));
      }
    }
  wire w(f.port());
  BOOST_TEST(upgraded(ask(w, "/where")));
  wire over(f.port());
  BOOST_TEST(ask(over, "/where").starts_with("HTTP/1.1 503 "));
}

BOOST_AUTO_TEST_CASE(one_too_many_may_be_told_by_a_close_frame) {
  chorus::server_options options;
  options.max_connections_per_address = 1;
  options.on_limit = chorus::over_limit::close_try_later;
  admitting f(options);
  auto first = open_session(f.port(), "/where");
  auto second = open_session(f.port(), "/where");
  const auto told = second.read_frame();
  BOOST_TEST(told.close_code() == 1013u);
  BOOST_TEST(has(told.payload, "try again"));
  BOOST_TEST(f.stats().refused_address == 1u);
  second.close();
  BOOST_REQUIRE(f.come_to_sessions(1));
  first.close();
  BOOST_REQUIRE(f.come_to_sessions(0));
  auto third = open_session(f.port(), "/where");
  BOOST_TEST(has(said_by(third), "127.0.0.1"));
}

// They need not answer the close, so there are only so many of them at a time.
BOOST_AUTO_TEST_CASE(who_is_told_by_a_close_frame_is_counted_too) {
  chorus::server_options options;
  options.max_connections = 1;
  options.on_limit = chorus::over_limit::close_try_later;
  options.session.close_timeout = 1h;
  admitting f(options, 2);
  auto first = open_session(f.port(), "/where");
  std::vector<wire> told;
  for (int i = 0; i < 16; ++i) {
    told.push_back(open_session(f.port(), "/where"));
    BOOST_TEST(told.back().read_frame().close_code() == 1013u);
  }
  wire over(f.port());
  const auto answer = ask(over, "/where");
  BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
  BOOST_TEST(has(answer, "Retry-After: "));
  BOOST_TEST(f.stats().refused_limit == 17u);
  BOOST_TEST(f.come_to_sessions(17));
  // One that has gone makes room for another.
  told.back().close();
  BOOST_REQUIRE(f.come_to_sessions(16));
  auto next = open_session(f.port(), "/where");
  BOOST_TEST(next.read_frame().close_code() == 1013u);
  // None of them has taken a place of the others'.
  first.close();
  BOOST_REQUIRE(f.come_to_sessions(16));
  auto second = open_session(f.port(), "/where");
  BOOST_TEST(has(said_by(second), "127.0.0.1"));
}

BOOST_AUTO_TEST_CASE(sessions_per_user) {
  for (unsigned threads : {1U, 2U}) {
    chorus::server_options options;
    options.max_connections_per_user = 2;
    options.authorize = name_in_query;
    admitting f(options, threads);
    std::vector<wire> open;
    for (const char *target :
         {"/where?user=ann", "/where?user=ann", "/where?user=bo", "/where", "/where", "/where"})
      open.push_back(open_session(f.port(), target));
    wire third(f.port());
    const auto answer = ask(third, "/where?user=ann");
    BOOST_TEST(answer.starts_with("HTTP/1.1 429 "));
    BOOST_TEST(has(answer, "close one"));
    BOOST_TEST(f.stats().refused_user == 1u);
    BOOST_REQUIRE(f.come_to_sessions(6));
    open.front().close();
    BOOST_REQUIRE(f.come_to_sessions(5));
    open_session(f.port(), "/where?user=ann");
  }
}

BOOST_AUTO_TEST_CASE(the_oldest_of_a_user_makes_room) {
  for (unsigned threads : {1U, 2U}) {
    chorus::server_options options;
    options.max_connections_per_user = 2;
    options.on_user_limit = chorus::over_user_limit::close_oldest;
    options.authorize = name_in_query;
    admitting f(options, threads);
    auto other = open_session(f.port(), "/where?user=bo");
    std::vector<wire> open;
    for (std::size_t i = 0; i < 6; ++i) {
      open.push_back(open_session(f.port(), "/where?user=ann"));
      if (i < 2)
        continue;
      auto &oldest = open[i - 2];
      const auto told = oldest.read_frame();
      BOOST_TEST(told.close_code() == 1008u);
      BOOST_TEST(has(told.payload, "elsewhere"));
      oldest.send(close_frame(1008));
      BOOST_TEST(oldest.read_all() == "");
    }
    BOOST_REQUIRE(f.come_to_sessions(3));
    BOOST_TEST(f.stats().users_ousted == 4u);
    for (auto *w : {&open[4], &open[5], &other})
      BOOST_TEST(has(said_by(*w), "127.0.0.1"));
  }
}

// Many connect and go at once: afterwards nobody holds a place any more.
BOOST_AUTO_TEST_CASE(counted_exactly_whoever_comes_and_goes) {
  chorus::server_options options;
  options.max_connections_per_address = 4;
  options.max_connections_per_user = 3;
  options.authorize = name_in_query;
  admitting f(options, 2);
  std::vector<std::thread> peers;
  std::atomic<int> open{0}, most{0};
  for (int p = 0; p < 8; ++p)
    peers.emplace_back([&, p] {
      for (int i = 0; i < 25; ++i) {
        wire w(f.port());
        w.send(upgrade_request(p % 2 ? "/where?user=a" : "/where?user=b"));
        if ((i + p) % 5 == 0)
          continue; // gone before the answer
        if (!upgraded(w.read_response()))
          continue;
        const int now = ++open;
        for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
        }
        --open; // before it goes: the server may only know later
      }
    });
  for (auto &p : peers)
    p.join();
  BOOST_TEST(most <= 4);
  BOOST_REQUIRE(comes_true([&] {
    // Also those that went before they were taken from the backlog.
    const auto s = f.stats();
    const auto over =
        s.upgraded + s.refused_address + s.refused_user + s.refused_other + s.handshakes_failed;
    return over == 8 * 25 && s.connections == 0 && s.handshakes == 0;
  }));
  std::vector<wire> again;
  for (const char *user : {"a", "a", "b", "b"})
    again.push_back(open_session(f.port(), "/where?user=" + std::string(user)));
  wire over(f.port());
  BOOST_TEST(ask(over, "/where?user=c").starts_with("HTTP/1.1 429 "));
}

BOOST_AUTO_TEST_SUITE_END()
