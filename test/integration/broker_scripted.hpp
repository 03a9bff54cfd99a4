#pragma once
// An engine in memory that a test may step in front of: a hook takes a call, and answers it itself or
// never, or lets it through.

#include "broker_away_support.hpp"
#include "support/forwarding_broker.hpp"

#include <chorus/async/runtime_core.hpp>
#include <chorus/server/room_core.hpp>

namespace scripted_test {

using namespace away_test;

class scripted final : public test_support::forwarding_broker {
public:
  template <class... Args> using hook = std::function<bool(Args &...)>; // true: taken

  // Set before what is to be caught; called one at a time, from any thread, and may set none.
  hook<chorus::broker_message, published> on_publish;
  hook<std::string, done> on_subscribe;
  hook<chorus::broker_position, page_read> on_history;
  hook<std::string, members_read> on_members;
  template <class F> void script(F f) {
    std::lock_guard lock(mutex_);
    f();
  }
  std::atomic<int> subscribed{0}, read{0};

  void publish(chorus::broker_message m, published answer) override {
    if (!taken(on_publish, m, answer))
      inner()->publish(std::move(m), std::move(answer));
  }
  void subscribe(std::string room, std::weak_ptr<chorus::broker_listener> to,
                 done answer) override {
    const bool held = taken(on_subscribe, room, answer);
    if (room == "room/lobby")
      ++subscribed;
    // It may have got through although nobody says so.
    inner()->subscribe(std::move(room), std::move(to),
                       held ? done([](const auto &) {}) : std::move(answer));
  }
  void history(std::string room, chorus::broker_position since, page_read answer) override {
    ++read;
    if (!taken(on_history, since, answer))
      inner()->history(std::move(room), std::move(since), std::move(answer));
  }
  void members(std::string room, members_read answer) override {
    if (!taken(on_members, room, answer))
      inner()->members(std::move(room), std::move(answer));
  }

private:
  template <class F, class... Args> bool taken(const F &f, Args &...args) {
    std::lock_guard lock(mutex_);
    return f && f(args...);
  }

  std::mutex mutex_;
};

inline chorus::failure away_now() {
  return {chorus::error::lost, chorus::stage::none, "the line is down"};
}

// What the engine keeps of a room, published by nobody's server.
inline void put(chorus::broker &engine, const char *room, const char *text,
                const chorus::room_options &keep, const std::string &origin) {
  chorus::broker_message m;
  m.room = room;
  m.content = std::string(text);
  m.origin = origin;
  m.keep = keep;
  engine.publish(std::move(m), [](const auto &) {});
}

// Does `f` on the home shard of a room, after all that was posted there before.
template <class F> void at_home_of(const chorus::room &r, F f) {
  auto told = std::make_shared<std::promise<void>>();
  auto future = told->get_future();
  const auto home = r.core()->home();
  BOOST_REQUIRE(home->post([home, f, told]() mutable {
    f(*home);
    told->set_value();
  }));
  BOOST_REQUIRE((future.wait_for(patience) == std::future_status::ready));
}

// One server, whose engine does what the test says. Its lease lasts an hour, so that nothing is mended
// by its renewal.
struct scripted_server {
  std::shared_ptr<scripted> engine = std::make_shared<scripted>();
  chorus::room_options keep;
  server_of n;

  explicit scripted_server(const chorus::room_options &r) : keep(r), n(engine, r) {}
  wire member() {
    auto w = n.plain();
    BOOST_REQUIRE(comes_true([&] { return n.lobby().size() == 1; }));
    if (keep.presence)
      BOOST_CHECK(has(w.read_frame().payload, "\"list\""));
    return w;
  }
  // Another server publishes it.
  void elsewhere(const std::string &text) {
    put(*engine->inner(), "room/lobby", text.c_str(), keep, "other:" + text);
  }
};

} // namespace scripted_test
