// Presence on one shard: who is told what, and when.

#include "room_support.hpp"

#include <algorithm>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_presence)

// In few letters: "+ann", "-ann", "~ann=[1]", "[ann,bob=[2]]"; anonymous members as "?".
std::string named(const presence_entry &e) {
  return (e.user.empty() ? "?" : e.user) + (e.data.empty() ? "" : "=" + e.data);
}
message brief(const presence_event &event) {
  switch (event.what) {
  case presence_change::joined:
    return "+" + named(event.who);
  case presence_change::left:
    return "-" + named(event.who);
  case presence_change::changed:
    return "~" + named(event.who);
  case presence_change::list:
    break;
  }
  std::vector<std::string> names;
  for (const auto &e : event.everybody)
    names.push_back(named(e));
  std::sort(names.begin(), names.end());
  std::string out = "[";
  for (const auto &n : names)
    out += (out.size() > 1 ? "," : "") + n;
  return out + "]";
}

room_options present(std::chrono::milliseconds grace = 0ms) {
  room_options options;
  options.presence = true;
  options.presence_grace = grace;
  options.presence_message = brief;
  return options;
}

std::shared_ptr<hub> hub_with(shard &home, room_options options,
                              detail::room_complaints complaints = {}) {
  auto core = std::make_shared<detail::runtime_core>();
  core->shards.push_back(home.shared_from_this());
  return std::make_shared<hub>(std::move(core), std::move(complaints),
                               [options](std::string_view) { return options; });
}

task<seat> seated_as(room r, session s, join_options options) {
  auto joined = co_await r.join(std::move(s), options);
  BOOST_REQUIRE_MESSAGE(joined.has_value(), "join failed: " + joined.error().message());
  co_return std::move(*joined);
}

BOOST_AUTO_TEST_CASE(a_newcomer_gets_the_list_and_the_others_the_news) {
  run([](shard &home) -> task<> {
    auto rooms = hub_with(home, present());
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    auto b = member_of(home);
    auto c = member_of(home);
    auto ann = co_await seated_as(lobby, a.s, {.user = "ann", .data = "[1]"});
    co_await expect(a.peer, texts("[ann=[1]]"));
    auto bob = co_await seated_as(lobby, b.s, {.user = "bob"});
    co_await expect(a.peer, texts("+bob"));
    co_await expect(b.peer, texts("[ann=[1],bob]"));
    auto anonymous = co_await seated_as(lobby, c.s, {});
    co_await expect(c.peer, texts("[?,ann=[1],bob]"));
    BOOST_CHECK(bob.update("[2]").has_value());
    BOOST_CHECK(bob.update("[2]").has_value()); // no news
    co_await expect(a.peer, texts("+?", "~bob=[2]"));
    co_await expect(b.peer, texts("+?", "~bob=[2]"));
    co_await expect(c.peer, texts("~bob=[2]"));
    auto list = co_await lobby.presence();
    BOOST_CHECK_EQUAL(list.size(), 3u);
    anonymous.leave();
    b.s.abort();
    co_await expect(a.peer, texts("-?", "-bob=[2]"));
    BOOST_CHECK(silent(c.peer));
    list = co_await lobby.presence();
    BOOST_REQUIRE_EQUAL(list.size(), 1u);
    BOOST_CHECK_EQUAL(list[0].user, "ann");
    BOOST_CHECK_EQUAL(list[0].id, a.s.id());
    BOOST_CHECK_EQUAL(list[0].connections, 1u);
    // Not messages of the room as such.
    const auto stats = lobby.stats();
    BOOST_CHECK_EQUAL(stats.published, 0u);
  });
}

BOOST_AUTO_TEST_CASE(several_connections_and_seats_are_one_presence) {
  run([](shard &home) -> task<> {
    auto rooms = hub_with(home, present());
    auto lobby = rooms->get("lobby");
    auto watcher = member_of(home);
    auto one = member_of(home);
    auto two = member_of(home);
    auto w = co_await seated_as(lobby, watcher.s, {.user = "w"});
    auto first = co_await seated_as(lobby, one.s, {.user = "ann"});
    auto second = co_await seated_as(lobby, two.s, {.user = "ann", .data = "[2]"});
    auto third = co_await seated_as(lobby, two.s, {.user = "ann", .data = "[3]"});
    co_await expect(two.peer, texts("[ann=[2],w]", "~ann=[3]"));
    co_await expect(watcher.peer, texts("[w]", "+ann", "~ann=[2]", "~ann=[3]"));
    auto list = co_await lobby.presence();
    for (const auto &e : list)
      BOOST_CHECK_EQUAL(e.connections, e.user == "ann" ? 2u : 1u);
    second.leave();
    first.leave();
    third.leave();
    co_await expect(watcher.peer, texts("-ann=[3]"));
  });
}

