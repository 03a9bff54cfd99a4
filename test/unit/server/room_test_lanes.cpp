// Lanes, overflow policies and times to live that a room gives to what is published in it.

#include "room_support.hpp"

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_lanes)

std::shared_ptr<hub> hub_with(shard &home, room_options (*options)(std::string_view)) {
  auto core = std::make_shared<detail::runtime_core>();
  core->shards.push_back(home.shared_from_this());
  return std::make_shared<hub>(std::move(core), detail::room_complaints(), options);
}

session_options small(overflow policy = overflow::wait) {
  auto options = quiet();
  options.on_overflow = policy;
  options.queue_bytes = 10'000;
  return options;
}

std::string big(int i, std::size_t size = 1000) {
  auto out = std::to_string(i) + " ";
  out.resize(size, '.');
  return out;
}

// A member that does not read: the message "0" is begun and stays so.
task<> block(room r, by_hand &m) {
  r.publish(big(0, 3000));
  co_await until([&] { return m.s.core()->out().blocked(); });
}

task<std::string> read_to(by_hand &m, int last) {
  std::string all;
  for (;;) {
    auto f = co_await m.peer.next();
    if (f.op != 1) {
      all += "end";
      break;
    }
    const auto number = f.payload.substr(0, f.payload.find(' '));
    all += number + " ";
    if (number == std::to_string(last))
      break;
  }
  co_return all;
}

BOOST_AUTO_TEST_CASE(lanes_order_what_one_turn_publishes) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto m = member_of(home);
    auto held = co_await seated(lobby, m.s);
    lobby.publish("1 r");
    lobby.publish("2 latest", {.key = "k", .lane = lane::latest});
    lobby.publish("3 control", {.lane = lane::control});
    lobby.publish("4 r");
    lobby.publish("5 latest", {.key = "k", .lane = lane::latest});
    const auto got = co_await read_to(m, 5);
    BOOST_CHECK_EQUAL(got, "3 1 4 5 ");
    const auto stats = lobby.stats();
    BOOST_CHECK_EQUAL(stats.dropped, 1u);
  });
}

BOOST_AUTO_TEST_CASE(a_slow_member_gets_control_first_and_the_newest_of_each_key) {
  run([](shard &home) -> task<> {
    auto rooms = make_hub(home);
    auto lobby = rooms->get("lobby");
    auto other = rooms->get("other");
    auto m = member_of(home, small(), 1000);
    auto held = co_await seated(lobby, m.s);
    auto also = co_await seated(other, m.s);
    co_await block(lobby, m);
    for (int i = 1; i <= 40; ++i) {
      lobby.publish(big(100 + i), {.key = i % 2 ? "a" : "b", .lane = lane::latest});
      if (i % 10 == 0)
        lobby.publish(big(i, 100));
      if (i % 16 == 0) {
        lobby.publish(big(200 + i, 100), {.lane = lane::control});
        co_await rounds(2);
      }
    }
    other.publish(big(301), {.key = "a", .lane = lane::latest}); // another room's key
    co_await rounds(2);
    auto report = co_await lobby.broadcast(big(141), {.deadline = 1ms, .lane = lane::latest});
    BOOST_CHECK_EQUAL(report.pending, 1u);
    const auto got = co_await read_to(m, 141);
    BOOST_CHECK_EQUAL(got, "0 216 232 10 20 30 40 139 140 301 141 ");
    const auto stats = lobby.stats();
    BOOST_CHECK_EQUAL(stats.evicted, 0u);
    BOOST_CHECK_EQUAL(stats.dropped, 38u);
  });
}

BOOST_AUTO_TEST_CASE(a_room_has_its_own_policy_for_full_queues) {
  run([](shard &home) -> task<> {
    auto rooms = hub_with(home, [](std::string_view name) {
      room_options options;
      if (name == "newest")
        options.on_overflow = overflow::drop_oldest;
      if (name == "oldest")
        options.on_overflow = overflow::drop_newest;
      if (name == "close")
        options.on_overflow = overflow::close;
      if (name == "keyed")
        options.on_overflow = overflow::latest;
      return options;
    });
    const struct {
      const char *name;
      overflow of_session;
      int last;
      const char *got;
    } expected[] = {{"newest", overflow::wait, 12, "0 6 7 8 9 10 11 12 "},
                    {"oldest", overflow::drop_oldest, 7, "0 1 2 3 4 5 6 7 "},
                    {"keyed", overflow::wait, 12, "0 11 12 "},
                    {"close", overflow::drop_newest, 12, "0 end"},
                    {"plain", overflow::wait, 12, "0 end"}};
    for (const auto &e : expected) {
      auto r = rooms->get(e.name);
      auto m = member_of(home, small(e.of_session), 1000);
      auto held = co_await seated(r, m.s);
      co_await block(r, m);
      for (int i = 1; i <= 12; ++i)
        r.publish(big(i), {.key = i % 2 ? "a" : "b"});
      co_await rounds(3);
      const auto got = co_await read_to(m, e.last);
      BOOST_CHECK_MESSAGE(got == e.got, e.name << ": " << got);
      const auto stats = r.stats();
      BOOST_CHECK_EQUAL(stats.evicted, std::string_view(e.got).ends_with("end") ? 1u : 0u);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_room_has_its_own_lane_and_time_to_live) {
  run([](shard &home) -> task<> {
    home.use_manual_clock();
    auto rooms = hub_with(home, [](std::string_view name) {
      room_options options;
      if (name == "system")
        options.lane = lane::control;
      if (name == "brief")
        options.time_to_live = 100ms;
      return options;
    });
    auto m = member_of(home, small(), 1000);
    auto plain = rooms->get("plain");
    auto system = rooms->get("system");
    auto brief = rooms->get("brief");
    auto a = co_await seated(plain, m.s);
    auto b = co_await seated(system, m.s);
    auto c = co_await seated(brief, m.s);
    co_await block(plain, m);
    plain.publish(big(1));
    brief.publish(big(2));
    brief.publish(big(3), {.time_to_live = 500ms});
    system.publish(big(4));
    system.publish(big(5), {.lane = lane::reliable});
    co_await rounds(2);
    home.advance(200ms);
    const auto got = co_await read_to(m, 5);
    BOOST_CHECK_EQUAL(got, "0 4 1 3 5 ");
    const auto stats = brief.stats();
    BOOST_CHECK_EQUAL(stats.expired, 1u);
  });
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
