#pragma once
// UTF-8 as RFC 3629 defines it: no overlong forms, no surrogates, nothing past U+10FFFF.

#include <cstddef>
#include <cstdint>
#include <span>

namespace chorus::protocol {

// Checks a text that arrives in pieces.
class utf8_validator {
public:
  // False as soon as the bytes so far can't become valid, however they go on. After that, only
  // `reset` makes this usable again.
  bool feed(std::span<const std::byte> bytes) noexcept;
  // The text may end here: no sequence is unfinished.
  bool complete() const noexcept { return missing_ == 0; }
  void reset() noexcept { *this = utf8_validator(); }

private:
  std::uint8_t missing_ = 0;   // continuation bytes still to come
  std::uint8_t lowest_ = 0x80; // bounds of the next one
  std::uint8_t highest_ = 0xbf;
};

bool is_valid_utf8(std::span<const std::byte> bytes) noexcept;

// Length of the longest prefix of at most `limit` bytes that is valid and complete.
std::size_t valid_utf8_prefix(std::span<const std::byte> bytes, std::size_t limit) noexcept;

} // namespace chorus::protocol
