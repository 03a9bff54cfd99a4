// `nats` as a server uses it, and what it refuses.

#include "integration/resume_support.hpp"
#include "support/nats_process.hpp"

#include <chorus/cluster/nats.hpp>

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <unistd.h>

namespace {

using namespace resume_test;

// A server of its own engine, as in another process.
struct cluster_node {
  std::shared_ptr<chorus::broker> engine;
  rooms_server server;
  explicit cluster_node(const test_support::nats_process &at)
      : engine(chorus::nats(at.url(), patient())), server(options(engine)) {}
  static chorus::nats_options patient() {
    chorus::nats_options o;
    o.connect_timeout = 20s;
    o.answer_timeout = 20s; // on a slow machine, too
    return o;
  }
  static chorus::server_options options(const std::shared_ptr<chorus::broker> &engine) {
    auto o = keeping(100);
    o.broker = engine;
    return o;
  }
  bool connected() const {
    return comes_true([&] { return engine->status().connected; });
  }
};

void hears(client &c, int from, int to) {
  for (int i = from; i < to; ++i) {
    const auto h = c.take();
    BOOST_REQUIRE_EQUAL(h.t, "msg");
    BOOST_REQUIRE_EQUAL(h.payload, std::to_string(i));
  }
}

} // namespace

BOOST_AUTO_TEST_SUITE(nats_servers)

BOOST_AUTO_TEST_CASE(a_client_goes_on_at_another_server) {
  test_support::nats_process nats;
  cluster_node a(nats), b(nats);
  client ann, bob;
  ann.connect(a.server.port(), "/r/x");
  BOOST_CHECK_EQUAL(ann.joined().recovered, -1);
  bob.connect(b.server.port(), "/r/x");
  bob.joined();
  for (const auto &one : numbers(0, 10))
    bob.send(one);
  hears(ann, 0, 10);
  ann.vanish();
  for (const auto &one : numbers(10, 20))
    bob.send(one);
  ann.connect(b.server.port(), "/r/x");
  BOOST_CHECK_EQUAL(ann.joined().recovered, 1);
  hears(ann, 10, 20);
  // The engine is killed and comes back, and so does she, to the first server.
  nats.kill();
  ann.vanish();
  BOOST_REQUIRE(
      comes_true([&] { return !a.engine->status().connected && !b.engine->status().connected; }));
  nats.start();
  BOOST_REQUIRE(a.connected() && b.connected());
  for (const auto &one : numbers(20, 30))
    bob.send(one);
  ann.connect(a.server.port(), "/r/x");
  BOOST_CHECK_EQUAL(ann.joined().recovered, 1);
  hears(ann, 20, 30);
  BOOST_CHECK(ann.seen["x"] == numbers(0, 30));
  BOOST_CHECK_EQUAL(ann.doubled, 0);
}

BOOST_AUTO_TEST_CASE(who_resumes_after_the_data_is_gone_is_told_so) {
  test_support::nats_process nats;
  cluster_node a(nats), b(nats);
  client ann, bob;
  ann.connect(a.server.port(), "/r/x");
  ann.joined();
  bob.connect(b.server.port(), "/r/x");
  bob.joined();
  for (const auto &one : numbers(0, 10))
    bob.send(one);
  hears(ann, 0, 10);
  nats.kill();
  ann.vanish();
  BOOST_REQUIRE(
      comes_true([&] { return !a.engine->status().connected && !b.engine->status().connected; }));
  nats.restart(false);
  BOOST_REQUIRE(a.connected() && b.connected());
  ann.connect(b.server.port(), "/r/x");
  auto again = ann.joined();
  if (again.recovered == 1) // before that server was told of the gap, which comes then
    again = ann.joined();
  BOOST_CHECK_EQUAL(again.recovered, 0);
  BOOST_CHECK_EQUAL(again.why, "epoch");
  ann.send("hello");
  for (;;) { // what bob is told of the new epoch, and then the message
    const auto h = bob.take();
    BOOST_REQUIRE(h.t == "joined" || h.t == "msg");
    if (h.t == "msg") {
      BOOST_CHECK_EQUAL(h.payload, "hello");
      BOOST_CHECK_EQUAL(h.epoch, again.epoch);
      break;
    }
  }
}

// Else a socket of Asio's, which others may inherit, would stay open with the server.
BOOST_AUTO_TEST_CASE(the_server_of_a_test_inherits_no_descriptors) {
  int ends[2];
  BOOST_REQUIRE_EQUAL(::pipe(ends), 0);
  const auto mine = std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(ends[0]));
  const test_support::nats_process nats;
  for (const auto &one :
       std::filesystem::directory_iterator("/proc/" + std::to_string(nats.pid()) + "/fd")) {
    std::error_code gone; // closed meanwhile: the path is empty
    BOOST_CHECK_NE(std::filesystem::read_symlink(one, gone), mine);
  }
  for (const int fd : ends)
    ::close(fd);
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said_at_the_start) {
  for (const char *url :
       {"", "127.0.0.1:4222", "redis://127.0.0.1", "nats://", "nats://a:0", "nats://a:66000",
        "nats://a:b:c@", "nats://a,,b", "nats://a b", "nats://a/b"}) {
    BOOST_TEST_CONTEXT(url) {
      const auto b = chorus::nats(url);
      BOOST_CHECK(b->attach({}).error() == chorus::error::bad_url);
      BOOST_CHECK(!b->status().connected);
      bool told = false;
      b->members("r", [&](const auto &r) { told = r.error() == chorus::error::bad_url; });
      BOOST_CHECK(told);
    }
  }
  for (const char *prefix : {"", "a.b", "a b", "*"}) {
    chorus::nats_options o;
    o.prefix = prefix;
    BOOST_CHECK(chorus::nats("nats://127.0.0.1", o)->attach({}).error() ==
                chorus::error::bad_option);
  }
}

BOOST_AUTO_TEST_SUITE_END()
