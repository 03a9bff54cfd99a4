// Presence over servers that share an engine: who is where, told once; a server that dies; an engine
// that does not know.

#include "broker_support.hpp"
#include "presence_support.hpp"

#include <chorus/server/hub.hpp>
#include <chorus/server/server_core.hpp>

#include <set>

using namespace broker_test;

namespace {

// Rooms by name: "g…" waits an hour for those who left, "s…" a moment.
struct node : one_of {
  running loop{2};
  std::optional<chorus::server> server;

  explicit node(const std::shared_ptr<chorus::broker> &shared, std::chrono::milliseconds lease = 1h)
      : one_of(shared) {
    chorus::server_options options;
    options.broker = engine;
    options.broker_lease = lease;
    options.rooms = [](std::string_view name) {
      chorus::room_options r;
      r.presence = true;
      r.presence_grace = name[0] == 'g' ? 1h : name[0] == 's' ? 20ms : 0ms;
      r.presence_message = presence_test::brief;
      return r;
    };
    server.emplace(loop.rt(), std::move(options));
    server->route("/{room}", [this](chorus::session s, chorus::request r) {
      return visit(std::move(s), std::move(r), *server);
    });
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~node() {
    if (server)
      loop.wait(server->stop(1s));
  }
  // Dies without a word to the engine.
  void die() {
    engine->cut = true;
    server.reset();
    loop.end();
  }
  static chorus::task<> visit(chorus::session s, chorus::request r, chorus::server &srv) {
    auto seat = co_await srv.room(r.param("room"))
                    .join(s, {.user = r.query_param("name"), .data = r.query_param("data")});
    while (seat.has_value()) {
      auto m = co_await s.receive();
      if (!m)
        co_return;
      if (m->text().starts_with("["))
        seat->update(m->text());
      else
        seat->publish(*m);
    }
  }
  wire enter(const std::string &target) { return open_session(server->port(), target); }
  // Is told who is there.
  wire enter(const std::string &target, const char *everybody) {
    auto w = enter(target);
    expect(w, {everybody});
    return w;
  }
  std::string list(const char *room) {
    return presence_test::list(loop.wait(presence_test::who(server->room(room))));
  }
};

struct three {
  std::shared_ptr<chorus::broker> engine = chorus::make_memory_broker();
  node a{engine};
  node b{engine};
  node c{engine};
};

// Who know of each other.
struct ann_and_bob : three {
  wire ann = a.enter("/lobby?name=ann", "[ann]");
  wire bob = b.enter("/lobby?name=bob", "[ann,bob]");

