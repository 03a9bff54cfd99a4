// Half-done handshakes: they end, and until then they keep nobody out.

#include "admission_support.hpp"
#include "door.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/server_shard.hpp>

using namespace server_test;

BOOST_AUTO_TEST_SUITE(admission_handshakes)

namespace {

std::string source(int n) { return "127.0.2." + std::to_string(n); }

} // namespace

BOOST_AUTO_TEST_CASE(an_address_with_many_makes_room_for_others) {
  for (unsigned threads : {1U, 2U}) {
    chorus::server_options options;
    options.max_handshakes = 20;
    options.handshake_timeout = 1h;
    admitting f(options, threads);
    std::vector<wire> silent;
    for (int i = 0; i < 20; ++i) {
      silent.push_back(wire_from("127.0.0.2", f.port()));
      BOOST_REQUIRE(comes_true([&] { return f.stats().handshakes == std::size_t(i) + 1; }));
    }
    // One more of the same gets nothing; others do, again and again.
    auto same = wire_from("127.0.0.2", f.port());
    BOOST_TEST(same.read_all().starts_with("HTTP/1.1 503 "));
    for (int i = 0; i < 15; ++i) {
      auto other = wire_from(source(i + 1).c_str(), f.port());
      BOOST_TEST(upgraded(ask(other, "/where")));
      // It took the place of the one that had come first and leaves it to the next.
      BOOST_REQUIRE(comes_true([&] { return f.stats().handshakes == 19; }));
    }
    BOOST_TEST(comes_true([&] { return f.stats().handshakes_evicted == 1; }));
    const auto answer = silent.front().read_all();
    BOOST_TEST(answer.starts_with("HTTP/1.1 503 "));
    BOOST_TEST(has(answer, "sooner"));
    for (std::size_t i = 1; i < silent.size(); ++i)
      BOOST_TEST(!silent[i].readable());
    // Several newcomers that stay half-way, too.
    std::vector<wire> more;
    for (int i = 0; i < 8; ++i)
      more.push_back(wire_from(source(i + 1).c_str(), f.port()));
    BOOST_TEST(comes_true([&] { return f.stats().handshakes_evicted == 8; }));
    BOOST_TEST(comes_true([&] { return f.stats().handshakes == 20; }));
    for (auto &w : more)
      BOOST_TEST(upgraded(ask(w, "/where")));
  }
}

BOOST_AUTO_TEST_CASE(the_oldest_goes_when_it_is_old_enough) {
  chorus::server_options options;
  options.max_handshakes = 3;
  options.handshake_timeout = 20s; // old enough after an eighth
  admitting f(options);
  std::vector<wire> silent;
  for (int i = 0; i < 3; ++i) {
    silent.emplace_back(f.port());
    BOOST_REQUIRE(comes_true([&] { return f.stats().handshakes >= std::size_t(i) + 1; }));
  }
  // Sooner or later, and before all are ended, there is a place.
  BOOST_TEST(comes_true([&] {
    wire w(f.port());
    return upgraded(ask(w, "/where"));
  }));
  BOOST_TEST(comes_true([&] { return f.stats().handshakes_evicted >= 1; }));
}

BOOST_AUTO_TEST_CASE(who_is_being_served_is_not_evicted) {
  door way;
  std::atomic<int> entered{0};
  chorus::server_options options;
  options.max_handshakes = 4;
  options.handshake_timeout = 1h;
  options.authorize = [&](chorus::request) -> chorus::task<chorus::admission> {
    ++entered;
    co_await way.wait();
    co_return chorus::admission::accept();
  };
  admitting f(options);
  std::vector<wire> asked;
  for (int i = 0; i < 4; ++i) {
    asked.push_back(wire_from("127.0.0.2", f.port()));
    asked.back().send(upgrade_request("/where"));
  }
  BOOST_REQUIRE(comes_true([&] { return entered == 4; }));
  auto other = wire_from("127.0.0.3", f.port());
  BOOST_TEST(other.read_all().starts_with("HTTP/1.1 503 "));
  way.open();
  for (auto &w : asked)
    BOOST_TEST(upgraded(w.read_response()));
}

