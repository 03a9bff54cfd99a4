#pragma once
#include "support.hpp"

namespace chorus::test {

// A listener that keeps what it was told.
class recorder : public detail::ready_listener {
public:
  explicit recorder(detail::shard &home) : changed(home) {}
  void on_ready(unsigned what) noexcept override {
    told.push_back(what);
    if (then)
      then(what);
    changed.poke();
  }
  task<bool> times(std::size_t count) {
    std::function<bool()> enough = [this, count] { return told.size() >= count; };
    co_return co_await changed.until(std::move(enough));
  }
  std::vector<unsigned> told;
  std::function<void(unsigned)> then;
  condition_point changed;
};

} // namespace chorus::test
