// What an authorisation hook may answer, and what happens when it does not.

#include "door.hpp"
#include "server_support.hpp"

#include <chorus/base/redact.hpp>

#include <boost/asio/this_coro.hpp>

#include <vector>

using namespace server_test;
using chorus::admission;

BOOST_AUTO_TEST_SUITE(admission_hook)

namespace {

struct profile {
  int level = 0;
};

// Answers each message with who and what the hook has attached.
chorus::task<> who(chorus::session s, chorus::request r) {
  while (auto m = co_await s.receive()) {
    const auto *data = r.find_data<profile>();
    const std::string level = data ? std::to_string(data->level) : "none";
    const auto answer =
        std::string(r.user()) + "/" + s.user() + "/" + level + "/" + s.subprotocol();
    co_await s.send(answer);
  }
}

struct fixture {
  running loop;
  std::mutex mutex;
  std::vector<std::string> complaints;
  std::optional<chorus::server> server;
  std::atomic<int> calls{0};
  std::atomic<int> handled{0};

  explicit fixture(chorus::authorize_hook hook, chorus::server_options options = {},
                   unsigned threads = 1)
      : loop(threads) {
    options.on_error = [this](std::string_view what, const chorus::session *) {
      std::lock_guard lock(mutex);
      complaints.emplace_back(what);
    };
    options.authorize = [this, hook](chorus::request r) {
      ++calls;
      return hook(std::move(r));
    };
    server.emplace(loop.rt(), std::move(options));
    server->route("/who", [this](chorus::session s, chorus::request r) {
      ++handled;
      return who(std::move(s), std::move(r));
    });
    server->get("/page", [](chorus::request) -> chorus::task<chorus::response> {
      co_return chorus::response("page");
    });
  }
  void start() {
    const auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server->stop(10ms)); }
  std::string complaint() {
    std::lock_guard lock(mutex);
    return complaints.empty() ? "" : complaints.back();
  }
  std::string ask(std::string_view target, std::string_view more = {}) {
    wire w(server->port());
    w.send(upgrade_request(target, more));
    return w.read_response();
  }
};

// The same with a connection that the server takes when the request has come.
std::string ask_at_once(fixture &f, std::string_view target) {
  wire w;
  while_held(f.loop, [&] {
    w.open(AF_INET);
    w.connect(f.server->port());
    w.send(upgrade_request(target));
  });
  return w.read_response();
}

std::string answer_on(wire &w) {
  w.send(text_frame("?"));
  return w.read_frame().payload;
}

// A hook that waits, until it is let go on or cancelled.
struct gate {
  std::atomic<bool> entered{false};
  door way;
  std::atomic<bool> cancelled{false};

  chorus::authorize_hook hook() {
    return [this](chorus::request) -> chorus::task<admission> {
      entered = true;
      try {
        co_await way.wait();
      } catch (const boost::system::system_error &) {
        cancelled = true;
        throw;
      }
      co_return admission::accept("late");
    };
  }
};

} // namespace

BOOST_AUTO_TEST_CASE(accepts_with_user_data_and_subprotocol) {
  chorus::server_options options;
  options.subprotocols = {"v1", "v2"};
  fixture f(
      [](chorus::request r) -> chorus::task<admission> {
        if (!r.user().empty() || r.path() != "/who")
          throw std::logic_error("the hook sees another request");
        auto a = admission::accept(std::string(r.query_param("name")));
        if (!r.header("X-Level").empty())
          a.attach(profile{std::stoi(std::string(r.header("X-Level")))});
        if (!r.query_param("speak").empty())
          a.subprotocol("v2");
        co_return a;
      },
      options);
  f.start();
  const auto port = f.server->port();
  auto full = open_session(port, "/who?name=ann%20b&speak=1",
                           "X-Level: 7\r\nSec-WebSocket-Protocol: v1, v2\r\n");
  BOOST_TEST(answer_on(full) == "ann b/ann b/7/v2");
  auto usual = open_session(port, "/who?name=cy", "Sec-WebSocket-Protocol: v2, v1\r\n");
  BOOST_TEST(answer_on(usual) == "cy/cy/none/v1");
  auto nobody = open_session(port, "/who");
  BOOST_TEST(answer_on(nobody) == "//none/");
  BOOST_TEST(f.calls == 3);
  // A subprotocol that was not offered is the hook's mistake.
  BOOST_TEST(f.ask("/who?name=d&speak=1").starts_with("HTTP/1.1 500 "));
  BOOST_TEST(has(f.complaint(), "v2"));
}