// Of several kinds, 500 at a time from one address; the others notice nothing, and all are ended.
BOOST_AUTO_TEST_CASE(who_does_not_take_its_answer_makes_room) {
  running loop;
  chorus::server_options options;
  options.max_handshakes = 4;
  options.handshake_timeout = 1h;
  options.send_timeout = 1h;
  chorus::server server(loop.rt(), options);
  server.route("/where", where);
  server.get("/large", [](chorus::request) -> chorus::task<chorus::response> {
    co_return chorus::response(std::string(std::size_t{16} << 20, 'x'));
  });
  BOOST_REQUIRE(loop.wait(server.start()));
  std::vector<wire> stalled;
  for (int i = 0; i < 4; ++i) {
    stalled.push_back(wire_from("127.0.0.2", server.port()));
    stalled.back().send("GET /large HTTP/1.1\r\nHost: a\r\n\r\n");
  }
  BOOST_REQUIRE(comes_true([&] { return server.stats().handshakes == 4; }));
  // As soon as the sockets are full. One that is given up when it can go on again stays.
  bool served = false;
  BOOST_TEST(comes_true([&] {
    auto other = wire_from("127.0.0.3", server.port());
    served = upgraded(ask(other, "/where")) || served;
    return served && server.stats().handshakes_evicted >= 1;
  }));
  loop.wait(server.stop(10ms));
}

// Else a peer that times its requests well would hold a place that nobody counts.
BOOST_AUTO_TEST_CASE(who_goes_on_after_all_is_counted_again) {
  using chorus::detail::http_visit;
  running loop;
  const auto home = loop.rt().core()->shards.front();
  const auto setup = std::make_shared<chorus::detail::server_setup>();
  setup->options.max_handshakes = 1;
  setup->options.handshake_timeout = 0ms; // everybody is old enough to go
  auto first = std::make_shared<http_visit>();
  auto second = std::make_shared<http_visit>();
  event arrived;
  home->post([&] {
    first->admit(setup, home, "192.0.2.1:1");
    first->at = http_visit::phase::between;
    second->admit(setup, home, "192.0.2.2:1"); // posts the eviction of the first
    first->at = http_visit::phase::working;
    home->post([&] { arrived.set(); });
  });
  BOOST_REQUIRE(arrived.wait());
  BOOST_TEST(!first->evicted);
  BOOST_TEST(setup->handshakes.size() == 2u);
  auto third = std::make_shared<http_visit>();
  second->at = http_visit::phase::working;
  BOOST_TEST(!third->admit(setup, home, "192.0.2.3:1"));
  first.reset();
  second.reset();
  BOOST_TEST(setup->handshakes.size() == 0u);
  BOOST_TEST(third->admit(setup, home, "192.0.2.3:1"));
}

BOOST_AUTO_TEST_CASE(five_hundred_slow_ones) {
  for (const bool tls : {false, true}) {
    chorus::server_options options;
    options.max_handshakes = 300;
    options.handshake_timeout = 10s; // enough for the honest ones on a slow machine
    options.session.heartbeat = {.ping_interval = 0ms, .pong_wait = 0ms}; // however long it takes
    if (tls)
      options.tls = chorus::test::server_options();
    admitting f(options, 2);
    // A session that was there before.
    std::optional<wire> before;
    if (!tls)
      before.emplace(open_session(f.port(), "/echo"));
    std::vector<wire> slow;
    const std::string request = upgrade_request("/echo");
    for (int i = 0; i < 500; ++i) {
      slow.push_back(wire_from("127.0.0.2", f.port()));
      auto &w = slow.back();
      if (i % 4 == 1)
        w.send(std::string_view(request).substr(0, 40));
      else if (i % 4 == 2)
        w.send(std::string_view("\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03", 11)); // half a hello
      else if (i % 4 == 3)
        w.send("G");
    }
    std::atomic<bool> trickle{true};
    std::thread trickling([&] { // a byte at a time, and never the last ones
      for (std::size_t at = 1; trickle && at + 4 < request.size(); ++at) {
        for (std::size_t i = 3; i < slow.size(); i += 4)
          (void)::send(slow[i].fd(), request.data() + at, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
        std::this_thread::sleep_for(10ms); // the trickle's pace
      }
    });
    if (!tls) {
      for (int i = 0; i < 40; ++i) {
        auto honest = wire_from(source(i + 1).c_str(), f.port());
        BOOST_TEST(upgraded(ask(honest, "/echo")));
        honest.send(text_frame("hello"));
        BOOST_TEST(honest.read_frame().payload == "hello");
        before->send(text_frame("still here"));
        BOOST_TEST(before->read_frame().payload == "still here");
      }
    }
    std::size_t ended = 0;
    for (auto &w : slow) {
      w.read_all(); // to the end: it is ended
      ++ended;
    }
    trickle = false;
    trickling.join();
    BOOST_TEST(ended == 500u);
    BOOST_TEST(comes_true([&] { return f.stats().handshakes == 0; }));
    if (before) {
      before->send(text_frame("still here"));
      BOOST_TEST(before->read_frame().payload == "still here");
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
