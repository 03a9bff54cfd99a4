// The memory of all queues together.

#include "admission_support.hpp"

using namespace server_test;

BOOST_AUTO_TEST_SUITE(admission_budget)

namespace {

constexpr std::size_t mib = std::size_t{1} << 20;

// Sends as many bytes as the path says, in small messages, and goes on till its peer has gone.
chorus::task<> flood(chorus::session s, chorus::request r) {
  const auto amount = static_cast<std::size_t>(std::stoul(std::string(r.param("bytes"))));
  const auto each = std::min<std::size_t>(amount, std::stoul(std::string(r.param("each"))));
  const chorus::message one(chorus::message_kind::binary, std::string(each, 'x').data(), each);
  for (std::size_t sent = 0; sent < amount && s.is_open(); sent += each)
    if (!s.try_send(one))
      break;
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

struct flooding {
  running loop;
  chorus::server server;
  flooding(chorus::server_options options, unsigned threads)
      : loop(threads), server(loop.rt(), std::move(options)) {
    server.route("/flood/{bytes}/{each}", flood);
    server.route("/echo", echo);
    BOOST_REQUIRE(loop.wait(server.start()));
  }
  ~flooding() { loop.wait(server.stop(10ms)); }
  // A peer that takes nothing but what its small socket buffer holds.
  wire slow(std::size_t bytes, std::size_t each) {
    wire w;
    w.open(AF_INET);
    const int small = 4096;
    ::setsockopt(w.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
    w.connect(server.port());
    w.send(upgrade_request("/flood/" + std::to_string(bytes) + "/" + std::to_string(each)));
    return w;
  }
};

chorus::server_options budget(std::size_t bytes) {
  chorus::server_options options;
  options.queue_budget_bytes = bytes;
  options.session.queue_bytes = 64 * mib;
  options.session.heartbeat = {.ping_interval = 0ms, .pong_wait = 0ms, .write_wait = 0ms};
  options.session.close_timeout = 30s;
  return options;
}

} // namespace

BOOST_AUTO_TEST_CASE(the_largest_queue_goes_first) {
  for (unsigned threads : {1U, 2U})
    for (const std::size_t each : {std::size_t{1000}, mib}) {
      // The kernel holds up to four MiB of each.
      flooding f(budget(45 * mib), threads);
      auto good = open_session(f.server.port(), "/echo");
      std::vector<wire> readers;
      for (const std::size_t size : {10, 24, 10})
        readers.push_back(f.slow(size * mib, each));
      BOOST_REQUIRE(comes_true([&] {
        std::size_t behind = 0;
        for (const auto &s : f.loop.wait(f.server.sessions()))
          behind += s.stats().queued_bytes > 5 * mib;
        return behind == 3;
      }));
      BOOST_TEST(f.server.stats().evicted_budget == 0u);
      readers.push_back(f.slow(19 * mib, each));
      // Too much: the one with 24 has to go, not the one that came last.
      BOOST_REQUIRE(comes_true([&] { return f.server.stats().evicted_budget == 1; }));
      BOOST_TEST(comes_true([&] { return f.server.stats().queued_bytes_waiting <= 45 * mib; }));
      good.send(text_frame("hello"));
      BOOST_TEST(good.read_frame().payload == "hello");
      std::size_t behind = 0, worst = 0;
      for (const auto &s : f.loop.wait(f.server.sessions())) {
        behind += s.stats().queued_bytes > 5 * mib;
        worst = std::max(worst, s.stats().queued_bytes);
      }
      BOOST_TEST(behind == 3u);
      BOOST_TEST(worst < 20 * mib);
      for (std::size_t i : {0U, 2U, 3U})
        readers[i].close();
      // It learns why, if it comes to read at all.
      if (each == 1000) {
        readers[1].read_response(); // to its upgrade
        frame last = readers[1].read_frame();
        while (last.opcode == 2)
          last = readers[1].read_frame();
        BOOST_TEST(last.close_code() == 1013u);
        BOOST_TEST(has(last.payload, "out of memory for queues"));
      }
      readers[1].close();
      BOOST_TEST(comes_true([&] { return f.server.stats().queued_bytes_waiting == 0; }));
      BOOST_TEST(comes_true([&] { return f.server.stats().evicted == 1; }));
      BOOST_TEST(f.server.stats().evicted_budget == 1u);
    }
}

BOOST_AUTO_TEST_CASE(several_go_until_the_rest_fits) {
  flooding f(budget(5 * mib), 2);
  auto good = open_session(f.server.port(), "/echo");
  std::vector<wire> readers;
  for (int i = 0; i < 12; ++i)
    readers.push_back(f.slow(8 * mib, 5000));
  BOOST_TEST(comes_true([&] { return f.server.stats().evicted_budget >= 11; }));
  BOOST_TEST(comes_true([&] { return f.server.stats().queued_bytes_waiting <= 5 * mib; }));
  good.send(text_frame("hello"));
  BOOST_TEST(good.read_frame().payload == "hello");
  // And of those that stay behind their close frame nothing is left in the end.
  for (auto &w : readers)
    w.close();
  BOOST_TEST(comes_true([&] { return f.server.stats().queued_bytes_waiting == 0; }));
  BOOST_TEST(comes_true([&] { return f.server.stats().connections == 1; }));
}

// A peer that keeps up is no burden, however much it is sent in one turn.
BOOST_AUTO_TEST_CASE(who_keeps_up_is_not_counted) {
  flooding f(budget(1 * mib), 1);
  wire w(f.server.port());
  std::thread reading([&] {
    w.send(upgrade_request("/flood/20000000/10000"));
    const auto answer = w.read_response();
    BOOST_TEST(answer.starts_with("HTTP/1.1 101 "));
    for (int i = 0; i < 2000; ++i)
      if (w.read_frame().opcode != 2)
        break;
  });
  reading.join();
  w.close();
  BOOST_TEST(comes_true([&] { return f.server.stats().queued_bytes_waiting == 0; }));
  BOOST_TEST(comes_true([&] { return f.server.stats().connections == 0; }));
}

BOOST_AUTO_TEST_SUITE_END()
