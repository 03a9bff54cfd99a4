// Servers that share a Redis, and clients that go from one to the other.

#include "integration/resume_support.hpp"
#include "support/redis_process.hpp"

#include <chorus/cluster/redis.hpp>

#include <algorithm>
#include <memory>

namespace {

using namespace resume_test;
using test_support::redis_process;

struct servers {
  redis_process redis{{"appendonly yes", "appendfsync always"}};
  std::vector<std::shared_ptr<chorus::broker>> brokers;
  std::unique_ptr<rooms_server> a = one_more();
  std::unique_ptr<rooms_server> b = one_more();
  client c{"b2d0c7f3a91e4d55"};
  client other{"0123456789abcdef"};

  servers() {
    c.connect(a->port(), "/r/lobby");
    c.joined();
    other.connect(b->port(), "/r/lobby");
    other.joined();
  }
  std::unique_ptr<rooms_server> one_more() {
    auto options = keeping(1000);
    chorus::redis_options patient;
    patient.connect_timeout = 20s;
    patient.answer_timeout = 20s;
    patient.reconnect = {20ms, 1.5, 200ms};
    options.broker = chorus::redis(redis.unix_url(), patient);
    brokers.push_back(options.broker);
    return std::make_unique<rooms_server>(std::move(options));
  }
  static void take(client &c, int count) {
    for (int i = 0; i < count; ++i)
      BOOST_REQUIRE_EQUAL(c.take().t, "msg");
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_servers, servers)

BOOST_AUTO_TEST_CASE(clients_resume_on_any_server) {
  for (int i = 0; i < 100; ++i)
    (i % 2 == 0 ? a : b)->server.room("lobby").publish(std::to_string(i));
  take(c, 100);
  take(other, 100);
  same(c.seen["lobby"], other.seen["lobby"]);
  c.vanish();
  a.reset();
  for (int i = 100; i < 120; ++i)
    b->server.room("lobby").publish(std::to_string(i));
  take(other, 20);
  c.connect(b->port(), "/r/lobby");
  BOOST_CHECK_EQUAL(c.joined().recovered, 1);
  take(c, 20);
  // And when none is left that was there before.
  c.vanish();
  other.vanish();
  b.reset();
  a = one_more();
  c.connect(a->port(), "/r/lobby");
  const auto j = c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, 0);
  a->server.room("lobby").publish("last");
  take(c, 1);
  other.connect(a->port(), "/r/lobby");
  BOOST_CHECK_EQUAL(other.joined().recovered, 1);
  take(other, 1);
  same(c.seen["lobby"], other.seen["lobby"]);
  BOOST_CHECK_EQUAL(c.seen["lobby"].size(), 121U);
  BOOST_CHECK_EQUAL(c.doubled + other.doubled, 0);
}

BOOST_AUTO_TEST_CASE(redis_restarts_beneath_them) {
  int published = 0;
  const auto publish = [&](int count) {
    for (const int end = published + count; published < end; ++published)
      (published % 2 == 0 ? a : b)->server.room("lobby").publish(std::to_string(published));
    take(c, count);
    take(other, count);
  };
  const auto connected = [&](bool yes) {
    return comes_true([&] {
      return std::all_of(brokers.begin(), brokers.end(),
                         [&](const auto &one) { return one->status().connected == yes; });
    });
  };
  for (int round = 0; round < 3; ++round) {
    publish(20);
    redis.kill();
    BOOST_REQUIRE(connected(false));
    const auto failed = a->server.room("lobby").stats().broker_failures;
    a->server.room("lobby").publish("nobody gets this");
    BOOST_REQUIRE(
        comes_true([&] { return a->server.room("lobby").stats().broker_failures == failed + 1; }));
    redis.restart();
    BOOST_REQUIRE(connected(true));
    publish(20); // some before they have subscribed again
  }
  same(c.seen["lobby"], other.seen["lobby"]);
  BOOST_CHECK_EQUAL(c.seen["lobby"].size(), 120U);
  BOOST_CHECK_EQUAL(c.doubled + other.doubled, 0);
}

BOOST_AUTO_TEST_SUITE_END()
