#include "server_support.hpp"

#include <chorus/base/error.hpp>

#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <filesystem>
#include <set>
#include <stdexcept>
#include <stop_token>
#include <sys/resource.h>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_sessions)

namespace {

task<> three_and_return(session s, request) {
  for (const char *text : {"one", "two", "three"})
    co_await s.send(text);
}
task<> one_and_throw(session s, request r) {
  co_await s.send("one");
  throw std::runtime_error("secret of the handler: " + std::string(r.query_param("token")) +
                           std::string(r.header("Cookie").substr(8)));
}
task<> throws_at_once(session, request) {
  throw std::runtime_error("at once");
  co_return;
}
task<> names(session s, request r) {
  const std::string all = std::string(r.param("room")) + " " + std::string(r.query_param("who")) +
                          " " + std::string(r.header("x-mine")) + " " + s.subprotocol();
  co_await s.send(all);
  co_await s.wait_closed();
}

struct fixture {
  running loop;
  chorus::server server;
  explicit fixture(chorus::server_options options = {}, unsigned threads = 1)
      : loop(threads), server(loop.rt(), std::move(options)) {
    server.route("/echo", echo);
    server.route("/three", three_and_return);
    server.route("/throw", one_and_throw);
    server.route("/throw_at_once", throws_at_once);
    server.route("/names/{room}", names);
  }
  void start() {
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(5s)); }
};

} // namespace

BOOST_AUTO_TEST_CASE(messages_both_ways) {
  fixture f;
  f.start();
  auto w = open_session(f.server.port(), "/echo");
  for (const char *text : {"a", "", "longer"}) {
    w.send(text_frame(text));
    const auto answer = w.read_frame();
    BOOST_TEST(answer.opcode == 1u);
    BOOST_TEST(answer.payload == text);
  }
  w.send(client_frame(9, "ping"));
  BOOST_TEST(w.read_frame().payload == "ping");
  BOOST_TEST(f.server.size() == 1u);
  w.send(close_frame(1000));
  BOOST_TEST(w.read_frame().close_code() == 1000u);
  BOOST_TEST(w.read_frame().opcode == 0xffu);
  BOOST_TEST(comes_true([&] { return f.server.stats().handlers == 0; }));
  const auto stats = f.server.stats();
  BOOST_TEST(stats.messages_received == 3u);
  BOOST_TEST(stats.messages_sent == 3u);
  BOOST_TEST(stats.connections == 0u);
  BOOST_TEST(stats.upgraded == 1u);
  BOOST_TEST(stats.handler_failures == 0u);
}

BOOST_AUTO_TEST_CASE(a_handler_sees_its_request) {
  chorus::server_options options;
  options.subprotocols = {"chat"};
  fixture f(options);
  f.start();
  auto w = open_session(f.server.port(), "/names/blue%20room?who=me",
                        "X-Mine: yes\r\nSec-WebSocket-Protocol: chat\r\n");
  BOOST_TEST(w.read_frame().payload == "blue room me yes chat");
}

BOOST_AUTO_TEST_CASE(a_handler_that_returns_flushes_and_closes_with_1000) {
  fixture f;
  f.start();
  auto w = open_session(f.server.port(), "/three");
  for (const char *text : {"one", "two", "three"})
    BOOST_TEST(w.read_frame().payload == text);
  BOOST_TEST(w.read_frame().close_code() == 1000u);
  w.send(close_frame(1000));
  BOOST_TEST(w.read_frame().opcode == 0xffu);
  BOOST_TEST(comes_true([&] { return f.server.size() == 0; }));
}

BOOST_AUTO_TEST_CASE(a_handler_that_throws_closes_with_1011_and_the_server_lives) {
  std::mutex mutex;
  std::vector<std::string> told;
  chorus::server_options options;
  options.on_error = [&](std::string_view what, const session *s) {
    std::lock_guard lock(mutex);
    told.push_back(std::string(what) + (s ? " +" : " -"));
  };
  fixture f(options);
  f.start();
  for (const char *path : {"/throw?tok%65n=abracadabra", "/throw_at_once"}) {
    auto w = open_session(f.server.port(), path, "Cookie: a=1; id=hocuspocus\r\n");
    auto next = w.read_frame();
    if (next.opcode == 1)
      next = w.read_frame();
    BOOST_TEST(next.close_code() == 1011u);
    BOOST_TEST(!has(next.payload, "secret"));
  }
  BOOST_TEST(comes_true([&] { return f.server.stats().handler_failures == 2; }));
  {
    std::lock_guard lock(mutex);
    BOOST_REQUIRE(told.size() == 2u);
    BOOST_TEST(has(told[0], "secret of the handler: ******"), told[0]);
    BOOST_TEST(told[1].ends_with("+"));
  }
  auto w = open_session(f.server.port(), "/echo");
  w.send(text_frame("alive"));
  BOOST_TEST(w.read_frame().payload == "alive");
}

