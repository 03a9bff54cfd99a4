#pragma once
// Two servers with a room of the same options, and members on both; the engine of either may go away.

#include "broker_support.hpp"

namespace away_test {

using namespace broker_test;

inline chorus::room_options keeping_when(chorus::away_policy policy, std::size_t keeps = 100) {
  chorus::room_options r;
  r.history_messages = keeps;
  r.when_away = policy;
  return r;
}

struct server_of : one_of {
  std::mutex mutex;
  std::vector<std::string> complaints;
  rooms_server server;

  server_of(const std::shared_ptr<chorus::broker> &shared, const chorus::room_options &r,
            std::size_t newcomer = 0, bool away = false, std::size_t lingering = 10'000)
      : one_of(shared), server(sharing(r, away, lingering), 2, newcomer) {}
  chorus::server_options sharing(const chorus::room_options &r, bool away, std::size_t lingering) {
    if (away)
      engine->go();
    chorus::server_options options;
    options.rooms = [r](std::string_view) { return r; };
    options.broker = engine;
    options.broker_lease = 1h;
    options.max_lingering_rooms = lingering;
    options.on_error = [this](std::string_view what, const chorus::session *) {
      std::lock_guard lock(mutex);
      complaints.emplace_back(what);
    };
    return options;
  }
  bool told(std::string_view what) {
    std::lock_guard lock(mutex);
    return std::any_of(complaints.begin(), complaints.end(),
                       [&](const auto &one) { return has(one, what); });
  }
  chorus::room lobby() { return server.server.room("lobby"); }
  wire plain() { return open_session(server.port(), "/r/lobby"); }
  void publish(std::initializer_list<const char *> texts) {
    for (const char *one : texts)
      lobby().publish(one);
  }
  // Its outcome, perhaps later.
  std::future<chorus::broadcast_report> broadcast(std::string text, std::chrono::seconds within) {
    return boost::asio::co_spawn(server.loop.rt().executor(),
                                 sent(lobby(), std::move(text), within), boost::asio::use_future);
  }
  bool waits_for(std::size_t count) {
    return comes_true([&, r = lobby()] { return r.stats().waiting == count; });
  }

private:
  static chorus::task<chorus::broadcast_report> sent(chorus::room r, std::string text,
                                                     std::chrono::seconds within) {
    chorus::message m(text);
    co_return co_await r.broadcast(m, {.deadline = within});
  }
};

// A member of either server: one under the resume protocol on `a`, a plain one on `b`.
struct pair_of {
  std::shared_ptr<chorus::broker> engine = chorus::make_memory_broker();
  server_of a;
  server_of b;
  client c{"b2d0c7f3a91e4d55"};
  std::optional<wire> d;

  explicit pair_of(const chorus::room_options &r) : a(engine, r), b(engine, r) {
    c.connect(a.server.port(), "/r/lobby");
    c.joined();
    d.emplace(b.plain());
    BOOST_REQUIRE(comes_true([&] { return b.lobby().size() == 1; }));
    a.publish({"first"});
    c_reads({"first"});
    d_reads({"first"});
  }
  // When the engine has "1" and "2" of `a`, and has answered neither; "3" comes then.
  void engine_of_a_goes() {
    a.engine->deaf = true;
    a.engine->holds_answers = true;
    a.publish({"1", "2"});
    BOOST_REQUIRE(comes_true([&] { return a.engine->unanswered() == 2; }));
    a.engine->holds_answers = false;
    a.engine->go();
    a.publish({"3"});
  }
  void c_reads(std::initializer_list<const char *> want) {
    for (const char *one : want)
      BOOST_CHECK_EQUAL(c.take().payload, one);
  }
  void d_reads(std::initializer_list<const char *> want) { expect(*d, want); }
  void both_read(std::initializer_list<const char *> want) {
    c_reads(want);
    d_reads(want);
    BOOST_CHECK_EQUAL(c.doubled, 0);
  }
};

} // namespace away_test
