#pragma once
// What handles of other rooms share of a runtime.

#include <chorus/async/runtime.hpp>
#include <chorus/async/shard.hpp>

#include <functional>
#include <memory>
#include <thread>
#include <vector>

namespace chorus::detail {

class runtime_core : public std::enable_shared_from_this<runtime_core> {
public:
  std::vector<std::shared_ptr<shard>> shards;
  std::vector<std::thread> threads; // of all shards but the first, while running

  // Called on teardown, before the contexts are destroyed, on the thread that destroys the runtime.
  void stop() noexcept;
  // The shard of the calling thread if it is one of ours, else the next one in turn.
  shard &pick() noexcept;

private:
  std::atomic<unsigned> next_{0};
};

} // namespace chorus::detail
