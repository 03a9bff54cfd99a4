#include "hand_clock.hpp"

#include <chorus/base/error.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <filesystem>
#include <future>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_stop)

namespace {

task<> forever() {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor,
                                  std::chrono::steady_clock::time_point::max());
  co_await timer.async_wait(boost::asio::use_awaitable);
}

// Sees no cancellation and ends only when it is released.
task<> deaf(std::shared_ptr<std::atomic<bool>> released) {
  co_await boost::asio::this_coro::reset_cancellation_state(boost::asio::disable_cancellation());
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor);
  while (!*released) {
    timer.expires_after(2ms);
    co_await timer.async_wait(boost::asio::use_awaitable);
  }
}

struct fixture {
  running loop;
  std::optional<chorus::server> server;
  explicit fixture(chorus::server_options options = {}, unsigned threads = 1) : loop(threads) {
    server.emplace(loop.rt(), std::move(options));
    server->route("/echo", echo);
    server->route("/forever", [](session, request) -> task<> { co_await forever(); });
  }
  void start() {
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  chorus::stop_report stop(std::chrono::milliseconds deadline) {
    return loop.wait(server->stop(deadline));
  }
};

bool is_refused(std::uint16_t port) {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const bool refused = ::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0;
  ::close(fd);
  return refused;
}

} // namespace

BOOST_AUTO_TEST_CASE(an_idle_server_stops_at_once) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    f.start();
    const auto port = f.server->port();
    const auto report = f.stop(1h);
    BOOST_TEST(report.handlers_cancelled == 0u);
    BOOST_TEST(report.sessions_aborted == 0u);
    BOOST_TEST(is_refused(port));
  }
}

BOOST_AUTO_TEST_CASE(a_server_is_ready_from_its_start_to_its_stop) {
  chorus::server_options options;
  options.session.close_timeout = 1h;
  fixture f(options);
  BOOST_TEST(!f.server->ready());
  f.start();
  BOOST_TEST(f.server->ready());
  auto w = open_session(f.server->port(), "/echo");
  auto stopping =
      boost::asio::co_spawn(f.loop.rt().executor(), f.server->stop(1h), boost::asio::use_future);
  BOOST_TEST(w.read_frame().close_code() == 1001u);
  BOOST_TEST(!f.server->ready()); // while it waits for the answer
  w.send(close_frame(1001));
  BOOST_REQUIRE((stopping.wait_for(patience) == std::future_status::ready));
  BOOST_TEST(!f.server->ready());
}

BOOST_AUTO_TEST_CASE(sessions_are_flushed_and_closed_with_1001) {
  fixture f({}, 2);
  event sent;
  f.server->route("/queue", [&](session s, request) -> task<> {
    for (int i = 0; i < 3; ++i)
      co_await s.send("queued");
    sent.set();
    co_await s.wait_closed();
  });
  f.start();
  auto idle = open_session(f.server->port(), "/echo");
  auto busy = open_session(f.server->port(), "/queue");
  BOOST_REQUIRE(sent.wait());
  std::thread peers([&] {
    for (int i = 0; i < 3; ++i)
      busy.read_frame();
    busy.send(close_frame(busy.read_frame().close_code()));
    idle.send(close_frame(idle.read_frame().close_code()));
  });
  const auto report = f.stop(1h);
  peers.join();
  BOOST_TEST(report.handlers_cancelled == 0u);
  BOOST_TEST(report.sessions_aborted == 0u);
  const auto stats = f.server->stats();
  BOOST_TEST(stats.messages_sent == 3u);
  BOOST_TEST(stats.connections == 0u);
  BOOST_TEST(stats.handlers == 0u);
}

BOOST_AUTO_TEST_CASE(the_close_code_is_1001) {
  fixture f;
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  std::thread peer([&] {
    const auto last = w.read_frame();
    w.send(close_frame(1001));
    BOOST_TEST(last.close_code() == 1001u);
  });
  f.stop(1h);
  peer.join();
}

