// Users with several connections, messages to one session, rooms for readers of all speeds: over real
// sockets.

#include "server_support.hpp"

#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <map>
#include <vector>

using namespace server_test;

BOOST_AUTO_TEST_SUITE(server_users)

namespace {

// Sessions under the name of their query, which join the room that it names.
struct fixture {
  running loop;
  std::optional<chorus::server> server;

  explicit fixture(unsigned threads = 2, chorus::server_options options = {}) : loop(threads) {
    options.authorize = [](chorus::request r) -> chorus::task<chorus::admission> {
      co_return chorus::admission::accept(std::string(r.query_param("name")));
    };
    server.emplace(loop.rt(), std::move(options));
    server->route("/{room}", [this](chorus::session s, chorus::request r) {
      return member(std::move(s), std::move(r), *server);
    });
    const auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server->stop(10ms)); }

  // Says its id, or why it is not let in.
  static chorus::task<> member(chorus::session s, chorus::request r, chorus::server &srv) {
    auto seat = co_await srv.room(r.param("room")).join(s, {.data = r.query_param("data")});
    if (seat.has_error()) {
      const std::string why(seat.error().message());
      co_await s.send(why);
      co_return;
    }
    const auto hello = std::to_string(s.id());
    co_await s.send(hello);
    while (auto m = co_await s.receive())
      seat->publish(*m);
  }
  struct guest {
    wire w;
    chorus::session_id id = 0;
  };
  guest enter(const std::string &target, std::string_view more = {}) {
    guest g{open_session(server->port(), target, more)};
    const auto f = g.w.read_frame();
    BOOST_REQUIRE(!f.payload.empty());
    g.id = std::stoull(f.payload);
    return g;
  }
  std::string next(guest &g) { return g.w.read_frame().payload; }
};

} // namespace

BOOST_AUTO_TEST_CASE(a_user_is_reached_on_every_connection) {
  fixture f;
  auto one = f.enter("/a?name=ann");
  auto two = f.enter("/b?name=ann");
  auto three = f.enter("/c?name=ann");
  auto bob = f.enter("/a?name=bob");
  auto nobody = f.enter("/a");
  BOOST_CHECK_EQUAL(f.server->send_to_user("ann", "to ann"), 3u);
  BOOST_CHECK_EQUAL(f.server->send_to_user("bob", "to bob", {.except = bob.id}), 1u);
  BOOST_CHECK_EQUAL(f.server->send_to_user("bob", "to bob, too"), 1u);
  BOOST_CHECK_EQUAL(f.server->send_to_user("carol", "lost"), 0u);
  BOOST_CHECK_EQUAL(f.server->send_to_user("", "lost"), 0u);
  for (auto *g : {&one, &two, &three})
    BOOST_CHECK_EQUAL(f.next(*g), "to ann");
  BOOST_CHECK_EQUAL(f.next(bob), "to bob, too");
  auto asked = f.loop.wait(f.server->user("ann").broadcast("again", {.deadline = 20s}), 1);
  BOOST_CHECK_EQUAL(asked.delivered, 3u);
  BOOST_CHECK_EQUAL(f.next(one), "again");
  two.w.close();
  BOOST_CHECK(comes_true([&] { return f.server->user("ann").size() == 2; }));
  BOOST_CHECK_EQUAL(f.server->send_to_user("ann", "last"), 2u);
  BOOST_CHECK_EQUAL(f.next(one), "last");
  one.w.close();
  three.w.close();
  BOOST_CHECK(comes_true([&] { return f.server->user("ann").size() == 0; }));
  BOOST_CHECK_EQUAL(f.server->send_to_user("ann", "lost"), 0u);
  // Who joined a room is known there by that name.
  auto list = f.loop.wait(f.server->room("a").member_list());
  std::map<chorus::session_id, std::string> names;
  for (const auto &e : list)
    names[e.id] = e.user;
  BOOST_CHECK_EQUAL(names[bob.id], "bob");
  BOOST_CHECK_EQUAL(names[nobody.id], "");
  const auto all = f.loop.wait(f.server->everyone().member_list());
  BOOST_CHECK_EQUAL(all.size(), 2u);
  BOOST_CHECK_EQUAL(all[0].user + all[1].user, "bob");
}

BOOST_AUTO_TEST_CASE(a_session_is_found_and_reached_by_its_id) {
  fixture f;
  auto one = f.enter("/a?name=ann");
  auto two = f.enter("/a");
  BOOST_CHECK_EQUAL(f.server->find(one.id).id(), one.id);
  BOOST_CHECK_EQUAL(f.server->find(one.id).user(), "ann");
  auto sent = f.loop.wait(f.server->send_to(two.id, "direct"));
  BOOST_CHECK(sent.has_value());
  BOOST_CHECK_EQUAL(f.next(two), "direct");
  BOOST_CHECK(!f.server->find(0));
  BOOST_CHECK(!f.server->find(one.id + 1000));
  sent = f.loop.wait(f.server->send_to(one.id + 1000, "nobody"));
  BOOST_CHECK(sent.error() == chorus::error::not_open);
  BOOST_CHECK(has(sent.error().message(), std::to_string(one.id + 1000)));
  two.w.close();
  BOOST_CHECK(comes_true([&] { return !f.server->find(two.id); }));
  sent = f.loop.wait(f.server->send_to(two.id, "gone"));
  BOOST_CHECK(sent.error() == chorus::error::not_open);
}

