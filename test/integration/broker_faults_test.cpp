// An engine that loses messages, forgets, or does not answer: what members are told.

#include "broker_support.hpp"
#include "support/broker_calls.hpp"

#include <chorus/server/room_core.hpp>

using namespace broker_test;

namespace {

struct node : one_of {
  std::atomic<int> complaints{0};
  std::mutex mutex;
  std::string complaint;
  rooms_server server;

  node(const std::shared_ptr<chorus::broker> &shared, std::size_t keeps)
      : one_of(shared), server(sharing(keeps)) {}
  chorus::server_options sharing(std::size_t keeps) {
    auto options = keeping(keeps);
    options.broker = engine;
    options.broker_lease = 1h;
    options.on_error = [this](std::string_view what, const chorus::session *) {
      std::lock_guard lock(mutex);
      complaint = what;
      ++complaints;
    };
    return options;
  }
  std::string told() {
    std::lock_guard lock(mutex);
    return complaint;
  }
  chorus::room lobby() { return server.server.room("lobby"); }
};

chorus::task<chorus::broadcast_report> sent(chorus::room r, std::string text) {
  chorus::message m(text);
  co_return co_await r.broadcast(m, {.deadline = 20s});
}

// One publishes on `a`; those on `b` don't hear it.
struct two {
  std::shared_ptr<chorus::broker> engine = chorus::make_memory_broker();
  node a;
  node b;
  client c{"b2d0c7f3a91e4d55"};
  std::optional<wire> plain;

  explicit two(std::size_t keeps) : a(engine, keeps), b(engine, keeps) {
    c.connect(b.server.port(), "/r/lobby");
    c.joined();
    plain.emplace(wire_of(b));
    BOOST_REQUIRE(comes_true([&] { return b.lobby().size() == 2; }));
    publish("first");
    BOOST_CHECK_EQUAL(c.take().payload, "first");
    BOOST_CHECK_EQUAL(plain->read_frame().payload, "first");
  }
  static wire wire_of(node &n) { return open_session(n.server.port(), "/r/lobby"); }
  // The engine has it.
  void publish(std::string text) { a.server.loop.wait(sent(room_, std::move(text))); }
  void read(std::initializer_list<const char *> want) {
    for (const char *one : want) {
      BOOST_CHECK_EQUAL(c.take().payload, one);
      BOOST_CHECK_EQUAL(plain->read_frame().payload, one);
    }
  }

private:
  chorus::room room_ = a.lobby();
};

} // namespace

BOOST_AUTO_TEST_SUITE(broker_faults)

BOOST_AUTO_TEST_CASE(what_was_lost_on_the_way_is_read_again) {
  two t(100);
  t.b.engine->deaf = true;
  for (const char *one : {"1", "2", "3"})
    t.publish(one);
  t.b.engine->deaf = false;
  t.b.engine->gap();
  t.read({"1", "2", "3"});
  t.publish("4");
  t.read({"4"});
  t.b.engine->gap(); // for nothing
  t.publish("5");
  t.read({"5"});
  BOOST_CHECK_EQUAL(t.c.doubled, 0);
  BOOST_CHECK_EQUAL(t.b.complaints, 0);
}

// It comes from a server that was told more than this one.
BOOST_AUTO_TEST_CASE(who_is_ahead_of_a_server_waits_for_it) {
  two t(100);
  client d("cccccccccccccccc");
  d.connect(t.a.server.port(), "/r/lobby");
  d.joined();
  t.b.engine->deaf = true;
  for (const char *one : {"1", "2", "3"}) {
    t.publish(one);
    BOOST_CHECK_EQUAL(d.take().payload, one);
  }
  d.vanish();
  d.connect(t.b.server.port(), "/r/lobby");
  const auto j = d.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, 0);
  t.b.engine->deaf = false;
  t.publish("4");
  t.read({"1", "2", "3", "4"});
  BOOST_CHECK_EQUAL(d.take().payload, "4");
  BOOST_CHECK_EQUAL(d.doubled, 0);
  // A position that nobody gave is told so.
  d.vanish();
  d.positions["lobby"].offset = 1000;
  d.connect(t.b.server.port(), "/r/lobby");
  const auto ahead = d.joined();
  BOOST_CHECK_EQUAL(ahead.recovered, 0);
  BOOST_CHECK_EQUAL(ahead.why, "ahead");
}

// Nor is it told by a server that does not know of a new epoch yet that its own is the old one.
BOOST_AUTO_TEST_CASE(who_comes_from_a_new_epoch_waits_for_it) {
  two t(100);
  client d("cccccccccccccccc");
  d.connect(t.a.server.port(), "/r/lobby");
  d.joined();
  t.b.engine->deaf = true;
  test_support::asker ask(t.engine);
  BOOST_REQUIRE(ask.begin_epoch("room/lobby", ask.page("room/lobby")->epoch).has_value());
  t.a.engine->gap();
  const auto other = d.joined();
  BOOST_CHECK_EQUAL(other.recovered, 0);
  t.publish("1");
  BOOST_CHECK_EQUAL(d.take().payload, "1");
  d.vanish();
  d.connect(t.b.server.port(), "/r/lobby");
  const auto j = d.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, 0);
  BOOST_CHECK_EQUAL(j.epoch, other.epoch);
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 0);
  t.b.engine->deaf = false;
  t.publish("2");
  t.read({"1", "2"});
  BOOST_CHECK_EQUAL(d.take().payload, "2");
  BOOST_CHECK_EQUAL(d.doubled, 0);
}

