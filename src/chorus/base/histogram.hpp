#pragma once
// A histogram with fixed buckets and one writer, readable from any thread without a lock: each shard
// has its own, and who wants to know adds them up.

#include <algorithm>
#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

namespace chorus::detail {

inline constexpr std::size_t most_buckets = 16;

// Sums of histograms with the same bounds.
struct histogram_sum {
  std::span<const double> bounds; // upper, ascending, inclusive
  std::array<std::uint64_t, most_buckets + 1>
      counts{}; // not cumulative; the last: above all bounds
  double sum = 0;

  void operator+=(const histogram_sum &other) noexcept {
    if (!other.bounds.empty())
      bounds = other.bounds;
    for (std::size_t i = 0; i < counts.size(); ++i)
      counts[i] += other.counts[i];
    sum += other.sum;
  }
};

class histogram {
public:
  // `bounds` have static lifetime; at most most_buckets of them.
  explicit histogram(std::span<const double> bounds) noexcept : bounds_(bounds) {}

  void observe(double value, std::uint64_t times = 1) noexcept {
    const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), value) - bounds_.begin();
    bump(counts_[static_cast<std::size_t>(at)], times);
    bump(sum_, value * static_cast<double>(times));
  }
  histogram_sum now() const noexcept {
    histogram_sum s;
    s.bounds = bounds_;
    for (std::size_t i = 0; i <= bounds_.size(); ++i)
      s.counts[i] = counts_[i].load(std::memory_order_relaxed);
    s.sum = sum_.load(std::memory_order_relaxed);
    return s;
  }

private:
  template <class T> static void bump(std::atomic<T> &value, T by) noexcept {
    value.store(value.load(std::memory_order_relaxed) + by, std::memory_order_relaxed);
  }

  std::span<const double> bounds_;
  std::array<std::atomic<std::uint64_t>, most_buckets + 1> counts_{};
  std::atomic<double> sum_{0};
};

// In seconds.
inline constexpr std::array<double, 16> time_bounds{0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                                    0.01,   0.025,   0.05,   0.1,   0.25,   0.5,
                                                    1,      2.5,     5,      10};
inline constexpr std::array<double, 13> member_bounds{1,   2,   5,    10,   20,   50,   100,
                                                      200, 500, 1000, 2000, 5000, 10000};

} // namespace chorus::detail