BOOST_AUTO_TEST_CASE(a_getter_says_what_is_wrong) {
  std::string nothing, other;
  int level = 0;
  event done;
  running loop;
  chorus::server_options options;
  options.authorize = [](chorus::request) -> chorus::task<admission> {
    auto a = admission::accept();
    a.attach(profile{3});
    co_return a;
  };
  chorus::server server(loop.rt(), options);
  server.route("/x", [&](chorus::session, chorus::request r) -> chorus::task<> {
    level = r.data<profile>().level;
    try {
      r.data<std::string>();
    } catch (const std::logic_error &x) {
      other = x.what();
    }
    try {
      chorus::request().data<profile>();
    } catch (const std::logic_error &x) {
      nothing = x.what();
    }
    done.set();
    co_return;
  });
  BOOST_REQUIRE(loop.wait(server.start()));
  open_session(server.port(), "/x");
  BOOST_REQUIRE(done.wait());
  BOOST_TEST(level == 3);
  BOOST_TEST(has(other, "profile"));
  BOOST_TEST(has(other, "string"));
  BOOST_TEST(has(nothing, "nothing is attached"));
  loop.wait(server.stop(10ms));
}

BOOST_AUTO_TEST_CASE(refuses_with_status_headers_and_body) {
  fixture f([](chorus::request r) -> chorus::task<admission> {
    if (r.query_param("how") == "plain")
      co_return admission::refuse(403, "not you");
    if (r.query_param("how") == "broken") {
      chorus::response broken(401, "x");
      broken.set("X-Bad", "a\r\nb: c");
      co_return admission::refuse(std::move(broken));
    }
    if (r.query_param("how") == "twohundred")
      co_return admission::refuse(200);
    chorus::response answer(401, "sign in");
    answer.set("WWW-Authenticate", "Bearer");
    co_return admission::refuse(std::move(answer));
  });
  f.start();
  const auto plain = f.ask("/who?how=plain");
  BOOST_TEST(plain.starts_with("HTTP/1.1 403 "));
  BOOST_TEST(plain.ends_with("\r\n\r\nnot you"));
  const auto headed = f.ask("/who");
  BOOST_TEST(headed.starts_with("HTTP/1.1 401 "));
  BOOST_TEST(has(headed, "\r\nWWW-Authenticate: Bearer\r\n"));
  BOOST_TEST(has(headed, "sign in"));
  auto stats = f.server->stats();
  BOOST_TEST(stats.refused_unauthorised == 2u);
  BOOST_TEST(stats.refused_other == 0u);
  BOOST_TEST(f.ask("/who?how=broken").starts_with("HTTP/1.1 500 "));
  BOOST_TEST(has(f.complaint(), "header"));
  BOOST_TEST(f.ask("/who?how=twohundred").starts_with("HTTP/1.1 500 "));
  BOOST_TEST(has(f.complaint(), "400 to 599"));
  BOOST_TEST(f.handled == 0);
  BOOST_TEST(f.server->stats().upgraded == 0u);
}

BOOST_AUTO_TEST_CASE(accepts_to_close_at_once) {
  fixture f([](chorus::request r) -> chorus::task<admission> {
    if (r.query_param("code") == "own")
      co_return admission::accept_then_close("bye", static_cast<chorus::close_code>(4001));
    if (r.query_param("code") == "bad")
      co_return admission::accept_then_close("bye", chorus::close_code::abnormal);
    co_return admission::accept_then_close("the token has expired");
  });
  f.start();
  auto usual = open_session(f.server->port(), "/who");
  const auto close = usual.read_frame();
  BOOST_TEST(close.close_code() == 1008u);
  BOOST_TEST(close.payload.substr(2) == "the token has expired");
  usual.send(close_frame(1008));
  BOOST_TEST(usual.read_all() == "");
  auto own = open_session(f.server->port(), "/who?code=own");
  BOOST_TEST(own.read_frame().close_code() == 4001u);
  BOOST_TEST(f.ask("/who?code=bad").starts_with("HTTP/1.1 500 "));
  BOOST_TEST(f.handled == 0);
  BOOST_TEST(f.server->stats().refused_unauthorised == 2u);
}

