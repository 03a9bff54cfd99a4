// The client's half of the resume protocol against servers that are written out by hand.

#include "unit/client/scripted.hpp"

#include <chorus/client/resume_memory.hpp>

#include <boost/json/parse.hpp>

using namespace client_test;
using chorus::client;
using chorus::client_options;
using chorus::resume_mode;

namespace {

namespace json = boost::json;

client_options resuming(const listener &at) {
  auto o = eager({at.url()});
  o.resume = resume_mode::offer;
  o.session.heartbeat.ping_interval = 0ms;
  o.session.heartbeat.pong_wait = 0ms;
  return o;
}

task<peer> accept_resume(listener &at, std::string after = {}) {
  auto p = co_await at.accept();
  const auto head = co_await p.read_head();
  BOOST_TEST(peer::field(head, "Sec-WebSocket-Protocol").starts_with("chorus.v1"));
  auto answer = peer::agreement(head, "Sec-WebSocket-Protocol: chorus.v1\r\n") + after;
  co_await p.write(std::move(answer));
  co_return p;
}

task<json::object> read_header(peer &p) {
  auto text = co_await p.read_text();
  BOOST_REQUIRE(text.has_value());
  co_return json::parse(*text).as_object();
}

task<> until_close(peer &p) {
  for (;;) {
    const auto f = co_await p.read_frame();
    if (!f || f->opcode == 8)
      co_return;
  }
}

std::string joined(std::string_view rest) {
  return peer::text(R"({"t":"joined","room":"lobby")" + std::string(rest) + "}");
}
std::string published(int offset, std::string_view epoch = "e1") {
  return peer::text(R"({"t":"msg","room":"lobby","epoch":")" + std::string(epoch) +
                    R"(","offset":)" + std::to_string(offset) + "}\n" + std::to_string(offset));
}

void run(task<> (*body)(world &, listener &)) {
  world w;
  listener at(w);
  w.run(body(w, at));
}

task<> expect(client &c, std::string_view content) {
  const auto m = co_await c.receive();
  BOOST_REQUIRE(m.has_value());
  BOOST_TEST(m->text() == content);
}

} // namespace

BOOST_AUTO_TEST_SUITE(resume)

task<> positions(world &w, listener &at) {
  event_log log(w.rt.executor());
  auto options = resuming(at);
  options.subprotocols = {"other", "chorus.v1"};
  options.on_recovery = [&log](const chorus::recovery &r) {
    log.add(r.room + (r.recovered ? "+" : "-") + std::to_string(r.missed) + r.why);
  };
  client c(w.rt, options);
  auto p = co_await accept_resume(at, joined(R"(,"epoch":"e1","offset":17,"missed":0)"));
  const auto first = co_await read_header(p);
  BOOST_TEST(first.at("t") == "hello");
  BOOST_TEST(first.at("rooms").as_object().empty());
  const auto key = first.at("client");
  BOOST_TEST(key.as_string().size() == 32U);
  co_await c.send("hi");
  BOOST_TEST((co_await p.read_text()).value() == "{\"t\":\"msg\"}\nhi");
  auto several = peer::text("{\"t\":\"msg\"}\nto you") +
                 peer::text("{\"t\":\"msg\",\"room\":\"lobby\"}\nunkept") +
                 peer::text(R"({"t":"unknown","room":7})") + published(18) + published(19);
  co_await p.write(std::move(several));
  auto got = co_await c.receive_placed();
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->content.text() == "to you");
  BOOST_TEST(got->room.empty());
  got = co_await c.receive_placed();
  BOOST_TEST(got->content.text() == "unkept");
  BOOST_TEST(got->room == "lobby");
  BOOST_TEST(got->offset == 0U);
  got = co_await c.receive_placed();
  BOOST_TEST(got->content.text() == "18");
  BOOST_TEST(got->epoch == "e1");
  BOOST_TEST(got->offset == 18U);
  BOOST_TEST(log.all().empty());
  p.reset(); // 19 may be in the inbox, or not have been read by anybody: its position tells

  auto q = co_await accept_resume(at);
  const auto again = co_await read_header(q);
  BOOST_TEST(again.at("client") == key);
  const auto &place = again.at("rooms").at("lobby");
  BOOST_TEST(place.at("epoch") == "e1");
  const auto from = place.at("offset").as_int64();
  BOOST_TEST((from == 18 || from == 19));
  auto rest = joined(R"(,"epoch":"e1","offset":)" + std::to_string(from) +
                     R"(,"recovered":true,"missed":3)") +
              published(17) + published(18) + published(19) + published(20) + published(22);
  co_await q.write(std::move(rest));
  for (const auto *content : {"19", "20", "22"})
    co_await expect(c, content);
  BOOST_TEST(log.joined() == "lobby+3");
  const auto stats = c.stats();
  BOOST_TEST(stats.rooms_recovered == 1U);
  BOOST_TEST(stats.messages_recovered == 3U);
  BOOST_TEST(stats.messages_doubled == (from == 19 ? 3U : 2U));
  BOOST_TEST(stats.messages_received == 6U);

  // A new epoch counts from its own beginning; `left` forgets.
  auto fresh = joined(R"(,"epoch":"e2","offset":0,"recovered":false,"why":"epoch","missed":0)");
  co_await q.write(std::move(fresh));
  co_await log.wait("lobby-0epoch"); // though no message follows
  auto more = published(1, "e2") + published(1, "e2") + published(2, "e2") +
              peer::text(R"({"t":"left","room":"lobby"})");
  co_await q.write(std::move(more));
  co_await expect(c, "1");
  co_await expect(c, "2");
  BOOST_TEST(c.stats().rooms_lost == 1U);
  auto end = peer::text("{\"t\":\"msg\"}\nend");
  co_await q.write(std::move(end));
  co_await expect(c, "end");
  q.reset();
  auto r = co_await accept_resume(at);
  BOOST_TEST((co_await read_header(r)).at("rooms").as_object().empty());
}
BOOST_AUTO_TEST_CASE(positions_outlive_connections) { run(positions); }

