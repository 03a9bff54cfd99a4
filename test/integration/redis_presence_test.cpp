// Nodes that vanish, and what comes late of them.

#include "integration/redis_support.hpp"

#include <algorithm>
#include <set>

namespace {

using namespace redis_test;

struct presence {
  redis_process redis;
};

std::size_t count(recorder &ear, bool present) {
  const auto all = ear.changes();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [&](const auto &c) { return c.present == present; }));
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_presence, presence)

BOOST_AUTO_TEST_CASE(who_was_with_a_node_that_vanished_leaves_once) {
  constexpr int rooms = 150; // more than are taken at a time
  auto one = std::make_unique<node>(redis.unix_url());
  node two(redis.unix_url());
  node three(redis.unix_url());
  const auto ear = two.listen("room0");
  for (const auto &[n, name] : {std::pair(one.get(), "a"), {&two, "b"}, {&three, "c"}})
    n->renew(name, 1h);
  for (int i = 0; i < rooms; ++i) {
    const auto room = "room" + std::to_string(i);
    one->enter(room, "a", "1", "x").value();
    one->enter(room, "a", "2").value();
    two.enter(room, "b", "3").value();
  }
  BOOST_CHECK(one->renew("a", 1ms));
  one.reset();
  // Two look for it, again and again: one finds it.
  const auto gone = [&] {
    two.renew("b", 1h);
    three.renew("c", 1h);
    for (int i = 0; i < rooms; ++i)
      if (two.list("room" + std::to_string(i)) != "b/3 ")
        return false;
    return true;
  };
  BOOST_REQUIRE(becomes_true(gone));
  BOOST_CHECK(ear->hears("+a/1=x +a/2 +b/3 -a/1 -a/2 "));
  BOOST_CHECK(becomes_true([&] { return redis.ask({"ZCARD", "chorus:{nodes}:ended"}) == "0"; }));
  BOOST_CHECK_EQUAL(redis.ask({"ZCARD", "chorus:{nodes}:leases"}), "2");
  BOOST_CHECK_EQUAL(redis.ask({"HLEN", "chorus:{nodes}:inc"}), "2");
  two.enter("room0", "b", "4").value(); // what was told last
  BOOST_CHECK(ear->hears("+b/4 "));
}

BOOST_AUTO_TEST_CASE(what_comes_late_of_a_dead_node_is_refused) {
  proxy between(redis.port());
  auto o = patient();
  o.answer_timeout = 1h;
  o.ping_interval = 1h;
  node one(between.url(), o);
  node two(redis.unix_url());
  const auto ear = two.listen("r");
  two.renew("b", 1h);
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  two.enter("other", "b", "1").value();
  BOOST_CHECK(ear->hears("+a/1 "));
  between.on_it([](auto &p) { p.stall_all(); });
  std::promise<chorus::result<>> late;
  std::promise<chorus::result<>> elsewhere;
  one.engine->enter("r", {"a", "2", "", 0}, 0, [&](auto r) { late.set_value(std::move(r)); });
  one.engine->enter("other", {"a", "3", "", 0}, 0,
                    [&](auto r) { elsewhere.set_value(std::move(r)); });
  // Its lease ends while its words are on their way.
  redis.ask({"ZADD", "chorus:{nodes}:leases", "1", "a"});
  BOOST_REQUIRE(becomes_true([&] {
    two.renew("b", 1h);
    return two.list("r").empty();
  }));
  BOOST_REQUIRE(becomes_true([&] { return redis.ask({"ZCARD", "chorus:{nodes}:ended"}) == "0"; }));
  between.on_it([](auto &p) { p.resume_all(); });
  BOOST_CHECK(late.get_future().get().error() == chorus::error::not_open);
  BOOST_CHECK(elsewhere.get_future().get().error() == chorus::error::not_open);
  BOOST_CHECK_EQUAL(two.list("r"), "");
  BOOST_CHECK_EQUAL(two.list("other"), "b/1 ");
  BOOST_CHECK(!one.renew("a", 1h)); // and now it begins anew
  one.enter("r", "a", "2").value();
  one.enter("other", "a", "3").value();
  BOOST_CHECK_EQUAL(two.list("other"), "b/1 a/3 ");
  BOOST_CHECK(ear->hears("-a/1 +a/2 "));
}

BOOST_AUTO_TEST_CASE(a_claim_that_is_left_is_taken_up) {
  node two(redis.unix_url());
  const auto ear = two.listen("r");
  two.renew("a", 1h);
  two.enter("r", "a", "1").value();
  const auto incarnation = redis.ask({"HGET", "chorus:{nodes}:inc", "a"});
  // As of one that claimed it and died in the middle, a while ago.
  redis.ask({"ZREM", "chorus:{nodes}:leases", "a"});
  redis.ask({"HDEL", "chorus:{nodes}:inc", "a"});
  redis.ask({"ZADD", "chorus:{nodes}:ended", "5", incarnation + " a"});
  node three(redis.unix_url());
  three.renew("c", 1h);
  BOOST_CHECK(ear->hears("+a/1 -a/1 "));
  BOOST_CHECK(two.enter("r", "a", "2").error() == chorus::error::not_open);
  BOOST_CHECK(!two.renew("a", 1h));
  BOOST_CHECK(two.enter("r", "a", "2").has_value());
}

