#pragma once
// The body of an answer that is not held in memory whole, or not by the answer.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace chorus::detail {

class body_source {
public:
  // What is sent at a time, with one deadline.
  static constexpr std::size_t piece = 64 * 1024;

  virtual ~body_source() = default;
  virtual std::uint64_t size() const noexcept = 0;
  // Bytes from `offset`, at most as many as `scratch` holds; they may stand there, and are valid until
  // the next call. Empty when there are none any more: the answer can't be completed then.
  virtual std::string_view read(std::uint64_t offset, std::span<char> scratch) noexcept = 0;
};

} // namespace chorus::detail