task<> acknowledgements(world &w, listener &at) {
  client c(w.rt, resuming(at));
  std::string burst = joined(R"(,"epoch":"e1","offset":0)");
  for (int i = 1; i <= 70; ++i)
    burst += published(i);
  auto p = co_await accept_resume(at, burst);
  co_await read_header(p);
  for (const auto expected : {64, 70}) { // at once, and then within a second
    const auto ack = co_await read_header(p);
    BOOST_TEST(ack.at("t") == "ack");
    BOOST_TEST(ack.at("room") == "lobby");
    BOOST_TEST(ack.at("offset") == expected);
  }
  for (int i = 1; i <= 70; ++i)
    co_await expect(c, std::to_string(i));
}
BOOST_AUTO_TEST_CASE(what_has_arrived_is_acknowledged) { run(acknowledgements); }

task<> plain(world &w, listener &at) {
  {
    client c(w.rt, resuming(at));
    auto p = co_await at.accept_open(peer::text("{\"t\":\"msg\"}\nas it is"));
    co_await expect(c, "{\"t\":\"msg\"}\nas it is");
    co_await c.send("plain");
    BOOST_TEST((co_await p.read_text()).value() == "plain");
  }
  auto options = resuming(at);
  options.resume = resume_mode::require;
  client c(w.rt, options);
  auto p = co_await at.accept_open();
  const auto up = co_await c.connected();
  BOOST_REQUIRE(up.has_error());
  BOOST_TEST((up.error() == error::upgrade_invalid));
  BOOST_TEST((up.error().message().find("chorus.v1") != std::string::npos));
}
BOOST_AUTO_TEST_CASE(a_server_that_does_not_speak_it) { run(plain); }

task<> malformed(world &w, listener &at) {
  client c(w.rt, resuming(at));
  for (const auto *wrong :
       {"no header", "{\"t\":\"msg\"}", "{\"t\":\"msg\",\"room\":1}\nx", R"({"t":"joined"})", ""}) {
    auto p = co_await accept_resume(at, peer::text(wrong));
    co_await read_header(p);
    const auto f = co_await p.read_frame();
    BOOST_REQUIRE(f.has_value());
    BOOST_TEST(f->opcode == 8U);
    BOOST_TEST(static_cast<unsigned char>(f->payload.at(0)) * 256 +
                   static_cast<unsigned char>(f->payload.at(1)) ==
               1002);
    p.close();
  }
}
BOOST_AUTO_TEST_CASE(a_header_that_is_none_ends_the_connection) { run(malformed); }

