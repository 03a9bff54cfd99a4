// The chat of the program as a service: who is told of whom.

#include "server_support.hpp"

#include <cli/chat.hpp>

#include <chorus/client/connect.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

#include <atomic>

namespace server_test {
namespace {

namespace json = boost::json;
using chorus::task;

struct chat_server {
  running loop;
  std::optional<chorus::server> server;
  std::shared_ptr<cli::chat> chat;

  explicit chat_server(cli::chat_options how, unsigned threads = 2) : loop(threads) {
    chorus::server_options options;
    options.rooms = [how](std::string_view name) { return cli::chat::options_of_room(name, how); };
    server.emplace(loop.rt(), std::move(options));
    chat = std::make_shared<cli::chat>(*server, how);
    server->route("/chat/{room}", [c = chat](chorus::session s, chorus::request r) {
      return c->serve(std::move(s), std::move(r));
    });
    const auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~chat_server() { loop.wait(server->stop(1s)); }

  std::vector<chorus::presence_entry> present(std::string_view room) {
    return loop.wait(server->room("chat/" + std::string(room)).presence());
  }
  // Until all connections of this user have gone.
  void come_to_miss(std::string_view room, std::string_view user) {
    BOOST_REQUIRE(comes_true([&] {
      for (const auto &e : present(room))
        if (e.user == user && e.connections != 0)
          return false;
      return true;
    }));
  }
};

class visitor {
public:
  // Waits until it has been let in and welcomed.
  visitor(chat_server &to, std::string_view room, const std::string &id, const std::string &name)
      : wire_(open_session(to.server->port(),
                           "/chat/" + std::string(room) + "?user_id=" + id + "&username=" + name)) {
    for (std::string type; type != "joined"; type = text(heard_.back(), "type"))
      heard_.push_back(next());
    joined = heard_.back();
    heard_.push_back(next());
  }

  json::object next() {
    const auto f = wire_.read_frame();
    BOOST_REQUIRE_EQUAL(f.opcode, 1u);
    return json::parse(f.payload).as_object();
  }
  // In few letters: "user_joined bo Bo", "message bo hello".
  std::string news() {
    const auto o = next();
    const auto type = text(o, "type");
    return type + " " + text(o, "user_id") + " " +
           text(o, type == "message" ? "message" : "username");
  }
  void say(const std::string &words) {
    wire_.send(text_frame(json::serialize(json::object{{"type", "message"}, {"message", words}})));
  }
  void vanish() { wire_.close(); }
  std::vector<std::string> types() const {
    std::vector<std::string> all;
    for (const auto &o : heard_)
      all.push_back(text(o, "type"));
    return all;
  }
  // "ada Ada,bo Bo"
  std::string users() const {
    std::string all;
    for (const auto &u : joined.at("users").as_array())
      all += (all.empty() ? "" : ",") + text(u.as_object(), "user_id") + " " +
             text(u.as_object(), "username");
    return all;
  }
  std::int64_t count() const { return joined.at("users_count").as_int64(); }
  std::string greeting() const { return text(heard_.back(), "message"); }

  json::object joined;

private:
  static std::string text(const json::object &o, std::string_view name) {
    const auto *v = o.if_contains(name);
    return v && v->is_string() ? std::string(v->get_string()) : std::string();
  }

  wire wire_;
  std::vector<json::object> heard_;
};

using texts = std::vector<std::string>;

// One that is there or not, as far as anybody asks.
class mute_engine final : public chorus::broker {
public:
  std::atomic<bool> there{true};

