#include "hand_clock.hpp"

#include <chorus/base/error.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <filesystem>
#include <functional>
#include <thread>
#include <vector>

using namespace server_test;
using chorus::drain_options;
using chorus::drain_report;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_drain)

namespace {

using pending = std::future<chorus::result<drain_report>>;

task<> forever() {
  boost::asio::steady_timer timer(co_await boost::asio::this_coro::executor,
                                  std::chrono::steady_clock::time_point::max());
  co_await timer.async_wait(boost::asio::use_awaitable);
}

struct fixture {
  running loop;
  std::optional<chorus::server> server;
  explicit fixture(chorus::server_options options = {}, unsigned threads = 1) : loop(threads) {
    server.emplace(loop.rt(), std::move(options));
    server->route("/echo", echo);
    server->route("/forever", [](session, request) -> task<> { co_await forever(); });
    server->get("/", [](request) -> task<chorus::response> { co_return chorus::response("up"); });
  }
  void start() {
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  pending begin(drain_options how) {
    auto done =
        boost::asio::co_spawn(loop.rt().executor(), server->drain(how), boost::asio::use_future);
    BOOST_REQUIRE(comes_true([&] { return !server->ready(); }));
    return done;
  }
  static drain_report end(pending &done) {
    BOOST_REQUIRE((done.wait_for(patience) == std::future_status::ready));
    auto report = done.get();
    BOOST_REQUIRE_MESSAGE(report, report.error().message());
    BOOST_TEST(report->closed + report->left + report->aborted == report->sessions);
    return *report;
  }
};

// For who must not be aborted however long its answer to a close takes.
chorus::server_options patient() {
  chorus::server_options options;
  options.session.close_timeout = 1h;
  return options;
}

std::vector<wire> open_many(fixture &f, std::size_t count) {
  std::vector<wire> all;
  for (std::size_t i = 0; i < count; ++i)
    all.push_back(open_session(f.server->port(), "/echo"));
  BOOST_REQUIRE(comes_true([&] { return f.server->size() == count; }));
  return all;
}

std::size_t count_told(std::vector<wire> &all) {
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [](wire &w) { return w.readable(); }));
}

// The reason of the 1012 that is the next frame, answered.
std::string told(wire &w) {
  const auto last = w.read_frame();
  BOOST_TEST(last.close_code() == 1012u);
  w.send(close_frame(1012));
  return last.payload.size() > 2 ? last.payload.substr(2) : std::string();
}

std::string get(std::uint16_t port) {
  wire w(port);
  w.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
  return w.read_response();
}

} // namespace

BOOST_AUTO_TEST_CASE(not_ready_at_once_and_upgrades_refused_while_pages_are_answered) {
  for (unsigned threads : {1U, 2U}) {
    auto options = patient();
    options.handshake_timeout = 1h; // also how long a connection may stay between two pages
    fixture f(options, threads);
    hand_clock time(f.loop); // the drain waits for all shards, however long they take
    f.start();
    const auto port = f.server->port();
    auto all = open_many(f, 2);
    wire kept(port);
    kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    BOOST_TEST(kept.read_response().starts_with("HTTP/1.1 200 "));
    drain_options how;
    how.window = 1h; // the second session's turn is in half an hour
    how.retry_after = 2500ms;
    auto done = f.begin(how);
    BOOST_REQUIRE(comes_true([&] { return count_told(all) == 1; }));
    BOOST_TEST(get(port).starts_with("HTTP/1.1 200 "));
    kept.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    BOOST_TEST(kept.read_response().starts_with("HTTP/1.1 200 "));
    wire late(port);
    late.send(upgrade_request("/echo"));
    const auto answer = late.read_all();
    BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
    BOOST_TEST(has(answer, "Retry-After: 3\r\n")); // whole seconds, never sooner
    // The one whose turn has not come is served as before.
    auto &served = all[all[0].readable() ? 1 : 0];
    served.send(text_frame("still here"));
    BOOST_TEST(served.read_frame().payload == "still here");
    auto stopping =
        boost::asio::co_spawn(f.loop.rt().executor(), f.server->stop(1h), boost::asio::use_future);
    for (auto &w : all)
      w.send(close_frame(w.read_frame().close_code()));
    const auto report = fixture::end(done);
    BOOST_TEST(report.interrupted);
    BOOST_TEST(report.sessions == 2u);
    BOOST_TEST(report.closed == 2u);
    BOOST_TEST(report.upgrades_refused == 1u);
    BOOST_TEST(stopping.get().sessions_aborted == 0u);
    BOOST_TEST(!f.server->ready());
  }
}