BOOST_AUTO_TEST_CASE(one_that_throws_is_told_without_the_token) {
  fixture f([](chorus::request r) -> chorus::task<admission> {
    throw std::runtime_error("no user for " + std::string(r.query_param("access_token")) + " or " +
                             std::string(r.header("Authorization")));
    co_return admission::accept();
  });
  f.start();
  BOOST_TEST(f.ask("/who?access_token=abra%2Fcadabra", "Authorization: Bearer hocuspocus\r\n")
                 .starts_with("HTTP/1.1 500 "));
  const auto said = f.complaint();
  BOOST_TEST(has(said, "/who failed: no user for *** or ***"));
  BOOST_TEST(!has(said, "cadabra"));
  BOOST_TEST(!has(said, "hocus"));
  BOOST_TEST(f.server->stats().handler_failures == 1u);
  BOOST_TEST(f.server->stats().refused_other == 1u);
}

BOOST_AUTO_TEST_CASE(one_that_hangs_ends_at_the_deadline) {
  gate g;
  chorus::server_options options;
  options.handshake_timeout = 50ms;
  fixture f(g.hook(), options);
  f.start();
  const auto answer = ask_at_once(f, "/who?token=abracadabra");
  BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
  BOOST_TEST(has(answer, "Retry-After: "));
  BOOST_TEST(comes_true([&] { return g.cancelled.load(); }));
  BOOST_TEST(comes_true([&] { return f.server->stats().handshakes == 0; }));
  BOOST_TEST(has(f.complaint(), "handshake_timeout"));
  BOOST_TEST(!has(f.complaint(), "abracadabra"));
  BOOST_TEST(f.handled == 0);
}

// It is not forgotten: it counts as a handshake for as long as it runs.
BOOST_AUTO_TEST_CASE(one_that_ignores_its_cancelling_is_still_counted) {
  door way;
  std::atomic<bool> entered{false};
  chorus::server_options options;
  options.handshake_timeout = 50ms;
  options.max_handshakes = 1;
  fixture f(
      [&](chorus::request) -> chorus::task<admission> {
        co_await boost::asio::this_coro::reset_cancellation_state(
            boost::asio::disable_cancellation());
        entered = true;
        co_await way.wait();
        co_return admission::accept();
      },
      options);
  f.start();
  BOOST_TEST(ask_at_once(f, "/who").starts_with("HTTP/1.1 503 "));
  BOOST_TEST(entered);
  BOOST_TEST(f.server->stats().handshakes == 1u);
  way.open();
  BOOST_TEST(comes_true([&] { return f.server->stats().handshakes == 0; }));
  BOOST_TEST(f.handled == 0);
}

