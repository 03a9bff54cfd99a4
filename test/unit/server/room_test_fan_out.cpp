// What is published arrives once, in one order, in few writes, in every wire format.

#include "unit/server/room_support.hpp"

#include <algorithm>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_fan_out)

task<> one_write(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  const auto before = a.own->writes();
  for (int i = 0; i < 200; ++i)
    lobby.publish("m" + std::to_string(i));
  BOOST_CHECK_EQUAL(a.own->writes(), before); // not in the middle of the turn
  co_await expect(a.peer, numbered(0, 200));
  co_await expect(b.peer, numbered(0, 200));
  BOOST_CHECK_EQUAL(a.own->writes(), before + 1);
  BOOST_CHECK_EQUAL(lobby.stats().deliveries, 400);
  BOOST_CHECK_EQUAL(a.s.stats().messages_sent, 200);

  // Longer than a run may grow: more writes, but few, and nothing is lost.
  const auto text = pattern(10'000);
  auto wide = member_of(home, quiet(), 4 << 20);
  auto seat_wide = co_await seated(lobby, wide.s);
  seat_a.leave();
  seat_b.leave();
  const auto wide_before = wide.own->writes();
  for (int i = 0; i < 100; ++i)
    lobby.publish(text);
  const auto got = co_await next_texts(wide.peer, 100);
  BOOST_CHECK(got == std::vector<std::string>(100, text));
  BOOST_CHECK_LE(wide.own->writes(), wide_before + 5);
}
BOOST_AUTO_TEST_CASE(the_publishes_of_one_turn_take_one_write) { run(one_write); }

task<> own_sends(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto other = rooms->get("other");
  auto a = member_of(home);
  auto b = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  auto seat_c = co_await seated(other, a.s);
  BOOST_CHECK(a.s.try_send("m0").has_value());
  lobby.publish("m1");
  other.publish("x");
  BOOST_CHECK(a.s.try_send("m2").has_value());
  lobby.publish("m3");
  lobby.publish("m4");
  BOOST_CHECK((co_await a.s.send("m5")).has_value());
  lobby.publish("m6");
  auto got = co_await next_texts(a.peer, 8);
  std::erase(got, "x");
  check_equal(got, numbered(0, 7));
  co_await expect(b.peer, texts("m1", "m3", "m4", "m6"));

  // What was published before a close goes out before it.
  lobby.publish("last");
  a.s.start_close();
  lobby.publish("too late");
  co_await expect(a.peer, texts("last")); // then the close frame
  co_await expect(b.peer, texts("last", "too late"));
}
BOOST_AUTO_TEST_CASE(publishes_and_own_sends_keep_their_order) { run(own_sends); }

task<> in_the_middle(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home);
  auto c = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_c = co_await seated(lobby, c.s);
  lobby.publish("m0");
  lobby.publish("m1");
  detail::room_part &part = *lobby.core()->parts().front();
  part.add(b.s.core()); // a join within the turn, without the coroutine
  seat_c.leave();
  lobby.publish("m2");
  co_await expect(a.peer, numbered(0, 3));
  co_await expect(b.peer, numbered(2, 3));
  co_await expect(c.peer, numbered(0, 2));
  co_await rounds(3);
  BOOST_CHECK(silent(a.peer) && silent(b.peer) && silent(c.peer));
  part.remove(b.s.id());
  BOOST_CHECK_EQUAL(lobby.size(), 1);

  // Leaving and coming back within the turn neither repeats nor loses anything.
  lobby.publish("m3");
  seat_a.leave();
  part.add(a.s.core());
  lobby.publish("m4");
  co_await expect(a.peer, numbered(3, 5));
  co_await rounds(3);
  BOOST_CHECK(silent(a.peer));
}
BOOST_AUTO_TEST_CASE(joining_and_leaving_within_a_turn_draw_the_line_there) { run(in_the_middle); }

