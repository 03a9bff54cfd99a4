#pragma once
// Clocks, a latency histogram, and what /proc tells about the server under load.

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <optional>

namespace load {

std::uint64_t now_ns();

// User and system time of this process, in seconds.
double own_cpu_seconds();

// User and system time of all threads of `pid`, in seconds; nothing when it can't be read.
std::optional<double> cpu_seconds(pid_t pid);

struct memory {
  std::uint64_t resident = 0;  // bytes
  std::uint64_t anonymous = 0; // bytes of it that no file backs: heap, stacks
  std::uint64_t peak = 0;      // highest resident since the start or the last reset_peak
};
std::optional<memory> memory_of(pid_t pid);
void reset_peak(pid_t pid); // does nothing where the kernel does not allow it

// Nanoseconds in 64 steps per power of two: at most 1.6% off.
class histogram {
public:
  void add(std::uint64_t ns, std::uint64_t times = 1) {
    counts_[index(ns)] += times;
    total_ += times;
  }
  void clear() {
    counts_.fill(0);
    total_ = 0;
  }
  std::uint64_t total() const { return total_; }
  // In microseconds; `part` of 0.99 is the 99th percentile.
  double percentile(double part) const;

private:
  static constexpr unsigned steps = 64;
  static std::size_t index(std::uint64_t ns) {
    if (ns < steps)
      return ns;
    const auto top = static_cast<unsigned>(63 - __builtin_clzll(ns));
    return static_cast<std::size_t>(top - 5) * steps + (ns >> (top - 6)) - steps;
  }
  static double value(std::size_t index);

  std::array<std::uint64_t, 60 * steps> counts_{};
  std::uint64_t total_ = 0;
};

} // namespace load
