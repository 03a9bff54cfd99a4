#include <chorus/base/backoff.hpp>

#include <algorithm>
#include <cmath>
#include <limits>
#include <stdexcept>

namespace chorus {

namespace {

// Uniform in [0, 1).
double unit(std::uint64_t random) noexcept { return static_cast<double>(random >> 11) * 0x1p-53; }

} // namespace

backoff::backoff(backoff_options options) : options_(options) {
  if (options.initial.count() < 0)
    throw std::invalid_argument("chorus: backoff_options::initial must not be negative");
  if (options.cap.count() < 0)
    throw std::invalid_argument("chorus: backoff_options::cap must not be negative");
  if (!(options.factor >= 1.0) || std::isinf(options.factor))
    throw std::invalid_argument("chorus: backoff_options::factor must be 1 or more");
}

std::chrono::milliseconds backoff::next(std::uint64_t random) noexcept {
  const double initial = static_cast<double>(options_.initial.count());
  const double cap = static_cast<double>(options_.cap.count());
  // An initial delay of zero stays zero, however often the infinite power multiplies it.
  const double grown =
      initial > 0 ? initial * std::pow(options_.factor, static_cast<double>(attempts_)) : 0.0;
  double delay = std::min(grown, cap);
  if (attempts_ < std::numeric_limits<unsigned>::max())
    ++attempts_;
  switch (options_.spread) {
  case jitter::none:
    break;
  case jitter::full:
    delay *= unit(random);
    break;
  case jitter::partial:
    delay = std::min(delay * (0.8 + 0.4 * unit(random)), cap);
    break;
  }
  if (delay >= 0x1p62) // a cap beyond any clock
    return std::chrono::milliseconds(std::int64_t{1} << 62);
  return std::chrono::milliseconds(static_cast<std::int64_t>(std::llround(delay)));
}

} // namespace chorus
