// What a room reads again after its engine has failed, kept silent, or forgotten.

#include "broker_scripted.hpp"
#include "support/broker_calls.hpp"

#include <chorus/server/known_origins.hpp>

using namespace scripted_test;

namespace {

constexpr auto refuse = chorus::away_policy::refuse;

// A plain one and one under the resume protocol, who have the same.
struct two_members : scripted_server {
  wire d = member();
  client c{"b2d0c7f3a91e4d55"};

  two_members() : scripted_server(keeping_when(refuse)) {
    c.connect(n.server.port(), "/r/lobby");
    c.joined();
    elsewhere("1");
    elsewhere("2");
    both_read({"1", "2"});
  }
  void both_read(std::initializer_list<const char *> want) {
    for (const char *one : want) {
      BOOST_CHECK_EQUAL(c.take().payload, one);
      BOOST_CHECK_EQUAL(d.read_frame().payload, one);
    }
  }
};

} // namespace

BOOST_AUTO_TEST_SUITE(broker_recovery)

// The engine is well, and has nothing more to say.
BOOST_AUTO_TEST_CASE(a_gap_that_is_told_while_a_reading_fails_is_read) {
  scripted_server t(keeping_when(refuse));
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
  at_home_of(t.n.lobby(), [](auto &) {}); // it is held
  t.n.engine->deaf = true;
  t.elsewhere("1");
  t.n.engine->gap();
  held(away_now());
  expect(c, {"1"});
  BOOST_CHECK(!t.n.told("history"));
}

// As often as it takes, and nothing comes that would wake the room.
BOOST_AUTO_TEST_CASE(what_failed_is_tried_again_soon) {
  for (const int step : {0, 1, 2}) {
    auto keep = keeping_when(refuse);
    keep.presence = true;
    scripted_server t(keep);
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
    expect(c, {"1"});
  }
}

// Which is against its contract.
BOOST_AUTO_TEST_CASE(an_engine_that_never_answers_is_asked_again) {
  for (const int step : {0, 1, 2}) {
    auto keep = keeping_when(refuse, step == 0 ? 0 : 100);
    keep.presence = step == 1;
    scripted_server t(keep);
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
    t.elsewhere("1");
    t.elsewhere("2");
    expect(c, {"1", "2"});
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
BOOST_FIXTURE_TEST_CASE(nothing_is_given_again_in_another_epoch, two_members) {
  engine->script([&] {
    engine->on_history = [](chorus::broker_position &since, const auto &) {
      since.epoch = "forgotten";
      return false;
    };
  });
  n.engine->deaf = true;
  const auto two_epochs = [&] {
    test_support::asker ask(engine->inner());
    for (int i = 0; i < 2; ++i)
      BOOST_CHECK(ask.begin_epoch("room/lobby", ask.page("room/lobby")->epoch));
  };
  two_epochs();
  elsewhere("3");
  n.engine->gap();
  const auto j = c.joined();
  BOOST_CHECK_EQUAL(j.why, "epoch");
  both_read({"3"});
  // Nor to who comes back, with nothing after what it had.
  two_epochs();
  n.engine->gap();
  BOOST_CHECK_EQUAL(c.joined().recovered, 0);
  c.vanish();
  BOOST_REQUIRE(comes_true([&] { return n.lobby().size() == 1; }));
  c.connect(n.server.port(), "/r/lobby");
  const auto back = c.joined();
  BOOST_CHECK_EQUAL(back.recovered, 1);
  BOOST_CHECK_EQUAL(back.missed, 0);
  n.engine->deaf = false;
  elsewhere("4");
  both_read({"4"});
  const auto replayed = n.lobby().stats().replayed;
  BOOST_CHECK_EQUAL(replayed, 1u);
}

// It has lost the newest messages, and their publishers say some again, behind others.
BOOST_FIXTURE_TEST_CASE(what_is_published_again_in_another_epoch_is_given_once, two_members) {
  const auto fresh = chorus::make_memory_broker();
  put(*fresh, "room/lobby", "3", keep, "other:3");
  put(*fresh, "room/lobby", "1", keep, "other:1");
  n.engine->replace(fresh);
  BOOST_CHECK_EQUAL(c.joined().offset, 0);
  both_read({"3"});
  BOOST_CHECK_EQUAL(c.joined().offset, 2);
  put(*fresh, "room/lobby", "2", keep, "other:2");
  BOOST_CHECK_EQUAL(c.joined().offset, 3);
  put(*fresh, "room/lobby", "4", keep, "other:4");
  both_read({"4"});
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

BOOST_AUTO_TEST_SUITE_END()