BOOST_AUTO_TEST_CASE(closes_are_spread_evenly_over_the_window) {
  chorus::server_options options;
  options.session.close_timeout = 1h; // the peers answer at the end
  fixture f(options);
  hand_clock time(f.loop);
  f.start();
  auto all = open_many(f, 20);
  drain_options how;
  how.window = 10s;
  auto done = f.begin(how);
  time.settle();
  BOOST_TEST(comes_true([&] { return count_told(all) == 1; }));
  for (std::size_t n = 1; n < 20; ++n)
    BOOST_TEST_CONTEXT(n) { // shortly before and after n * 500 ms
      time.pass(n == 1 ? 480ms : 460ms);
      BOOST_TEST(count_told(all) == n);
      time.pass(40ms);
      BOOST_TEST(comes_true([&] { return count_told(all) == n + 1; }));
    }
  // Each is asked for the same delay: they return as they left.
  for (auto &w : all)
    BOOST_TEST(told(w) == "retry-after=1");
  const auto report = fixture::end(done);
  BOOST_TEST(report.sessions == 20u);
  BOOST_TEST(report.closed == 20u);
  BOOST_TEST(!report.interrupted);
  BOOST_TEST(report.begun == std::vector<std::size_t>(10, 2), boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(a_rate_instead_of_a_window_and_no_catching_up_beyond_it) {
  chorus::server_options options;
  options.session.close_timeout = 1h; // the peers answer at the end
  fixture f(options);
  hand_clock time(f.loop);
  f.start();
  auto all = open_many(f, 30);
  drain_options how;
  how.per_second = 10;
  auto done = f.begin(how);
  time.settle();
  BOOST_TEST(comes_true([&] { return count_told(all) == 1; }));
  time.pass(110ms);
  BOOST_TEST(comes_true([&] { return count_told(all) == 2; }));
  // The thread was away for five seconds: who takes the clients on must not get fifty at once.
  time.pass(5s);
  BOOST_TEST(count_told(all) <= 4u);
  for (int i = 0; i < 300 && count_told(all) < 30; ++i)
    time.pass(10ms);
  BOOST_TEST(comes_true([&] { return count_told(all) == 30; }));
  for (auto &w : all)
    told(w);
  const auto report = fixture::end(done);
  BOOST_TEST(report.closed == 30u);
  for (const auto n : report.begun)
    BOOST_TEST(n <= 12u); // ten, and 100 ms of slack
}

BOOST_AUTO_TEST_CASE(clients_are_asked_to_return_at_a_pace) {
  fixture f;
  hand_clock time(f.loop);
  f.start();
  auto all = open_many(f, 5);
  drain_options how;
  how.window = 0ms;
  how.retry_after = 1s;
  how.returns_per_second = 4;
  auto done = f.begin(how);
  time.settle();
  BOOST_TEST(comes_true([&] { return count_told(all) == 5; }));
  std::vector<std::string> reasons;
  for (auto &w : all)
    reasons.push_back(told(w));
  const std::vector<std::string> expected{"retry-after=1", "retry-after=1.25", "retry-after=1.5",
                                          "retry-after=1.75", "retry-after=2"};
  BOOST_TEST(reasons == expected, boost::test_tools::per_element());
  BOOST_TEST(fixture::end(done).closed == 5u);
}

BOOST_AUTO_TEST_CASE(what_is_queued_goes_first) {
  fixture f(patient(), 2);
  event sent;
  f.server->route("/queue", [&](session s, request) -> task<> {
    for (int i = 0; i < 3; ++i)
      co_await s.send("queued");
    sent.set();
    co_await s.wait_closed();
  });
  f.start();
  auto w = open_session(f.server->port(), "/queue");
  BOOST_REQUIRE(sent.wait());
  drain_options how;
  how.window = 0ms;
  auto done = f.begin(how);
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(w.read_frame().payload == "queued");
  told(w);
  BOOST_TEST(fixture::end(done).closed == 1u);
  BOOST_TEST(f.server->stats().messages_sent == 3u);
}

BOOST_AUTO_TEST_CASE(nobody_there) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    f.start();
    drain_options how;
    how.window = 1h;
    auto done = f.begin(how);
    const auto report = fixture::end(done);
    BOOST_TEST(report.sessions == 0u);
    BOOST_TEST(!report.interrupted);
    BOOST_TEST(report.begun.empty());
    BOOST_TEST(!f.loop.wait(f.server->start())); // it has stopped
  }
}