task<> only_some(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto a = member_of(home);
  auto b = member_of(home);
  auto c = member_of(home);
  auto seat_a = co_await seated(lobby, a.s);
  auto seat_b = co_await seated(lobby, b.s);
  auto seat_c = co_await seated(lobby, c.s);
  lobby.publish("all");
  lobby.publish("not a", {.except = a.s});
  lobby.publish("not b", {.except = b.s.id()});
  {
    const std::vector<session_id> two{a.s.id(), b.s.id()};
    lobby.publish("only c", {.except = two});
  } // the list was copied
  const auto id = b.s.id();
  lobby.publish("only b", {.only = [id](const session &s) { return s.id() == id; }});
  seat_a.publish(binary("bytes"));
  co_await expect(a.peer, texts("all", "not b", "bytes"));
  co_await expect(b.peer, texts("all", "not a", "only b", "bytes"));
  co_await expect(c.peer, texts("all", "not a", "not b", "only c", "bytes"));
  lobby.publish("t");
  lobby.publish(binary("b"));
  lobby.publish("");
  BOOST_CHECK_EQUAL((co_await a.peer.next()).op, 1);
  BOOST_CHECK_EQUAL((co_await a.peer.next()).op, 2);
  const auto empty = co_await a.peer.next();
  BOOST_CHECK_EQUAL(empty.op, 1);
  BOOST_CHECK(empty.payload.empty());
}
BOOST_AUTO_TEST_CASE(except_and_only_choose_who_gets_it) { run(only_some); }

// Two sessions, the first of which becomes a member.
struct linked {
  const char *name;
  session member;
  session other;
  bool text_only = false;
  bool raw = false;
};

std::vector<linked> every_format(shard &home, const session_options &base, std::size_t capacity) {
  std::vector<linked> all;
  const auto add = [&](const char *name, role side, std::optional<protocol::deflate_params> deflate,
                       std::optional<framing> framed) {
    auto [near, far] = transport::make_memory_pair(home, home, {.capacity = capacity});
    auto options = base;
    options.compression.threshold = 0;
    linked l{name, {}, {}};
    if (framed) {
      options.frame = *framed;
      l.member = open_framed(std::move(near), options);
      l.other = open_framed(std::move(far), options);
      l.text_only = framed == framing::lines;
      l.raw = framed == framing::raw;
    } else {
      const auto across = side == role::server ? role::client : role::server;
      l.member = open(std::move(near), side, options, deflate);
      l.other = open(std::move(far), across, options, deflate);
    }
    all.push_back(std::move(l));
  };
  protocol::deflate_params fresh;
  fresh.server_no_context_takeover = fresh.client_no_context_takeover = true;
  add("plain", role::server, {}, {});
  add("compressed", role::server, fresh, {});
  add("with context takeover", role::server, protocol::deflate_params{}, {});
  add("masked", role::client, {}, {});
  add("masked and compressed", role::client, fresh, {});
  add("length32", role::server, {}, framing::length32);
  add("lines", role::server, {}, framing::lines);
  add("raw", role::server, {}, framing::raw);
  return all;
}

task<std::string> read_bytes(session s, std::size_t count) {
  std::string all;
  while (all.size() < count) {
    auto m = co_await s.receive();
    if (m.has_error())
      break;
    all += m->text();
  }
  co_return all;
}

task<> check_received(const linked &l, const std::vector<message> &sent) {
  if (l.raw) {
    std::string want;
    for (const auto &m : sent)
      want += m.text();
    BOOST_CHECK_EQUAL(co_await read_bytes(l.other, want.size()), want);
    co_return;
  }
  for (const auto &m : sent) {
    if (l.text_only && m.text().find('\n') != std::string_view::npos)
      continue;
    session other = l.other;
    const auto got = co_await other.receive();
    BOOST_REQUIRE_MESSAGE(got.has_value(), "the connection ended before");
    BOOST_CHECK_EQUAL(got->text(), m.text());
  }
}