  void publish(chorus::broker_message, published) override {}
  void subscribe(std::string, std::weak_ptr<chorus::broker_listener>, done) override {}
  void unsubscribe(std::string, const chorus::broker_listener *) override {}
  void history(std::string, chorus::broker_position, page_read) override {}
  void enter(std::string, chorus::broker_member, std::size_t, done) override {}
  void leave(std::string, std::string, std::string, done) override {}
  void members(std::string, members_read) override {}
  void renew(std::string, std::chrono::milliseconds, renewed) override {}
  void begin_epoch(std::string, std::string, done) override {}
  chorus::broker_status status() const override { return {there, there ? "" : "it is away"}; }
};

BOOST_AUTO_TEST_SUITE(chat_service)

BOOST_AUTO_TEST_CASE(who_comes_back_in_time_is_neither_missed_nor_announced) {
  chat_server s({.presence_grace = 1h});
  visitor ada(s, "tea", "ada", "Ada");
  std::optional<visitor> bo(std::in_place, s, "tea", "bo", "Bo");
  BOOST_CHECK_EQUAL(ada.news(), "user_joined bo Bo");
  for (int i = 0; i < 3; ++i) {
    bo->vanish();
    s.come_to_miss("tea", "bo");
    BOOST_CHECK_EQUAL(s.present("tea").size(), 2u + static_cast<unsigned>(i)); // every Cy, too
    visitor cy(s, "tea", "cy" + std::to_string(i), "Cy"); // sees whom one waits for
    BOOST_CHECK_EQUAL(ada.news().substr(0, 14), "user_joined cy");
    BOOST_CHECK(has(cy.users(), "bo Bo"));
    bo.emplace(s, "tea", "bo", "Bo");
    BOOST_CHECK(has(bo->users(), "ada Ada,bo Bo"));
    BOOST_CHECK_EQUAL(bo->count(), 3 + i);
    bo->say("back " + std::to_string(i));
    BOOST_CHECK_EQUAL(ada.news(), "message bo back " + std::to_string(i));
    BOOST_CHECK_EQUAL(cy.news(), "message bo back " + std::to_string(i));
    cy.vanish();
    s.come_to_miss("tea", "cy" + std::to_string(i));
  }
}

BOOST_AUTO_TEST_CASE(who_does_not_come_back_is_missed_once) {
  for (const auto grace : {0ms, 20ms}) {
    chat_server s({.presence_grace = grace});
    visitor ada(s, "tea", "ada", "Ada");
    for (int i = 0; i < 2; ++i) {
      visitor bo(s, "tea", "bo", "Bo");
      BOOST_CHECK_EQUAL(ada.news(), "user_joined bo Bo");
      bo.vanish();
      BOOST_CHECK_EQUAL(ada.news(), "user_left bo Bo");
      BOOST_CHECK_EQUAL(s.present("tea").size(), 1u);
    }
  }
}

BOOST_AUTO_TEST_CASE(several_connections_are_one_user) {
  chat_server s({.presence_grace = 0ms});
  visitor ada(s, "tea", "ada", "Ada");
  visitor one(s, "tea", "bo", "Bo");
  visitor two(s, "tea", "bo", "Bo");
  BOOST_CHECK_EQUAL(two.users(), "ada Ada,bo Bo");
  BOOST_CHECK_EQUAL(two.count(), 2);
  BOOST_CHECK_EQUAL(two.greeting(), "Welcome to tea. One other person is here.");
  one.vanish();
  BOOST_REQUIRE(comes_true([&] { return s.server->room("chat/tea").size() == 2; }));
  two.say("still here");
  BOOST_CHECK_EQUAL(ada.news(), "user_joined bo Bo");
  BOOST_CHECK_EQUAL(ada.news(), "message bo still here");
  two.vanish();
  BOOST_CHECK_EQUAL(ada.news(), "user_left bo Bo");
}

BOOST_AUTO_TEST_CASE(another_name_is_told) {
  chat_server s({.presence_grace = 1h});
  visitor ada(s, "tea", "ada", "Ada");
  visitor bo(s, "tea", "bo", "Bo");
  visitor again(s, "tea", "bo", "Bodo");
  BOOST_CHECK_EQUAL(again.users(), "ada Ada,bo Bodo");
  BOOST_CHECK_EQUAL(ada.news(), "user_joined bo Bo");
  BOOST_CHECK_EQUAL(ada.news(), "user_joined bo Bodo");
  BOOST_CHECK_EQUAL(bo.news(), "user_joined bo Bodo");
}

BOOST_AUTO_TEST_CASE(joined_comes_behind_the_history_and_before_the_welcome) {
  for (const unsigned threads : {1U, 2U, 3U}) {
    chat_server s({.history_messages = 3, .presence_grace = 0ms}, threads);
    for (const char *room : {"tea", "coffee", "water", "milk"}) {
      visitor ada(s, room, "ada", "Ada");
      BOOST_CHECK(ada.types() == (texts{"joined", "system"}));
      for (int i = 0; i < 4; ++i) {
        ada.say(std::to_string(i));
        BOOST_CHECK_EQUAL(ada.news(), "message ada " + std::to_string(i));
      }
      visitor bo(s, room, "bo", "Bo");
      BOOST_CHECK(bo.types() == (texts{"message", "message", "message", "joined", "system"}));
      BOOST_CHECK_EQUAL(bo.greeting(),
                        "Welcome to " + std::string(room) + ". One other person is here.");
    }
  }
}

BOOST_AUTO_TEST_CASE(of_a_crowd_some_are_listed_and_the_newcomer) {
  chat_server s({.users_listed = 2});
  visitor a(s, "tea", "a", "A");
  visitor b(s, "tea", "b", "B");
  visitor d(s, "tea", "d", "D");
  BOOST_CHECK_EQUAL(d.users(), "a A,d D");
  BOOST_CHECK_EQUAL(d.count(), 3);
  visitor c(s, "tea", "0", "First");
  BOOST_CHECK_EQUAL(c.users(), "0 First,a A");
  BOOST_CHECK_EQUAL(c.count(), 4);
  BOOST_CHECK_EQUAL(c.greeting(), "Welcome to tea. 3 others are here.");
}

BOOST_AUTO_TEST_CASE(what_nobody_would_get_is_refused) {
  const auto engine = std::make_shared<mute_engine>();
  chat_server s({.broker = engine});
  visitor ada(s, "tea", "ada", "Ada");
  ada.say("one");
  BOOST_CHECK_EQUAL(ada.news(), "message ada one");
  engine->there = false;
  ada.say("two");
  const auto answer = ada.next();
  BOOST_CHECK_EQUAL(answer.at("type").as_string(), "error");
  BOOST_CHECK_EQUAL(answer.at("code").as_string(), "not_sent");
  engine->there = true;
  ada.say("three");
  BOOST_CHECK_EQUAL(ada.news(), "message ada three");

  // Where messages wait, or go to those who are here, that is for the room to do.
  chat_server buffers({.broker = engine, .when_away = chorus::away_policy::buffer});
  visitor bo(buffers, "tea", "bo", "Bo");
  engine->there = false;
  bo.say("four");
  BOOST_CHECK_EQUAL(bo.news(), "message bo four");
}

BOOST_AUTO_TEST_CASE(rooms_are_listed_by_users) {
  chat_server s({.presence_grace = 1h});
  visitor a(s, "tea", "a", "A");
  visitor b(s, "coffee", "b", "B");
  visitor c(s, "coffee", "c", "C");
  visitor d(s, "tea", "a", "A");
  visitor e(s, "tea", "a", "A");
  c.vanish();
  s.come_to_miss("coffee", "c");
  const auto all = s.loop.wait(s.chat->rooms());
  BOOST_REQUIRE_EQUAL(all.size(), 2u);
  BOOST_CHECK_EQUAL(all[0].name + " " + std::to_string(all[0].users), "coffee 2");
  BOOST_CHECK_EQUAL(all[1].name + " " + std::to_string(all[1].users), "tea 1");
  BOOST_CHECK_EQUAL(all[1].stats.members, 3u);
  BOOST_CHECK_EQUAL(s.loop.wait(s.chat->rooms(1)).at(0).name, "tea"); // the most connections
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace server_test