BOOST_AUTO_TEST_CASE(an_evicted_session_is_counted_once_whoever_evicted_it) {
  chorus::server_options options;
  options.session.on_overflow = chorus::overflow::close;
  options.session.queue_bytes = 64 * 1024;
  options.session.close_timeout = 50ms; // the peer reads no close either
  fixture f(options);
  // Neither peer reads: one is evicted by its own handler, the other by both rooms it is in.
  f.server.route("/send", [](session s, request) -> task<> {
    const std::string text(30'000, 'x');
    while (auto sent = co_await s.send(text)) {
    }
  });
  f.server.route("/rooms", [&f](session s, request) -> task<> {
    auto &server = f.server;
    auto one = co_await server.room("one").join(s);
    auto other = co_await server.room("other").join(s);
    const chorus::message m(std::string(30'000, 'x'));
    while (s.state() == chorus::session_state::open) {
      one->publish(m);
      other->publish(m);
      co_await boost::asio::post(co_await boost::asio::this_coro::executor,
                                 boost::asio::use_awaitable);
    }
  });
  f.start();
  auto sending = open_session(f.server.port(), "/send");
  BOOST_TEST(comes_true([&] { return f.server.stats().evicted == 1; }));
  auto member = open_session(f.server.port(), "/rooms");
  // In this order: before the upgrade nobody is there either.
  BOOST_TEST(comes_true([&] { return f.server.stats().upgraded == 2; }));
  BOOST_TEST(comes_true([&] { return f.server.size() == 0; }));
  BOOST_TEST(f.server.stats().evicted == 2u);
}

BOOST_AUTO_TEST_CASE(keep_alive_is_on_for_every_connection) {
  fixture f;
  f.start();
  const auto w = open_session(f.server.port(), "/echo");
  sockaddr_in mine{};
  socklen_t size = sizeof mine;
  BOOST_REQUIRE(::getsockname(w.fd(), reinterpret_cast<sockaddr *>(&mine), &size) == 0);
  // The server's end is a descriptor of this process, too.
  int ends = 0;
  for (const auto &entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    const int fd = std::stoi(entry.path().filename());
    sockaddr_in peer{};
    size = sizeof peer;
    if (::getpeername(fd, reinterpret_cast<sockaddr *>(&peer), &size) != 0 ||
        peer.sin_family != AF_INET || peer.sin_port != mine.sin_port)
      continue;
    ++ends;
    int on = 0;
    size = sizeof on;
    BOOST_TEST(::getsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, &size) == 0);
    BOOST_TEST(on == 1);
  }
  BOOST_TEST(ends == 1);
}

BOOST_AUTO_TEST_CASE(a_handler_that_waits_for_something_else_learns_of_the_end) {
  event closed, stopped;
  fixture f;
  f.server.route("/closed", [&](session s, request) -> task<> {
    co_await s.wait_closed();
    closed.set();
  });
  f.server.route("/token", [&](session s, request) -> task<> {
    boost::asio::steady_timer database(co_await boost::asio::this_coro::executor,
                                       std::chrono::hours(1));
    auto give_up = [&] { database.cancel(); };
    std::stop_callback on_end(s.stop_token(), give_up);
    try {
      co_await database.async_wait(boost::asio::use_awaitable);
    } catch (const boost::system::system_error &) {
      stopped.set();
    }
  });
  f.start();
  open_session(f.server.port(), "/closed").close();
  BOOST_TEST(closed.wait());
  open_session(f.server.port(), "/token").close();
  BOOST_TEST(stopped.wait());
  BOOST_TEST(comes_true([&] { return f.server.stats().handlers == 0; }));
  BOOST_TEST(f.server.stats().handler_failures == 0u);
}

BOOST_AUTO_TEST_CASE(a_running_handler_keeps_its_closure_and_request) {
  const auto state = std::make_shared<std::string>("still here");
  event entered, ended;
  std::string seen;
  running loop;
  std::optional<chorus::server> server(std::in_place, loop.rt(), chorus::server_options{});
  {
    auto handler = [state, &entered, &ended, &seen](session s, request r) -> task<> {
      // Not even cancelling hurries it.
      co_await boost::asio::this_coro::reset_cancellation_state(
          boost::asio::disable_cancellation());
      entered.set();
      co_await s.wait_closed();
      boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
      timer.expires_after(20ms);
      co_await timer.async_wait(boost::asio::use_awaitable);
      seen = *state + " " + std::string(r.param("x"));
      ended.set();
    };
    server->route("/keep/{x}", std::move(handler));
  }
  BOOST_REQUIRE(loop.wait(server->start()));
  auto w = open_session(server->port(), "/keep/me");
  BOOST_REQUIRE(entered.wait());
  server.reset(); // aborts: the session ends, the handler goes on in its own time
  BOOST_TEST(w.read_all() == "");
  BOOST_REQUIRE(ended.wait());
  BOOST_TEST(seen == "still here me");
  BOOST_TEST(comes_true([&] { return state.use_count() == 1; }));
}

BOOST_AUTO_TEST_CASE(beyond_the_limit_an_upgrade_is_refused) {
  chorus::server_options options;
  options.max_connections = 2;
  fixture f(options);
  f.server.get("/", [](request) -> task<chorus::response> { co_return chorus::response("up"); });
  f.start();
  auto one = open_session(f.server.port(), "/echo");
  auto two = open_session(f.server.port(), "/echo");
  wire three(f.server.port());
  three.send(upgrade_request("/echo"));
  const auto answer = three.read_all();
  BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
  BOOST_TEST(has(answer, "Retry-After: "));
  wire page(f.server.port());
  page.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_TEST(has(page.read_response(), "up"));
  BOOST_TEST(f.server.stats().refused_limit == 1u);
  one.close();
  BOOST_REQUIRE(comes_true([&] { return f.server.size() == 1; }));
  open_session(f.server.port(), "/echo");
}

BOOST_AUTO_TEST_CASE(beyond_the_limit_a_session_may_be_told_to_try_later) {
  chorus::server_options options;
  options.max_connections = 1;
  options.on_limit = chorus::over_limit::close_try_later;
  fixture f(options);
  f.start();
  auto one = open_session(f.server.port(), "/echo");
  for (int i = 0; i < 3; ++i) {
    auto two = open_session(f.server.port(), "/echo");
    BOOST_TEST(two.read_frame().close_code() == 1013u);
    two.send(close_frame(1013));
    BOOST_TEST(two.read_frame().opcode == 0xffu);
  }
  one.send(text_frame("still"));
  BOOST_TEST(one.read_frame().payload == "still");
  BOOST_TEST(f.server.stats().refused_limit == 3u);
  BOOST_TEST(f.server.stats().handlers == 1u);
  one.close();
  BOOST_REQUIRE(comes_true([&] { return f.server.size() == 0; }));
  open_session(f.server.port(), "/echo");
}

BOOST_AUTO_TEST_CASE(sessions_of_every_shard_are_listed) {
  fixture f({}, 2);
  f.start();
  std::vector<wire> wires;
  for (int i = 0; i < 40; ++i) {
    wires.push_back(open_session(f.server.port(), "/echo"));
    wires.back().send(text_frame("x"));
    BOOST_TEST(wires.back().read_frame().payload == "x");
  }
  const auto all = f.loop.wait(f.server.sessions());
  BOOST_TEST(all.size() == 40u);
  std::set<chorus::session_id> ids;
  for (const auto &s : all)
    ids.insert(s.id());
  BOOST_TEST(ids.size() == 40u);
  BOOST_TEST(f.server.size() == 40u);
  auto stats = f.server.stats();
  BOOST_TEST(stats.accepted == 40u);
  BOOST_TEST(stats.handlers == 40u);
  BOOST_TEST(stats.messages_received == 40u);
  wires.clear();
  BOOST_TEST(comes_true([&] { return f.server.stats().handlers == 0; }));
  stats = f.server.stats();
  BOOST_TEST(stats.messages_received == 40u);
  BOOST_TEST(f.loop.wait(f.server.sessions()).empty());
}

BOOST_AUTO_TEST_CASE(a_unix_socket_is_dealt_out_to_the_shards) {
  const auto path = std::filesystem::temp_directory_path() /
                    ("chorus-server-" + std::to_string(::getpid()) + ".sock");
  {
    chorus::server_options options;
    options.listen = "unix:" + path.string();
    fixture f(options, 2);
    std::mutex mutex;
    std::set<std::thread::id> threads;
    f.server.route("/where", [&](session s, request) -> task<> {
      {
        std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
      }
      co_await s.send("here");
    });
    f.start();
    BOOST_TEST(f.server.port() == 0u);
    BOOST_TEST(f.server.url() == "ws+unix://" + path.string());
    for (int i = 0; i < 4; ++i) {
      wire w(path.string());
      w.send(upgrade_request("/where"));
      BOOST_TEST(w.read_response().starts_with("HTTP/1.1 101 "));
      BOOST_TEST(w.read_frame().payload == "here");
    }
    BOOST_TEST(threads.size() == 2u);
  }
  BOOST_TEST(!std::filesystem::exists(path));
}

BOOST_AUTO_TEST_CASE(running_out_of_descriptors_is_survived) {
  fixture f;
  f.start();
  auto before = open_session(f.server.port(), "/echo");
  wire late;
  late.open(AF_INET);
  std::vector<int> taken;
  for (int fd; (fd = ::dup(0)) >= 0;)
    taken.push_back(fd);
  late.connect(f.server.port());
  late.send(upgrade_request("/echo"));
  const auto answer = late.read_all();
  before.send(text_frame("works"));
  const auto alive = before.read_frame().payload;
  for (int fd : taken)
    ::close(fd);
  BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
  BOOST_TEST(alive == "works");
  BOOST_TEST(f.server.stats().accept_errors >= 1u);
  open_session(f.server.port(), "/echo");
}

BOOST_AUTO_TEST_SUITE_END()