BOOST_AUTO_TEST_CASE(a_peer_that_never_answers_the_close_is_aborted) {
  chorus::server_options options;
  options.session.close_timeout = 1h;
  fixture f(options);
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  auto stopping =
      boost::asio::co_spawn(f.loop.rt().executor(), f.server->stop(1h), boost::asio::use_future);
  BOOST_TEST(w.read_frame().close_code() == 1001u);
  const auto report = f.stop(20ms); // the deadline comes nearer when the close has been sent
  BOOST_TEST(report.sessions_aborted == 1u);
  BOOST_TEST(stopping.get().sessions_aborted == 1u);
  BOOST_TEST(w.read_frame().opcode == 0xffu);
  BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
}

BOOST_AUTO_TEST_CASE(a_handler_that_does_not_end_is_cancelled) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    f.start();
    auto w = open_session(f.server->port(), "/forever");
    BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 1; }));
    w.close();
    BOOST_REQUIRE(comes_true([&] { return f.server->size() == 0; }));
    const auto report = f.stop(20ms);
    BOOST_TEST(report.handlers_cancelled == 1u);
    BOOST_TEST(report.sessions_aborted == 0u);
    BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
    BOOST_TEST(f.server->stats().handler_failures == 0u); // it was told to
  }
}

BOOST_AUTO_TEST_CASE(a_handler_that_ignores_everything_does_not_hold_up_the_stop) {
  const auto released = std::make_shared<std::atomic<bool>>(false);
  fixture f;
  f.server->route("/deaf", [released](session, request) -> task<> { co_await deaf(released); });
  f.start();
  auto w = open_session(f.server->port(), "/deaf");
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 1; }));
  const auto report = f.stop(10ms);
  BOOST_TEST(report.handlers_cancelled == 1u);
  BOOST_TEST(f.server->stats().handlers == 1u); // and it is not hidden
  const auto again = f.stop(10ms);
  BOOST_TEST(again.handlers_cancelled == 1u);
  *released = true;
  BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
}

BOOST_AUTO_TEST_CASE(an_unfinished_handshake_is_answered_503) {
  fixture f;
  f.start();
  wire half(f.server->port());
  half.send("GET /echo HT");
  wire silent(f.server->port());
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().accepted == 2; }));
  const auto report = f.stop(1h);
  BOOST_TEST(report.sessions_aborted == 0u);
  const auto answer = half.read_all();
  BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
  BOOST_TEST(has(answer, "Connection: close\r\n"));
  BOOST_TEST(silent.read_all().starts_with("HTTP/1.1 503 "));
}

BOOST_AUTO_TEST_CASE(a_page_under_way_is_finished_and_an_idle_connection_is_not_waited_for) {
  event entered;
  fixture f;
  std::optional<boost::asio::steady_timer> gate;
  f.server->get("/slow", [&](request) -> task<chorus::response> {
    gate.emplace(co_await boost::asio::this_coro::executor,
                 std::chrono::steady_clock::time_point::max());
    entered.set();
    boost::system::error_code ignored;
    co_await gate->async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
    co_return chorus::response("done");
  });
  f.server->get("/", [](request) -> task<chorus::response> { co_return chorus::response("x"); });
  f.start();
  wire idle(f.server->port());
  idle.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  idle.read_response();
  wire slow(f.server->port());
  slow.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_REQUIRE(entered.wait());
  std::thread finish([&] {
    idle.read_all(); // ends because the server stops
    boost::asio::post(f.loop.rt().executor(), [&] { gate->cancel(); });
  });
  f.stop(1h);
  finish.join();
  const auto answer = slow.read_all();
  BOOST_TEST(answer.starts_with("HTTP/1.1 200 "));
  gate.reset();
}

