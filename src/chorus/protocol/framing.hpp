#pragma once
// Messages over a plain byte stream (tcp://, tls://): the same reading interface as `reader`, three
// ways to tell where a message ends.

#include <chorus/base/buffer.hpp>
#include <chorus/base/byte_buffer.hpp>
#include <chorus/base/message.hpp>
#include <chorus/protocol/reader.hpp>
#include <chorus/protocol/utf8.hpp>
#include <chorus/protocol/violation.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace chorus {

enum class framing : std::uint8_t {
  length32, // a 32-bit big-endian length, then so many bytes; binary
  lines,    // up to a line feed, which does not belong to it, nor a carriage return before it; text
  raw,      // whatever one read gave; binary, without boundaries of its own
};

namespace protocol {

using chorus::framing;

struct framed_reader_options {
  chorus::framing how = chorus::framing::length32;
  std::size_t max_message = std::size_t{16} << 20; // bytes; raw input is cut to pieces of it
  bool check_utf8 = true;                          // of lines
};

// Events: need_more, message, violation. A length beyond the limit that is the beginning of HTTP or TLS is
// told apart from other ones: the peer expects another protocol. The members mean what they mean in `reader`, and memory
// follows the same rule.
class framed_reader {
public:
  explicit framed_reader(const framed_reader_options &options) noexcept;

  event next(std::span<std::byte> &input);
  message_kind kind() const noexcept {
    return how_ == framing::lines ? message_kind::text : message_kind::binary;
  }
  std::span<std::byte> payload() const noexcept { return {payload_, payload_size_}; }
  bool owned() const noexcept { return owned_; }
  buffer take_storage() noexcept;
  violation why() const noexcept { return why_; }
  std::span<std::byte> tail();
  event commit(std::size_t n);
  // No part of a message waits for the rest. False at the end of the stream: it was cut off, or the
  // last line has no line feed.
  bool at_boundary() const noexcept;

private:
  event next_prefixed(std::span<std::byte> &input);
  event next_line(std::span<std::byte> &input);
  event next_chunk(std::span<std::byte> &input) noexcept;
  event deliver(std::span<std::byte> payload, bool owned) noexcept;
  event fail(violation v) noexcept;
  void forget_delivered() noexcept;

  std::byte *payload_ = nullptr;
  std::size_t payload_size_ = 0;
  std::size_t max_message_;
  byte_buffer assembly_;
  std::uint32_t remaining_ = 0; // of a length-prefixed message under way
  std::array<std::byte, 4> prefix_;
  std::uint8_t prefix_size_ = 0;
  chorus::framing how_;
  bool check_utf8_;
  bool in_message_ = false;
  bool owned_ = false;
  bool delivered_ = false; // the latest payload lies in assembly_
  bool ended_ = false;
  violation why_ = violation::none;
  utf8_validator text_;
};

// Appends the message as it goes on the wire. Appends nothing and says why when the framing can't
// carry it: line_contains_newline, prefix_overflow. A raw message may arrive in pieces or joined.
// Throws std::bad_alloc.
[[nodiscard]] violation append_framed(byte_buffer &out, chorus::framing how,
                                      std::span<const std::byte> payload);
// The same question without the appending.
[[nodiscard]] violation check_framed(chorus::framing how,
                                     std::span<const std::byte> payload) noexcept;

} // namespace protocol
} // namespace chorus
