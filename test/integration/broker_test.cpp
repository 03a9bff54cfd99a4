// Two servers of one process share an engine that takes its time, and refuses now and then.

#include "integration/resume_support.hpp"
#include "support/forwarding_broker.hpp"

#include <deque>
#include <functional>
#include <thread>

using namespace resume_test;

namespace {

// Does what it is asked to on a thread of its own, one after the other, when it is not held up.
class slow_broker final : public test_support::forwarding_broker {
public:
  slow_broker() : worker_([this] { work(); }) {}
  ~slow_broker() override {
    {
      std::lock_guard lock(mutex_);
      over_ = true;
      changed_.notify_all();
    }
    worker_.join();
  }
  void hold(bool yes) {
    std::lock_guard lock(mutex_);
    held_ = yes;
    changed_.notify_all();
  }
  std::size_t waiting() {
    std::lock_guard lock(mutex_);
    return todo_.size();
  }
  std::atomic<bool> refuses{false};
  std::atomic<bool> subscribes{true};

  void publish(chorus::broker_message m, published answer) override {
    later([this, m = std::move(m), answer = std::move(answer)] {
      if (refuses)
        answer(chorus::failure(chorus::error::lost, chorus::stage::open, "the engine is away"));
      else
        inner()->publish(m, answer);
    });
  }
  void subscribe(std::string room, std::weak_ptr<chorus::broker_listener> to,
                 done answer) override {
    later([this, room, to, answer] {
      if (subscribes)
        inner()->subscribe(room, to, answer);
      else
        answer(chorus::failure(chorus::error::lost, chorus::stage::open, "the engine is away"));
    });
  }
  void history(std::string room, chorus::broker_position since, page_read answer) override {
    later([this, room, since, answer] { inner()->history(room, since, answer); });
  }

private:
  void later(std::function<void()> f) {
    std::lock_guard lock(mutex_);
    todo_.push_back(std::move(f));
    changed_.notify_all();
  }
  void work() {
    std::unique_lock lock(mutex_);
    for (;;) {
      changed_.wait(lock, [this] { return over_ || (!held_ && !todo_.empty()); });
      if (over_)
        return;
      auto f = std::move(todo_.front());
      todo_.pop_front();
      lock.unlock();
      std::this_thread::yield();
      f();
      lock.lock();
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> todo_;
  bool held_ = false;
  bool over_ = false;
  std::thread worker_;
};

// The last to go, since a room that ends on the engine's thread may hold it there.
struct engine_handle : std::shared_ptr<slow_broker> {
  engine_handle() : std::shared_ptr<slow_broker>(std::make_shared<slow_broker>()) {}
  ~engine_handle() {
    comes_true([this] { return use_count() == 1; });
  }
};

struct two_servers {
  engine_handle engine;
  std::atomic<int> complaints{0};
  rooms_server a{sharing()};
  rooms_server b{sharing()};

  chorus::server_options sharing() {
    chorus::server_options options;
    options.broker = engine;
    options.on_error = [this](std::string_view what, const chorus::session *) {
      const std::string text(what);
      complaints += has(text, "The broker") && has(text, "(room \"lobby\")");
    };
    options.rooms = [](std::string_view name) {
      chorus::room_options r;
      r.history_messages = name == "passing" ? 0 : 10'000;
      return r;
    };
    return options;
  }
};

std::vector<std::string> texts(wire &w, int count) {
  std::vector<std::string> all;
  for (int i = 0; i < count; ++i)
    all.push_back(w.read_frame().payload);
  return all;
}

chorus::task<chorus::broadcast_report> told(chorus::room r, const char *text,
                                            std::chrono::milliseconds deadline) {
  chorus::message m(text);
  co_return co_await r.broadcast(m, {.deadline = deadline});
}

} // namespace

BOOST_FIXTURE_TEST_SUITE(brokers, two_servers)

BOOST_AUTO_TEST_CASE(one_order_on_all_servers) {
  std::vector<wire> plain;
  for (auto *s : {&a, &a, &b, &b})
    plain.push_back(open_session(s->port(), "/r/lobby"));
  client c("b2d0c7f3a91e4d55");
  c.connect(a.port(), "/r/lobby");
  c.joined();
  auto on_a = a.server.room("lobby");
  auto on_b = b.server.room("lobby");
  BOOST_REQUIRE(comes_true([&] { return on_a.size() == 3 && on_b.size() == 2; }));
  constexpr int each = 200;
  const auto publish = [](chorus::room r, const char *who) {
    for (int i = 0; i < each; ++i)
      r.publish(who + std::to_string(i));
  };
  std::thread one([&] { publish(on_a, "a"); });
  std::thread two([&] { publish(on_b, "b"); });
  one.join();
  two.join();
  const auto order = texts(plain[0], 2 * each);
  for (std::size_t i = 1; i < plain.size(); ++i)
    same(texts(plain[i], 2 * each), order);
  int next_a = 0;
  int next_b = 0;
  for (const auto &text : order) {
    auto &next = text[0] == 'a' ? next_a : next_b;
    BOOST_CHECK_EQUAL(text.substr(1), std::to_string(next));
    ++next;
  }
  // Half of it on one server, the rest on the other.
  for (int i = 0; i < each; ++i)
    c.take();
  c.vanish();
  c.connect(b.port(), "/r/lobby");
  const auto j = c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, each);
  for (int i = 0; i < each; ++i)
    c.take();
  same(c.seen["lobby"], order);
  // What it publishes there is not for itself, wherever it is.
  c.send("mine");
  for (auto &w : plain)
    BOOST_CHECK_EQUAL(w.read_frame().payload, "mine");
  c.vanish();
  c.connect(a.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(c.joined().missed, 0);
  on_b.publish("end");
  BOOST_CHECK_EQUAL(c.take().payload, "end");
}

BOOST_AUTO_TEST_CASE(a_refusal_is_counted_and_told) {
  auto w = open_session(a.port(), "/r/lobby");
  auto room = a.server.room("lobby");
  BOOST_REQUIRE(comes_true([&] { return room.size() == 1; }));
  engine->refuses = true;
  room.publish("lost");
  BOOST_CHECK(comes_true([&] { return room.stats().broker_failures == 1; }));
  const auto report = a.loop.wait(told(room, "lost, too", 20s));
  BOOST_CHECK_EQUAL(report.dropped, 1);
  BOOST_REQUIRE_EQUAL(report.members.size(), 1);
  BOOST_CHECK(report.members[0].why == chorus::error::lost);
  BOOST_CHECK_EQUAL(room.stats().broker_failures, 2);
  BOOST_CHECK(comes_true([&] { return complaints == 2; }));
  engine->refuses = false;
  const auto good = a.loop.wait(told(room, "here", 20s));
  BOOST_CHECK_EQUAL(good.delivered, 1);
  BOOST_CHECK_EQUAL(w.read_frame().payload, "here");
}

BOOST_AUTO_TEST_CASE(a_broadcast_does_not_wait_beyond_its_deadline) {
  auto w = open_session(a.port(), "/r/lobby");
  auto room = a.server.room("lobby");
  BOOST_REQUIRE(comes_true([&] { return room.size() == 1; }));
  engine->hold(true);
  const auto report = a.loop.wait(told(room, "late", 20ms));
  BOOST_CHECK_EQUAL(report.pending, 1);
  engine->hold(false);
  BOOST_CHECK_EQUAL(w.read_frame().payload, "late");
}

BOOST_AUTO_TEST_CASE(what_is_not_kept_is_delivered_at_once) {
  auto near = open_session(a.port(), "/r/passing");
  auto far = open_session(b.port(), "/r/passing");
  auto room = a.server.room("passing");
  BOOST_REQUIRE(comes_true([&] { return room.size() == 1; }));
  BOOST_REQUIRE(comes_true([&] { return b.server.room("passing").size() == 1; }));
  engine->hold(true);
  room.publish("now");
  BOOST_CHECK_EQUAL(near.read_frame().payload, "now");
  BOOST_CHECK_EQUAL(engine->waiting(), 1);
  engine->hold(false);
  BOOST_CHECK_EQUAL(far.read_frame().payload, "now");
  b.server.room("passing").publish("then");
  BOOST_CHECK_EQUAL(near.read_frame().payload, "then"); // and "now" not again
}

BOOST_AUTO_TEST_CASE(who_cant_be_subscribed_does_not_come_in) {
  engine->subscribes = false;
  auto w = open_session(a.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(w.read_frame().opcode, 8); // the handler gave up
  BOOST_CHECK_EQUAL(complaints, 1);
  engine->subscribes = true;
  auto again = open_session(a.port(), "/r/lobby");
  BOOST_REQUIRE(comes_true([&] { return a.server.room("lobby").size() == 1; }));
  a.server.room("lobby").publish("hello");
  BOOST_CHECK_EQUAL(again.read_frame().payload, "hello");
}

// A join that failed has not used up the position that the client named.
BOOST_AUTO_TEST_CASE(a_join_that_is_tried_again_resumes) {
  client reader("b2d0c7f3a91e4d55");
  reader.connect(a.port(), "/r/lobby");
  reader.joined();
  for (const auto *text : {"1", "2"}) // the engine has both
    a.loop.wait(told(a.server.room("lobby"), text, 20s));
  BOOST_CHECK_EQUAL(reader.take().payload, "1");
  reader.vanish();

  running loop(1);
  chorus::server patient(loop.rt(), sharing());
  std::atomic<int> refused{0};
  patient.route("/r/{room}", [&](chorus::session s, chorus::request r) -> chorus::task<> {
    auto room = patient.room(r.param("room"));
    auto held = co_await room.join(s);
    while (!held && s.is_open()) {
      ++refused;
      engine->subscribes = true;
      held = co_await room.join(s);
    }
    co_await s.wait_closed();
  });
  BOOST_REQUIRE(loop.wait(patient.start()));
  engine->subscribes = false;
  reader.connect(patient.port(), "/r/lobby");
  const auto h = reader.joined();
  BOOST_CHECK_EQUAL(refused, 1);
  BOOST_CHECK_EQUAL(h.recovered, 1);
  BOOST_CHECK_EQUAL(h.missed, 1);
  BOOST_CHECK_EQUAL(reader.take().payload, "2");
  reader.vanish();
  loop.wait(patient.stop(5s));
}

BOOST_AUTO_TEST_SUITE_END()
