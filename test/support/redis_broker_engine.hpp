#pragma once
// An engine of the contract's tests on Redis, with a runtime of its own.

#include "support/broker_engine.hpp"

#include <chorus/async/runtime.hpp>
#include <chorus/cluster/redis.hpp>

#include <chrono>
#include <string>
#include <thread>

namespace test_support {

class redis_broker_engine final : public broker_engine {
public:
  explicit redis_broker_engine(std::string url)
      : url_(std::move(url)), thread_([this] { runtime_.run(); }) {}
  ~redis_broker_engine() override {
    runtime_.stop();
    thread_.join();
  }
  std::shared_ptr<chorus::broker> node() override {
    chorus::redis_options o;
    o.connect_timeout = o.answer_timeout = std::chrono::seconds(20);
    auto made = chorus::redis(url_, o);
    made->attach(runtime_.executor()).value();
    return made;
  }

private:
  const std::string url_;
  chorus::runtime runtime_{{.threads = 1, .tick = std::chrono::milliseconds(5)}};
  std::thread thread_;
};

} // namespace test_support
