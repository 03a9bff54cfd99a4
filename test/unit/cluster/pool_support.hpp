#pragma once
// A pool on a runtime of its own, asked from the test's thread.

#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/cluster/redis_pool.hpp>

#include "support/redis_process.hpp"

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <chrono>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

namespace pool_test {

using namespace std::chrono_literals;
using chorus::detail::redis_answer;
using chorus::detail::redis_outcome;
using chorus::detail::redis_pool;
using chorus::detail::redis_reply;
using chorus::detail::redis_script;
using test_support::redis_process;

using kind = redis_outcome::kind;

// Until it holds; gives up after a time that no machine needs.
template <class F> bool comes_true(F f, std::chrono::seconds limit = 60s) {
  const auto until = std::chrono::steady_clock::now() + limit;
  while (!f()) {
    if (std::chrono::steady_clock::now() > until)
      return false;
    std::this_thread::sleep_for(2ms);
  }
  return true;
}

inline chorus::redis_options quick_options() {
  chorus::redis_options o;
  o.client_name = "test";
  o.reconnect = {10ms, 1.5, 200ms};
  o.connect_timeout = 20s; // of a loaded machine
  o.answer_timeout = 20s;
  o.look_up_timeout = 60s;
  return o;
}

class living_pool {
public:
  explicit living_pool(const std::string &url, chorus::redis_options options = quick_options())
      : target_(chorus::detail::parse_redis_url(url).value()), rt_(chorus::runtime_options{1, 5ms}),
        thread_([this] { rt_.run(); }) {
    redis_pool::listener told;
    told.on_message = [this](std::string_view channel, std::string_view payload) {
      std::lock_guard lock(mutex_);
      messages_.emplace_back(channel, payload);
    };
    told.on_subscribed = [this](const std::string &channel, bool again) {
      std::lock_guard lock(mutex_);
      auto &counts = subscribed_[channel];
      ++(again ? counts.second : counts.first);
    };
    told.on_up = [this] {
      ++ups;
      if (at_up)
        at_up(*pool_);
    };
    told.on_down = [this](const chorus::failure &why) {
      std::lock_guard lock(mutex_);
      downs_.push_back(why);
    };
    told.on_event = [this](std::string_view text) {
      std::lock_guard lock(mutex_);
      events_.emplace_back(text);
    };
    pool_ = redis_pool::make(rt_.core()->shards[0], target_, options, std::move(told));
  }
  ~living_pool() {
    on_shard([this] { pool_.reset(); });
    rt_.stop();
    thread_.join();
  }
  living_pool(const living_pool &) = delete;
  living_pool &operator=(const living_pool &) = delete;

  redis_pool &pool() { return *pool_; }
  void begin() {
    on_shard([this] { pool_->begin(); });
  }
  bool comes_up() {
    begin();
    return comes_true([this] { return ups.load() != 0; });
  }
  // Runs `f` there and waits for its end.
  template <class F> void on_shard(F f) {
    std::promise<void> ended;
    if (rt_.core()->shards[0]->post([&] {
          f();
          ended.set_value();
        }))
      ended.get_future().wait();
  }
  std::future<redis_outcome> start(std::string key, std::vector<std::string> words) {
    auto promised = std::make_shared<std::promise<redis_outcome>>();
    auto future = promised->get_future();
    rt_.core()->shards[0]->post([this, key, words, promised]() mutable {
      pool_->command(key, std::move(words),
                     [promised](redis_outcome o) { promised->set_value(std::move(o)); });
    });
    return future;
  }
  std::future<redis_outcome> start(const redis_script &which, std::vector<std::string> keys,
                                   std::vector<std::string> arguments) {
    auto promised = std::make_shared<std::promise<redis_outcome>>();
    auto future = promised->get_future();
    rt_.core()->shards[0]->post([this, which, keys, arguments, promised]() mutable {
      pool_->script(which, std::move(keys), std::move(arguments),
                    [promised](redis_outcome o) { promised->set_value(std::move(o)); });
    });
    return future;
  }
  static redis_outcome get(std::future<redis_outcome> f) {
    if (f.wait_for(90s) != std::future_status::ready)
      throw std::runtime_error("a command was not answered");
    return f.get();
  }
  redis_outcome ask(std::string key, std::vector<std::string> words) {
    return get(start(std::move(key), std::move(words)));
  }
  // The text of its answer, or what else became of it.
  std::string say(std::string key, std::vector<std::string> words) {
    return text_of(ask(std::move(key), std::move(words)));
  }
  static std::string text_of(const redis_outcome &o) {
    if (o.is != kind::answered)
      return "(" + std::string(name_of(o.is)) + ") " + o.why.message();
    if (o.reply.is == redis_reply::type::number)
      return std::to_string(o.reply.number);
    return o.reply.is == redis_reply::type::nil ? "(nil)" : o.reply.text;
  }
  static const char *name_of(kind k) {
    return k == kind::answered   ? "answered"
           : k == kind::not_done ? "not_done"
           : k == kind::unknown  ? "unknown"
                                 : "doubtful";
  }
  void subscribe(const std::string &channel) {
    on_shard([&] { pool_->subscribe(channel); });
  }
  void unsubscribe(const std::string &channel) {
    on_shard([&] { pool_->unsubscribe(channel); });
  }
  // How often it was confirmed for the first time, and again.
  std::pair<int, int> confirmed(const std::string &channel) {
    std::lock_guard lock(mutex_);
    return subscribed_[channel];
  }
  std::vector<std::pair<std::string, std::string>> messages() {
    std::lock_guard lock(mutex_);
    return messages_;
  }
  bool has_message(const std::string &channel, const std::string &payload) {
    for (const auto &[where, what] : messages())
      if (where == channel && what == payload)
        return true;
    return false;
  }
  std::size_t down_count() {
    std::lock_guard lock(mutex_);
    return downs_.size();
  }
  chorus::failure first_down() {
    std::lock_guard lock(mutex_);
    return downs_.empty() ? chorus::failure() : downs_.front();
  }
  bool has_event(const std::string &part) {
    std::lock_guard lock(mutex_);
    for (const auto &one : events_)
      if (one.find(part) != one.npos)
        return true;
    return false;
  }
  std::string all_events() {
    std::lock_guard lock(mutex_);
    std::string all;
    for (const auto &one : events_)
      all += one + "\n";
    return all;
  }

  std::atomic<int> ups{0};
  std::function<void(redis_pool &)> at_up; // set before `begin`

private:
  chorus::detail::redis_target target_;
  chorus::runtime rt_;
  std::shared_ptr<redis_pool> pool_;
  std::mutex mutex_;
  std::vector<std::pair<std::string, std::string>> messages_;
  std::map<std::string, std::pair<int, int>> subscribed_;
  std::vector<chorus::failure> downs_;
  std::vector<std::string> events_;
  std::thread thread_;
};

} // namespace pool_test