BOOST_AUTO_TEST_CASE(who_never_answers_is_aborted_within_its_own_deadline) {
  chorus::server_options options;
  options.session.close_timeout = 30ms;
  fixture f(options);
  hand_clock time(f.loop);
  f.start();
  auto silent = open_session(f.server->port(), "/echo");
  auto polite = open_session(f.server->port(), "/echo");
  drain_options how;
  how.window = 0ms;
  how.stop_deadline = 1h;
  auto done = f.begin(how);
  told(polite);
  BOOST_REQUIRE(comes_true([&] { return f.server->size() == 1; }));
  time.pass(40ms);
  const auto report = fixture::end(done);
  BOOST_TEST(report.sessions == 2u);
  BOOST_TEST(report.closed == 1u);
  BOOST_TEST(report.aborted == 1u);
  BOOST_TEST(silent.read_frame().close_code() == 1012u);
  BOOST_TEST(silent.read_frame().opcode == 0xffu);
}

BOOST_AUTO_TEST_CASE(a_shard_whose_thread_is_busy_is_drained_when_it_comes_to_it) {
  const auto path =
      std::filesystem::temp_directory_path() / ("chorus-drain-" + std::to_string(::getpid()));
  auto options = patient();
  options.listen = "unix:" + path.string(); // deals connections out in turn
  fixture f(options, 2);
  f.start();
  std::vector<wire> all;
  for (int i = 0; i < 2; ++i) {
    all.emplace_back(path.string());
    all.back().send(upgrade_request("/echo"));
    BOOST_REQUIRE(all.back().read_response().starts_with("HTTP/1.1 101 "));
  }
  event busy;
  std::promise<void> released;
  f.loop.rt().core()->shards[1]->post([&] {
    busy.set();
    released.get_future().wait();
  });
  BOOST_REQUIRE(busy.wait());
  drain_options how;
  how.window = 0ms;
  auto done = f.begin(how);
  // The other's session does not wait for it longer than it must.
  BOOST_REQUIRE(comes_true([&] { return count_told(all) == 1; }));
  const std::size_t late = all[0].readable() ? 1 : 0;
  told(all[1 - late]);
  released.set_value();
  told(all[late]);
  const auto report = fixture::end(done);
  BOOST_TEST(report.sessions == 2u);
  BOOST_TEST(report.closed == 2u);
}

