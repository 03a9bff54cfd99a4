#include "observe_support.hpp"

#include <chorus/client/client.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/server/census.hpp>

#include <filesystem>

using namespace observe_test;

BOOST_AUTO_TEST_SUITE(observe_scrape)

BOOST_AUTO_TEST_CASE(the_page_wants_its_token) {
  fixture f({}, 1, {.path = "/internal/metrics", .token = "s3cret"});
  f.start();
  for (const auto *wrong : {"", "Authorization: Bearer s3cre\r\n", "Authorization: s3cret\r\n",
                            "Authorization: Bearer s3cret2\r\n", "Authorization: Bearer \r\n",
                            "Authorization: Basic s3cret\r\n"}) {
    const auto answer = get(f.port(), "/internal/metrics", wrong);
    BOOST_TEST(has(answer, "HTTP/1.1 401 "));
    BOOST_TEST(has(answer, "\r\nWWW-Authenticate: Bearer\r\n"));
    BOOST_TEST(!has(answer, "chorus_"));
  }
  const auto answer = get(f.port(), "/internal/metrics", "Authorization: Bearer s3cret\r\n");
  BOOST_TEST(has(answer, "HTTP/1.1 200 "));
  BOOST_TEST(has(answer, "Content-Type: text/plain; version=0.0.4; charset=utf-8\r\n"));
  BOOST_TEST(has(answer, "# TYPE chorus_sessions gauge\n"));
  BOOST_TEST(has(get(f.port(), "/metrics"), " 404 "));
}

BOOST_AUTO_TEST_CASE(scrapes_at_a_time_are_bounded) {
  // Connections to a unix socket are dealt to the shards in turn. The second one is kept busy, so that
  // a census that the first one began waits for it.
  const std::string path =
      (std::filesystem::temp_directory_path() / ("chorus-observe-" + std::to_string(::getpid())))
          .string();
  chorus::server_options options;
  options.listen = "unix:" + path;
  fixture f(options, 2);
  f.start();
  event held;
  event release;
  f.server->core()->shards()[1]->home().post([&] {
    held.set();
    release.wait();
  });
  BOOST_REQUIRE(held.wait());
  std::vector<wire> asking; // the even ones on the first shard
  for (int i = 0; i < 10; ++i) {
    asking.emplace_back(path);
    asking.back().send("GET /metrics HTTP/1.1\r\nHost: a\r\n\r\n");
  }
  // Four of the first shard wait; one is told to come again.
  std::size_t refusals = 0;
  BOOST_CHECK(comes_true([&] {
    for (int i = 0; i < 10; i += 2)
      refusals += asking[static_cast<std::size_t>(i)].readable() ? 1 : 0;
    return refusals != 0;
  }));
  BOOST_TEST(refusals == 1u);
  release.set();
  int good = 0;
  for (auto &w : asking) {
    const auto answer = w.read_response();
    BOOST_TEST((has(answer, " 200 OK") || has(answer, " 503 ")));
    good += has(answer, " 200 OK") ? 1 : 0;
  }
  BOOST_TEST(good >= 4);
}

BOOST_AUTO_TEST_CASE(health) {
  fixture f;
  BOOST_TEST(!f.server->ready());
  f.start();
  BOOST_TEST(has(get(f.port(), "/healthz"), "HTTP/1.1 200 "));
  BOOST_TEST(has(get(f.port(), "/readyz"), "HTTP/1.1 200 "));
}

