#pragma once
// The reading half of a WebSocket connection in either role: bytes in, events out (RFC 6455 sections
// 5 to 7, RFC 7692). No clock, no socket, no I/O.
//
//   std::span<std::byte> input = what was read;
//   for (;;) switch (r.next(input)) { case event::need_more: wait for more; ... }
//
// Between messages a reader owns nothing. While a message is incomplete it owns what came of it:
// memory grows with the bytes received (at most twice them, 256 bytes at least), never with an
// announced length; limits are applied to announced lengths before any payload is taken.
// A compressed message that is not whole in one input is decompressed as it comes, so that bad text,
// too much of it and bad data end the connection at the byte that shows it. Nothing is kept of the
// compressed bytes; what came out of them is (at most max_message bytes, in a buffer of at most
// twice what is there), and until the end of the message a decoder of up to 40 KiB (`inflater`).

#include <chorus/base/buffer.hpp>
#include <chorus/base/message.hpp>
#include <chorus/protocol/close_code.hpp>
#include <chorus/protocol/deflate.hpp>
#include <chorus/protocol/frame.hpp>
#include <chorus/protocol/violation.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace chorus::protocol {

struct reader_options {
  role side = role::server;                        // of this end
  std::size_t max_message = std::size_t{16} << 20; // bytes, after decompression
  std::size_t max_frame = SIZE_MAX;                // bytes of payload
  bool check_utf8 = true;                          // of text messages
  const deflate_params *deflate = nullptr;         // when negotiated; copied
};

enum class event : std::uint8_t {
  need_more, // all input was consumed
  message,
  ping,
  pong,
  close,
  violation,
};

// A partly received frame with at least this much to come may be read in place (`tail`).
constexpr std::size_t min_direct_read = std::size_t{64} << 10;

class reader {
public:
  explicit reader(const reader_options &options);
  reader(reader &&) noexcept;
  reader &operator=(reader &&) noexcept;
  ~reader();

  // Consumes from the front of `input`, unmasking in place, up to and including one event. After
  // need_more `input` is empty and nothing in it is referred to any more. After close or violation
  // all further input is discarded, with need_more. Throws std::bad_alloc.
  event next(std::span<std::byte> &input);

  // The results of the latest event, until the next call of next, tail or commit.

  // message: its kind.
  message_kind kind() const noexcept { return kind_; }
  // message, ping, pong: the payload. It lies in the input, or, when `owned`, in storage that
  // `take_storage` gives away (payload() then stays valid as long as that buffer lives); a control
  // frame that came in pieces lies in the reader.
  std::span<std::byte> payload() const noexcept { return {payload_, payload_size_}; }
  bool owned() const noexcept { return owned_; }
  // message: takes so many bytes off the front of the payload; at most all.
  void drop_front(std::size_t bytes) noexcept {
    payload_ += bytes;
    payload_size_ -= bytes;
  }
  // The payload lies in the returned buffer, at its front but for what was dropped. Needs owned().
  buffer take_storage() noexcept;
  // close: the code, 1005 when there was none; may be any that is valid on the wire.
  protocol::close_code close_code() const noexcept { return close_code_; }
  std::string_view close_reason() const noexcept {
    return {reinterpret_cast<const char *>(payload_), payload_size_};
  }
  // violation
  violation why() const noexcept { return why_; }

  // After need_more: where the next bytes may be read straight from the socket, while a large frame
  // is under way that is not compressed; else empty, and they go through `next`. Never beyond the
  // frame's end.
  std::span<std::byte> tail();
  // `n` bytes were put at the front of tail(). Gives need_more, message or violation.
  event commit(std::size_t n);

  // Nothing of a frame or message has been received that is not delivered yet.
  bool at_boundary() const noexcept;

private:
  struct frame;
  struct work;

  event next_slow(std::span<std::byte> &input);
  violation read_header(std::span<const std::byte> bytes, frame &out, std::size_t &length) const;
  event take_control(const frame &f, std::span<std::byte> &input);
  event take_whole(const frame &f, std::span<std::byte> payload);
  event take_part(std::span<std::byte> &input);
  event end_of_frame();
  event deliver_control(opcode op, std::span<std::byte> payload);
  event deliver_assembled();
  event inflate(std::span<const std::byte> compressed, message_kind kind);
  event fail(violation v) noexcept;
  void forget_delivered() noexcept;
  work &working();

  static constexpr std::uint8_t ended = 0xff;

  std::byte *payload_ = nullptr;
  std::size_t payload_size_ = 0;
  std::size_t max_message_;
  std::size_t max_frame_;
  std::size_t max_whole_;      // the smaller of both
  std::unique_ptr<work> work_; // null between messages
  inflater inflater_;
  // Bytes of an incomplete header, or `ended`.
  std::uint8_t stashed_ = 0;
  std::array<std::byte, max_header_size> stash_;
  std::uint8_t mask_bit_; // what the second byte of each frame must carry
  bool check_utf8_;
  bool deflate_;
  message_kind kind_ = message_kind::text;
  bool owned_ = false;
  violation why_ = violation::none;
  protocol::close_code close_code_ = protocol::close_code::no_status;
};

} // namespace chorus::protocol