// All of the sessions there are, and their shard is busy for longer than the conductor waits for it.
BOOST_AUTO_TEST_CASE(who_is_heard_of_late_is_spread_over_the_window_too) {
  const auto path =
      std::filesystem::temp_directory_path() / ("chorus-late-" + std::to_string(::getpid()));
  auto options = patient();
  options.listen = "unix:" + path.string();
  fixture f(options, 2);
  const auto own_name = [] {
    return std::to_string(std::hash<std::thread::id>()(std::this_thread::get_id()));
  };
  f.server->route("/where", [&](session s, request) -> task<> {
    const auto name = own_name();
    co_await s.send(name);
    co_await s.wait_closed();
  });
  f.start();
  auto &shards = f.loop.rt().core()->shards;
  std::promise<std::string> first;
  shards[0]->post([&] { first.set_value(own_name()); });
  const auto conductor = first.get_future().get();
  std::vector<wire> all;
  for (int i = 0; i < 8; ++i) {
    wire w(path.string());
    w.send(upgrade_request("/where"));
    BOOST_REQUIRE(w.read_response().starts_with("HTTP/1.1 101 "));
    if (w.read_frame().payload != conductor)
      all.push_back(std::move(w));
  }
  BOOST_REQUIRE(all.size() == 4u); // connections are dealt out in turn
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 4; }));
  hand_clock time(f.loop);
  event busy;
  std::promise<void> released;
  shards[1]->post([&] {
    busy.set();
    released.get_future().wait();
  });
  BOOST_REQUIRE(busy.wait());
  drain_options how;
  how.window = 10s;
  auto done = f.begin(how);
  time.settle();
  time.pass(1100ms); // no longer waited for
  released.set_value();
  const auto told_are = [&](std::size_t n) {
    return comes_true([&] { return count_told(all) >= n; });
  };
  BOOST_TEST(told_are(1));
  for (std::size_t n = 1; n < 4; ++n) {
    time.pass(n == 1 ? 2350ms : 2300ms); // to shortly before and after n * 2.5 s
    BOOST_TEST(count_told(all) == n);
    time.pass(200ms);
    BOOST_TEST(told_are(n + 1));
  }
  f.server.reset();
  BOOST_REQUIRE((done.wait_for(patience) == std::future_status::ready));
}

BOOST_AUTO_TEST_CASE(who_leaves_meanwhile_is_counted_as_such) {
  fixture f;
  hand_clock time(f.loop);
  f.start();
  auto all = open_many(f, 3);
  drain_options how;
  how.per_second = 1;
  auto done = f.begin(how);
  time.settle();
  told(all[0]);
  all[1].send(close_frame(1000));
  BOOST_TEST(all[1].read_frame().close_code() == 1000u);
  all[2].close(); // lost
  BOOST_REQUIRE(comes_true([&] { return f.server->size() == 0; }));
  for (int i = 0; i < 3; ++i)
    time.pass(1s);
  const auto report = fixture::end(done);
  BOOST_TEST(report.sessions == 3u);
  BOOST_TEST(report.closed == 1u);
  BOOST_TEST(report.left == 1u);
  BOOST_TEST(report.aborted == 1u);
}

BOOST_AUTO_TEST_CASE(a_handler_that_does_not_end_is_cancelled_by_the_stop) {
  fixture f(patient());
  f.start();
  auto w = open_session(f.server->port(), "/forever");
  BOOST_REQUIRE(comes_true([&] { return f.server->stats().handlers == 1; }));
  drain_options how;
  how.window = 0ms;
  how.stop_deadline = 20ms;
  auto done = f.begin(how);
  told(w);
  const auto report = fixture::end(done);
  BOOST_TEST(report.closed == 1u);
  BOOST_TEST(report.handlers_cancelled == 1u);
  BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
}

BOOST_AUTO_TEST_CASE(draining_twice_gives_one_report) {
  fixture f(patient(), 2);
  f.start();
  auto all = open_many(f, 4);
  drain_options how;
  how.window = 0ms;
  auto first = f.begin(how);
  auto second = boost::asio::co_spawn(f.loop.rt().executor(1), f.server->drain({.window = 1h}),
                                      boost::asio::use_future);
  for (auto &w : all)
    told(w);
  BOOST_TEST(fixture::end(first).closed == 4u);
  BOOST_TEST(fixture::end(second).closed == 4u);
  auto third =
      boost::asio::co_spawn(f.loop.rt().executor(), f.server->drain(), boost::asio::use_future);
  BOOST_TEST(fixture::end(third).closed == 4u);
}

BOOST_AUTO_TEST_CASE(before_the_start_it_is_a_stop) {
  fixture f;
  auto done = f.begin({});
  BOOST_TEST(fixture::end(done).sessions == 0u);
  BOOST_TEST(!f.loop.wait(f.server->start()));
}