task<> accounts(world &w, listener &at) {
  event_log log(w.rt.executor());
  auto options = resuming(at);
  options.on_disconnect = [&log](const failure &) { log.add("gone"); };
  options.on_connect = [](chorus::session &s) { s.try_send("first"); };
  client c(w.rt, options);
  auto p = co_await accept_resume(at);
  BOOST_TEST((co_await read_header(p)).at("t") == "hello");
  BOOST_TEST((co_await p.read_text()).value() == "{\"t\":\"msg\"}\nfirst");
  co_await c.connected();
  co_await c.send(std::string(std::size_t{24} << 20, 'x')); // more than the kernel takes
  co_await c.send("behind");
  co_await turns();
  p.reset();
  co_await log.wait("gone");
  // The one in `on_connect` and the large one; the hello is no message of the application.
  BOOST_TEST(c.stats().messages_unconfirmed == 2U);
  auto q = co_await accept_resume(at);
  BOOST_TEST((co_await read_header(q)).at("t") == "hello");
  BOOST_TEST((co_await q.read_text()).value() == "{\"t\":\"msg\"}\nfirst");
  BOOST_TEST((co_await q.read_text()).value() == "{\"t\":\"msg\"}\nbehind");
  co_await c.send("next");
  BOOST_TEST((co_await q.read_text()).value() == "{\"t\":\"msg\"}\nnext");
  background<result<>> closing(w.rt.executor(), c.close());
  BOOST_TEST(!(co_await q.read_text()).has_value()); // answers the close
  q.close();
  BOOST_TEST((co_await closing.get()).has_value());
  BOOST_TEST(c.stats().messages_unconfirmed == 2U);
  BOOST_TEST(c.stats().messages_sent == 3U);
}
BOOST_AUTO_TEST_CASE(what_the_protocol_sends_is_not_counted) { run(accounts); }

task<> asked_to_wait(world &w, listener &at) {
  auto options = eager({at.url()});
  options.backoff.initial = options.backoff.cap = 1h;
  client c(w.rt, options);
  auto p = co_await at.accept_open();
  const auto bye = peer::encode(8, std::string("\x03\xf4", 2) + "retry-after=0.010");
  co_await p.write(bye);
  auto q = co_await at.accept_open(peer::text("again")); // long before an hour has passed
  co_await expect(c, "again");
}
BOOST_AUTO_TEST_CASE(the_server_says_when_to_come_back) { run(asked_to_wait); }

// What is dropped while this side closes has not been received: the position stays before it.
task<> dropped_while_closing(world &w, listener &at) {
  auto options = resuming(at);
  options.session.inbox_messages = 4;
  options.session.close_timeout = 1h;
  client c(w.rt, options);
  constexpr int count = 40;
  std::string burst = joined(R"(,"epoch":"e1","offset":0)");
  for (int i = 1; i <= count; ++i)
    burst += published(i);
  auto p = co_await accept_resume(at, burst);
  co_await read_header(p);
  while (c.stats().messages_received < 4)
    co_await turns();
  auto first = c.current();
  while (first.stats().messages_received < 8) // the session's own inbox fills, too
    co_await turns();
  first.start_close(chorus::close_code::going_away, "");
  co_await until_close(p);
  const auto bye = peer::encode(8, std::string("\x03\xe9", 2));
  co_await p.write(bye);
  std::vector<std::string> got;
  const auto take = [&]() -> task<> {
    const auto m = co_await c.receive();
    BOOST_REQUIRE(m.has_value());
    got.emplace_back(m->text());
  };
  p.close();
  while (first.state() != chorus::session_state::closed)
    co_await turns();
  for (int i = 0; i < 8; ++i) // a full inbox holds the client back
    co_await take();
  auto q = co_await accept_resume(at);
  const auto again = co_await read_header(q);
  const auto from = again.at("rooms").at("lobby").at("offset").as_int64();
  BOOST_REQUIRE(from < count);
  std::string rest =
      joined(R"(,"epoch":"e1","recovered":true,"missed":1,"offset":)" + std::to_string(from));
  for (auto i = static_cast<int>(from) + 1; i <= count; ++i)
    rest += published(i);
  co_await q.write(rest);
  while (got.size() != count)
    co_await take();
  for (int i = 0; i < count; ++i)
    BOOST_TEST(got[static_cast<std::size_t>(i)] == std::to_string(i + 1));
}
BOOST_AUTO_TEST_CASE(what_a_close_drops_comes_again) { run(dropped_while_closing); }