const std::vector<message> &samples() {
  static const std::vector<message> all{message("first"), message(""), message(pattern(130)),
                                        message("a line\nand another"), message("last")};
  return all;
}

task<> formats(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto members = every_format(home, quiet(), 64 * 1024);
  std::vector<seat> seats;
  for (const auto &m : members)
    seats.push_back(co_await seated(lobby, m.member));
  for (const auto &m : samples())
    lobby.publish(m);
  for (const auto &m : members)
    BOOST_TEST_CONTEXT(m.name) { co_await check_received(m, samples()); }
  // Alone in its turn, and as references beside other output.
  for (const auto &s : samples()) {
    lobby.publish(s);
    const std::vector<message> one{s};
    for (const auto &m : members)
      BOOST_TEST_CONTEXT(m.name) { co_await check_received(m, one); }
  }
  const auto copies = 2 * samples().size();
  const auto stats = lobby.stats();
  BOOST_CHECK_EQUAL(stats.dropped, 2); // the line feed can't go into a line
  BOOST_CHECK_EQUAL(stats.deliveries, members.size() * copies - 2);
  for (const auto &m : members)
    BOOST_TEST_CONTEXT(m.name) {
      BOOST_CHECK_EQUAL(m.member.stats().messages_sent, copies - (m.text_only ? 2 : 0));
      BOOST_CHECK(m.member.state() == session_state::open);
    }
}
BOOST_AUTO_TEST_CASE(members_of_every_wire_format_share_a_room) { run(formats); }

task<> cut_everywhere(shard &home) {
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  for (std::size_t capacity = 1; capacity < 200; ++capacity) {
    auto members = every_format(home, quiet(), capacity);
    std::vector<seat> seats;
    for (const auto &m : members)
      seats.push_back(co_await seated(lobby, m.member));
    for (const auto &m : samples())
      lobby.publish(m);
    co_await once_round(); // the run is cut after `capacity` bytes
    lobby.publish("more");
    auto sent = samples();
    sent.push_back(message("more"));
    for (const auto &m : members)
      BOOST_TEST_CONTEXT(m.name << ", " << capacity << " bytes") {
        co_await check_received(m, sent);
        BOOST_CHECK_EQUAL(m.member.stats().messages_dropped, m.text_only ? 1 : 0);
        BOOST_CHECK_EQUAL(m.member.stats().queued_bytes, 0);
        BOOST_CHECK_EQUAL(m.member.stats().queued_messages, 0);
        BOOST_CHECK_EQUAL(m.member.stats().messages_sent, sent.size() - (m.text_only ? 1 : 0));
      }
    for (const auto &m : members)
      m.member.core()->abort(failure(error::aborted));
  }
  BOOST_CHECK_EQUAL(lobby.size(), 0);
}
BOOST_AUTO_TEST_CASE(partial_writes_lose_and_repeat_nothing) { run(cut_everywhere); }

task<> bursts(shard &home) {
  // The bound of the queue is about what the kernel did not take, in every format.
  const auto rooms = make_hub(home);
  auto lobby = rooms->get("lobby");
  auto options = quiet();
  options.queue_messages = 4;
  auto members = every_format(home, options, 64 * 1024);
  std::vector<seat> seats;
  for (const auto &m : members)
    seats.push_back(co_await seated(lobby, m.member));
  std::vector<message> sent;
  for (int i = 0; i < 100; ++i) {
    sent.emplace_back("m" + std::to_string(i));
    if (i == 50)
      lobby.publish("to nobody", {.only = [](const session &) { return false; }});
    lobby.publish(sent.back());
  }
  for (const auto &m : members)
    BOOST_TEST_CONTEXT(m.name) {
      co_await check_received(m, sent);
      BOOST_CHECK_EQUAL(m.member.stats().messages_dropped, 0);
    }
  BOOST_CHECK_EQUAL(lobby.stats().evicted, 0);
}
BOOST_AUTO_TEST_CASE(a_burst_within_one_turn_evicts_nobody_who_can_take_it) { run(bursts); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
