#pragma once
// What a room's members here have been given already, by its origin: where a room begins a new epoch its
// engine may tell, or be told, the same messages again. Bounded; 8 bytes for each.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

namespace chorus::detail {

class known_origins {
public:
  explicit known_origins(std::size_t most) noexcept : most_(most) {}

  // Of the newest message.
  void note(std::string_view origin) {
    if (origin.empty() || most_ == 0)
      return;
    const auto hash = hash_of(origin);
    if (newest_.size() < most_)
      newest_.push_back(hash);
    else
      newest_[next_++ % most_] = hash;
    if (!before_.empty() && ++since_ == most_)
      before_ = std::vector<std::uint64_t>(); // all of them are older
  }
  void epoch_ended() {
    before_ = newest_;
    std::sort(before_.begin(), before_.end());
    since_ = 0;
  }
  // Noted before the epoch began. Within an epoch offsets tell.
  bool had(std::string_view origin) const noexcept {
    return !before_.empty() && !origin.empty() &&
           std::binary_search(before_.begin(), before_.end(), hash_of(origin));
  }

private:
  static std::uint64_t hash_of(std::string_view origin) noexcept {
    return std::hash<std::string_view>()(origin);
  }

  const std::size_t most_;
  std::size_t next_ = 0;  // to be replaced
  std::size_t since_ = 0; // noted since the epoch began
  std::vector<std::uint64_t> newest_;
  std::vector<std::uint64_t> before_; // sorted
};

} // namespace chorus::detail
