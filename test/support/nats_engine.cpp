#include "support/broker_engine.hpp"
#include "support/nats_process.hpp"

#include <chorus/cluster/nats.hpp>

#include <string>

namespace test_support {

namespace {

// One server for all tests, each of which has a prefix of its own.
nats_process &shared_nats() {
  static nats_process one;
  return one;
}

class nats_engine final : public broker_engine {
public:
  std::shared_ptr<chorus::broker> node() override {
    chorus::nats_options o;
    o.prefix = prefix_;
    o.connect_timeout = o.answer_timeout = std::chrono::seconds(20);
    auto made = chorus::nats(shared_nats().url(), o);
    made->attach({}).value();
    return made;
  }

private:
  static inline int count_ = 0;
  const std::string prefix_ = "test-" + std::to_string(++count_);
};

} // namespace

std::unique_ptr<broker_engine> make_broker_engine() { return std::make_unique<nats_engine>(); }

} // namespace test_support