BOOST_AUTO_TEST_CASE(a_page_that_does_not_end_is_cancelled) {
  fixture f;
  event entered;
  f.server->get("/slow", [&](request) -> task<chorus::response> {
    entered.set();
    co_await forever();
    co_return chorus::response("never");
  });
  f.start();
  wire w(f.server->port());
  w.send("GET /slow HTTP/1.1\r\nHost: a\r\n\r\n");
  BOOST_REQUIRE(entered.wait());
  f.stop(10ms);
  w.read_all();
  BOOST_TEST(f.server->stats().handler_failures == 0u);
}

// The other shard cuts at the very end: its sessions are gone when the report is made.
BOOST_AUTO_TEST_CASE(what_is_cut_at_the_last_moment_is_in_the_report) {
  chorus::server_options options;
  const auto path =
      std::filesystem::temp_directory_path() / ("chorus-stop-" + std::to_string(::getpid()));
  options.listen = "unix:" + path.string(); // deals connections out in turn
  fixture f(options, 2);
  f.start();
  std::vector<wire> all;
  for (int i = 0; i < 4; ++i) {
    all.emplace_back(path.string());
    all.back().send(upgrade_request("/forever"));
    BOOST_REQUIRE(all.back().read_response().starts_with("HTTP/1.1 101 "));
  }
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 4; }));
  hand_clock time(f.loop);
  auto &shards = f.loop.rt().core()->shards;
  event busy;
  std::promise<void> released;
  shards[1]->post([&] {
    busy.set();
    released.get_future().wait();
  });
  BOOST_REQUIRE(busy.wait());
  auto report =
      boost::asio::co_spawn(f.loop.rt().executor(0), f.server->stop(1ms), boost::asio::use_future);
  time.settle();
  time.pass(10ms); // now both are to cut
  std::atomic<bool> gone{false};
  shards[0]->post([&] {
    shards[0]->post([&] { shards[0]->advance(1min); }); // the report is to be made...
    shards[0]->post([&] {                               // ... behind this
      released.set_value();
      gone = comes_true([&] { return f.server->stats().handlers == 0; });
    });
  });
  BOOST_REQUIRE((report.wait_for(patience) == std::future_status::ready));
  const auto counted = report.get();
  BOOST_TEST(gone);
  BOOST_TEST(counted.sessions_aborted == 4u);
  BOOST_TEST(counted.handlers_cancelled == 4u);
}

BOOST_AUTO_TEST_CASE(stopping_twice_at_once_gives_one_report) {
  chorus::server_options options;
  options.session.close_timeout = 1h;
  fixture f(options, 2);
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  auto first =
      boost::asio::co_spawn(f.loop.rt().executor(0), f.server->stop(1h), boost::asio::use_future);
  auto second =
      boost::asio::co_spawn(f.loop.rt().executor(1), f.server->stop(20ms), boost::asio::use_future);
  BOOST_REQUIRE((first.wait_for(patience) == std::future_status::ready)); // the nearer deadline
  BOOST_REQUIRE((second.wait_for(patience) == std::future_status::ready));
  BOOST_TEST(first.get().sessions_aborted == 1u);
  BOOST_TEST(second.get().sessions_aborted == 1u);
}

BOOST_AUTO_TEST_CASE(a_handler_may_stop_its_own_server) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    event done;
    chorus::stop_report report;
    f.server->route("/stop", [&](session, request) -> task<> {
      report = co_await f.server->stop(20ms);
      done.set();
    });
    f.start();
    auto w = open_session(f.server->port(), "/stop");
    BOOST_REQUIRE(done.wait());
    BOOST_TEST(report.handlers_cancelled == 1u); // itself
    BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
    // A shard whose thread was busy is not waited for longer than the deadline allows.
    BOOST_TEST(comes_true([&] { return is_refused(f.server->port()); }));
  }
}

