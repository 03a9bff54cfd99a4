// What the broker costs Redis, its bounds, and its ends.

#include "integration/redis_support.hpp"

#include <chorus/cluster/redis_scripts.hpp>

#include <atomic>

namespace {

using namespace redis_test;

struct fixture {
  redis_process redis;
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_broker, fixture)

BOOST_AUTO_TEST_CASE(a_publish_is_one_command) {
  node one(redis.unix_url());
  const auto ear = one.listen("r");
  one.publish("r", "first", keep(10)).value();
  one.publish("r", "first").value();
  redis.ask({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 100; ++i)
    one.publish("r", "kept", keep(10)).value();
  auto counts = command_counts(redis);
  BOOST_CHECK_EQUAL(counts["evalsha"], 100U);
  BOOST_CHECK_EQUAL(counts["eval"], 0U);
  BOOST_CHECK_EQUAL(counts["publish"], 100U);
  BOOST_CHECK_EQUAL(counts["xadd"], 100U);
  redis.ask({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 100; ++i)
    one.publish("r", "passing").value();
  counts = command_counts(redis);
  for (const char *other : {"config|resetstat", "config", "info", "ping"})
    counts.erase(other);
  BOOST_REQUIRE_EQUAL(counts.size(), 1U);
  BOOST_CHECK_EQUAL(counts["publish"], 100U);
  BOOST_CHECK_EQUAL(one.engine->stats().waiting, 0U);
  BOOST_CHECK_EQUAL(one.engine->stats().waiting_bytes, 0U);
  BOOST_CHECK(becomes_true([&] { return one.engine->stats().received >= 202; }));
  BOOST_CHECK_EQUAL(one.engine->stats().connects, 2U);
}

// Redis has one set of channels for all its databases.
BOOST_AUTO_TEST_CASE(databases_have_nothing_in_common) {
  node one(redis.unix_url());
  node other(redis.unix_url() + "?database=3");
  node same(redis.unix_url() + "?database=3");
  const auto ear = other.listen("r");
  one.publish("r", "not for others").value();
  one.publish("r", "nor this", keep(10)).value();
  same.publish("r", "for others").value();
  BOOST_CHECK(ear->hears("for others "));
}

BOOST_AUTO_TEST_CASE(keys_live_as_long_as_somebody_may_come_back) {
  node one(redis.unix_url());
  auto o = keep(10);
  o.history_age = 2h;
  o.history_linger = 30min;
  one.publish("long", "1", o).value();
  one.publish("short", "1", keep(10)).value();
  one.page("asked").value();
  const auto lives = [&](const char *key) { return std::stoll(redis.ask({"PTTL", key})); };
  for (const char *key : {"chorus:{long}:s", "chorus:{long}:m"}) {
    BOOST_CHECK_LE(lives(key), 9'000'000);
    BOOST_CHECK_GT(lives(key), 8'000'000);
  }
  for (const char *key : {"chorus:{short}:s", "chorus:{short}:m", "chorus:{asked}:m"}) {
    BOOST_CHECK_LE(lives(key), 3'600'000);
    BOOST_CHECK_GT(lives(key), 3'000'000);
  }
  // What a node says of a silent room to which it listens.
  redis.ask({"PEXPIRE", "chorus:{short}:s", "1000000"});
  redis.ask({"PEXPIRE", "chorus:{short}:m", "1000000"});
  redis.ask({"PEXPIRE", "chorus:{asked}:m", "1000000"});
  const auto &touch = chorus::detail::all_redis_scripts().touch.text;
  for (const char *room : {"short", "asked", "none"}) {
    const auto key = "chorus:{" + std::string(room) + "}";
    redis.ask({"EVAL", touch, "2", key + ":s", key + ":m", "3600000"});
  }
  BOOST_CHECK_GT(lives("chorus:{short}:s"), 3'000'000);
  BOOST_CHECK_GT(lives("chorus:{short}:m"), 3'000'000);
  BOOST_CHECK_GT(lives("chorus:{asked}:m"), 3'000'000);
  BOOST_CHECK_EQUAL(lives("chorus:{none}:m"), -2);
  // Nor may one end to which nothing was ever published, and that is read.
  redis.ask({"PEXPIRE", "chorus:{asked}:m", "1000000"});
  one.page("asked").value();
  BOOST_CHECK_GT(lives("chorus:{asked}:m"), 3'000'000);
}

BOOST_AUTO_TEST_CASE(large_histories_come_in_pages) {
  node one(redis.unix_url());
  auto o = keep(5000);
  o.history_bytes = 64 << 20;
  answers all;
  for (int i = 0; i < 1200; ++i)
    one.engine->publish(one.make("many", std::to_string(i), o), all.next());
  for (int i = 0; i < 40; ++i)
    one.engine->publish(one.make("large", std::string(100'000, 'x'), o), all.next());
  for (const auto &r : all.all())
    BOOST_CHECK(r.has_value());
  BOOST_CHECK_EQUAL(one.history("many"), numbers(0, 1200));
  const auto many = one.page("many").value();
  BOOST_CHECK_EQUAL(many.messages.size(), 500U);
  BOOST_CHECK(many.more);
  const auto large = one.page("large").value();
  BOOST_CHECK(large.more);
  BOOST_CHECK_LE(large.messages.size(), 11U);
  BOOST_CHECK_EQUAL(one.history("large").size(), 40U * 100'001);
}

BOOST_AUTO_TEST_CASE(too_many_calls_are_refused) {
  auto few = patient();
  few.max_waiting = 10;
  few.max_waiting_bytes = 100'000;
  few.answer_timeout = 30s;
  node one(redis.unix_url(), few);
  one.publish("r", "first", keep(100)).value();
  redis.pause();
  answers all;
  for (int i = 0; i < 50; ++i)
    one.engine->publish(one.make("r", std::to_string(i), keep(100)), all.next());
  BOOST_CHECK(becomes_true([&] { return all.answered() == 40; }));
  BOOST_CHECK_EQUAL(one.engine->stats().waiting, 10U);
  redis.resume();
  unsigned taken = 0;
  for (const auto &r : all.all()) {
    taken += r.has_value() ? 1 : 0;
    BOOST_CHECK(r.has_value() || r.error() == chorus::error::queue_full);
  }
  BOOST_CHECK_EQUAL(taken, 10U);
  BOOST_CHECK_EQUAL(one.history("r"), "first " + numbers(0, 10));
  BOOST_CHECK_EQUAL(one.engine->stats().refused, 40U);
  redis.pause();
  for (int i = 0; i < 5; ++i)
    one.engine->publish(one.make("r", std::string(40'000, 'x'), keep(100)), all.next());
  BOOST_CHECK(becomes_true([&] { return all.answered() == 3; }));
  redis.resume();
  all.all();
}

BOOST_AUTO_TEST_CASE(while_redis_is_away_calls_fail_at_once) {
  auto o = patient();
  o.look_up_timeout = 1h;
  node one(redis.unix_url(), o);
  const auto ear = one.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  one.renew("a", 1h);
  redis.kill();
  BOOST_REQUIRE(one.goes_down());
  BOOST_CHECK(!one.engine->status().why.empty());
  BOOST_CHECK(one.publish("r", "2", keep(10)).error() == chorus::error::lost);
  BOOST_CHECK(one.publish("r", "2").error() == chorus::error::lost);
  BOOST_CHECK(one.page("r").error() == chorus::error::lost);
  BOOST_CHECK(one.enter("r", "a", "1").error() == chorus::error::lost);
  BOOST_CHECK(one.leave("r", "a", "1").error() == chorus::error::lost);
  BOOST_CHECK(one.begin_epoch("r", first.epoch).error() == chorus::error::lost);
  BOOST_CHECK(one.listen("s", ear).error() == chorus::error::lost);
  BOOST_CHECK(test_support::asker::answer_of<bool>([&](auto a) {
                one.engine->renew("a", 1h, a);
              }).error() == chorus::error::lost);
  BOOST_CHECK(test_support::asker::answer_of<chorus::broker_members>([&](auto a) {
                one.engine->members("r", a);
              }).error() == chorus::error::lost);
  redis.restart(false);
  BOOST_REQUIRE(one.comes_up());
  BOOST_CHECK(becomes_true([&] { return ear->gaps() == 1; }));
  one.publish("s", "not heard").value();
  one.publish("r", "3", keep(10)).value();
  BOOST_CHECK(ear->hears("1 3 "));
  BOOST_CHECK(becomes_true([&] { return one.engine->stats().disconnects >= 2; }));
}

BOOST_AUTO_TEST_CASE(all_calls_are_answered_when_the_runtime_ends) {
  auto one = std::make_unique<node>(redis.unix_url());
  const auto ear = one->listen("r");
  one->publish("r", "1", keep(10)).value();
  one->renew("a", 1h);
  redis.pause();
  answers all;
  std::atomic<int> others{0};
  std::atomic<int> fine{0};
  const auto done = [&](const auto &r) {
    ++others;
    // The first ones may have been quicker.
    fine += r.has_value() || r.error() == chorus::error::shut_down ? 1 : 0;
  };
  for (int i = 0; i < 100; ++i) {
    one->engine->publish(one->make("r", "2", keep(10)), all.next());
    one->engine->publish(one->make("r", "2"), all.next());
    one->engine->subscribe("other" + std::to_string(i), ear, done);
    one->engine->history("r", {}, done);
    one->engine->enter("r", {"a", std::to_string(i), "", 0}, 0, done);
    one->engine->leave("r", "a", std::to_string(i), done);
    one->engine->members("r", done);
    one->engine->renew("a", 1h, done);
    one->engine->begin_epoch("r", "e", done);
  }
  one->stop();
  redis.resume();
  std::size_t shut = 0;
  for (const auto &r : all.all()) {
    shut += r.has_error() ? 1 : 0;
    BOOST_CHECK_MESSAGE(r.has_value() || r.error() == chorus::error::shut_down,
                        r.error().message());
  }
  BOOST_CHECK_GT(shut, 100U);
  BOOST_CHECK_EQUAL(others, 700);
  BOOST_CHECK_EQUAL(fine, 700);
  BOOST_CHECK(one->publish("r", "3").error() == chorus::error::shut_down);
  BOOST_CHECK(!one->engine->status().connected);
  one.reset();
}

BOOST_AUTO_TEST_CASE(the_next_runtime_goes_on) {
  auto first = std::make_unique<node>(redis.unix_url());
  node second(redis.unix_url());
  chorus::runtime third({.threads = 1});
  std::thread thread([&] { third.run(); });
  first->engine->attach(third.executor()).value();
  const auto ear = first->listen("r");
  first->renew("a", 1h);
  first->publish("r", "1").value();
  BOOST_CHECK(ear->hears("1 "));
  first->stop();
  BOOST_CHECK(becomes_true([&] { return ear->gaps() >= 1; }));
  second.publish("r", "2").value();
  BOOST_CHECK(ear->hears("2 "));
  BOOST_CHECK(first->enter("r", "a", "1").has_value());
  BOOST_CHECK(first->publish("r", "3", keep(10)).has_value());
  BOOST_CHECK(ear->hears("+a/1 3 "));
  first.reset(); // on a foreign thread, while it works
  third.stop();
  thread.join();
}

BOOST_AUTO_TEST_CASE(what_is_wrong_is_said_by_attach) {
  chorus::runtime rt;
  const auto says = [&](const char *url, const chorus::redis_options &o, chorus::error code) {
    const auto r = chorus::redis(url, o)->attach(rt.executor());
    BOOST_REQUIRE(r.has_error());
    BOOST_CHECK_MESSAGE(r.error() == code, r.error().message());
  };
  says("http://x", {}, chorus::error::bad_url);
  chorus::redis_options o;
  o.prefix = "{x}";
  says("redis://127.0.0.1", o, chorus::error::bad_option);
  o = {};
  o.answer_timeout = 0ms;
  says("redis://127.0.0.1", o, chorus::error::bad_option);
  o = {};
  o.reconnect.factor = 0.5;
  says("redis://127.0.0.1", o, chorus::error::bad_option);
  boost::asio::io_context foreign;
  BOOST_CHECK(chorus::redis("redis://127.0.0.1")->attach(foreign.get_executor()).error() ==
              chorus::error::no_runtime);
  test_support::asker nobody(chorus::redis("redis://127.0.0.1"));
  BOOST_CHECK(nobody.publish("r", "1").error() == chorus::error::no_runtime);
  node one(redis.unix_url());
  BOOST_CHECK(one.publish("", "1").error() == chorus::error::bad_option);
  BOOST_CHECK(one.publish("}r", "1").error() == chorus::error::bad_option);
  // A runtime that never ran.
  test_support::asker idle(chorus::redis(redis.unix_url()));
  {
    chorus::runtime never;
    idle.engine->attach(never.executor()).value();
  }
  BOOST_CHECK(idle.publish("r", "1").error() == chorus::error::shut_down);
}

BOOST_AUTO_TEST_CASE(figures_that_are_asked_for_pile_nothing_up) {
  boost::asio::io_context io;
  chorus::runtime rt(io);
  const auto engine = chorus::redis(redis.unix_url());
  engine->attach(rt.executor()).value();
  BOOST_REQUIRE(becomes_true([&] {
    io.poll();
    return engine->status().connected;
  }));
  for (int i = 0; i < 1000; ++i) // while nobody runs the shard
    engine->stats();
  BOOST_CHECK_LT(io.poll(), 100U);
}

BOOST_AUTO_TEST_SUITE_END()