BOOST_AUTO_TEST_CASE(what_was_called_last_is_done) {
  node one(redis.unix_url());
  node two(redis.unix_url());
  const auto ear = two.listen("r");
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  std::promise<bool> had;
  std::promise<bool> left;
  one.engine->leave("r", "a", "1", [&](const auto &r) { left.set_value(r.has_value()); });
  one.engine->renew("a", 0ms, [&](const auto &r) { had.set_value(r.has_value() && *r); });
  one.engine.reset();
  BOOST_CHECK(left.get_future().get());
  BOOST_CHECK(had.get_future().get());
  BOOST_CHECK(ear->hears("+a/1 -a/1 "));
}

BOOST_AUTO_TEST_CASE(a_renewal_is_one_command) {
  node one(redis.unix_url());
  one.renew("a", 1h);
  for (int i = 0; i < 200; ++i)
    one.enter("room" + std::to_string(i % 10), "a", std::to_string(i)).value();
  redis.ask({"CONFIG", "RESETSTAT"});
  for (int i = 0; i < 20; ++i)
    BOOST_CHECK(one.renew("a", 1h));
  BOOST_CHECK_EQUAL(scripts_run(redis), 20U);
  redis.ask({"CONFIG", "RESETSTAT"}); // and so is an entry, where there is one of the node already
  one.enter("room0", "a", "another").value();
  one.leave("room0", "a", "another").value();
  BOOST_CHECK_EQUAL(scripts_run(redis), 2U);
}

BOOST_AUTO_TEST_CASE(nothing_is_left_of_those_who_left) {
  node one(redis.unix_url());
  one.renew("a", 1h);
  for (int i = 0; i < 20; ++i) {
    const auto room = "user/" + std::to_string(i);
    one.enter(room, "a", "1").value();
    one.enter(room, "a", "2").value();
    BOOST_CHECK(one.enter(room, "a", "3", "", 2).error() == chorus::error::limit_reached);
    one.leave(room, "a", "1").value();
    one.leave(room, "a", "2").value();
  }
  const auto rooms = "chorus:{node/a}:rooms:" + redis.ask({"HGET", "chorus:{nodes}:inc", "a"});
  BOOST_CHECK(becomes_true([&] { return redis.ask({"SCARD", rooms}) == "0"; }));
  BOOST_CHECK_EQUAL(redis.ask({"EXISTS", "chorus:{user/1}:p"}), "0");
  BOOST_CHECK_GT(std::stoll(redis.ask({"PTTL", "chorus:{user/1}:c"})), 0);
  BOOST_CHECK_EQUAL(redis.ask({"HLEN", "chorus:{user/1}:c"}), "2");
  one.enter("user/1", "a", "1").value(); // and again
  BOOST_CHECK_EQUAL(redis.ask({"SMEMBERS", rooms}), "user/1");
  BOOST_CHECK_EQUAL(redis.ask({"PTTL", "chorus:{user/1}:c"}), "-1");
}

BOOST_AUTO_TEST_CASE(a_large_room_is_listed_and_emptied_in_parts) {
  constexpr std::size_t each = 3000;
  node one(redis.unix_url());
  node two(redis.unix_url());
  const auto ear = two.listen("r");
  one.renew("a", 1h);
  two.renew("b", 1h);
  std::atomic<std::size_t> in{0};
  for (std::size_t i = 0; i < each; ++i)
    for (const auto &[n, name] : {std::pair(&one, "a"), {&two, "b"}})
      n->engine->enter("r", {name, name + std::to_string(i), "data", 0}, 0,
                       [&](const auto &r) { in += r.has_value() ? 1 : 0; });
  BOOST_REQUIRE(becomes_true([&] { return in == 2 * each; }));
  const auto all = two.members("r");
  BOOST_REQUIRE_EQUAL(all.members.size(), 2 * each);
  BOOST_CHECK(std::is_sorted(all.members.begin(), all.members.end(),
                             [](const auto &x, const auto &y) { return x.at < y.at; }));
  std::set<std::string> ids;
  for (const auto &m : all.members)
    ids.insert(m.id);
  BOOST_CHECK_EQUAL(ids.size(), 2 * each);
  BOOST_CHECK(one.renew("a", 0ms));
  BOOST_CHECK_EQUAL(two.members("r").members.size(), each);
  BOOST_CHECK(becomes_true([&] { return count(*ear, false) >= each; }));
  BOOST_CHECK_EQUAL(count(*ear, false), each);
  BOOST_CHECK_EQUAL(count(*ear, true), 2 * each);
  const auto changes = ear->changes();
  BOOST_CHECK(std::is_sorted(changes.begin(), changes.end(), [](const auto &x, const auto &y) {
    return x.at.offset < y.at.offset;
  }));
}

BOOST_AUTO_TEST_CASE(entries_are_said_again_after_a_loss) {
  node one(redis.unix_url());
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  redis.kill();
  BOOST_REQUIRE(one.goes_down());
  redis.restart(false);
  BOOST_REQUIRE(one.comes_up());
  // Not known to have ended, here: but its rooms are registered again before anybody enters.
  BOOST_CHECK(one.enter("r", "a", "2").has_value());
  BOOST_CHECK(!one.renew("a", 1h));
  one.enter("r", "a", "1").value();
  one.enter("r", "a", "2").value();
  const auto rooms = "chorus:{node/a}:rooms:" + redis.ask({"HGET", "chorus:{nodes}:inc", "a"});
  BOOST_CHECK_EQUAL(redis.ask({"SMEMBERS", rooms}), "r");
  BOOST_CHECK(one.renew("a", 0ms));
  BOOST_CHECK_EQUAL(one.list("r"), "");
}

BOOST_AUTO_TEST_SUITE_END()
