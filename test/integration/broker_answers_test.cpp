// Answers of an engine that come too late, or while others are asked for: each belongs to its question.

#include "broker_scripted.hpp"

#include <chorus/server/engine_watch.hpp>
#include <chorus/server/room_link.hpp>

#include <fstream>
#include <thread>
#include <unistd.h>

using namespace scripted_test;

namespace {

constexpr auto refuse = chorus::away_policy::refuse;

// A room that asks its engine one thing, which answers when the test says so. Its time is the test's.
struct late_answers {
  enum class question : int { subscription, members, history };
  static constexpr question all[] = {question::subscription, question::members, question::history};

  const question what;
  std::shared_ptr<scripted> engine = std::make_shared<scripted>();
  std::vector<std::function<void(bool well)>> held;
  std::atomic<std::size_t> asked{0};
  server_of n;
  chorus::room lobby;

  explicit late_answers(question q) : what(q), n(engine, keep(q)), lobby(n.lobby()) {
    at_home_of(lobby, [](auto &home) { home.use_manual_clock(); });
    engine->script([this] {
      if (what == question::subscription)
        engine->on_subscribe = [this](const std::string &room, const auto &answer) {
          return room == "room/lobby" &&
                 holds([answer](bool well) { well ? answer({}) : answer(away_now()); });
        };
      else if (what == question::members)
        engine->on_members = [this](const std::string &room, const auto &answer) {
          return holds([this, room, answer](bool well) {
            well ? engine->inner()->members(room, answer) : answer(away_now());
          });
        };
      else
        engine->on_history = [this](const auto &since, const auto &answer) {
          return holds([this, since, answer](bool well) {
            well ? engine->inner()->history("room/lobby", since, answer) : answer(away_now());
          });
        };
    });
    lobby.core()->connect();
    BOOST_REQUIRE(comes_true([&] { return asked == 1; }));
    pass(61s);
    BOOST_REQUIRE(comes_true([&] { return n.told("did not answer within 60 s"); }));
  }
  static chorus::room_options keep(question q) {
    auto k = keeping_when(refuse, q == question::history ? 100 : 0);
    k.presence = q == question::members;
    return k;
  }
  bool holds(std::function<void(bool)> answer) {
    held.push_back(std::move(answer));
    ++asked;
    return true;
  }
  // Before that the room has taken what it was answered.
  void pass(std::chrono::seconds time) {
    at_home_of(lobby, [time](auto &home) { home.advance(time); });
  }
  bool ready() {
    bool is = false;
    at_home_of(lobby, [&](auto &) { is = lobby.core()->link()->up_to_date(); });
    return is;
  }
  void answer(std::size_t which, bool well) {
    std::function<void(bool)> f;
    engine->script([&] { f = held[which]; });
    f(well);
  }
};

// Comes or goes between two questions, of which the second begins while it is about to answer the first.
class asked_twice final : public chorus::broker {
public:
  explicit asked_twice(bool goes) : goes_(goes) {}
  std::function<void()> other; // asks, on a thread of its own
  chorus::broker_status status() const override {
    if (asked_++ != 0)
      return {!goes_, "it is away"};
    second_ = std::thread([this] {
      id_ = ::gettid();
      other();
      done_ = true;
    });
    BOOST_REQUIRE(comes_true([&] { return done_ || sleeps(id_); }));
    return {goes_, "it is away"};
  }

  void publish(chorus::broker_message, published) override {}
  void subscribe(std::string, std::weak_ptr<chorus::broker_listener>, done) override {}
  void unsubscribe(std::string, const chorus::broker_listener *) override {}
  void history(std::string, chorus::broker_position, page_read) override {}
  void begin_epoch(std::string, std::string, done) override {}
  void enter(std::string, chorus::broker_member, std::size_t, done) override {}
  void leave(std::string, std::string, std::string, done) override {}
  void members(std::string, members_read) override {}
  void renew(std::string, std::chrono::milliseconds, renewed) override {}
  void await_other() { second_.join(); }

private:
  // As one does that waits for a lock.
  static bool sleeps(int thread) {
    std::ifstream in("/proc/self/task/" + std::to_string(thread) + "/stat");
    std::string all;
    std::getline(in, all);
    const auto name = all.rfind(") ");
    return thread != 0 && name != all.npos && all[name + 2] == 'S';
  }
  const bool goes_;
  mutable std::atomic<int> asked_{0};
  mutable std::atomic<int> id_{0};
  mutable std::atomic<bool> done_{false};
  mutable std::thread second_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(broker_answers)

BOOST_AUTO_TEST_CASE(an_answer_to_an_older_question_is_ignored) {
  for (const auto what : late_answers::all)
    for (const bool well : {false, true}) {
      BOOST_TEST_CONTEXT("question " << static_cast<int>(what) << ", answered well: " << well) {
        late_answers t(what);
        t.pass(1s);
        BOOST_REQUIRE_EQUAL(t.asked, 2u);
        t.answer(0, well);
        BOOST_CHECK(!t.ready());
        t.pass(10s);
        BOOST_CHECK_EQUAL(t.asked, 2u); // it waits for the second
        t.answer(1, false);
        t.pass(10s);
        BOOST_REQUIRE_EQUAL(t.asked, 3u);
        t.answer(2, true);
        BOOST_CHECK(comes_true([&] { return t.ready(); }));
      }
    }
}

// It has given up the question, and what it had subscribed with it.
BOOST_AUTO_TEST_CASE(an_answer_to_a_question_that_is_over_is_ignored) {
  for (const auto what : late_answers::all)
    BOOST_TEST_CONTEXT("question " << static_cast<int>(what)) {
      late_answers t(what);
      t.answer(0, true);
      BOOST_CHECK(!t.ready());
      t.pass(1s);
      BOOST_REQUIRE_EQUAL(t.asked, 2u);
      t.answer(1, true);
      BOOST_CHECK(comes_true([&] { return t.ready(); }));
    }
}

// Else what was seen first could be noted last.
BOOST_AUTO_TEST_CASE(who_looks_at_an_engine_does_so_alone) {
  for (const bool goes : {true, false}) {
    const auto engine = std::make_shared<asked_twice>(goes);
    chorus::detail::engine_watch watch(engine);
    std::vector<bool> told; // whether it is away
    watch.listen([&](const auto &now) { told.push_back(now.away); });
    if (goes) {
      engine->other = [&] { watch.look(); };
      watch.renewed(true);
    } else {
      engine->other = [&] { watch.renewed(true); };
      watch.look();
    }
    engine->await_other();
    BOOST_CHECK(told == (goes ? std::vector<bool>{true} : std::vector<bool>{true, false}));
  }
}

BOOST_AUTO_TEST_SUITE_END()