BOOST_AUTO_TEST_CASE(a_handler_may_drain_its_own_server) {
  for (unsigned threads : {1U, 2U}) {
    fixture f(patient(), threads);
    event done;
    drain_report report;
    f.server->route("/leave", [&](session, request) -> task<> {
      drain_options how;
      how.window = 0ms;
      how.stop_deadline = 20ms;
      auto r = co_await f.server->drain(how);
      if (r)
        report = *r;
      done.set();
    });
    f.start();
    auto w = open_session(f.server->port(), "/leave");
    told(w);
    BOOST_REQUIRE(done.wait());
    BOOST_TEST(report.closed == 1u);
    BOOST_TEST(report.handlers_cancelled == 1u); // itself
    BOOST_TEST(comes_true([&] { return f.server->stats().handlers == 0; }));
  }
}

BOOST_AUTO_TEST_CASE(a_cancelled_drain_goes_on_without_its_caller) {
  fixture f(patient());
  f.start();
  auto all = open_many(f, 2);
  bool thrown = false;
  event cancelled;
  const auto drain = [&]() -> task<> {
    const auto executor = co_await boost::asio::this_coro::executor;
    const auto signal = std::make_shared<boost::asio::cancellation_signal>();
    auto note = [signal, &thrown, &cancelled](std::exception_ptr e, chorus::result<drain_report>) {
      thrown = static_cast<bool>(e);
      cancelled.set();
    };
    drain_options how;
    how.window = 0ms;
    auto work = f.server->drain(how);
    boost::asio::co_spawn(executor, std::move(work),
                          boost::asio::bind_cancellation_slot(signal->slot(), std::move(note)));
    while (f.server->ready())
      co_await boost::asio::post(executor, boost::asio::use_awaitable);
    signal->emit(boost::asio::cancellation_type::terminal);
  };
  f.loop.wait(drain());
  BOOST_REQUIRE(cancelled.wait());
  BOOST_TEST(thrown);
  for (auto &w : all)
    told(w);
  BOOST_TEST(comes_true([&] { return f.server->size() == 0; }));
  auto late = f.begin({});
  BOOST_TEST(fixture::end(late).closed == 2u);
}

BOOST_AUTO_TEST_CASE(a_listener_given_up_is_left_to_others) {
  const int parent = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  BOOST_REQUIRE(::bind(parent, reinterpret_cast<const sockaddr *>(&any), sizeof any) == 0);
  BOOST_REQUIRE(::listen(parent, 16) == 0);
  chorus::server_options options;
  options.listen = "fd:" + std::to_string(::fcntl(parent, F_DUPFD_CLOEXEC, 3));
  fixture f(options, 2);
  f.start();
  auto w = open_session(f.server->port(), "/echo");
  drain_options how;
  how.window = 0ms;
  how.release_listeners = true;
  auto done = f.begin(how);
  told(w);
  fixture::end(done);
  const auto accepted = f.server->stats().accepted;
  wire next(f.server->port()); // waits in the backlog of the one that is left
  int taken = -1;              // the server has made the socket non-blocking
  BOOST_TEST(comes_true([&] { return (taken = ::accept(parent, nullptr, nullptr)) >= 0; }));
  BOOST_TEST(f.server->stats().accepted == accepted);
  ::close(taken);
  ::close(parent);
}

BOOST_AUTO_TEST_CASE(destroying_a_draining_server_ends_the_drain) {
  for (unsigned threads : {1U, 2U}) {
    fixture f({}, threads);
    f.start();
    auto all = open_many(f, 3);
    drain_options how;
    how.window = 1h;
    auto done = f.begin(how);
    f.server.reset();
    BOOST_REQUIRE((done.wait_for(patience) == std::future_status::ready));
    BOOST_TEST(done.get()->interrupted);
    for (auto &w : all)
      while (w.read_frame().opcode != 0xffu) {
      }
  }
}

BOOST_AUTO_TEST_CASE(unusable_options_are_named) {
  fixture f;
  f.start();
  const auto refuses = [&](drain_options how, const char *name) {
    const auto done = f.loop.wait(f.server->drain(how));
    BOOST_REQUIRE(!done);
    BOOST_TEST((done.error() == chorus::error::bad_option));
    BOOST_TEST(has(done.error().message(), name));
  };
  refuses({.per_second = -1}, "per_second");
  refuses({.window = -1ms}, "window");
  refuses({.returns_per_second = 0.0 / 0.0}, "returns_per_second");
  BOOST_TEST(f.server->ready());
}

BOOST_AUTO_TEST_SUITE_END()
