#include <chorus/protocol/utf8.hpp>

#include <algorithm>
#include <cstring>

namespace chorus::protocol {

namespace {

using block = std::uint64_t __attribute__((vector_size(16)));

block load(const unsigned char *p) noexcept {
  block b;
  std::memcpy(&b, p, sizeof b);
  return b;
}

constexpr std::uint64_t high_bits = 0x8080808080808080U;

// The first position from which 16 bytes are not all ASCII, or that has fewer than 16 left.
const unsigned char *skip_ascii(const unsigned char *p, const unsigned char *end) noexcept {
  while (end - p >= 64) {
    const block all = (load(p) | load(p + 16)) | (load(p + 32) | load(p + 48));
    if ((all[0] | all[1]) & high_bits)
      break;
    p += 64;
  }
  while (end - p >= 16) {
    const block b = load(p);
    if ((b[0] | b[1]) & high_bits)
      break;
    p += 16;
  }
  if (end - p >= 8) {
    std::uint64_t word;
    std::memcpy(&word, p, sizeof word);
    if ((word & high_bits) == 0)
      p += 8;
  }
  return p;
}

struct lead {
  std::uint8_t missing, lowest, highest;
};

// The table of well-formed sequences in RFC 3629 section 4; `missing` 0 for what can't lead.
constexpr lead lead_of(unsigned char c) noexcept {
  if (c < 0xc2)
    return {0, 0, 0};
  if (c < 0xe0)
    return {1, 0x80, 0xbf};
  if (c < 0xf0)
    return {2, static_cast<std::uint8_t>(c == 0xe0 ? 0xa0 : 0x80),
            static_cast<std::uint8_t>(c == 0xed ? 0x9f : 0xbf)};
  if (c < 0xf5)
    return {3, static_cast<std::uint8_t>(c == 0xf0 ? 0x90 : 0x80),
            static_cast<std::uint8_t>(c == 0xf4 ? 0x8f : 0xbf)};
  return {0, 0, 0};
}

constexpr bool continues(unsigned char c) noexcept { return (c & 0xc0U) == 0x80; }

} // namespace

bool utf8_validator::feed(std::span<const std::byte> bytes) noexcept {
  const auto *p = reinterpret_cast<const unsigned char *>(bytes.data());
  const auto *const end = p + bytes.size();
  for (;;) {
    for (; missing_ != 0; --missing_, ++p) {
      if (p == end)
        return true;
      if (*p < lowest_ || *p > highest_)
        return false;
      lowest_ = 0x80;
      highest_ = 0xbf;
    }
    p = skip_ascii(p, end);
    // Text that is not ASCII seldom returns to it for long: go on by character for a while.
    // Before `stop` four bytes are there, as many as a character has at most.
    const auto *const stop = p + std::clamp<std::ptrdiff_t>(end - p - 3, 0, 64);
    while (p < stop) {
      const unsigned char c = *p;
      if (c < 0x80) {
        ++p;
      } else if (c < 0xe0) {
        if (c < 0xc2 || !continues(p[1]))
          return false;
        p += 2;
      } else {
        const lead l = lead_of(c);
        if (l.missing == 0 || p[1] < l.lowest || p[1] > l.highest || !continues(p[2]) ||
            (l.missing == 3 && !continues(p[3])))
          return false;
        p += l.missing + 1;
      }
    }
    // The last three bytes may be the beginning of a character.
    while (end - p < 4 && p < end) {
      const unsigned char c = *p++;
      if (c < 0x80)
        continue;
      const lead l = lead_of(c);
      if (l.missing == 0)
        return false;
      missing_ = l.missing;
      lowest_ = l.lowest;
      highest_ = l.highest;
      break;
    }
    if (p >= end && missing_ == 0)
      return true;
  }
}

bool is_valid_utf8(std::span<const std::byte> bytes) noexcept {
  utf8_validator v;
  return v.feed(bytes) && v.complete();
}

std::size_t valid_utf8_prefix(std::span<const std::byte> bytes, std::size_t limit) noexcept {
  const auto *const first = reinterpret_cast<const unsigned char *>(bytes.data());
  const std::size_t size = std::min(bytes.size(), limit);
  std::size_t i = 0;
  while (i < size) {
    std::size_t length = 1;
    if (first[i] >= 0x80) {
      const lead l = lead_of(first[i]);
      length = std::size_t{l.missing} + 1;
      if (l.missing == 0 || length > size - i || !is_valid_utf8(bytes.subspan(i, length)))
        break;
    }
    i += length;
  }
  return i;
}

} // namespace chorus::protocol
