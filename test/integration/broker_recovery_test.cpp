// What a room owes its members after its engine has failed, kept silent, or forgotten.

#include "broker_scripted.hpp"
#include "support/broker_calls.hpp"

#include <chorus/server/known_origins.hpp>
#include <chorus/server/room_link.hpp>

using namespace scripted_test;

namespace {

constexpr auto refuse = chorus::away_policy::refuse;
constexpr auto buffer = chorus::away_policy::buffer;
constexpr auto degrade = chorus::away_policy::degrade;

// One server, whose engine does what the test says. Its lease lasts an hour, so that nothing is mended
// by its renewal.
struct fixture {
  std::shared_ptr<scripted> engine = std::make_shared<scripted>();
  chorus::room_options keep;
  server_of n;

  explicit fixture(const chorus::room_options &r) : keep(r), n(engine, r) {}
  wire member() {
    auto w = n.plain();
    BOOST_REQUIRE(comes_true([&] { return n.lobby().size() == 1; }));
    if (keep.presence)
      BOOST_CHECK(has(w.read_frame().payload, "\"list\""));
    return w;
  }
  void elsewhere(const char *text, const std::string &origin) {
    put(*engine->inner(), "room/lobby", text, keep, origin);
  }
};

} // namespace

BOOST_AUTO_TEST_SUITE(broker_recovery)

// The engine is well, and has nothing more to say.
BOOST_AUTO_TEST_CASE(a_gap_that_is_told_while_a_reading_fails_is_read) {
  fixture t(keeping_when(refuse));
  auto c = t.member();
  chorus::broker::page_read held;
  t.engine->script([&] {
    t.engine->on_history = [&](const auto &, auto &answer) {
      return held ? false : (held = answer, true);
    };
  });
  const int before = t.engine->read;
  t.n.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return t.engine->read == before + 1; }));
  t.n.engine->deaf = true;
  t.elsewhere("1", "other:1");
  t.n.engine->gap();
  held(away_now());
  BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
  BOOST_CHECK(!t.n.told("history"));
}

// As often as it takes, and nothing comes that would wake the room.
BOOST_AUTO_TEST_CASE(what_failed_is_tried_again_soon) {
  for (const int step : {0, 1, 2}) {
    auto keep = keeping_when(refuse);
    keep.presence = true;
    fixture t(keep);
    auto &line = *t.n.engine;
    auto &fails = step == 0   ? line.fails_subscribe
                  : step == 1 ? line.fails_members
                              : line.fails_history;
    fails = true;
    const auto lobby = t.n.lobby();
    lobby.core()->connect();
    BOOST_REQUIRE(comes_true([&] { return line.refused > 3; }));
    fails = false;
    BOOST_CHECK(comes_true([&] { return t.engine->subscribed == 1 && t.engine->read == 1; }));
    {
      std::lock_guard lock(t.n.mutex);
      BOOST_CHECK_EQUAL(t.n.complaints.size(), 1u);
    }
    auto c = t.member();
    t.n.publish({"1"});
    BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
  }
}

// Which is against its contract.
BOOST_AUTO_TEST_CASE(an_engine_that_never_answers_is_asked_again) {
  for (const int step : {0, 1, 2}) {
    auto keep = keeping_when(refuse, step == 0 ? 0 : 100);
    keep.presence = step == 1;
    fixture t(keep);
    const auto lobby = t.n.lobby();
    at_home_of(lobby, [](auto &home) { home.use_manual_clock(); });
    std::atomic<int> taken{0};
    chorus::broker::done told;
    t.engine->script([&] {
      const auto first = [&](const auto &, auto &) { return ++taken == 1; };
      if (step == 0)
        t.engine->on_subscribe = [&](const std::string &room, auto &answer) {
          if (room != "room/lobby" || ++taken != 1)
            return false;
          told = answer;
          return true;
        };
      else if (step == 1)
        t.engine->on_members = first;
      else
        t.engine->on_history = first;
    });
    lobby.core()->connect();
    BOOST_REQUIRE(comes_true([&] { return taken == 1; }));
    at_home_of(lobby, [](auto &home) { home.advance(59s); });
    BOOST_CHECK(!t.n.told("did not answer"));
    at_home_of(lobby, [](auto &home) { home.advance(2s); });
    BOOST_CHECK(comes_true([&] { return t.n.told("did not answer within 60 s"); }));
    at_home_of(lobby, [](auto &home) { home.advance(1s); });
    BOOST_REQUIRE(comes_true([&] { return taken >= 2; }));
    if (told)
      told({}); // too late
    auto c = t.member();
    t.elsewhere("1", "other:1");
    t.elsewhere("2", "other:2");
    BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
    BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
  }
}

