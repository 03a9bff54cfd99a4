#include "support/broker_engine.hpp"
#include "support/redis_process.hpp"

#include <chorus/async/runtime.hpp>
#include <chorus/cluster/redis.hpp>

#include <thread>

namespace test_support {

namespace {

redis_cluster &shared_cluster() {
  static redis_cluster one;
  return one;
}

class cluster_engine final : public broker_engine {
public:
  cluster_engine() : thread_([this] { runtime_.run(); }) {
    for (std::size_t i = 0; i < shared_cluster().size(); ++i)
      shared_cluster()[i].ask({"FLUSHALL"});
  }
  ~cluster_engine() override {
    runtime_.stop();
    thread_.join();
  }
  std::shared_ptr<chorus::broker> node() override {
    auto made = chorus::redis(shared_cluster().url());
    made->attach(runtime_.executor()).value();
    return made;
  }

private:
  chorus::runtime runtime_{{.threads = 1, .tick = std::chrono::milliseconds(5)}};
  std::thread thread_;
};

} // namespace

std::unique_ptr<broker_engine> make_broker_engine() { return std::make_unique<cluster_engine>(); }

} // namespace test_support
