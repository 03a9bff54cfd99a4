// How fast one peer may send.

#include "admission_support.hpp"
#include "hand_clock.hpp"

using namespace server_test;

BOOST_AUTO_TEST_SUITE(admission_rates)

namespace {

std::string numbered(int from, int count) {
  std::string all;
  for (int i = from; i < from + count; ++i)
    all += text_frame(std::to_string(i));
  return all;
}

chorus::server_options rated(std::uint32_t messages, std::uint32_t burst,
                             chorus::over_rate policy) {
  chorus::server_options options;
  options.rate.messages_per_second = messages;
  options.rate.burst_messages = burst;
  options.rate.policy = policy;
  return options;
}

} // namespace

// Nothing is lost and nothing out of order; and it takes the time that the rate says, at least.
BOOST_AUTO_TEST_CASE(delayed_messages_all_arrive) {
  admitting f(rated(200, 20, chorus::over_rate::delay));
  auto w = open_session(f.port(), "/echo");
  const auto begun = std::chrono::steady_clock::now();
  w.send(numbered(0, 60));
  for (int i = 0; i < 60; ++i)
    BOOST_REQUIRE(w.read_frame().payload == std::to_string(i));
  BOOST_TEST((std::chrono::steady_clock::now() - begun >= 195ms)); // 39 of 200 a second waited for
  // Another is not held up by it.
  auto other = open_session(f.port(), "/echo");
  other.send(text_frame("hello"));
  BOOST_TEST(other.read_frame().payload == "hello");
  BOOST_TEST(f.stats().rate_dropped == 0u);
}

