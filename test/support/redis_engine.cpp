#include "support/redis_broker_engine.hpp"
#include "support/redis_process.hpp"

namespace test_support {

// One server for all tests, which find it empty.
std::unique_ptr<broker_engine> make_broker_engine() {
  static redis_process one;
  one.ask({"FLUSHALL"});
  return std::make_unique<redis_broker_engine>(one.unix_url());
}

} // namespace test_support