// As many as are kept, and as many as they may be.
BOOST_AUTO_TEST_CASE(origins_are_known_from_one_epoch_to_the_next) {
  chorus::detail::known_origins known(3);
  for (const char *one : {"a", "b", "c", "d", ""})
    known.note(one);
  BOOST_CHECK(!known.had("d")); // in the same epoch
  known.epoch_ended();
  for (const char *one : {"b", "c", "d"})
    BOOST_CHECK(known.had(one));
  for (const char *one : {"a", "e", ""})
    BOOST_CHECK(!known.had(one));
  known.note("e");
  known.note("b");
  BOOST_CHECK(known.had("d"));
  known.epoch_ended();
  for (const char *one : {"d", "e", "b"})
    BOOST_CHECK(known.had(one));
  for (const char *one : {"f", "g", "h"})
    known.note(one);
  BOOST_CHECK(!known.had("d"));
}

// The engine does not remember any more which one this server knew, and gives all from the beginning.
BOOST_AUTO_TEST_CASE(nothing_is_given_again_in_another_epoch) {
  fixture t(keeping_when(refuse));
  auto d = t.member();
  client c("b2d0c7f3a91e4d55");
  c.connect(t.n.server.port(), "/r/lobby");
  c.joined();
  t.elsewhere("1", "other:1");
  t.elsewhere("2", "other:2");
  const auto both = [&](std::initializer_list<const char *> want) {
    for (const char *one : want) {
      BOOST_CHECK_EQUAL(c.take().payload, one);
      BOOST_CHECK_EQUAL(d.read_frame().payload, one);
    }
  };
  both({"1", "2"});
  t.engine->script([&] {
    t.engine->on_history = [](chorus::broker_position &since, const auto &) {
      since.epoch = "forgotten";
      return false;
    };
  });
  t.n.engine->deaf = true;
  const auto two_epochs = [&] {
    test_support::asker ask(t.engine->inner());
    for (int i = 0; i < 2; ++i)
      BOOST_CHECK(ask.begin_epoch("room/lobby", ask.page("room/lobby")->epoch));
  };
  two_epochs();
  t.elsewhere("3", "other:3");
  t.n.engine->gap();
  const auto j = c.joined();
  BOOST_CHECK_EQUAL(j.why, "epoch");
  both({"3"});
  // Nor to who comes back, with nothing after what it had.
  two_epochs();
  t.n.engine->gap();
  BOOST_CHECK_EQUAL(c.joined().recovered, 0);
  c.vanish();
  BOOST_REQUIRE(comes_true([&] { return t.n.lobby().size() == 1; }));
  c.connect(t.n.server.port(), "/r/lobby");
  const auto back = c.joined();
  BOOST_CHECK_EQUAL(back.recovered, 1);
  BOOST_CHECK_EQUAL(back.missed, 0);
  t.n.engine->deaf = false;
  t.elsewhere("4", "other:4");
  both({"4"});
  const auto replayed = t.n.lobby().stats().replayed;
  BOOST_CHECK_EQUAL(replayed, 1u);
}

// It has lost the newest messages, and their publishers say some again, behind others.
BOOST_AUTO_TEST_CASE(what_is_published_again_in_another_epoch_is_given_once) {
  fixture t(keeping_when(refuse));
  auto d = t.member();
  client c("b2d0c7f3a91e4d55");
  c.connect(t.n.server.port(), "/r/lobby");
  c.joined();
  t.elsewhere("1", "other:1");
  t.elsewhere("2", "other:2");
  const auto both = [&](std::initializer_list<const char *> want) {
    for (const char *one : want) {
      BOOST_CHECK_EQUAL(c.take().payload, one);
      BOOST_CHECK_EQUAL(d.read_frame().payload, one);
    }
  };
  both({"1", "2"});
  const auto fresh = chorus::make_memory_broker();
  put(*fresh, "room/lobby", "3", t.keep, "other:3");
  put(*fresh, "room/lobby", "1", t.keep, "other:1");
  t.n.engine->replace(fresh);
  BOOST_CHECK_EQUAL(c.joined().offset, 0);
  both({"3"});
  BOOST_CHECK_EQUAL(c.joined().offset, 2);
  put(*fresh, "room/lobby", "2", t.keep, "other:2");
  BOOST_CHECK_EQUAL(c.joined().offset, 3);
  put(*fresh, "room/lobby", "4", t.keep, "other:4");
  both({"4"});
  BOOST_CHECK_EQUAL(c.doubled, 0);
}

BOOST_AUTO_TEST_CASE(an_engine_in_memory_knows_more_than_the_last_epoch) {
  test_support::asker ask(chorus::make_memory_broker());
  const auto keep = keeping_when(refuse);
  const auto first = ask.publish("lobby", "1", keep).value();
  for (int i = 0; i < 16; ++i)
    BOOST_CHECK(ask.begin_epoch("lobby", ask.page("lobby")->epoch));
  ask.publish("lobby", "2", keep).value();
  BOOST_CHECK_EQUAL(ask.history("lobby", first), "2 ");
  BOOST_CHECK_EQUAL(ask.history("lobby", {"another", 1}), "1 2 ");
  BOOST_CHECK(ask.begin_epoch("lobby", ask.page("lobby")->epoch));
  BOOST_CHECK_EQUAL(ask.history("lobby", first), "1 2 "); // so many are enough
}

