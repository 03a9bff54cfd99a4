#pragma once
// Families of metrics as Prometheus' text exposition format has them, in the order in which they are
// added. Keeps prometheus-cpp's types to itself.

#include <chorus/base/histogram.hpp>

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

namespace chorus::observe::detail {

using label = std::pair<std::string_view, std::string_view>;
using labels = std::initializer_list<label>;

class exposition {
public:
  exposition();
  ~exposition();
  exposition(const exposition &) = delete;
  exposition &operator=(const exposition &) = delete;

  // A family, and its series after it.
  exposition &counter(std::string_view name, std::string_view help);
  exposition &gauge(std::string_view name, std::string_view help);
  exposition &histogram(std::string_view name, std::string_view help);

  exposition &add(double value, labels with = {});
  exposition &add(std::uint64_t value, labels with = {}) {
    return add(static_cast<double>(value), with); // exact up to 2^53
  }
  exposition &add(const chorus::detail::histogram_sum &value, labels with = {});

  std::string text() const;

private:
  struct families;
  std::unique_ptr<families> families_;
};

} // namespace chorus::observe::detail