BOOST_AUTO_TEST_CASE(a_peer_that_goes_away_ends_it) {
  for (const bool reset : {false, true}) {
    gate g;
    fixture f(g.hook());
    f.start();
    wire w(f.server->port());
    w.send(upgrade_request("/who"));
    BOOST_REQUIRE(comes_true([&] { return g.entered.load(); }));
    if (reset) {
      const linger at_once{1, 0};
      ::setsockopt(w.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
    }
    w.close();
    BOOST_TEST(comes_true([&] { return g.cancelled.load(); }));
    BOOST_TEST(comes_true([&] { return f.server->stats().handshakes == 0; }));
    BOOST_TEST(f.server->stats().handshakes_failed == 1u);
    BOOST_TEST(f.handled == 0);
  }
}

BOOST_AUTO_TEST_CASE(a_server_that_stops_ends_it) {
  gate g;
  fixture f(g.hook());
  f.start();
  wire w(f.server->port());
  w.send(upgrade_request("/who"));
  BOOST_REQUIRE(comes_true([&] { return g.entered.load(); }));
  f.loop.wait(f.server->stop(10s));
  BOOST_TEST(g.cancelled);
  BOOST_TEST(w.read_all().starts_with("HTTP/1.1 503 "));
  BOOST_TEST(f.server->stats().handshakes == 0u);
}

BOOST_AUTO_TEST_CASE(it_holds_a_place_among_the_handshakes) {
  gate g;
  chorus::server_options options;
  options.max_handshakes = 1;
  fixture f(g.hook(), options);
  f.start();
  wire w(f.server->port());
  w.send(upgrade_request("/who"));
  BOOST_REQUIRE(comes_true([&] { return g.entered.load(); }));
  BOOST_TEST(f.ask("/who").starts_with("HTTP/1.1 503 "));
  BOOST_TEST(f.calls == 1);
  g.way.open();
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 101 "));
  BOOST_TEST(answer_on(w) == "late/late/none/");
  BOOST_TEST(f.ask("/who").starts_with("HTTP/1.1 101 "));
}

BOOST_AUTO_TEST_CASE(what_was_sent_ahead_is_not_lost) {
  gate g;
  fixture f(g.hook());
  f.start();
  wire w(f.server->port());
  w.send(upgrade_request("/who") + text_frame("a"));
  BOOST_REQUIRE(comes_true([&] { return g.entered.load(); }));
  for (int i = 0; i < 3; ++i)
    w.send(text_frame("b"));
  g.way.open();
  BOOST_REQUIRE(w.read_response().starts_with("HTTP/1.1 101 "));
  for (int i = 0; i < 4; ++i)
    BOOST_TEST(w.read_frame().payload == "late/late/none/");
}

BOOST_AUTO_TEST_CASE(it_is_not_asked_for_what_is_refused_anyway) {
  chorus::server_options options;
  options.max_connections = 1;
  fixture f([](chorus::request) -> chorus::task<admission> { co_return admission::accept(); },
            options);
  f.start();
  BOOST_TEST(f.ask("/nowhere").starts_with("HTTP/1.1 404 "));
  BOOST_TEST(f.ask("/page").starts_with("HTTP/1.1 404 "));
  BOOST_TEST(f.ask("/who", "Origin: http://evil.test\r\n").starts_with("HTTP/1.1 403 "));
  BOOST_TEST(f.ask("/who", "Sec-WebSocket-Key: again\r\n").starts_with("HTTP/1.1 400 "));
  BOOST_TEST(f.calls == 0);
  auto only = open_session(f.server->port(), "/who");
  BOOST_TEST(f.calls == 1);
  BOOST_TEST(f.ask("/who").starts_with("HTTP/1.1 503 "));
  BOOST_TEST(f.calls == 1);
}

// A refused request gives back its place among the connections.
BOOST_AUTO_TEST_CASE(a_route_may_have_its_own) {
  chorus::server_options options;
  options.max_connections = 1;
  fixture f([](chorus::request) -> chorus::task<admission> { co_return admission::refuse(403); },
            options);
  chorus::route_options own;
  own.authorize = [](chorus::request) -> chorus::task<admission> {
    co_return admission::accept("guest");
  };
  f.server->route("/open", who, own);
  f.start();
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(f.ask("/who").starts_with("HTTP/1.1 403 "));
  BOOST_TEST(f.calls == 3);
  auto w = open_session(f.server->port(), "/open");
  BOOST_TEST(answer_on(w) == "guest/guest/none/");
  BOOST_TEST(f.calls == 3);
}

// It may end on another thread, and in the midst of another session's turn.
BOOST_AUTO_TEST_CASE(many_at_a_time) {
  fixture f(
      [](chorus::request r) -> chorus::task<admission> {
        co_await chorus::sleep(1ms); // so that it ends in some later turn
        co_return admission::accept(std::string(r.query_param("n")));
      },
      {}, 2);
  f.start();
  std::vector<wire> all;
  for (int i = 0; i < 60; ++i) {
    all.emplace_back(f.server->port());
    all.back().send(upgrade_request("/who?n=" + std::to_string(i)));
  }
  for (int i = 0; i < 60; ++i) {
    auto &w = all[static_cast<std::size_t>(i)];
    BOOST_TEST(w.read_response().starts_with("HTTP/1.1 101 "));
    const auto n = std::to_string(i);
    BOOST_TEST(answer_on(w) == n + "/" + n + "/none/");
  }
}

BOOST_AUTO_TEST_SUITE_END()
