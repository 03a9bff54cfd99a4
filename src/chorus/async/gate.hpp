#pragma once
// Counts spawned work, so that shutdown can wait for it: nothing is detached and forgotten.
// Belongs to one shard's thread.

#include <chorus/async/task.hpp>

#include <cstddef>
#include <functional>
#include <utility>

namespace chorus::detail {

class gate {
public:
  class pass {
  public:
    pass() noexcept = default;
    explicit pass(gate &g) noexcept : gate_(&g) { ++g.count_; }
    pass(pass &&other) noexcept : gate_(std::exchange(other.gate_, nullptr)) {}
    pass &operator=(pass &&other) noexcept {
      std::swap(gate_, other.gate_);
      return *this;
    }
    ~pass() {
      if (gate_)
        gate_->leave();
    }

  private:
    gate *gate_ = nullptr;
  };

  gate() noexcept = default;
  gate(const gate &) = delete;
  gate &operator=(const gate &) = delete;

  pass enter() noexcept { return pass(*this); }
  std::size_t count() const noexcept { return count_; }
  // Called once, when the count next reaches zero (at once when it is zero).
  void on_empty(std::function<void()> f) {
    if (count_ == 0)
      f();
    else
      empty_ = std::move(f);
  }

private:
  void leave() noexcept {
    if (--count_ == 0 && empty_)
      std::exchange(empty_, nullptr)();
  }

  std::size_t count_ = 0;
  std::function<void()> empty_;
};

} // namespace chorus::detail
