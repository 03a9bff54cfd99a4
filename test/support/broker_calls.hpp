#pragma once
// A broker's functions as calls that wait for their answers, and a listener that writes down what it is
// told. For tests, on one thread; engines may answer on any.

#include <chorus/server/broker.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace test_support {

inline constexpr std::chrono::seconds broker_patience{60};

template <class F> bool becomes_true(F f) {
  for (const auto end = std::chrono::steady_clock::now() + broker_patience;
       std::chrono::steady_clock::now() < end;
       std::this_thread::sleep_for(std::chrono::milliseconds(1)))
    if (f())
      return true;
  return f();
}

struct recorder final : chorus::broker_listener {
  void on_message(const chorus::broker_message &m) noexcept override {
    std::lock_guard lock(mutex);
    heard_ += m.content.str() + " ";
    messages_.push_back(m);
  }
  void on_presence(const chorus::broker_change &c) noexcept override {
    std::lock_guard lock(mutex);
    heard_ += (c.present ? "+" : "-") + c.who.node + "/" + c.who.id +
              (c.who.data.empty() ? "" : "=" + c.who.data) + " ";
    changes_.push_back(c);
  }
  void on_gap() noexcept override {
    std::lock_guard lock(mutex);
    ++gaps_;
  }
  std::string heard() {
    std::lock_guard lock(mutex);
    return heard_;
  }
  // Waits for exactly this, and forgets it.
  bool hears(const std::string &what) {
    const bool did = becomes_true([&] { return heard().size() >= what.size(); });
    std::lock_guard lock(mutex);
    return did && std::exchange(heard_, {}) == what;
  }
  std::vector<chorus::broker_message> messages() {
    std::lock_guard lock(mutex);
    return messages_;
  }
  std::vector<chorus::broker_change> changes() {
    std::lock_guard lock(mutex);
    return changes_;
  }
  int gaps() {
    std::lock_guard lock(mutex);
    return gaps_;
  }

private:
  std::mutex mutex;
  std::string heard_;
  std::vector<chorus::broker_message> messages_;
  std::vector<chorus::broker_change> changes_;
  int gaps_ = 0;
};

// Somebody who asks the engine.
class asker {
public:
  explicit asker(std::shared_ptr<chorus::broker> b) : engine(std::move(b)) {}

  template <class T, class F> static chorus::result<T> answer_of(F f) {
    auto told = std::make_shared<std::promise<chorus::result<T>>>();
    auto future = told->get_future();
    f([told](chorus::result<T> r) { told->set_value(std::move(r)); });
    if (future.wait_for(broker_patience) != std::future_status::ready)
      throw std::runtime_error("a call of a broker was not answered");
    return future.get();
  }

  std::shared_ptr<recorder> listen(const std::string &room) {
    auto ear = std::make_shared<recorder>();
    listen(room, ear).value();
    return ear;
  }
  chorus::result<> listen(const std::string &room, const std::shared_ptr<recorder> &ear) {
    return answer_of<void>([&](auto a) { engine->subscribe(room, ear, a); });
  }
  chorus::result<chorus::broker_position> publish(chorus::broker_message m) {
    return answer_of<chorus::broker_position>([&](auto a) { engine->publish(std::move(m), a); });
  }
  chorus::result<chorus::broker_position> publish(const std::string &room, const std::string &text,
                                                  const chorus::room_options &keep = {}) {
    return publish(make(room, text, keep));
  }
  chorus::broker_message make(const std::string &room, const std::string &text,
                              const chorus::room_options &keep = {}) {
    chorus::broker_message m;
    m.room = room;
    m.content = text;
    m.origin = name_ + std::to_string(++number_);
    m.keep = keep;
    return m;
  }
  chorus::result<chorus::broker_page> page(const std::string &room,
                                           const chorus::broker_position &since = {}) {
    return answer_of<chorus::broker_page>([&](auto a) { engine->history(room, since, a); });
  }
  // All of its pages.
  std::string history(const std::string &room, chorus::broker_position since = {}) {
    std::string all;
    for (;;) {
      const auto p = page(room, since).value();
      for (const auto &m : p.messages)
        all += m.content.str() + " ";
      if (!p.more)
        return all;
      since = {p.epoch, p.messages.back().at.offset};
    }
  }
  chorus::result<> begin_epoch(const std::string &room, const std::string &ended) {
    return answer_of<void>([&](auto a) { engine->begin_epoch(room, ended, a); });
  }
  chorus::result<> enter(const std::string &room, const char *node, const std::string &id,
                         const std::string &data = {}, std::size_t most = 0) {
    return answer_of<void>([&](auto a) { engine->enter(room, {node, id, data, 0}, most, a); });
  }
  chorus::result<> leave(const std::string &room, const char *node, const std::string &id) {
    return answer_of<void>([&](auto a) { engine->leave(room, node, id, a); });
  }
  bool renew(const char *node, std::chrono::milliseconds alive) {
    return answer_of<bool>([&](auto a) { engine->renew(node, alive, a); }).value();
  }
  chorus::broker_members members(const std::string &room) {
    return answer_of<chorus::broker_members>([&](auto a) { engine->members(room, a); }).value();
  }
  std::string list(const std::string &room) {
    std::string all;
    for (const auto &m : members(room).members)
      all += m.node + "/" + m.id + " ";
    return all;
  }

  std::shared_ptr<chorus::broker> engine;

private:
  static inline std::atomic<unsigned> askers_{0};
  std::string name_ = "tester" + std::to_string(++askers_) + ":";
  unsigned number_ = 0;
};

} // namespace test_support
