// A client with all it has: it authenticates, queues, resumes, asks; and its connections go.

#include "unit/client/scripted.hpp"

#include <chorus/json.hpp>
#include <chorus/server/server.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

using namespace client_test;
using chorus::client;

namespace {

namespace json = boost::json;

task<result<>> say_the_token(chorus::session s) {
  const auto sent = co_await s.send("token");
  if (!sent)
    co_return sent.error();
  const auto answer = co_await s.receive();
  if (!answer)
    co_return answer.error();
  if (answer->text() != "welcome")
    co_return failure(error::auth_refused);
  co_return result<>();
}

// What a server saw, on the one thread of these tests.
struct seen {
  int logins = 0;
  int intruders = 0;
  std::vector<std::string> said;
};

// Lets in who says the token first; what they say then is written down, and the room is theirs.
void route_guarded(chorus::server &server, seen &notes) {
  server.route("/r/{room}",
               [&server, &notes](chorus::session s, chorus::request r) -> chorus::task<> {
                 const auto first = co_await s.receive();
                 if (!first)
                   co_return;
                 if (first->text() != "token") {
                   ++notes.intruders;
                   co_return;
                 }
                 ++notes.logins;
                 (void)co_await s.send("welcome");
                 auto seat = co_await server.room(r.param("room")).join(s);
                 while (auto m = co_await s.receive())
                   notes.said.push_back(m->str());
               });
}

} // namespace

BOOST_AUTO_TEST_SUITE(living_client)

// Connections that end at any time: in the login, in the recovery, or later.
task<> everything_at_once(world &w) {
  chorus::server_options keeping;
  keeping.rooms = [](std::string_view) {
    chorus::room_options r;
    r.history_messages = 100'000;
    return r;
  };
  chorus::server server(w.rt, keeping);
  seen notes;
  route_guarded(server, notes);
  BOOST_REQUIRE((co_await server.start()).has_value());
  auto options = eager({server.url() + "/r/lobby"});
  options.resume = chorus::resume_mode::require;
  options.authenticate = say_the_token;
  options.session.close_timeout = 1min;
  int lost = 0;
  std::vector<std::string> unsent;
  options.on_recovery = [&lost](const chorus::recovery &r) -> task<> {
    lost += r.recovered ? 0 : 1;
    co_return;
  };
  options.on_unsent = [&unsent](const chorus::unsent_message &m) {
    unsent.push_back(m.content.str());
  };
  client c(w.rt, options);
  auto room = server.room("lobby");
  while (room.size() == 0)
    co_await turns();
  int published = 0;
  int received = 0;
  int said = 0;
  constexpr int rounds = 60;
  for (int round = 0; round < rounds; ++round) {
    for (int i = 0; i < 20; ++i)
      room.publish(std::to_string(published++));
    chorus::client_send_options place;
    place.key = "place";
    BOOST_REQUIRE((co_await c.send(std::to_string(said++))).has_value());
    BOOST_REQUIRE((co_await c.send("place " + std::to_string(round), place)).has_value());
    co_await turns(round % 7);
    c.current().abort(); // as if the network had gone
    while (received < published - 10) {
      const auto got = co_await c.receive_placed();
      BOOST_REQUIRE_MESSAGE(got.has_value(), got.error().message());
      BOOST_REQUIRE_EQUAL(got->content.text(), std::to_string(received));
      BOOST_REQUIRE_EQUAL(got->room, "lobby");
      ++received;
    }
  }
  while (received < published) {
    const auto got = co_await c.receive();
    BOOST_REQUIRE_MESSAGE(got.has_value(), got.error().message());
    BOOST_REQUIRE_EQUAL(got->text(), std::to_string(received));
    ++received;
  }
  BOOST_REQUIRE((co_await c.flush()).has_value()); // on a connection that is there
  BOOST_REQUIRE((co_await c.close()).has_value());
  while (server.stats().connections != 0)
    co_await turns();
  BOOST_CHECK_EQUAL(notes.intruders, 0);
  BOOST_CHECK_GT(notes.logins, rounds / 2);
  BOOST_CHECK_EQUAL(lost, 0);
  const auto s = c.stats();
  BOOST_CHECK_EQUAL(s.messages_received, static_cast<std::uint64_t>(published));
  BOOST_CHECK_EQUAL(s.messages_doubled, 0U);
  // Each message of this side was heard, is one of those nobody can tell of, or was replaced.
  const auto heard = static_cast<std::uint64_t>(notes.said.size());
  BOOST_CHECK_EQUAL(s.messages_sent + s.messages_dropped, std::uint64_t{2} * rounds);
  BOOST_CHECK_EQUAL(s.messages_dropped, s.messages_replaced);
  BOOST_CHECK_EQUAL(unsent.size(), s.messages_dropped);
  BOOST_CHECK_LE(heard, s.messages_sent);
  BOOST_CHECK_LE(s.messages_sent - heard, s.messages_unconfirmed);
  int last = -1;
  for (const auto &text : notes.said) {
    if (text.starts_with("place"))
      continue;
    BOOST_REQUIRE_GT(std::stoi(text), last);
    last = std::stoi(text);
  }
  co_await server.stop(5s);
}
BOOST_AUTO_TEST_CASE(resume_authentication_and_outbox_together) {
  world w;
  w.run(everything_at_once(w));
}

task<json::value> next_json(peer &p) {
  auto text = co_await p.read_text();
  BOOST_REQUIRE(text.has_value());
  co_return json::parse(*text);
}

task<> welcome(peer &p) {
  BOOST_TEST((co_await p.read_text()).value_or("nothing") == "token");
  co_await p.write(peer::text("welcome"));
}

std::string answer_to(const json::value &request, std::string_view value) {
  return peer::text(R"({"jsonrpc":"2.0","result":)" + std::string(value) + R"(,"id":)" +
                    json::serialize(request.at("id")) + '}');
}

task<> rpc_across_logins(world &w) {
  using answer = result<json::value>;
  listener l(w);
  auto options = eager({l.url()});
  options.authenticate = say_the_token;
  client c(w.rt, options);
  auto rpc = chorus::rpc_over(c);
  const auto ex = w.rt.executor();
  background<answer> early(ex, rpc.request("early")); // waits behind the login
  auto p = co_await l.accept_open();
  co_await welcome(p);
  const auto first = co_await next_json(p);
  BOOST_CHECK(first.at("method") == "early");
  auto reply = answer_to(first, "1");
  co_await p.write(std::move(reply));
  BOOST_CHECK((co_await early.get()).value() == 1);

  background<answer> again(ex, rpc.request("again", nullptr, {.idempotent = true}));
  const auto asked = co_await next_json(p);
  p.reset();
  {
    auto failed = co_await l.accept_open(); // lost before the login was over
    BOOST_TEST((co_await failed.read_text()).value_or("nothing") == "token");
    failed.reset();
  }
  auto q = co_await l.accept_open();
  co_await welcome(q);
  const auto repeated = co_await next_json(q);
  BOOST_CHECK(repeated == asked);
  auto second = answer_to(repeated, "2");
  co_await q.write(std::move(second));
  BOOST_CHECK((co_await again.get()).value() == 2);
  // The answers to the logins never were its.
  BOOST_CHECK_EQUAL(rpc.stats().others, 0U);
}
BOOST_AUTO_TEST_CASE(requests_wait_behind_the_login_of_each_connection) {
  world w;
  w.run(rpc_across_logins(w));
}

BOOST_AUTO_TEST_SUITE_END()
