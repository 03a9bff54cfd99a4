// How many connections may be in their handshake at a time.

#include "server_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <vector>

using namespace server_test;

BOOST_AUTO_TEST_SUITE(server_handshakes)

namespace {

struct fixture {
  running loop;
  chorus::server server;
  explicit fixture(chorus::server_options options, unsigned threads = 1)
      : loop(threads), server(loop.rt(), std::move(options)) {
    server.route("/echo", echo);
    server.get("/", [](chorus::request) -> chorus::task<chorus::response> {
      co_return chorus::response("page");
    });
    const auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(10ms)); }
  bool come_to(std::size_t handshakes) {
    return comes_true([&] { return server.stats().handshakes == handshakes; });
  }
  std::vector<wire> silent(std::size_t count) {
    std::vector<wire> all;
    while (all.size() < count)
      all.emplace_back(server.port());
    return all;
  }
};

chorus::server_options at_most(std::size_t handshakes, std::chrono::milliseconds timeout = 1h) {
  chorus::server_options options;
  options.max_handshakes = handshakes;
  options.handshake_timeout = timeout;
  return options;
}

} // namespace

BOOST_AUTO_TEST_CASE(one_more_is_refused_until_some_have_gone) {
  for (unsigned threads : {1U, 2U}) {
    constexpr std::size_t most = 5;
    fixture f(at_most(most), threads);
    auto waiting = f.silent(most);
    BOOST_REQUIRE(f.come_to(most));
    for (std::uint64_t i = 1; i <= 3; ++i) {
      wire late(f.server.port());
      late.send(upgrade_request("/echo"));
      const auto answer = late.read_all();
      BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
      BOOST_TEST(has(answer, "Retry-After: "));
      BOOST_TEST(f.server.stats().refused_limit == i);
    }
    waiting.pop_back();
    BOOST_REQUIRE(f.come_to(most - 1));
    // A session is no handshake any more: one place is enough for any number of them.
    std::vector<wire> sessions;
    for (int i = 0; i < 10; ++i) {
      sessions.push_back(open_session(f.server.port(), "/echo"));
      sessions.back().send(text_frame("here"));
      BOOST_TEST(sessions.back().read_frame().payload == "here");
      BOOST_REQUIRE(f.come_to(most - 1));
    }
    // A page is asked for in such a place; a half sent request holds it, too.
    wire page(f.server.port());
    page.send("GET / HTTP/1.1\r\nHost: a\r\n\r\nGET");
    BOOST_TEST(has(page.read_response(), "page"));
    BOOST_TEST(wire(f.server.port()).read_all().starts_with("HTTP/1.1 503 "));
    page.close();
    waiting.clear();
    BOOST_TEST(f.come_to(0));
    const auto stats = f.server.stats();
    BOOST_TEST(stats.refused_limit == 4u);
    BOOST_TEST(stats.upgraded == 10u);
    BOOST_TEST(stats.handshakes_failed == most + 1);
  }
}

BOOST_AUTO_TEST_CASE(a_deadline_that_passes_makes_room) {
  fixture f(at_most(2, 30ms));
  for (int i = 0; i < 3; ++i) {
    auto waiting = f.silent(2);
    for (auto &w : waiting)
      w.read_all();
    BOOST_REQUIRE(f.come_to(0));
  }
  BOOST_TEST(f.server.stats().handshakes_failed == 6u);
  BOOST_TEST(f.server.stats().refused_limit == 0u);
}

BOOST_AUTO_TEST_CASE(under_tls_one_more_is_closed) {
  auto options = at_most(1);
  options.tls = chorus::test::server_options();
  fixture f(std::move(options));
  auto waiting = f.silent(1);
  BOOST_REQUIRE(f.come_to(1));
  BOOST_TEST(wire(f.server.port()).read_all() == "");
  BOOST_TEST(f.server.stats().refused_limit == 1u);
}

BOOST_AUTO_TEST_CASE(zero_is_no_limit) {
  fixture f(at_most(0));
  auto waiting = f.silent(40);
  BOOST_TEST(f.come_to(40));
  open_session(f.server.port(), "/echo");
  BOOST_TEST(f.server.stats().refused_limit == 0u);
}

BOOST_AUTO_TEST_SUITE_END()
