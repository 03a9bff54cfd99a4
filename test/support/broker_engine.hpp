#pragma once
// The engine that the tests of the contract are run against: each executable links one implementation.

#include <chorus/server/broker.hpp>

#include <memory>

namespace test_support {

class broker_engine {
public:
  virtual ~broker_engine() = default;
  // As another server has it, in another process: one that shares rooms with all others of this engine.
  virtual std::shared_ptr<chorus::broker> node() = 0;
};

// Empty, and reached.
std::unique_ptr<broker_engine> make_broker_engine();

} // namespace test_support
