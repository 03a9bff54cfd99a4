// The rules of docs/protocol.md as a server keeps them, seen from a raw socket.

#include "integration/resume_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/client/connect.hpp>
#include <chorus/server/room_core.hpp>

using namespace resume_test;

BOOST_AUTO_TEST_SUITE(resume_protocol)

namespace {

chorus::task<> echo_and_greet(chorus::session s, chorus::request) {
  co_await s.send("welcome");
  while (auto batch = co_await s.receive_some())
    for (const auto &m : *batch)
      (void)s.try_send(m);
}

} // namespace

BOOST_AUTO_TEST_CASE(a_handler_sees_payloads_only) {
  running loop;
  chorus::server srv(loop.rt(), {});
  srv.route("/one", echo);
  srv.route("/many", echo_and_greet);
  BOOST_REQUIRE(loop.wait(srv.start()));
  client c;
  c.connect(srv.port(), "/one");
  c.send("hello\nworld");
  auto h = c.take();
  BOOST_CHECK_EQUAL(h.t, "msg");
  BOOST_CHECK_EQUAL(h.payload, "hello\nworld");
  BOOST_CHECK(h.room.empty());
  c.send("");
  BOOST_CHECK_EQUAL(c.take().payload, "");
  c.say(" {\"x\":[{}], \"t\" : \"msg\" }\nspaced");
  BOOST_CHECK_EQUAL(c.take().payload, "spaced");
  c.raw().send(masked(2, "{\"t\":\"msg\"}\n\x01\xff"));
  h = c.take();
  BOOST_CHECK(h.binary);
  BOOST_CHECK_EQUAL(h.payload, "\x01\xff");
  c.say("{\"t\":\"something new\"}\nwith a payload");
  const std::string large(20'000, 'x'); // sent by reference where nothing is wrapped
  c.send(large);
  BOOST_CHECK_EQUAL(c.take().payload, large);

  client many;
  many.connect(srv.port(), "/many");
  BOOST_CHECK_EQUAL(many.take().payload, "welcome");
  std::string burst;
  for (int i = 0; i < 50; ++i)
    burst += masked(1, "{\"t\":\"msg\"}\n" + std::to_string(i)) +
             masked(1, "{\"t\":\"ack\",\"room\":\"none\",\"offset\":1}");
  many.raw().send(burst);
  for (int i = 0; i < 50; ++i)
    BOOST_CHECK_EQUAL(many.take().payload, std::to_string(i));
  BOOST_CHECK(comes_true([&] { return srv.stats().resume.acks == 50; })); // the last comes behind
  BOOST_CHECK_EQUAL(srv.stats().messages_received, 55);
  loop.wait(srv.stop(5s));
}

BOOST_AUTO_TEST_CASE(who_breaks_the_rules_is_closed) {
  rooms_server s(keeping(10));
  std::string rooms;
  for (int i = 0; i < 257; ++i)
    rooms += (i == 0 ? "\"" : ",\"") + std::to_string(i) + "\":{\"epoch\":\"e\",\"offset\":1}";
  struct one {
    std::vector<std::string> said;
    unsigned code;
  };
  const std::string hello = "{\"t\":\"hello\"}";
  const one ways[] = {
      {{"{\"t\":\"msg\"}\nhi"}, 1002},
      {{"{\"t\":\"ack\",\"room\":\"lobby\",\"offset\":0}"}, 1002},
      {{"hello"}, 1002},
      {{"{\"t\":\"hello\",\"client\":\"short\"}"}, 1002},
      {{"{\"t\":\"hello\"}\npayload"}, 1002},
      {{"{\"t\":\"hello\",\"rooms\":{" + rooms + "}}"}, 1008},
      {{hello, hello}, 1002},
      {{hello, "{\"t\":\"msg\"}"}, 1002},
      {{hello, "{\"t\":\"ack\",\"room\":\"lobby\"}"}, 1002},
      {{hello, "{"}, 1002},
      {{hello, "{\"t\":\"msg\",\"x\":\"" + std::string(17'000, 'x') + "\"}\nhi"}, 1002},
  };
  for (const auto &w : ways) {
    BOOST_TEST_CONTEXT(w.said.back().substr(0, 60)) {
      client c;
      c.open(s.port(), "/r/lobby");
      for (const auto &text : w.said)
        c.say(text);
      auto h = c.next();
      if (h.t == "joined")
        h = c.next();
      BOOST_CHECK_EQUAL(h.closed, w.code);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_hello_has_to_come_in_time) {
  auto options = keeping(10);
  options.handshake_timeout = 200ms;
  rooms_server s(std::move(options));
  const auto on_all = [&](auto f) {
    for (const auto &one : s.loop.rt().core()->shards) {
      event done;
      one->post([&] {
        f(*one);
        done.set();
      });
      BOOST_REQUIRE(done.wait());
    }
  };
  on_all([](auto &shard) { shard.use_manual_clock(); }); // else the handshake may be late itself
  client c;
  c.open(s.port(), "/r/lobby");
  BOOST_REQUIRE(comes_true([&] { return s.server.stats().handlers == 1; }));
  on_all([](auto &shard) { shard.advance(300ms); });
  BOOST_CHECK_EQUAL(c.next().closed, 1002);
  c.vanish();
  BOOST_CHECK(comes_true([&] { return s.server.stats().handlers == 0; }));
  // Who goes before it has said anything leaves nothing behind either.
  c.open(s.port(), "/r/lobby");
  BOOST_CHECK(comes_true([&] { return s.server.stats().handlers == 1; }));
  c.vanish();
  BOOST_CHECK(comes_true([&] { return s.server.stats().handlers == 0; }));
}

BOOST_AUTO_TEST_CASE(it_is_spoken_where_it_was_offered_and_allowed) {
  auto options = keeping(10);
  options.resume = false;
  rooms_server off(std::move(options));
  wire w(off.port());
  w.send(upgrade_request("/r/lobby", offer));
  BOOST_CHECK(!has(w.read_response(), "Sec-WebSocket-Protocol"));
  options = keeping(10);
  options.subprotocols = {"chat"};
  rooms_server on(std::move(options));
  wire both(on.port());
  both.send(upgrade_request("/r/lobby", "Sec-WebSocket-Protocol: chat, chorus.v1\r\n"));
  BOOST_CHECK(has(both.read_response(), "Sec-WebSocket-Protocol: chorus.v1\r\n"));
}

BOOST_AUTO_TEST_CASE(plain_members_see_plain_messages) {
  rooms_server s(keeping(100), 2, 2);
  client c("b2d0c7f3a91e4d55");
  c.connect(s.port(), "/r/lobby");
  c.joined();
  auto room = s.server.room("lobby");
  for (int i = 0; i < 3; ++i)
    room.publish(std::to_string(i));
  std::vector<wire> plain;
  for (int i = 0; i < 4; ++i) {
    plain.push_back(open_session(s.port(), "/r/lobby"));
    BOOST_CHECK_EQUAL(plain.back().read_frame().payload, "1"); // the newcomer's start
    BOOST_CHECK_EQUAL(plain.back().read_frame().payload, "2");
  }
  BOOST_REQUIRE(comes_true([&] { return room.size() == 5; }));
  room.publish("3");
  plain[0].send(text_frame("4"));
  for (int i = 0; i < 4; ++i) {
    auto &w = plain[static_cast<std::size_t>(i)];
    BOOST_CHECK_EQUAL(w.read_frame().payload, "3");
    if (i != 0)
      BOOST_CHECK_EQUAL(w.read_frame().payload, "4");
  }
  for (int i = 0; i < 5; ++i)
    c.take();
  same(c.seen["lobby"], numbers(0, 5));
  // What is not for everybody, or not for long, is not kept.
  const auto nobody = [](const chorus::session &) { return true; };
  room.publish("for some", {.only = nobody});
  room.publish("for now", {.time_to_live = 60s});
  auto h = c.take();
  BOOST_CHECK_EQUAL(h.payload, "for some");
  BOOST_CHECK_EQUAL(h.room, "lobby");
  BOOST_CHECK_EQUAL(h.offset, -1);
  BOOST_CHECK_EQUAL(c.take().payload, "for now");
  s.server.everyone().publish("to all");
  h = c.take();
  BOOST_CHECK_EQUAL(h.payload, "to all");
  BOOST_CHECK(h.room.empty());
  c.ack("lobby", 5);
  c.ack("elsewhere", 5);
  BOOST_CHECK(comes_true([&] { return s.server.stats().resume.acks == 2; }));
  BOOST_CHECK_EQUAL(room.stats().resume.acks, 1);
}

BOOST_AUTO_TEST_CASE(who_leaves_is_told) {
  running loop;
  chorus::server srv(loop.rt(), keeping(10));
  srv.route("/", [&](chorus::session s, chorus::request) -> chorus::task<> {
    auto one = co_await srv.room("one").join(s);
    auto two = co_await srv.room("two").join(s);
    auto third = co_await srv.room("one").join(s); // nothing new
    one->leave();
    third->leave();
    auto again = co_await srv.room("one").join(s);
    two->leave();
    auto m = co_await s.receive();
    (void)m;
    throw std::runtime_error("enough"); // which is no leaving
  });
  BOOST_REQUIRE(loop.wait(srv.start()));
  client c;
  c.connect(srv.port(), "/");
  const std::pair<const char *, const char *> want[] = {
      {"joined", "one"}, {"joined", "two"}, {"left", "one"}, {"joined", "one"}, {"left", "two"}};
  for (const auto &[t, room] : want) {
    const auto h = c.take();
    BOOST_CHECK_EQUAL(h.t, t);
    BOOST_CHECK_EQUAL(h.room, room);
    BOOST_CHECK_EQUAL(h.recovered, -1);
  }
  c.send("go");
  BOOST_CHECK_EQUAL(c.take().closed, 1011);
  BOOST_CHECK_EQUAL(c.positions.size(), 1);
  loop.wait(srv.stop(5s));
}

BOOST_AUTO_TEST_CASE(a_room_that_cant_be_named_is_refused) {
  running loop;
  chorus::server srv(loop.rt(), keeping(10));
  srv.route("/", [&](chorus::session s, chorus::request) -> chorus::task<> {
    std::vector<std::string> names(2);
    names[0].assign(800, 'x');
    names[1] = "\xff";
    for (const auto &name : names) {
      auto held = co_await srv.room(name).join(s);
      const std::string answer = held ? "in" : held.error().message();
      co_await s.send(answer);
    }
  });
  BOOST_REQUIRE(loop.wait(srv.start()));
  client c;
  c.connect(srv.port(), "/");
  BOOST_CHECK(has(c.take().payload, "can't be joined"));
  BOOST_CHECK(has(c.take().payload, "can't be joined"));
  wire plain = open_session(srv.port(), "/");
  BOOST_CHECK_EQUAL(plain.read_frame().payload, "in");
  loop.wait(srv.stop(5s));
}

namespace {

struct way {
  bool tls = false;
  bool compressed = false;
  bool takeover = false;
};

// The same conversation over a session of the library's own that speaks the protocol by hand.
chorus::task<std::vector<std::string>> converse(std::string url, way how, chorus::room room,
                                                std::string said) {
  const chorus::tls_options trust = [] {
    chorus::tls_options t;
    t.ca_file = chorus::test::pem("ca");
    return t;
  }();
  const std::string_view subprotocols[] = {"chorus.v1"};
  chorus::connect_options options;
  options.subprotocols = subprotocols;
  if (how.tls)
    options.tls = &trust;
  options.session.compression.enabled = how.compressed;
  options.session.compression.threshold = 0;
  options.session.compression.server_no_context_takeover = !how.takeover;
  std::vector<std::string> all;
  auto s = co_await chorus::connect(url, options);
  if (!s) {
    all.push_back(s.error().message());
    co_return all;
  }
  all.push_back(s->compressed() ? "compressed" : "plain");
  co_await s->send(said);
  for (int i = 0; i < 4; ++i) {
    auto m = co_await s->receive();
    if (!m) {
      all.push_back(m.error().message());
      co_return all;
    }
    all.push_back(m->str());
    if (i == 2)
      room.publish("live");
  }
  co_await s->close();
  co_return all;
}

} // namespace

BOOST_AUTO_TEST_CASE(compressed_and_over_tls) {
  const way ways[] = {
      {true, false, false}, {false, true, false}, {false, true, true}, {true, true, false}};
  for (const auto &how : ways) {
    BOOST_TEST_CONTEXT("tls " << how.tls << " compressed " << how.compressed << " takeover "
                              << how.takeover) {
      auto options = keeping(10);
      if (how.tls)
        options.tls = chorus::test::server_options();
      options.session.compression.enabled = how.compressed;
      options.session.compression.threshold = 0;
      options.session.compression.server_no_context_takeover = !how.takeover;
      rooms_server s(std::move(options), 2, 2);
      auto room = s.server.room("lobby");
      room.publish("one");
      room.publish("two");
      room.publish("three");
      BOOST_REQUIRE(comes_true([&] { return room.stats().published == 3; }));
      const auto url = s.server.url() + "/r/lobby";
      const auto all = s.loop.wait(
          converse(url, how, room, R"({"t":"hello","rooms":{"lobby":{"epoch":"x","offset":1}}})"));
      BOOST_REQUIRE_EQUAL(all.size(), 5);
      BOOST_CHECK_EQUAL(all[0], how.compressed ? "compressed" : "plain");
      const auto told = understood(all[1]);
      BOOST_CHECK_EQUAL(told.why, "epoch");
      BOOST_CHECK_EQUAL(told.offset, 1);
      BOOST_CHECK_EQUAL(told.missed, 2);
      const char *const payloads[] = {"two", "three", "live"};
      for (int i = 0; i < 3; ++i) {
        const auto m = understood(all[static_cast<std::size_t>(i) + 2]);
        BOOST_CHECK_EQUAL(m.payload, payloads[i]);
        BOOST_CHECK_EQUAL(m.offset, i + 2);
        BOOST_CHECK_EQUAL(m.epoch, told.epoch);
      }
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
