#include "support/broker_engine.hpp"
#include "support/redis_process.hpp"

#include <chorus/async/runtime.hpp>
#include <chorus/cluster/redis.hpp>

#include <thread>

namespace test_support {

namespace {

// One server for all tests, which find it empty.
redis_process &shared_redis() {
  static redis_process one;
  return one;
}

class redis_engine final : public broker_engine {
public:
  redis_engine() : thread_([this] { runtime_.run(); }) { shared_redis().ask({"FLUSHALL"}); }
  ~redis_engine() override {
    runtime_.stop();
    thread_.join();
  }
  std::shared_ptr<chorus::broker> node() override {
    auto made = chorus::redis(shared_redis().unix_url());
    made->attach(runtime_.executor()).value();
    return made;
  }

private:
  chorus::runtime runtime_{{.threads = 1, .tick = std::chrono::milliseconds(5)}};
  std::thread thread_;
};

} // namespace

std::unique_ptr<broker_engine> make_broker_engine() { return std::make_unique<redis_engine>(); }

} // namespace test_support
