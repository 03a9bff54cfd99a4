#include "support/redis_broker_engine.hpp"
#include "support/redis_process.hpp"

namespace test_support {

// One cluster for all tests, which find it empty.
std::unique_ptr<broker_engine> make_broker_engine() {
  static redis_cluster one;
  for (std::size_t i = 0; i < one.size(); ++i)
    one[i].ask({"FLUSHALL"});
  return std::make_unique<redis_broker_engine>(one.url());
}

} // namespace test_support
