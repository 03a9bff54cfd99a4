#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace load {

// Named figures in the order they were added: aligned lines for people, or one JSON object.
class report {
public:
  using value = std::variant<std::uint64_t, double, bool, std::string>;
  template <class T> void add(std::string name, T v) {
    if constexpr (std::is_integral_v<T> && !std::is_same_v<T, bool>)
      figures_.emplace_back(std::move(name), static_cast<std::uint64_t>(v));
    else
      figures_.emplace_back(std::move(name), value{std::move(v)});
  }
  std::string text() const;
  std::string json() const;

private:
  std::vector<std::pair<std::string, value>> figures_;
};

} // namespace load