// The last member goes while another one waits, in vain, for the history.
BOOST_AUTO_TEST_CASE(a_room_that_nobody_enters_after_all_is_empty) {
  const auto engine = chorus::make_memory_broker();
  struct brief : one_of {
    rooms_server server;
    explicit brief(const std::shared_ptr<chorus::broker> &shared)
        : one_of(shared), server(options()) {}
    chorus::server_options options() const {
      chorus::server_options o;
      o.broker = this->engine;
      o.broker_lease = 1h;
      o.rooms = [](std::string_view) {
        chorus::room_options r;
        r.history_messages = 10;
        r.history_linger = 1ms;
        return r;
      };
      return o;
    }
  } b(engine);
  client c("b2d0c7f3a91e4d55");
  c.connect(b.server.port(), "/r/lobby");
  c.joined();
  b.engine->holds_history = true;
  b.engine->gap();
  client d("cccccccccccccccc");
  d.connect(b.server.port(), "/r/lobby");
  BOOST_REQUIRE(comes_true([&] { return b.engine->held() == 1; }));
  const auto room = std::weak_ptr(b.server.server.room("lobby").core());
  BOOST_REQUIRE(comes_true([&] {
    const auto held = room.lock();
    std::size_t expected = 0;
    for (const auto &part : held->parts())
      expected += part->expected();
    return expected == 1;
  }));
  c.vanish();
  BOOST_REQUIRE(comes_true([&] { return room.lock()->counters().members == 0; }));
  b.engine->holds_history = false;
  b.engine->fail_held();
  BOOST_CHECK(d.next().t.empty()); // its handler ends
  BOOST_CHECK(comes_true([&] { return room.expired(); }));
}

BOOST_AUTO_TEST_CASE(who_misses_what_is_gone_is_told) {
  two t(2);
  t.b.engine->deaf = true;
  for (const char *one : {"1", "2", "3", "4", "5"})
    t.publish(one);
  t.b.engine->deaf = false;
  t.b.engine->gap();
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0);
  BOOST_CHECK_EQUAL(j.why, "trimmed");
  BOOST_CHECK_EQUAL(j.missed, 0);
  t.read({"4", "5"});
  BOOST_CHECK_EQUAL(t.c.doubled, 0);
  BOOST_CHECK_EQUAL(t.b.lobby().stats().resume.lost_trimmed, 1u);
  BOOST_CHECK(has(t.b.told(), "lost messages"));
  // Its position is one to come back with.
  t.c.vanish();
  t.publish("6");
  t.c.connect(t.a.server.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(t.c.joined().recovered, 1);
  BOOST_CHECK_EQUAL(t.c.take().payload, "6");
}

BOOST_AUTO_TEST_CASE(an_engine_that_forgot_begins_a_new_epoch) {
  two t(100);
  const auto before = t.c.positions["lobby"].epoch;
  auto fresh = chorus::make_memory_broker();
  t.a.engine->replace(fresh);
  t.b.engine->replace(fresh);
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0);
  BOOST_CHECK_EQUAL(j.why, "epoch");
  BOOST_CHECK_NE(j.epoch, before);
  t.publish("1");
  t.read({"1"});
  BOOST_CHECK_EQUAL(t.c.positions["lobby"].epoch, j.epoch);
  t.c.vanish();
  t.c.positions["lobby"].epoch = before; // one who was away meanwhile
  t.c.connect(t.a.server.port(), "/r/lobby");
  const auto late = t.c.joined();
  BOOST_CHECK_EQUAL(late.recovered, 0);
  BOOST_CHECK_EQUAL(late.why, "epoch");
}

BOOST_AUTO_TEST_CASE(messages_wait_while_the_history_does_not_answer) {
  two t(100);
  t.b.engine->deaf = true;
  t.publish("1");
  t.b.engine->deaf = false;
  t.b.engine->fails_history = true;
  t.b.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return t.b.complaints == 1; }));
  BOOST_CHECK(has(t.b.told(), "the engine is away"));
  auto late = two::wire_of(t.b); // can't be told where it begins
  BOOST_CHECK_EQUAL(late.read_frame().opcode, 8u);
  BOOST_CHECK(!t.plain->readable());
  BOOST_CHECK_GE(t.b.lobby().stats().broker_failures, 1u);
  t.b.engine->fails_history = false;
  t.publish("2"); // whatever comes asks again
  t.read({"1", "2"});
  auto again = two::wire_of(t.b);
  BOOST_REQUIRE(comes_true([&] { return t.b.lobby().size() == 3; }));
}

BOOST_AUTO_TEST_CASE(who_comes_back_to_an_engine_that_fails_keeps_its_place) {
  two t(100);
  t.c.vanish();
  t.publish("1");
  node n(t.engine, 100);
  n.engine->fails_history = true;
  t.c.open(n.server.port(), "/r/lobby");
  t.c.hello();
  BOOST_CHECK_EQUAL(t.c.next().closed, 1000u); // the handler gave up; nothing was said of the room
  n.engine->fails_history = false;
  t.c.connect(n.server.port(), "/r/lobby");
  const auto j = t.c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, 1);
  BOOST_CHECK_EQUAL(t.c.take().payload, "1");
}

BOOST_AUTO_TEST_CASE(a_publish_that_failed_can_be_tried_again) {
  two t(100);
  t.b.engine->fails_publish = true;
  auto report = t.b.server.loop.wait(sent(t.b.lobby(), "1"));
  BOOST_CHECK_EQUAL(report.dropped, 2u);
  BOOST_REQUIRE_EQUAL(report.members.size(), 2u);
  BOOST_CHECK(report.members[0].why == chorus::error::lost);
  t.b.engine->fails_publish = false;
  report = t.b.server.loop.wait(sent(t.b.lobby(), "1"));
  BOOST_CHECK_EQUAL(report.delivered, 2u);
  t.read({"1"});
  BOOST_CHECK(!t.plain->readable());
}

BOOST_AUTO_TEST_SUITE_END()