  ann_and_bob() { expect(ann, {"+bob"}); }
};

} // namespace

BOOST_AUTO_TEST_SUITE(broker_presence)

BOOST_FIXTURE_TEST_CASE(all_see_all_and_hear_of_each_once, three) {
  auto ann = a.enter("/lobby?name=ann", "[ann]");
  auto bob = b.enter("/lobby?name=bob&data=%5B1%5D", "[ann,bob=[1]]");
  expect(ann, {"+bob=[1]"});
  auto cat = c.enter("/lobby?name=cat", "[ann,bob=[1],cat]");
  expect(ann, {"+cat"});
  expect(bob, {"+cat"});
  // The same user elsewhere, and the last word of it counts.
  auto again = c.enter("/lobby?name=ann", "[ann,bob=[1],cat]");
  again.send(text_frame("[2]"));
  for (auto *w : {&ann, &bob, &cat, &again})
    expect(*w, {"~ann=[2]"});
  again.send(text_frame("end"));
  for (auto *w : {&ann, &bob, &cat, &again})
    expect(*w, {"end"});
  BOOST_CHECK_EQUAL(a.list("lobby"), "ann=[2] bob=[1] cat ");
  node late(engine); // where nobody is
  BOOST_CHECK_EQUAL(late.list("lobby"), "ann=[2] bob=[1] cat ");
  again.close();
  bob.close();
  for (auto *w : {&ann, &cat}) {
    const auto one = w->read_frame().payload;
    if (one == "~ann") // what its other connection said is gone with it
      expect(*w, {"-bob=[1]"});
    else
      BOOST_CHECK_EQUAL(one, "-bob=[1]");
  }
  BOOST_CHECK(comes_true([&] { return b.list("lobby") == "ann cat "; }));
  BOOST_CHECK(comes_true([&] { return c.list("lobby") == "ann cat "; }));
}

BOOST_FIXTURE_TEST_CASE(anonymous_members_of_two_servers_are_two, three) {
  auto one = a.enter("/lobby", "[?]");
  auto two = b.enter("/lobby", "[?,?]");
  expect(one, {"+?"});
  two.close();
  expect(one, {"-?"});
  BOOST_CHECK_EQUAL(a.list("lobby"), "? ");
}

BOOST_FIXTURE_TEST_CASE(going_to_another_server_is_not_leaving, three) {
  auto bob = c.enter("/garden?name=bob", "[bob]");
  std::optional<wire> ann(a.enter("/garden?name=ann"));
  expect(*ann, {"[ann,bob]"});
  expect(bob, {"+ann"});
  for (auto *to : {&b, &c, &a, &b}) {
    ann.reset();
    BOOST_REQUIRE(comes_true([&] { return c.list("garden") == "ann(away) bob "; }));
    ann.emplace(to->enter("/garden?name=ann"));
    expect(*ann, {"[ann,bob]"});
    BOOST_REQUIRE(comes_true([&] { return c.list("garden") == "ann bob "; }));
  }
  ann->send(text_frame("end"));
  expect(bob, {"end"}); // and nothing before
  BOOST_CHECK(comes_true([&] { return a.engine->present("room/garden") == 2; }));
}

BOOST_FIXTURE_TEST_CASE(after_the_grace_period_it_is_told_once, three) {
  auto bob = c.enter("/short?name=bob", "[bob]");
  auto ann = a.enter("/short?name=ann");
  expect(bob, {"+ann"});
  auto also = b.enter("/short?name=ann", "[ann,bob]");
  ann.close();
  BOOST_CHECK(comes_true([&] { return a.engine->present("room/short") == 2; }));
  also.close();
  expect(bob, {"-ann"});
  bob.send(text_frame("end"));
  expect(bob, {"end"});
}

BOOST_FIXTURE_TEST_CASE(a_dead_server_takes_its_members_along, three) {
  auto ann = a.enter("/garden?name=ann", "[ann]");
  auto dan = a.enter("/garden?name=dan");
  expect(ann, {"+dan"});
  auto bob = b.enter("/garden?name=bob", "[ann,bob,dan]");
  auto cat = c.enter("/garden?name=cat");
  expect(bob, {"+cat"});
  expect(cat, {"[ann,bob,cat,dan]"});
  const auto name = a.server->node();
  a.die();
  auto dan_again = b.enter("/garden?name=dan", "[ann,bob,cat,dan]"); // before anybody knows
  BOOST_CHECK_EQUAL(c.list("garden"), "ann bob cat dan ");
  engine->renew(name, 0ms, [](const auto &) {}); // its lease is over
  for (auto *w : {&bob, &cat})
    expect(*w, {"-ann"});
  bob.send(text_frame("end"));
  for (auto *w : {&bob, &cat})
    expect(*w, {"end"});
  BOOST_CHECK_EQUAL(b.list("garden"), "bob cat dan ");
  BOOST_CHECK_EQUAL(c.list("garden"), "bob cat dan ");
}

BOOST_FIXTURE_TEST_CASE(a_live_server_that_was_given_up_says_it_again, ann_and_bob) {
  engine->renew(a.server->node(), 0ms, [](const auto &) {});
  expect(bob, {"-ann", "+ann"});
  ann.send(text_frame("end"));
  expect(ann, {"end"}); // its own view never changed
  expect(bob, {"end"});
}

BOOST_FIXTURE_TEST_CASE(what_the_engine_did_not_hear_is_told_later, ann_and_bob) {
  a.engine->fails_enter = true;
  auto dan = a.enter("/lobby?name=dan", "[ann,bob,dan]");
  expect(ann, {"+dan"});
  BOOST_CHECK(comes_true([&] { return a.engine->refused > 0; }));
  BOOST_CHECK_EQUAL(b.list("lobby"), "ann bob ");
  a.engine->fails_enter = false;
  a.engine->gap();
  expect(bob, {"+dan"});
  // What was lost on the way in is found the same way.
  b.engine->deaf = true;
  auto eve = a.enter("/lobby?name=eve", "[ann,bob,dan,eve]");
  dan.close();
  expect(eve, {"-dan"});
  b.engine->deaf = false;
  b.engine->gap();
  const std::multiset<std::string> got{bob.read_frame().payload, bob.read_frame().payload};
  BOOST_CHECK(got == (std::multiset<std::string>{"+eve", "-dan"}));
  BOOST_CHECK_EQUAL(b.list("lobby"), "ann bob eve ");
}

BOOST_AUTO_TEST_CASE(a_failure_is_mended_with_the_next_renewal) {
  auto engine = chorus::make_memory_broker();
  node a(engine, 3s);
  node b(engine, 1h);
  auto bob = b.enter("/lobby?name=bob", "[bob]");
  a.engine->fails_enter = true;
  auto ann = a.enter("/lobby?name=ann", "[ann,bob]");
  BOOST_CHECK(comes_true([&] { return a.engine->refused > 0; }));
  a.engine->fails_enter = false;
  expect(bob, {"+ann"});
}

// The lease lasts an hour, and the engine says all the time that it is there.
BOOST_FIXTURE_TEST_CASE(what_fails_for_a_moment_is_tried_again_soon, three) {
  auto bob = b.enter("/lobby?name=bob", "[bob]");
  a.engine->fails_enter = true;
  auto ann = a.enter("/lobby?name=ann", "[ann,bob]");
  BOOST_CHECK(comes_true([&] { return a.engine->refused > 0; }));
  a.engine->fails_enter = false;
  expect(bob, {"+ann"});
  a.engine->fails_leave = true;
  ann.close();
  BOOST_REQUIRE(comes_true([&] { return !a.engine->listens("room/lobby"); }));
  a.engine->fails_leave = false;
  expect(bob, {"-ann"});
}

// They were asked before the engine was back, and fail after that.
BOOST_FIXTURE_TEST_CASE(what_fails_late_is_asked_once_more, ann_and_bob) {
  a.engine->says_away = true; // so that nothing is tried by itself
  a.engine->holds_renewals = true;
  a.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return a.engine->late() == 1; }));
  a.engine->gap();
  std::promise<void> posted; // after what the gap has posted
  a.server->core()->setup()->rooms->node()->home()->post([&] { posted.set_value(); });
  posted.get_future().wait();
  a.engine->holds_renewals = false;
  const int before = a.engine->renewals;
  a.engine->fail_late();
  BOOST_CHECK(comes_true([&] { return a.engine->renewals > before; }));

  a.engine->deaf = true;
  auto cat = b.enter("/lobby?name=cat", "[ann,bob,cat]");
  a.engine->holds_members = true;
  a.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return a.engine->late() == 1; }));
  a.engine->deaf = false;
  a.engine->gap();
  BOOST_CHECK_EQUAL(a.list("lobby"), "ann bob "); // asked after what the gap has posted
  a.engine->holds_members = false;
  a.engine->fail_late();
  expect(ann, {"+cat"});
}

