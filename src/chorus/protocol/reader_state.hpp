#pragma once
// Internal to `reader`.

#include <chorus/protocol/reader.hpp>

namespace chorus::protocol {

struct reader::frame {
  std::uint64_t size = 0;
  std::uint32_t key = 0;
  opcode op = opcode::text;
  bool fin = false;
  bool rsv1 = false;
};

// What exists only while a message or a frame is incomplete, or delivered from here.
struct reader::work {
  byte_buffer assembly;   // the data message so far, decompressed
  std::uint64_t wire = 0; // bytes that the headers of its frames announced
  frame current;          // of which `remaining` bytes are still to come
  std::uint64_t remaining = 0;
  unsigned phase = 0; // bytes of `current` that came, modulo 4
  bool in_frame = false;
  bool in_message = false;
  bool compressed = false;
  bool delivered = false; // the event's payload lies here
  message_kind kind = message_kind::text;
  utf8_validator text;
  std::uint8_t control_size = 0;
  std::array<std::byte, max_control_payload> control;
};

namespace detail {
inline std::uint64_t big_endian(const std::byte *p, std::size_t width) noexcept {
  std::uint64_t value = 0;
  for (std::size_t i = 0; i < width; ++i)
    value = value << 8 | static_cast<std::uint64_t>(p[i]);
  return value;
}
} // namespace detail

} // namespace chorus::protocol
