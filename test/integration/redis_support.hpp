#pragma once
// A Redis of the test's own and nodes that share it, each on a runtime of its own, directly or by a proxy
// that fails as networks do.

#include "support/broker_calls.hpp"
#include "support/fault_proxy.hpp"
#include "support/redis_process.hpp"

#include <chorus/async/runtime.hpp>
#include <chorus/cluster/redis.hpp>

#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/test/unit_test.hpp>

#include <future>
#include <map>
#include <memory>
#include <sstream>
#include <string>
#include <thread>
#include <utility>

namespace redis_test {

using namespace std::chrono_literals;
using test_support::becomes_true;
using test_support::recorder;
using test_support::redis_process;

// On a slow machine, too.
inline chorus::redis_options patient() {
  chorus::redis_options o;
  o.connect_timeout = 20s;
  o.answer_timeout = 20s;
  return o;
}

// Destroyed as when a machine vanishes: nobody ends its leases.
class node : public test_support::asker {
public:
  explicit node(const std::string &url, chorus::redis_options options = patient())
      : asker(nullptr), runtime_(std::make_unique<chorus::runtime>(
                            chorus::runtime_options{.threads = 1, .tick = 5ms})),
        thread_([this] { runtime_->run(); }) {
    options.reconnect = {20ms, 1.5, 200ms};
    engine = chorus::redis(url, std::move(options));
    engine->attach(runtime_->executor()).value();
  }
  ~node() { stop(); }
  void stop() {
    if (!runtime_)
      return;
    runtime_->stop();
    thread_.join();
    runtime_.reset();
  }
  bool comes_up() {
    return becomes_true([&] { return engine->status().connected; });
  }
  bool goes_down() {
    return becomes_true([&] { return !engine->status().connected; });
  }

private:
  std::unique_ptr<chorus::runtime> runtime_;
  std::thread thread_;
};

class proxy {
public:
  template <class F> auto on_it(F f) {
    using value = decltype(f(*proxy_));
    std::promise<value> told;
    auto future = told.get_future();
    boost::asio::post(io_, [&] {
      if constexpr (std::is_void_v<value>) {
        f(*proxy_);
        told.set_value();
      } else {
        told.set_value(f(*proxy_));
      }
    });
    return future.get();
  }
  explicit proxy(std::uint16_t to) : thread_([this] { io_.run(); }) {
    proxy_ = std::make_unique<test_support::fault_proxy>(io_.get_executor(), to);
  }
  ~proxy() {
    on_it([this](auto &) { proxy_.reset(); });
    work_.reset();
    thread_.join();
  }
  std::string url() {
    return "redis://127.0.0.1:" +
           std::to_string(on_it([](test_support::fault_proxy &p) { return p.port(); }));
  }
  // Passed on to Redis.
  std::uint64_t sent() {
    return on_it([](test_support::fault_proxy &p) { return p.bytes(test_support::way::up); });
  }
  void cut(test_support::ending how) {
    on_it([how](test_support::fault_proxy &p) { p.cut_all(how); });
  }

private:
  boost::asio::io_context io_{1};
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_{
      io_.get_executor()};
  std::unique_ptr<test_support::fault_proxy> proxy_;
  std::thread thread_;
};

inline chorus::room_options keep(std::size_t messages) {
  chorus::room_options o;
  o.history_messages = messages;
  return o;
}

// Answers of publishes that are not waited for one by one.
class answers {
public:
  chorus::broker::published next() {
    auto told = std::make_shared<std::promise<chorus::result<chorus::broker_position>>>();
    futures_.push_back(told->get_future());
    return [told](chorus::result<chorus::broker_position> r) { told->set_value(std::move(r)); };
  }
  // In the order of the calls; waits.
  std::vector<chorus::result<chorus::broker_position>> all() {
    std::vector<chorus::result<chorus::broker_position>> got;
    for (auto &f : futures_) {
      if (f.wait_for(test_support::broker_patience) != std::future_status::ready)
        throw std::runtime_error("a publish was not answered");
      got.push_back(f.get());
    }
    futures_.clear();
    return got;
  }
  std::size_t answered() {
    std::size_t n = 0;
    for (auto &f : futures_)
      n += f.wait_for(0s) == std::future_status::ready ? 1 : 0;
    return n;
  }

private:
  std::vector<std::future<chorus::result<chorus::broker_position>>> futures_;
};

// How often each command has been called since CONFIG RESETSTAT, those of scripts included.
inline std::map<std::string, unsigned long> command_counts(const redis_process &redis) {
  std::map<std::string, unsigned long> counts;
  std::istringstream lines(redis.ask({"INFO", "commandstats"}));
  for (std::string line; std::getline(lines, line);) {
    const auto colon = line.find(":calls=");
    if (line.starts_with("cmdstat_") && colon != std::string::npos)
      counts[line.substr(8, colon - 8)] = std::stoul(line.substr(colon + 7));
  }
  return counts;
}
inline unsigned long scripts_run(const redis_process &redis) {
  auto counts = command_counts(redis);
  return counts["eval"] + counts["evalsha"];
}

inline std::string numbers(int from, int to) {
  std::string all;
  for (int i = from; i < to; ++i)
    all += std::to_string(i) + " ";
  return all;
}

} // namespace redis_test
