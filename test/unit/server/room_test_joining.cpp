// What a member brings when it joins, who may, and who is meant by what is published.

#include "room_support.hpp"

#include <chorus/async/runtime.hpp>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_joining)

std::shared_ptr<hub> hub_with(shard &home, detail::make_room_options options,
                              detail::room_complaints complaints = {}) {
  auto core = std::make_shared<detail::runtime_core>();
  core->shards.push_back(home.shared_from_this());
  return std::make_shared<hub>(std::move(core), std::move(complaints), std::move(options));
}

task<seat> seated_as(room r, session s, join_options options) {
  auto joined = co_await r.join(std::move(s), options);
  BOOST_REQUIRE_MESSAGE(joined.has_value(), "join failed: " + joined.error().message());
  co_return std::move(*joined);
}

BOOST_AUTO_TEST_CASE(member_data_has_to_be_json_of_a_bounded_size) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto m = member_of(home);
    for (const std::string_view good :
         {"", "1", "null", "{\"a\":[1,2,{\"b\":\"\\u00e9\"}]}", " [] "}) {
      auto joined = co_await lobby.join(m.s, {.data = good});
      BOOST_CHECK_MESSAGE(joined.has_value(), good);
    }
    for (const std::string_view bad : {"{", "{\"a\":1}}", "nul", "'x'", " ", "\"\xff\""}) {
      auto joined = co_await lobby.join(m.s, {.data = bad});
      BOOST_CHECK_EQUAL(joined.error(), error::bad_option);
      BOOST_CHECK_NE(joined.error().message().find("not valid JSON at byte"), std::string::npos);
    }
    const std::string most = '"' + std::string(4094, 'x') + '"';
    auto fits = co_await lobby.join(m.s, {.data = most});
    BOOST_REQUIRE(fits.has_value());
    const std::string more = '"' + std::string(4095, 'x') + '"';
    auto refused = co_await lobby.join(m.s, {.data = more});
    BOOST_CHECK_EQUAL(refused.error(), error::bad_option);
    BOOST_CHECK_NE(refused.error().message().find("4097 bytes"), std::string::npos);
    const std::string name(max_user_name + 1, 'x');
    auto nameless = co_await lobby.join(m.s, {.user = name});
    BOOST_CHECK_EQUAL(nameless.error(), error::bad_option);
    auto unprintable = co_await lobby.join(m.s, {.user = "ann\xff"});
    BOOST_REQUIRE(!unprintable.has_value()); // the others would get it in a text message
    BOOST_CHECK_EQUAL(unprintable.error(), error::bad_option);
    BOOST_CHECK_EQUAL(fits->update(more).error(), error::bad_option);
    BOOST_CHECK_EQUAL(fits->update("nul").error(), error::bad_option);
    fits->leave();
    BOOST_CHECK_EQUAL(fits->update("1").error(), error::not_open);
    BOOST_CHECK_EQUAL(lobby.size(), 0u);
  });
}

BOOST_AUTO_TEST_CASE(members_are_listed_with_what_they_brought) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    auto b = member_of(home);
    const auto before = std::chrono::system_clock::now();
    auto first = co_await seated_as(lobby, a.s, {.user = "ann", .data = "{\"x\":1}"});
    auto second = co_await seated_as(lobby, b.s, {});
    auto list = co_await lobby.member_list();
    BOOST_REQUIRE_EQUAL(list.size(), 2u);
    if (list[0].id != a.s.id())
      std::swap(list[0], list[1]);
    BOOST_CHECK_EQUAL(list[0].id, a.s.id());
    BOOST_CHECK_EQUAL(list[0].user, "ann");
    BOOST_CHECK_EQUAL(list[0].data, "{\"x\":1}");
    BOOST_CHECK(list[0].joined_at >= before);
    BOOST_CHECK_EQUAL(list[1].id, b.s.id());
    BOOST_CHECK_EQUAL(list[1].user, "");
    BOOST_CHECK_EQUAL(list[1].data, "");
    const auto since = list[0].joined_at;

    BOOST_CHECK(first.update("{\"x\":2}").has_value());
    auto again = co_await seated_as(lobby, b.s, {.user = "bob"}); // a second seat: known by it now
    auto now = co_await lobby.member_list();
    BOOST_REQUIRE_EQUAL(now.size(), 2u);
    if (now[0].id != a.s.id())
      std::swap(now[0], now[1]);
    BOOST_CHECK_EQUAL(now[0].data, "{\"x\":2}");
    BOOST_CHECK(now[0].joined_at == since);
    BOOST_CHECK_EQUAL(now[1].user, "bob");
    first.leave();
    again.leave();
    auto last = co_await lobby.member_list();
    BOOST_CHECK_EQUAL(last.size(), 1u);
    a.s.abort();
    b.s.abort();
    auto none = co_await lobby.member_list();
    BOOST_CHECK_EQUAL(none.size(), 0u);
  });
}

