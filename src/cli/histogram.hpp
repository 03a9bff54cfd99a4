#pragma once
// Counts durations in buckets of at most 1.6% of their value; a fixed 28 KiB, nothing allocated later.

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace cli {

class histogram {
public:
  void add(std::uint64_t nanoseconds) noexcept {
    ++counts_[bucket_of(nanoseconds)];
    ++total_;
    highest_ = std::max(highest_, nanoseconds);
  }
  void add(const histogram &other) noexcept {
    for (std::size_t i = 0; i < counts_.size(); ++i)
      counts_[i] += other.counts_[i];
    total_ += other.total_;
    highest_ = std::max(highest_, other.highest_);
  }
  std::uint64_t total() const noexcept { return total_; }
  std::uint64_t highest() const noexcept { return highest_; }
  // The value that `part` (0 to 1) of the durations do not exceed, in nanoseconds; 0 without any.
  std::uint64_t percentile(double part) const noexcept {
    const auto wanted = std::max<std::uint64_t>(
        1, static_cast<std::uint64_t>(part * static_cast<double>(total_) + 0.5));
    std::uint64_t seen = 0;
    for (std::size_t i = 0; i < counts_.size(); ++i) {
      seen += counts_[i];
      if (seen >= wanted)
        return std::min(top_of(i), highest_);
    }
    return highest_;
  }

private:
  // 2^fine_bits buckets for each power of two; below that, a bucket for each value.
  static constexpr unsigned fine_bits = 6;
  static constexpr std::size_t fine = std::size_t{1} << fine_bits;

  static constexpr std::size_t bucket_of(std::uint64_t value) noexcept {
    if (value < fine)
      return static_cast<std::size_t>(value);
    const auto shift = static_cast<unsigned>(std::bit_width(value)) - 1 - fine_bits;
    return (shift + 1) * fine + static_cast<std::size_t>((value >> shift) & (fine - 1));
  }
  static constexpr std::uint64_t top_of(std::size_t bucket) noexcept {
    if (bucket < fine)
      return bucket;
    const auto shift = bucket / fine - 1;
    return ((fine + bucket % fine + 1) << shift) - 1;
  }

  std::array<std::uint64_t, (64 - fine_bits + 1) * fine> counts_{};
  std::uint64_t total_ = 0;
  std::uint64_t highest_ = 0;
};

} // namespace cli
