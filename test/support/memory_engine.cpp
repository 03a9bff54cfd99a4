#include "support/broker_engine.hpp"

namespace test_support {

namespace {

class memory_engine final : public broker_engine {
public:
  std::shared_ptr<chorus::broker> node() override { return shared_; }

private:
  const std::shared_ptr<chorus::broker> shared_ = chorus::make_memory_broker();
};

} // namespace

std::unique_ptr<broker_engine> make_broker_engine() { return std::make_unique<memory_engine>(); }

} // namespace test_support
