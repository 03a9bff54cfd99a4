#pragma once
// Writing frames (RFC 6455 section 5.2). Small enough for the hot path: one header, one copy.

#include <chorus/base/byte_buffer.hpp>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

namespace chorus::protocol {

// Which end of the connection this side is.
enum class role : std::uint8_t { client, server };

enum class opcode : std::uint8_t {
  continuation = 0,
  text = 1,
  binary = 2,
  close = 8,
  ping = 9,
  pong = 10,
};

constexpr bool is_control(opcode op) noexcept { return static_cast<std::uint8_t>(op) >= 8; }

constexpr std::size_t max_header_size = 14;
constexpr std::size_t max_control_payload = 125;

namespace detail {
inline std::size_t put_header(std::byte *out, opcode op, bool fin, bool rsv1, std::uint64_t size,
                              unsigned mask_bit) noexcept {
  out[0] =
      static_cast<std::byte>((fin ? 0x80U : 0U) | (rsv1 ? 0x40U : 0U) | static_cast<unsigned>(op));
  if (size < 126) {
    out[1] = static_cast<std::byte>(mask_bit | static_cast<unsigned>(size));
    return 2;
  }
  if (size < 65536) {
    out[1] = static_cast<std::byte>(mask_bit | 126U);
    out[2] = static_cast<std::byte>(size >> 8);
    out[3] = static_cast<std::byte>(size);
    return 4;
  }
  out[1] = static_cast<std::byte>(mask_bit | 127U);
  for (int i = 0; i < 8; ++i)
    out[2 + i] = static_cast<std::byte>(size >> (56 - 8 * i));
  return 10;
}
} // namespace detail

// Writes a header to `out` (max_header_size bytes must be there) and returns its length.
inline std::size_t encode_header(std::byte *out, opcode op, bool fin, bool rsv1,
                                 std::uint64_t size) noexcept {
  return detail::put_header(out, op, fin, rsv1, size, 0);
}
// With a masking key (its bytes as they lie in memory); the payload that follows must be masked.
inline std::size_t encode_masked_header(std::byte *out, opcode op, bool fin, bool rsv1,
                                        std::uint64_t size, std::uint32_t key) noexcept {
  const std::size_t n = detail::put_header(out, op, fin, rsv1, size, 0x80U);
  std::memcpy(out + n, &key, sizeof key);
  return n + sizeof key;
}

// Appends a whole frame; a client's is masked with a fresh key while it is copied. `payload` must
// not lie in `out`. Throws std::bad_alloc, and as next_mask_key does.
void append_frame(byte_buffer &out, role side, opcode op, bool fin, bool rsv1,
                  std::span<const std::byte> payload);

// Appends a close frame. The payload is empty, whatever `reason` says, for a code that may not stand
// on the wire (0, 1005, 1006, 1015...). The reason is cut to 123 bytes and before its first
// malformed character.
void append_close(byte_buffer &out, role side, std::uint16_t code, std::string_view reason = {});

} // namespace chorus::protocol