BOOST_AUTO_TEST_CASE(a_peer_that_goes_while_it_is_delayed) {
  std::atomic<int> got{0};
  std::atomic<bool> over{false};
  running loop;
  auto options = rated(1, 5, chorus::over_rate::delay);
  chorus::server server(loop.rt(), options);
  server.route("/x", [&](chorus::session s, chorus::request) -> chorus::task<> {
    while (auto m = co_await s.receive())
      ++got;
    over = true;
  });
  BOOST_REQUIRE(loop.wait(server.start()));
  auto w = open_session(server.port(), "/x");
  w.send(numbered(0, 100));
  BOOST_REQUIRE(comes_true([&] { return got >= 5; })); // one more each second
  const linger at_once{1, 0};
  ::setsockopt(w.fd(), SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
  w.close();
  // What it has sent is kept for the handler, as it came.
  BOOST_TEST(comes_true([&] { return over.load(); }));
  BOOST_TEST(got == 100);
  loop.wait(server.stop(10ms));
}

BOOST_AUTO_TEST_CASE(a_server_that_stops_while_it_delays) {
  admitting f(rated(1, 5, chorus::over_rate::delay));
  auto w = open_session(f.port(), "/echo");
  w.send(numbered(0, 10));
  for (int i = 0; i < 5; ++i)
    BOOST_REQUIRE(w.read_frame().payload == std::to_string(i));
  auto stopped =
      boost::asio::co_spawn(f.loop.rt().executor(0), f.server->stop(20s), boost::asio::use_future);
  frame last = w.read_frame();
  while (last.opcode == 1)
    last = w.read_frame();
  BOOST_TEST(last.close_code() == 1001u);
  w.send(close_frame(1001)); // behind what was held back: it is read
  BOOST_TEST(w.read_all() == "");
  BOOST_REQUIRE(stopped.wait_for(patience) == std::future_status::ready);
  BOOST_TEST(stopped.get().sessions_aborted == 0u);
}

BOOST_AUTO_TEST_CASE(dropped_messages_are_counted) {
  admitting f(rated(1, 10, chorus::over_rate::drop));
  const hand_clock stopped(f.loop);
  auto w = open_session(f.port(), "/echo");
  w.send(numbered(0, 500) + close_frame(1000));
  int echoed = 0;
  for (auto one = w.read_frame(); one.opcode == 1; one = w.read_frame()) {
    BOOST_TEST(one.payload == std::to_string(echoed));
    ++echoed;
  }
  BOOST_TEST(echoed == 10);
  BOOST_TEST(comes_true([&] { return f.stats().connections == 0; }));
  BOOST_TEST(f.stats().rate_dropped == 490u);
  BOOST_TEST(f.stats().rate_closed == 0u);
  BOOST_TEST(f.stats().messages_received == 500u);
}

BOOST_AUTO_TEST_CASE(too_fast_is_closed) {
  admitting f(rated(1, 10, chorus::over_rate::close));
  const hand_clock stopped(f.loop);
  auto w = open_session(f.port(), "/echo");
  w.send(numbered(0, 10));
  for (int i = 0; i < 10; ++i)
    BOOST_REQUIRE(w.read_frame().payload == std::to_string(i));
  w.send(numbered(10, 5));
  const auto told = w.read_frame();
  BOOST_TEST(told.close_code() == 1008u);
  BOOST_TEST(has(told.payload, "less often"));
  w.send(close_frame(1008));
  BOOST_TEST(w.read_all() == "");
  BOOST_TEST(f.stats().rate_closed == 1u);
  BOOST_TEST(comes_true([&] { return f.stats().connections == 0; }));
}

BOOST_AUTO_TEST_CASE(pings_count_and_so_do_bytes) {
  {
    admitting f(rated(1, 10, chorus::over_rate::close));
    const hand_clock stopped(f.loop);
    auto w = open_session(f.port(), "/echo");
    for (int i = 0; i < 10; ++i)
      w.send(client_frame(i % 2 ? 9 : 10, "x")); // a pong that nobody has asked for
    w.send(client_frame(9, "y"));
    frame one = w.read_frame();
    while (one.opcode == 10)
      one = w.read_frame();
    BOOST_TEST(one.close_code() == 1008u);
  }
  {
    admitting f(rated(1, 3, chorus::over_rate::drop));
    const hand_clock stopped(f.loop);
    auto w = open_session(f.port(), "/echo");
    for (int i = 0; i < 50; ++i)
      w.send(client_frame(9, std::to_string(i)));
    BOOST_TEST(comes_true([&] { return f.stats().rate_dropped == 47; }));
  }
  {
    chorus::server_options options;
    options.rate.bytes_per_second = 1;
    options.rate.burst_bytes = 100;
    options.rate.policy = chorus::over_rate::close;
    admitting f(options);
    const hand_clock stopped(f.loop);
    auto w = open_session(f.port(), "/echo");
    w.send(text_frame(std::string(99, 'a')) + text_frame("bb") + text_frame("c"));
    BOOST_TEST(w.read_frame().payload.size() == 99u);
    BOOST_TEST(w.read_frame().payload == "bb"); // overdraws
    BOOST_TEST(w.read_frame().close_code() == 1008u);
  }
}

// A batch is given what the rate lets through, too.
BOOST_AUTO_TEST_CASE(batches_under_a_rate) {
  running loop;
  std::vector<std::string> got;
  event all;
  chorus::server server(loop.rt(), rated(500, 10, chorus::over_rate::delay));
  server.route("/x", [&](chorus::session s, chorus::request) -> chorus::task<> {
    while (auto batch = co_await s.receive_some()) {
      for (std::size_t i = 0; i < batch->size(); ++i)
        got.emplace_back((*batch)[i].text());
      if (got.size() >= 100)
        all.set();
    }
  });
  BOOST_REQUIRE(loop.wait(server.start()));
  auto w = open_session(server.port(), "/x");
  w.send(numbered(0, 100));
  BOOST_REQUIRE(all.wait());
  for (int i = 0; i < 100; ++i)
    BOOST_TEST(got.at(static_cast<std::size_t>(i)) == std::to_string(i));
  loop.wait(server.stop(10ms));
}

BOOST_AUTO_TEST_SUITE_END()
