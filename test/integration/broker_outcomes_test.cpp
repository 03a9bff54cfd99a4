// What becomes of messages whose engine fails, answers late, or never.

#include "broker_scripted.hpp"

#include <chorus/server/room_link.hpp>

using namespace scripted_test;

namespace {

constexpr auto refuse = chorus::away_policy::refuse;
constexpr auto buffer = chorus::away_policy::buffer;
constexpr auto degrade = chorus::away_policy::degrade;

} // namespace

BOOST_AUTO_TEST_SUITE(broker_outcomes)

// The engine fails the first at once, before the second is published, but not the second.
BOOST_AUTO_TEST_CASE(what_has_just_failed_is_not_overtaken) {
  for (const auto how :
       {chorus::error::queue_full, chorus::error::lost, chorus::error::timed_out}) {
    scripted_server t(keeping_when(buffer));
    auto c = t.member();
    int calls = 0;
    t.engine->script([&] {
      t.engine->on_publish = [&](const chorus::broker_message &m, const auto &answer) {
        if (m.room != "room/lobby" || ++calls != 1)
          return false;
        answer(chorus::failure(how, chorus::stage::none, "too much waits"));
        return true;
      };
    });
    const auto lobby = t.n.lobby();
    at_home_of(lobby, [lobby = t.n.lobby(), line = t.n.engine](auto &) mutable {
      lobby.publish("1");
      lobby.publish("2");
      line->says_away = true; // so that nothing is tried again by itself
    });
    BOOST_CHECK(t.n.waits_for(2));
    t.n.engine->says_away = false;
    t.n.engine->gap();
    expect(c, {"1", "2"});
    BOOST_CHECK_EQUAL(lobby.stats().broker_failures, 0u);
  }
}

// Of two that were with the engine it failed the first alone: that would come too late.
BOOST_AUTO_TEST_CASE(what_would_come_out_of_order_is_refused) {
  scripted_server t(keeping_when(buffer));
  auto c = t.member();
  chorus::broker::published held;
  t.engine->script([&] {
    t.engine->on_publish = [&](const chorus::broker_message &m, const auto &answer) {
      return m.room == "room/lobby" && !held ? (held = answer, true) : false;
    };
  });
  auto first = t.n.broadcast("1", 20s);
  BOOST_REQUIRE(comes_true([&] { return t.n.lobby().stats().published == 1; }));
  at_home_of(t.n.lobby(), [](auto &) {});
  t.n.publish({"2"});
  expect(c, {"2"});
  t.n.engine->says_away = true; // so that nothing is tried again by itself
  held(away_now());
  BOOST_CHECK(t.n.waits_for(1));
  t.n.engine->says_away = false;
  t.n.engine->gap();
  const auto report = first.get();
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::lost);
  BOOST_CHECK(has(report.members[0].why.message(), "took a later message"));
  t.n.publish({"3"});
  expect(c, {"3"});
}

// Of what can be read again nothing is lost, the rest is counted.
BOOST_AUTO_TEST_CASE(more_comes_than_a_busy_server_takes) {
  constexpr int count = 5000;
  for (const bool kept : {true, false}) {
    scripted_server t(keeping_when(refuse, kept ? count : 0));
    auto c = t.member();
    BOOST_REQUIRE(comes_true([&] { return t.engine->subscribed == 1; }));
    t.elsewhere("first");
    expect(c, {"first"});
    const int before = t.engine->read;
    std::promise<void> go;
    const auto home = t.n.lobby().core()->home();
    home->post([wait = go.get_future().share()] { wait.wait(); });
    for (int i = 0; i < count; ++i)
      t.elsewhere(std::to_string(i));
    go.set_value();
    const int lost = kept ? 0 : 4096;
    for (int i = lost; i < count; ++i)
      BOOST_REQUIRE_EQUAL(c.read_frame().payload, std::to_string(i));
    BOOST_CHECK_EQUAL(t.engine->read - before, kept ? 1 : 0);
    BOOST_CHECK_EQUAL(t.n.lobby().stats().refused, static_cast<unsigned>(lost));
    BOOST_CHECK_EQUAL(t.n.told("4096 messages"), !kept);
  }
}