BOOST_AUTO_TEST_CASE(clients_are_shown_by_name_while_they_live) {
  fixture f;
  std::atomic<int> opened = 0;
  f.server->route("/cut", [&](session s, request) -> task<> {
    if (++opened < 4)
      s.abort();
    else
      co_await s.wait_closed();
  });
  f.start();
  chorus::client_options options;
  options.urls = {f.server->url() + "/cut"};
  options.backoff = {.initial = 1ms, .cap = 1ms};
  auto c = std::make_unique<chorus::client>(f.loop.rt(), options);
  f.metrics.attach("a \"b\"\\\n", *c);
  BOOST_CHECK_THROW(f.metrics.attach("a \"b\"\\\n", *c), std::invalid_argument);
  const std::string label = "{client=\"a \\\"b\\\"\\\\\\n\"}";
  auto now = f.until([&](const scraped &s) {
    return s["chorus_client_reconnects_total" + label] == 3 &&
           s["chorus_client_connected" + label] == 1;
  });
  BOOST_TEST(now["chorus_client_connects_total" + label] == 4);
  BOOST_TEST(now["chorus_client_attempts_total" + label] == 4);
  c.reset();
  f.until([&](const scraped &s) { return !s.knows("chorus_client_attempts_total" + label); });

  options.urls = {"ws://127.0.0.1:1/"};
  options.backoff = {.initial = 1h, .cap = 1h};
  std::vector<std::unique_ptr<chorus::client>> many;
  for (int i = 0; i < 64; ++i) {
    many.push_back(std::make_unique<chorus::client>(f.loop.rt(), options));
    f.metrics.attach(std::to_string(i), *many.back());
  }
  BOOST_CHECK_THROW(f.metrics.attach("one more", *many.front()), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_session_that_ends_during_a_census_is_counted_once) {
  fixture f;
  f.start();
  static constexpr std::size_t count = chorus::detail::census::step + 44;
  std::vector<wire> peers;
  for (std::size_t i = 0; i < count; ++i) {
    peers.push_back(open_session(f.port(), "/echo"));
    peers.back().send(text_frame("x"));
    BOOST_REQUIRE(peers.back().read_frame().payload == "x");
  }
  const auto where = f.server->core()->shards()[0];
  const auto sessions = f.loop.wait(f.server->sessions()); // the newest first
  BOOST_REQUIRE(sessions.size() == count);
  const auto walk = [](std::shared_ptr<chorus::detail::server_shard> on,
                       std::vector<session> all) -> task<chorus::detail::census> {
    chorus::detail::census_walk first(*on);
    chorus::detail::census_walk second(*on);
    BOOST_TEST(first.go_on());
    all[0].abort();         // counted already
    all[256].abort();       // the very next one
    all[257].abort();       // and the one behind it
    all[count - 1].abort(); // the last one
    BOOST_TEST(!first.go_on());
    while (second.go_on()) {
    }
    BOOST_TEST(second.counted().sessions.messages_received == count);
    chorus::detail::census_walk third(*on);
    while (third.go_on()) {
    }
    BOOST_TEST(third.counted().sessions.messages_received == count);
    BOOST_TEST(on->open_sessions() == count - 4);
    co_return first.counted();
  };
  const auto counted = f.loop.wait(walk(where, sessions));
  BOOST_TEST(counted.sessions.messages_received == count);
  BOOST_TEST(counted.sessions.messages_sent == count);
  BOOST_TEST(f.scrape()["chorus_messages_received_total"] == count);
}

BOOST_AUTO_TEST_CASE(scrapes_under_load_never_go_back) {
  fixture f({}, 2);
  f.start();
  running peers;
  constexpr int senders = 4;
  constexpr int rounds = 60;
  const auto send = [](std::string url, bool orderly) -> task<int> {
    int echoed = 0;
    for (int i = 0; i < rounds; ++i) {
      auto s = co_await chorus::connect(url);
      if (!s)
        break;
      for (int k = 0; k < 5; ++k) {
        co_await s->send("x");
        const auto back = co_await s->receive();
        echoed += back ? 1 : 0;
      }
      if (orderly)
        co_await s->close();
      else
        s->abort();
    }
    co_return echoed;
  };
  std::vector<std::future<int>> all;
  for (int i = 0; i < senders; ++i)
    all.push_back(boost::asio::co_spawn(peers.rt().executor(),
                                        send(f.server->url() + "/echo", i % 2 == 0),
                                        boost::asio::use_future));
  double received = 0;
  double bytes = 0;
  double closed = 0;
  int echoed = 0;
  for (auto &one : all) {
    do {
      const auto now = f.scrape();
      BOOST_TEST(now["chorus_messages_received_total"] >= received);
      BOOST_TEST(now["chorus_received_bytes_total"] >= bytes);
      BOOST_TEST(now.sum("chorus_sessions_closed_total") >= closed);
      received = now["chorus_messages_received_total"];
      bytes = now["chorus_received_bytes_total"];
      closed = now.sum("chorus_sessions_closed_total");
    } while (one.wait_for(0s) != std::future_status::ready);
    echoed += one.get();
  }
  BOOST_TEST(echoed == senders * rounds * 5);
  const auto now = f.until([](const scraped &s) {
    return s["chorus_sessions"] == 0 && s["chorus_sessions_opened_total"] == senders * rounds;
  });
  BOOST_TEST(now["chorus_messages_received_total"] == senders * rounds * 5);
  BOOST_TEST(now["chorus_messages_sent_total"] == senders * rounds * 5);
  BOOST_TEST(now.sum("chorus_sessions_closed_total") == senders * rounds);
  BOOST_TEST(now[code("1000", "peer")] == senders * rounds / 2);
}

BOOST_AUTO_TEST_CASE(series_do_not_grow_with_what_comes) {
  fixture f;
  f.start();
  const auto before = f.scrape().size();
  std::vector<wire> peers;
  for (int i = 0; i < 30; ++i) {
    const auto n = std::to_string(i);
    peers.push_back(open_session(f.port(), "/echo?user=" + n));
    f.server->room("room" + n);
    wire lost(f.port());
    lost.send(upgrade_request("/nowhere" + n));
    lost.read_response();
    peers.back().send(close_frame(3000U + static_cast<unsigned>(i) * 37));
    peers.back().read_all();
  }
  const auto now = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
  BOOST_TEST(now.size() == before);
  BOOST_TEST(now[code("3xxx", "peer")] + now[code("4xxx", "peer")] == 30);
}

BOOST_AUTO_TEST_CASE(metrics_outlive_their_server) {
  running loop;
  chorus::observe::metrics kept;
  BOOST_CHECK((loop.wait(kept.scrape()).error() == chorus::error::shut_down));
  {
    chorus::server srv{loop.rt(), {}};
    kept = chorus::observe::mount_metrics(srv);
    BOOST_TEST(loop.wait(kept.scrape()).has_value()); // before it has started
  }
  BOOST_CHECK((loop.wait(kept.scrape()).error() == chorus::error::shut_down));
}

BOOST_AUTO_TEST_SUITE_END()