BOOST_AUTO_TEST_CASE(who_comes_back_within_the_grace_period_has_not_left) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto rooms = hub_with(home, present(1000ms));
    auto lobby = rooms->get("lobby");
    auto watcher = member_of(home);
    auto w = co_await seated_as(lobby, watcher.s, {.user = "w"});
    co_await expect(watcher.peer, texts("[w]"));
    for (int i = 0; i < 3; ++i) {
      auto m = member_of(home);
      auto held = co_await seated_as(lobby, m.s, {.user = "ann", .data = "[1]"});
      co_await expect(m.peer, texts("[ann=[1],w]"));
      home.advance(1200ms); // whom nobody waits for any more does not leave
      co_await rounds(2);
      m.s.abort();
      co_await rounds(3);
      home.advance(900ms);
      auto list = co_await lobby.presence();
      BOOST_REQUIRE_EQUAL(list.size(), 2u);
      BOOST_CHECK_EQUAL(list[0].connections + list[1].connections, 1u);
    }
    co_await expect(watcher.peer, texts("+ann=[1]"));
    {
      auto m = member_of(home);
      auto held =
          co_await seated_as(lobby, m.s, {.user = "ann", .data = "[2]"}); // changed meanwhile
      co_await expect(watcher.peer, texts("~ann=[2]"));
    }
    co_await rounds(3);
    home.advance(900ms);
    auto n = member_of(home);
    auto other = co_await seated_as(lobby, n.s, {.user = "bob"}); // an absent one is listed
    co_await expect(n.peer, texts("[ann=[2],bob,w]"));
    home.advance(200ms);
    co_await expect(watcher.peer, texts("+bob", "-ann=[2]"));
    co_await expect(n.peer, texts("-ann=[2]"));
    // Whom nobody can know again leaves at once.
    auto m = member_of(home);
    auto anonymous = co_await seated_as(lobby, m.s, {});
    anonymous.leave();
    co_await expect(n.peer, texts("+?", "-?"));
  });
}

BOOST_AUTO_TEST_CASE(an_empty_room_stays_while_somebody_is_expected_back) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    static std::string told;
    told.clear();
    auto options = present(1000ms);
    options.on_presence = [](const presence_event &e) {
      told += std::string(to_string(e.what)) + " " + std::string(e.room) + " " + named(e.who) + ";";
    };
    auto rooms = hub_with(home, options);
    auto m = member_of(home);
    {
      auto held = co_await seated_as(rooms->get("lobby"), m.s, {.user = "ann"});
      auto also = co_await seated_as(rooms->get("other"), m.s, {});
      BOOST_CHECK_EQUAL(rooms->size(), 2u);
    }
    co_await rounds(3);
    BOOST_CHECK_EQUAL(rooms->size(), 1u);
    home.advance(900ms);
    { auto held = co_await seated_as(rooms->get("lobby"), m.s, {.user = "ann"}); }
    co_await rounds(3);
    home.advance(900ms);
    BOOST_CHECK_EQUAL(rooms->size(), 1u);
    home.advance(200ms);
    BOOST_CHECK_EQUAL(rooms->size(), 0u);
    BOOST_CHECK_EQUAL(told, "joined lobby ann;joined other ?;left other ?;left lobby ann;");
    // One that is still expected when the runtime ends is no leak (the sanitizer looks).
    auto held = co_await seated_as(rooms->get("last"), m.s, {.user = "ann"});
    m.s.abort();
    co_await rounds(3);
    BOOST_CHECK_EQUAL(rooms->size(), 1u);
  });
}

