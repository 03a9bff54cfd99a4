#pragma once
// A counter with one writer, readable from any thread without a lock.

#include <atomic>
#include <cstdint>

namespace chorus::detail {

class counter {
public:
  counter() noexcept = default;
  counter &operator+=(std::uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) + n, std::memory_order_relaxed);
    return *this;
  }
  counter &operator-=(std::uint64_t n) noexcept {
    value_.store(value_.load(std::memory_order_relaxed) - n, std::memory_order_relaxed);
    return *this;
  }
  counter &operator++() noexcept { return *this += 1; }
  counter &operator--() noexcept { return *this -= 1; }
  void set(std::uint64_t n) noexcept { value_.store(n, std::memory_order_relaxed); }
  operator std::uint64_t() const noexcept { return value_.load(std::memory_order_relaxed); }

private:
  std::atomic<std::uint64_t> value_{0};
};

} // namespace chorus::detail