// Of a room whose position had no place in the hello nothing is said by the server.
task<> without_a_name(world &w, listener &at) {
  event_log log(w.rt.executor());
  auto options = resuming(at);
  options.on_recovery = [&log](const chorus::recovery &r) {
    log.add(r.room.substr(0, 5) + (r.recovered ? "+" : "-") + r.why);
  };
  client c(w.rt, options);
  const auto room = [](int i) { return "room" + std::to_string(i) + std::string(600, '.'); };
  const auto in = [&](int i, std::string_view rest) {
    return peer::text(R"({"t":"joined","room":")" + room(i) + "\"" + std::string(rest) + "}");
  };
  std::string all;
  for (int i = 0; i < 40; ++i)
    all += in(i, R"(,"epoch":"e1","offset":5)");
  auto p = co_await accept_resume(at, all);
  co_await read_header(p);
  auto last = peer::text("{\"t\":\"msg\"}\nall");
  co_await p.write(last);
  co_await expect(c, "all");
  p.reset();
  auto q = co_await accept_resume(at);
  const auto again = co_await read_header(q);
  BOOST_TEST(!again.at("rooms").as_object().contains(room(0)));
  BOOST_TEST(!again.at("rooms").as_object().contains(room(3)));
  BOOST_TEST(again.at("rooms").as_object().contains(room(39)));
  auto rest = in(0, R"(,"epoch":"e1","offset":9,"missed":0)") +
              in(1, R"(,"epoch":"e2","offset":5,"missed":0)") + in(2, "") +
              in(3, R"(,"epoch":"e1","offset":4,"missed":2)") +
              peer::text(R"({"t":"msg","room":")" + room(3) +
                         R"(","epoch":"e1","offset":5})"
                         "\ndoubled") +
              peer::text(R"({"t":"msg","room":")" + room(3) +
                         R"(","epoch":"e1","offset":6})"
                         "\nnew");
  co_await q.write(rest);
  co_await expect(c, "new");
  BOOST_TEST(log.joined() == "room0-unnamed room1-epoch room2-no_history");
  BOOST_TEST(c.stats().rooms_lost == 3U);
  BOOST_TEST(c.stats().messages_doubled == 1U);
}
BOOST_AUTO_TEST_CASE(a_gap_without_a_name_is_told) { run(without_a_name); }

// A server that sends the same message for ever must not make the client reconnect for ever.
task<> too_big(world &w, listener &at) {
  auto options = resuming(at);
  options.session.max_message = 2000;
  options.max_attempts = 0;
  client c(w.rt, options);
  const auto big = joined(R"(,"epoch":"e1","offset":0)") +
                   peer::text(R"({"t":"msg","room":"lobby","epoch":"e1","offset":1})"
                              "\n" +
                              std::string(9000, 'x'));
  for (int i = 0; i < 2; ++i) {
    auto p = co_await accept_resume(at, big);
    co_await until_close(p);
    const auto bye = peer::encode(8, std::string("\x03\xf1", 2));
    co_await p.write(bye);
  }
  const auto end = co_await c.receive();
  BOOST_TEST((end.error() == error::message_too_big));
  BOOST_TEST(end.error().message().find("max_message") != std::string::npos);
}
BOOST_AUTO_TEST_CASE(a_message_too_big_does_not_come_for_ever) { run(too_big); }

// A server can't make a client remember without end, and the latest rooms are those that count.
BOOST_AUTO_TEST_CASE(rooms_are_bounded) {
  chorus::detail::resume_memory memory("b2d0c7f3a91e4d55");
  for (int i = 0; i < 1000; ++i) {
    memory.set("kept", "e", static_cast<std::uint64_t>(i));
    memory.set("room " + std::to_string(i), "e", 1);
  }
  BOOST_TEST(memory.rooms().size() == chorus::detail::resume_memory::max_rooms);
  BOOST_TEST(memory.find("kept") != nullptr);
  BOOST_TEST(memory.find("room 999") != nullptr);
  BOOST_TEST(memory.find("room 0") == nullptr);
  const auto hello = json::parse(memory.hello());
  BOOST_TEST(hello.at("rooms").as_object().contains("kept"));
}

BOOST_AUTO_TEST_SUITE_END()