// Nothing of a newcomer's list comes again, and nothing that happened after it is missing, when
// publishes of the same turn are still to be handed out.
BOOST_AUTO_TEST_CASE(lists_and_news_of_one_turn_fit_together) {
  run([](shard &home) -> task<> {
    auto rooms = hub_with(home, present());
    auto lobby = rooms->get("lobby");
    std::vector<by_hand> members;
    std::vector<running<seat>> joins;
    constexpr int count = 12;
    static const char *const names[count] = {"a", "b", "c", "d", "e", "f",
                                             "g", "h", "i", "j", "k", "l"};
    for (int i = 0; i < count; ++i)
      members.push_back(member_of(home));
    for (int i = 0; i < count; ++i)
      joins.emplace_back(
          home, seated_as(lobby, members[static_cast<std::size_t>(i)].s, {.user = names[i]}));
    for (auto &j : joins)
      co_await j.ended();
    for (int i = 0; i < count; ++i) {
      std::vector<std::string> want{"["};
      for (int k = 0; k <= i; ++k)
        want[0] += std::string(k ? "," : "") + names[k];
      want[0] += "]";
      for (int k = i + 1; k < count; ++k)
        want.push_back(std::string("+") + names[k]);
      co_await expect(members[static_cast<std::size_t>(i)].peer, want);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_long_list_is_cut_and_says_so) {
  run([](shard &home) -> task<> {
    auto options = present();
    options.presence_list_most = 3;
    options.presence_message = [](const presence_event &e) -> message {
      if (e.what != presence_change::list)
        return message();
      const auto me = std::any_of(e.everybody.begin(), e.everybody.end(),
                                  [&](const auto &one) { return one.user == e.who.user; });
      return std::to_string(e.everybody.size()) + " of " + std::to_string(e.present) +
             (me ? "" : " without me");
    };
    auto rooms = hub_with(home, options);
    auto lobby = rooms->get("lobby");
    std::vector<by_hand> members;
    std::vector<seat> seats;
    const auto names = numbered(0, 40);
    for (int i = 0; i < 40; ++i) {
      members.push_back(member_of(home));
      const join_options as{.user = names[static_cast<std::size_t>(i)]};
      seats.push_back(co_await seated_as(lobby, members.back().s, as));
      co_await expect(members.back().peer,
                      texts(std::to_string(std::min(i + 1, 3)) + " of " + std::to_string(i + 1)));
    }
    BOOST_CHECK_EQUAL((co_await lobby.presence()).size(), 40);
  });
}

BOOST_AUTO_TEST_CASE(a_room_that_can_not_be_named_has_no_presence) {
  run([](shard &home) -> task<> {
    auto rooms = hub_with(home, present());
    auto odd = rooms->get("caf\xe9");
    auto a = member_of(home);
    const auto refused = co_await odd.join(a.s);
    BOOST_REQUIRE(!refused.has_value());
    BOOST_CHECK_EQUAL(refused.error(), error::bad_option);
  });
}

BOOST_AUTO_TEST_CASE(what_members_are_sent_by_default_is_json) {
  const presence_entry ann{.user = "a\"n", .id = 7, .data = "{\"x\":1}"};
  const presence_entry nobody{.id = 8};
  const std::vector<presence_entry> both{ann, nobody};
  presence_event event{.what = presence_change::list, .room = "lob\"by", .everybody = both};
  BOOST_CHECK_EQUAL(presence_text(event).text(),
                    R"({"type":"presence","event":"list","room":"lob\"by","members":[)"
                    R"({"user":"a\"n","id":7,"data":{"x":1}},{"user":null,"id":8,"data":null}]})");
  event.present = 3;
  BOOST_CHECK(presence_text(event).text().ends_with(R"("data":null}],"cut":true,"present":3})"));
  event = {.what = presence_change::left, .room = "x", .who = ann};
  BOOST_CHECK_EQUAL(presence_text(event).text(),
                    R"({"type":"presence","event":"left","room":"x",)"
                    R"("member":{"user":"a\"n","id":7,"data":{"x":1}}})");
}

BOOST_AUTO_TEST_CASE(user_code_that_throws_disturbs_nobody) {
  run([](shard &home) -> task<> {
    static std::vector<std::string> complaints;
    complaints.clear();
    auto options = present();
    options.presence_message = [](const presence_event &e) -> message {
      if (e.what == presence_change::joined)
        throw std::runtime_error("no words");
      return e.what == presence_change::list ? message() : brief(e);
    };
    options.on_presence = [](const presence_event &e) {
      if (e.what == presence_change::left)
        throw 1;
    };
    auto rooms = hub_with(home, options, [](std::string_view what, const session &) {
      complaints.emplace_back(what);
    });
    auto lobby = rooms->get("lobby");
    auto a = member_of(home);
    auto b = member_of(home);
    auto ann = co_await seated_as(lobby, a.s, {.user = "ann"});
    auto bob = co_await seated_as(lobby, b.s, {.user = "bob"});
    co_await rounds(3);
    b.s.abort();
    co_await expect(a.peer, texts("-bob"));
    check_equal(complaints,
                texts("The presence_message of the room lobby threw no words",
                      "The presence_message of the room lobby threw no words",
                      "The on_presence of the room lobby threw an exception of unknown type"));
  });
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