// It has its place, and was trimmed before this server could read it, or lost with its epoch.
BOOST_AUTO_TEST_CASE(who_waits_for_what_never_comes_is_told) {
  for (const bool forgets : {false, true}) {
    scripted_server t(keeping_when(refuse, 2));
    auto c = t.member();
    for (const char *one : {"1", "2", "3"}) {
      t.n.publish({one});
      BOOST_CHECK_EQUAL(c.read_frame().payload, one);
    }
    t.n.engine->deaf = true;
    const int before = t.n.engine->published_to;
    auto outcome = t.n.broadcast("4", 0s);
    BOOST_REQUIRE(comes_true([&] { return t.n.engine->published_to == before + 1; }));
    at_home_of(t.n.lobby(), [](auto &) {}); // its answer came
    if (forgets) {
      const auto fresh = chorus::make_memory_broker();
      put(*fresh, "room/lobby", "5", t.keep, "other:5");
      t.n.engine->replace(fresh);
      expect(c, {"5"});
    } else {
      for (const char *one : {"5", "6"})
        t.elsewhere(one);
      t.n.engine->gap();
      expect(c, {"5", "6"});
    }
    BOOST_REQUIRE((outcome.wait_for(patience) == std::future_status::ready));
    const auto report = outcome.get();
    BOOST_CHECK_EQUAL(report.dropped, 1u);
    BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
    BOOST_CHECK(report.members[0].why == chorus::error::lost);
  }
}

BOOST_AUTO_TEST_CASE(what_is_read_again_is_counted) {
  scripted_server t(keeping_when(buffer));
  auto c = t.member();
  chorus::broker::published held;
  t.engine->script([&] {
    t.engine->on_publish = [&](const chorus::broker_message &m, auto &answer) {
      if (m.room == "room/lobby" && !held) {
        held = answer;
        answer = [](const auto &) {};
      }
      return false;
    };
  });
  t.n.publish({"1"}); // quicker than its answer
  expect(c, {"1"});
  held(chorus::failure(chorus::error::unconfirmed, chorus::stage::none, "nobody knows"));
  at_home_of(t.n.lobby(), [](auto &) {});
  BOOST_CHECK_EQUAL(t.n.lobby().stats().unconfirmed, 0u);
  BOOST_CHECK(!t.n.told("nobody knows"));
  t.n.engine->deaf = true;
  const int before = t.n.engine->published_to;
  t.n.publish({"2"});
  BOOST_REQUIRE(comes_true([&] { return t.n.engine->published_to == before + 1; }));
  at_home_of(t.n.lobby(), [](auto &) {}); // the engine has it
  t.elsewhere("3");
  t.n.engine->gap();
  expect(c, {"2", "3"});
  at_home_of(t.n.lobby(), [](auto &) {});
  BOOST_CHECK_EQUAL(t.n.lobby().stats().relayed, 1u);
  BOOST_CHECK_EQUAL(t.n.lobby().stats().replayed, 2u); // the own one, too
}

// What was given while it was under way, and never came, is in nobody's way later.
BOOST_AUTO_TEST_CASE(so_many_that_never_came_change_nothing) {
  constexpr int count = 4096;
  scripted_server t(keeping_when(degrade));
  auto c = t.member();
  t.elsewhere("first");
  expect(c, {"first"});
  std::vector<chorus::broker::published> held;
  t.engine->script([&] {
    t.engine->on_publish = [&](const chorus::broker_message &m, const auto &answer) {
      if (m.room == "room/lobby")
        held.push_back(answer);
      return m.room == "room/lobby";
    };
  });
  const auto asked = [&](std::size_t n) {
    return comes_true([&] {
      std::size_t now = 0;
      t.engine->script([&] { now = held.size(); });
      return now == n;
    });
  };
  for (int i = 0; i < count; ++i)
    t.n.lobby().publish(std::to_string(i));
  BOOST_REQUIRE(asked(count));
  t.n.engine->go();
  t.n.publish({"alone"});
  for (int i = 0; i < count; ++i)
    BOOST_REQUIRE_EQUAL(c.read_frame().payload, std::to_string(i));
  expect(c, {"alone"});
  for (const auto &answer : std::exchange(held, {}))
    answer(chorus::broker_position{"another", 1});
  t.n.engine->come_back();
  BOOST_REQUIRE(comes_true([&] {
    std::string now;
    at_home_of(t.n.lobby(), [&, core = t.n.lobby().core()](auto &) {
      now = core->link()->alone() ? "" : "back";
    });
    return now == "back";
  }));
  t.n.publish({"under way"});
  BOOST_REQUIRE(asked(1));
  t.n.engine->go();
  t.n.publish({"alone again"});
  expect(c, {"under way", "alone again"});
}

BOOST_AUTO_TEST_SUITE_END()