BOOST_FIXTURE_TEST_CASE(the_last_who_leaves_is_let_out_later, ann_and_bob) {
  a.engine->go();
  ann.close();
  BOOST_REQUIRE(comes_true([&] { return !a.engine->listens("room/lobby"); })); // the room is gone
  BOOST_CHECK_EQUAL(b.engine->present("room/lobby"), 2u);
  a.engine->come_back();
  expect(bob, {"-ann"});
  BOOST_CHECK_EQUAL(b.engine->present("room/lobby"), 1u);
}

BOOST_FIXTURE_TEST_CASE(who_has_come_back_meanwhile_stays, three) {
  auto bob = b.enter("/lobby?name=bob", "[bob]");
  auto cat = a.enter("/lobby?name=cat", "[bob,cat]");
  auto ann = a.enter("/lobby?name=ann", "[ann,bob,cat]");
  expect(bob, {"+cat", "+ann"});
  expect(cat, {"+ann"});
  a.engine->fails_leave = true;
  ann.close();
  expect(cat, {"-ann"});
  BOOST_REQUIRE(comes_true([&] { return a.engine->refused > 0; }));
  auto again = a.enter("/lobby?name=ann", "[ann,bob,cat]");
  expect(cat, {"+ann"});
  a.engine->fails_leave = false;
  // The second is asked for when what the first has brought about is done.
  for (int i = 0; i < 2; ++i) {
    const int before = a.engine->renewals;
    a.engine->gap();
    BOOST_REQUIRE(comes_true([&] { return a.engine->renewals > before; }));
  }
  again.send(text_frame("end"));
  for (auto *w : {&bob, &cat, &again})
    expect(*w, {"end"}); // and was told of nothing
  BOOST_CHECK_EQUAL(b.engine->present("room/lobby"), 3u);
}

BOOST_FIXTURE_TEST_CASE(too_many_who_left_unheard_end_the_lease_once, ann_and_bob) {
  const auto node = a.server->core()->setup()->rooms->node();
  engine->enter("room/full", {node->name(), "left", {}, 0}, 0, [](const auto &) {});
  BOOST_CHECK_EQUAL(b.engine->present("room/full"), 1u);
  a.engine->fails_leave = true;
  node->leave("room/full", "left", nullptr);
  for (std::size_t i = 0; i < chorus::detail::pending_leaves::most; ++i)
    node->leave("room/" + std::to_string(i), "somebody", nullptr);
  expect(bob, {"-ann", "+ann"}); // all is said again, and who has left is not
  BOOST_CHECK_EQUAL(b.engine->present("room/full"), 0u);
  BOOST_CHECK_EQUAL(b.list("lobby"), "ann bob ");
}

BOOST_FIXTURE_TEST_CASE(nobody_comes_in_without_the_list, three) {
  a.engine->fails_members = true;
  auto ann = a.enter("/lobby?name=ann");
  BOOST_CHECK_EQUAL(ann.read_frame().opcode, 8u);
  BOOST_CHECK_EQUAL(a.list("lobby"), ""); // what is known here
  a.engine->fails_members = false;
  auto again = a.enter("/lobby?name=ann", "[ann]");
}

BOOST_FIXTURE_TEST_CASE(a_server_that_stops_takes_its_members_out, ann_and_bob) {
  a.loop.wait(a.server->stop(1s));
  expect(bob, {"-ann"});
}

BOOST_AUTO_TEST_SUITE_END()