BOOST_AUTO_TEST_CASE(messages_go_to_members_chosen_by_what_is_known_of_them) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    auto b = member_of(home);
    auto c = member_of(home);
    auto first = co_await seated_as(lobby, a.s, {.user = "ann", .data = "{\"team\":1}"});
    auto second = co_await seated_as(lobby, b.s, {.user = "bob", .data = "{\"team\":2}"});
    auto third = co_await seated_as(lobby, c.s, {.user = "ann", .data = "{\"team\":2}"});
    const auto named = [](std::string_view name) {
      return [name](const member &m) { return m.user() == name; };
    };
    const auto of_team_two = [](const member &m) { return m.data() == "{\"team\":2}"; };
    lobby.publish("anns", {.only = named("ann")});
    lobby.publish("two", {.only = of_team_two});
    lobby.publish("session", {.only = [id = b.s.id()](const session &s) { return s.id() == id; }});
    lobby.publish("old enough", {.only = [](const member &m) { return m.uptime() >= 0ns; }});
    lobby.publish("no ann", {.except_user = "ann"});
    lobby.publish("not bob", {.only = of_team_two, .except_user = "bob"});
    lobby.publish("no header", {.only = [](const member &m) { return m.user_agent().empty(); }});
    auto report = co_await lobby.broadcast("end", {.only = named("ann"), .deadline = 10s});
    BOOST_CHECK_EQUAL(report.delivered, 2u);
    co_await expect(a.peer, texts("anns", "old enough", "no header", "end"));
    co_await expect(b.peer, texts("two", "session", "old enough", "no ann", "no header"));
    co_await expect(c.peer, texts("anns", "two", "old enough", "not bob", "no header", "end"));
    BOOST_CHECK(silent(b.peer));
    auto all = rooms->everyone();
    BOOST_CHECK_EQUAL(all.size(), 0u);
  });
}

// A filter that ends the session it looks at may still look at what was known of it.
BOOST_AUTO_TEST_CASE(a_filter_may_end_its_member) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    const std::string data = '"' + std::string(1000, 'x') + '"';
    auto held = co_await seated_as(lobby, a.s, {.user = "ann", .data = data});
    static std::size_t seen;
    seen = 0;
    lobby.publish("x", {.only = [](const member &m) {
                    auto gone = m.session();
                    gone.abort();
                    seen = m.data().size() + m.user().size();
                    return true;
                  }});
    co_await rounds(3);
    BOOST_CHECK_EQUAL(seen, 1005u);
    BOOST_CHECK_EQUAL(lobby.size(), 0u);
  });
}

BOOST_AUTO_TEST_CASE(hooks_decide_who_may_join) {
  run([](shard &home) -> task<> {
    static std::string asked;
    static std::string complained;
    asked.clear();
    complained.clear();
    room_options options;
    options.on_join = [](join_request r) -> task<result<>> {
      co_await once_round();
      asked += "room:" + r.room + "," + r.user + "," + r.data + ";";
      if (r.user == "mallory")
        co_return failure(error::limit_reached, stage::open, "no place for mallory");
      if (r.user == "trudy")
        throw std::runtime_error("out of order");
      co_return result<>();
    };
    auto rooms = hub_with(
        home, [options](std::string_view) { return options; },
        [](std::string_view what, const session &) { complained = what; });
    rooms->set_on_join([](join_request r) -> task<result<>> {
      asked += "server:" + r.user + ";";
      if (r.user == "eve")
        co_return failure(error::limit_reached, stage::open, "not today");
      co_return result<>();
    });
    auto lobby = rooms->get("lobby");
    auto m = member_of(home);
    auto ann = co_await lobby.join(m.s, {.user = "ann", .data = "[1]"});
    BOOST_CHECK(ann.has_value());
    BOOST_CHECK_EQUAL(asked, "server:ann;room:lobby,ann,[1];");
    auto eve = co_await lobby.join(m.s, {.user = "eve"});
    BOOST_CHECK_EQUAL(eve.error(), error::join_refused);
    BOOST_CHECK(eve.error() == condition::refused);
    BOOST_CHECK_EQUAL(eve.error().message(), "the join was refused: not today");
    auto mallory = co_await lobby.join(m.s, {.user = "mallory"});
    BOOST_CHECK_EQUAL(mallory.error(), error::join_refused);
    BOOST_CHECK_EQUAL(mallory.error().message(), "the join was refused: no place for mallory");
    auto trudy = co_await lobby.join(m.s, {.user = "trudy"});
    BOOST_CHECK_EQUAL(trudy.error(), error::join_refused);
    BOOST_CHECK_EQUAL(complained, "A join hook of the room lobby threw out of order");
    BOOST_CHECK_EQUAL(lobby.size(), 1u);
    ann = result<seat>(error::closed);
    lobby = room();
    co_await until([&] { return rooms->size() == 0; });
  });
}

// What may happen to a join while its hook runs.
BOOST_AUTO_TEST_CASE(much_may_end_while_a_hook_runs) {
  run([](shard &home) -> task<> {
    static bool go;
    static int waiting;
    go = false;
    waiting = 0;
    room_options options;
    options.on_join = [](join_request) -> task<result<>> {
      ++waiting;
      co_await until([] { return go; });
      co_return result<>();
    };
    auto rooms = hub_with(home, [options](std::string_view) { return options; });
    auto m = member_of(home);
    auto n = member_of(home);
    running<result<seat>> ended(home, rooms->get("a").join(m.s));
    running<result<seat>> cancelled(home, rooms->get("b").join(n.s));
    running<result<seat>> kept(home, rooms->get("c").join(n.s));
    co_await until([] { return waiting == 3; });
    BOOST_CHECK_EQUAL(rooms->size(), 3u); // the joins hold them
    m.s.abort();
    cancelled.cancel();
    co_await cancelled.ended();
    BOOST_CHECK(cancelled.aborted());
    go = true;
    auto gone = co_await ended.end();
    BOOST_CHECK_EQUAL(gone.error(), error::aborted);
    auto there = co_await kept.end();
    BOOST_CHECK(there.has_value());
    BOOST_CHECK_EQUAL(rooms->get("c").size(), 1u);
    go = false;
    running<result<seat>> late(home, rooms->get("d").join(n.s));
    co_await until([] { return waiting == 4; });
    rooms->close();
    go = true;
    auto closed = co_await late.end();
    BOOST_CHECK_EQUAL(closed.error(), error::room_closed);
    there = result<seat>(error::closed);
    co_await until([&] { return rooms->size() == 0; });
  });
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