BOOST_AUTO_TEST_CASE(messages_are_for_members_of_a_kind) {
  fixture f;
  auto phone = f.enter("/a?name=ann", "User-Agent: phone/1.0\r\n");
  auto desk = f.enter("/a?name=ann&data=%7B%22muted%22:true%7D", "User-Agent: desk/2\r\n");
  auto bare = f.enter("/a?name=bob");
  auto room = f.server->room("a");
  const auto by_phone = [](const chorus::member &m) { return m.user_agent().starts_with("phone"); };
  const auto muted = [](const chorus::member &m) { return m.data() == "{\"muted\":true}"; };
  room.publish("phones", {.only = by_phone});
  room.publish("muted", {.only = muted});
  room.publish("no ann", {.except_user = "ann"});
  f.server->everyone().publish("phones everywhere", {.only = by_phone});
  f.server->everyone().publish("no ann anywhere", {.except_user = "ann"});
  room.publish("end");
  f.server->everyone().publish("end of all");
  // Rooms keep order among their own messages only.
  const auto all = [&](fixture::guest &g) {
    std::vector<std::string> got;
    for (int ends = 0; ends < 2;) {
      got.push_back(f.next(g));
      BOOST_REQUIRE(!got.back().empty());
      ends += got.back().starts_with("end") ? 1 : 0;
    }
    std::sort(got.begin(), got.end());
    std::string text;
    for (const auto &one : got)
      text += one + ";";
    return text;
  };
  BOOST_CHECK_EQUAL(all(phone), "end;end of all;phones;phones everywhere;");
  BOOST_CHECK_EQUAL(all(desk), "end;end of all;muted;");
  BOOST_CHECK_EQUAL(all(bare), "end;end of all;no ann;no ann anywhere;");
}

BOOST_AUTO_TEST_CASE(joins_are_refused_with_a_sentence) {
  chorus::server_options options;
  options.join_hook = [](chorus::join_request r) -> chorus::task<chorus::result<>> {
    if (r.user.empty())
      co_return chorus::failure(chorus::error::limit_reached, chorus::stage::open,
                                "say who you are");
    co_return chorus::result<>();
  };
  fixture f(1, std::move(options));
  auto ann = f.enter("/a?name=ann");
  auto nobody = open_session(f.server->port(), "/a");
  BOOST_CHECK_EQUAL(nobody.read_frame().payload, "the join was refused: say who you are");
  BOOST_CHECK_EQUAL(nobody.read_frame().close_code(), 1000u);
  auto bad = open_session(f.server->port(), "/a?name=bob&data=%7B");
  BOOST_CHECK(has(bad.read_frame().payload, "not valid JSON"));
}

namespace {

std::string position(int key, int round) {
  std::string text = "p " + std::to_string(key) + " " + std::to_string(round) + " ";
  text.resize(16'000, '.');
  return text;
}

chorus::task<int> play(chorus::room arena, int rounds, int keys) {
  for (int i = 0; i < rounds; ++i) {
    for (int k = 0; k < keys; ++k) {
      const std::string key = std::to_string(k);
      arena.publish(position(k, i), {.key = key, .lane = chorus::lane::latest});
    }
    arena.publish("e " + std::to_string(i));
    co_await boost::asio::post(co_await boost::asio::this_coro::executor,
                               boost::asio::use_awaitable);
  }
  co_return rounds;
}

} // namespace

// One that does not read for a while: positions converge to the newest, and of what must not be lost
// nothing is.
BOOST_AUTO_TEST_CASE(a_slow_reader_loses_old_positions_and_nothing_else) {
  fixture f(1);
  auto slow = f.enter("/arena?name=slow");
  auto arena = f.server->room("arena");
  constexpr int rounds = 250;
  constexpr int keys = 10;
  BOOST_CHECK_EQUAL(f.loop.wait(play(arena, rounds, keys)), rounds);
  int next_event = 0;
  std::map<int, int> newest;
  int positions = 0;
  const auto complete = [&] {
    if (next_event != rounds || newest.size() != keys)
      return false;
    for (const auto &[key, round] : newest)
      if (round != rounds - 1)
        return false;
    return true;
  };
  while (!complete()) {
    const auto got = slow.w.read_frame();
    BOOST_REQUIRE_EQUAL(got.opcode, 1u);
    int key = 0, round = 0;
    if (std::sscanf(got.payload.c_str(), "e %d", &round) == 1) {
      BOOST_REQUIRE_EQUAL(round, next_event);
      ++next_event;
    } else {
      BOOST_REQUIRE_EQUAL(std::sscanf(got.payload.c_str(), "p %d %d", &key, &round), 2);
      if (newest.contains(key))
        BOOST_REQUIRE_GT(round, newest[key]);
      newest[key] = round;
      ++positions;
    }
  }
  const auto stats = arena.stats();
  BOOST_CHECK_GT(stats.dropped, 0u);
  BOOST_CHECK_EQUAL(stats.dropped + static_cast<unsigned>(positions),
                    static_cast<unsigned>(rounds * keys));
  BOOST_CHECK_EQUAL(stats.evicted, 0u);
  BOOST_CHECK(!slow.w.readable());
}

BOOST_AUTO_TEST_SUITE_END()