// The engine fails the first at once, before the second is published, but not the second.
BOOST_AUTO_TEST_CASE(what_has_just_failed_is_not_overtaken) {
  for (const auto how :
       {chorus::error::queue_full, chorus::error::lost, chorus::error::timed_out}) {
    fixture t(keeping_when(buffer));
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
    at_home_of(lobby, [lobby = t.n.lobby()](auto &) mutable {
      lobby.publish("1");
      lobby.publish("2");
    });
    BOOST_CHECK(t.n.waits_for(2));
    t.n.engine->gap();
    BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
    BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
    BOOST_CHECK_EQUAL(lobby.stats().broker_failures, 0u);
  }
}

// Of two that were with the engine it failed the first alone: that would come too late.
BOOST_AUTO_TEST_CASE(what_would_come_out_of_order_is_refused) {
  fixture t(keeping_when(buffer));
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
  BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
  held(away_now());
  BOOST_CHECK(t.n.waits_for(1));
  t.n.engine->gap();
  const auto report = first.get();
  BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
  BOOST_CHECK(report.members[0].why == chorus::error::lost);
  BOOST_CHECK(has(report.members[0].why.message(), "took a later message"));
  t.n.publish({"3"});
  BOOST_CHECK_EQUAL(c.read_frame().payload, "3");
}

// Of what can be read again nothing is lost, the rest is counted.
BOOST_AUTO_TEST_CASE(more_comes_than_a_busy_server_takes) {
  constexpr int count = 5000;
  for (const bool kept : {true, false}) {
    fixture t(keeping_when(refuse, kept ? count : 0));
    auto c = t.member();
    BOOST_REQUIRE(comes_true([&] { return t.engine->subscribed == 1; }));
    t.elsewhere("first", "other:first");
    BOOST_CHECK_EQUAL(c.read_frame().payload, "first");
    const int before = t.engine->read;
    std::promise<void> go;
    const auto home = t.n.lobby().core()->home();
    home->post([wait = go.get_future().share()] { wait.wait(); });
    for (int i = 0; i < count; ++i)
      t.elsewhere(std::to_string(i).c_str(), "other:" + std::to_string(i));
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
    fixture t(keeping_when(refuse, 2));
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
      BOOST_CHECK_EQUAL(c.read_frame().payload, "5");
    } else {
      for (const char *one : {"5", "6"})
        t.elsewhere(one, std::string("other:") + one);
      t.n.engine->gap();
      BOOST_CHECK_EQUAL(c.read_frame().payload, "5");
      BOOST_CHECK_EQUAL(c.read_frame().payload, "6");
    }
    BOOST_REQUIRE((outcome.wait_for(patience) == std::future_status::ready));
    const auto report = outcome.get();
    BOOST_CHECK_EQUAL(report.dropped, 1u);
    BOOST_REQUIRE_EQUAL(report.members.size(), 1u);
    BOOST_CHECK(report.members[0].why == chorus::error::lost);
  }
}

BOOST_AUTO_TEST_CASE(what_is_read_again_is_counted) {
  fixture t(keeping_when(buffer));
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
  BOOST_CHECK_EQUAL(c.read_frame().payload, "1");
  held(chorus::failure(chorus::error::unconfirmed, chorus::stage::none, "nobody knows"));
  at_home_of(t.n.lobby(), [](auto &) {});
  BOOST_CHECK_EQUAL(t.n.lobby().stats().unconfirmed, 0u);
  BOOST_CHECK(!t.n.told("nobody knows"));
  t.n.engine->deaf = true;
  const int before = t.n.engine->published_to;
  t.n.publish({"2"});
  BOOST_REQUIRE(comes_true([&] { return t.n.engine->published_to == before + 1; }));
  t.elsewhere("3", "other:3");
  t.n.engine->gap();
  BOOST_CHECK_EQUAL(c.read_frame().payload, "2");
  BOOST_CHECK_EQUAL(c.read_frame().payload, "3");
  at_home_of(t.n.lobby(), [](auto &) {});
  BOOST_CHECK_EQUAL(t.n.lobby().stats().relayed, 1u);
  BOOST_CHECK_EQUAL(t.n.lobby().stats().replayed, 2u); // the own one, too
}

// What was given while it was under way, and never came, is in nobody's way later.
BOOST_AUTO_TEST_CASE(so_many_that_never_came_change_nothing) {
  constexpr int count = 4096;
  fixture t(keeping_when(degrade));
  auto c = t.member();
  t.elsewhere("first", "other:first");
  BOOST_CHECK_EQUAL(c.read_frame().payload, "first");
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
  BOOST_CHECK_EQUAL(c.read_frame().payload, "alone");
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
  BOOST_CHECK_EQUAL(c.read_frame().payload, "under way");
  BOOST_CHECK_EQUAL(c.read_frame().payload, "alone again");
}

BOOST_AUTO_TEST_SUITE_END()