BOOST_AUTO_TEST_CASE(a_cancelled_stop_goes_on_without_its_caller) {
  chorus::server_options options;
  options.session.close_timeout = 1h;
  fixture f(options);
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  const auto stop = [&]() -> task<> {
    const auto executor = co_await boost::asio::this_coro::executor;
    boost::asio::steady_timer timer(executor);
    const auto signal = std::make_shared<boost::asio::cancellation_signal>();
    bool ended = false;
    auto note = [signal, &ended](std::exception_ptr, chorus::stop_report) { ended = true; };
    boost::asio::co_spawn(executor, f.server->stop(50ms),
                          boost::asio::bind_cancellation_slot(signal->slot(), std::move(note)));
    timer.expires_after(1ms);
    co_await timer.async_wait(boost::asio::use_awaitable);
    signal->emit(boost::asio::cancellation_type::terminal);
    while (f.server->size() > 0 || !ended) {
      timer.expires_after(1ms);
      co_await timer.async_wait(boost::asio::use_awaitable);
    }
  };
  f.loop.wait(stop());
  BOOST_TEST(f.server->size() == 0u);
}

BOOST_AUTO_TEST_CASE(a_stopped_server_stays_stopped_and_its_port_is_free) {
  fixture f;
  f.start();
  const auto address = f.server->address();
  {
    // A second server on the same address is told so.
    chorus::server_options options;
    options.listen = address;
    chorus::server second(f.loop.rt(), options);
    const auto up = f.loop.wait(second.start());
    BOOST_REQUIRE(!up);
    BOOST_TEST((up.error() == chorus::error::listen_failed));
  }
  auto w = open_session(f.server->port(), "/echo");
  f.stop(10ms);
  const auto again = f.loop.wait(f.server->start());
  BOOST_REQUIRE(!again);
  BOOST_TEST((again.error() == chorus::error::not_open));
  chorus::server_options options;
  options.listen = address;
  chorus::server next(f.loop.rt(), options);
  next.route("/echo", echo);
  BOOST_REQUIRE(f.loop.wait(next.start()));
  BOOST_TEST(next.address() == address);
  open_session(next.port(), "/echo");
  f.loop.wait(next.stop(10ms));
}

BOOST_AUTO_TEST_CASE(a_server_that_never_started_stops_too) {
  fixture f;
  f.stop(1h);
  BOOST_TEST(!f.loop.wait(f.server->start()));
}

BOOST_AUTO_TEST_CASE(destroying_a_server_aborts_everything) {
  for (unsigned threads : {1U, 2U}) {
    event ended;
    fixture f({}, threads);
    f.server->route("/wait", [&](session, request) -> task<> {
      try {
        co_await forever();
      } catch (const boost::system::system_error &) {
        ended.set();
        throw;
      }
    });
    f.start();
    const auto port = f.server->port();
    auto w = open_session(port, "/echo");
    auto v = open_session(port, "/wait");
    wire half(port);
    half.send("GET");
    f.server.reset();
    BOOST_TEST(w.read_frame().opcode == 0xffu);
    BOOST_TEST(v.read_frame().opcode == 0xffu);
    half.read_all();
    BOOST_TEST(ended.wait());
  }
}

BOOST_AUTO_TEST_CASE(after_the_runtime_verbs_say_so) {
  const auto released = std::make_shared<std::atomic<bool>>(false);
  fixture f({}, 2);
  f.server->route("/deaf", [released](session, request) -> task<> { co_await deaf(released); });
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  auto v = open_session(f.server->port(), "/deaf");
  wire half(f.server->port());
  half.send("GET");
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 2; }));
  f.loop.end();
  BOOST_TEST(w.read_frame().opcode == 0xffu);
  BOOST_TEST(v.read_frame().opcode == 0xffu);
  running other;
  const auto up = other.wait(f.server->start());
  BOOST_REQUIRE(!up);
  BOOST_TEST((up.error() == chorus::error::shut_down));
  const auto report = other.wait(f.server->stop(10ms));
  BOOST_TEST(report.sessions_aborted == 0u);
  BOOST_TEST(other.wait(f.server->sessions()).empty());
  BOOST_TEST(f.server->stats().handlers == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
