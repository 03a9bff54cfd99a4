#pragma once
// permessage-deflate (RFC 7692): its parameters, their negotiation, and the two transformations.
//
// Without context takeover a connection holds no compression state: the calling thread lends its
// own for the length of one call, or until the end of a message that is decompressed in parts. With
// takeover the state belongs to the object, from its first use.

#include <chorus/base/byte_buffer.hpp>
#include <chorus/protocol/frame.hpp>
#include <chorus/protocol/utf8.hpp>
#include <chorus/protocol/violation.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>

struct z_stream_s;

namespace chorus {

struct deflate_options {
  bool enabled = false;
  // Each side gives up its window between messages: no state per connection, and a server can
  // compress once for many members.
  bool server_no_context_takeover = true;
  bool client_no_context_takeover = true;
  int server_max_window_bits = 15; // 8 to 15
  int client_max_window_bits = 15; // 8 to 15
  int level = 1;                   // 1 (fast) to 9
  int mem_level =
      8; // 1 to 9; memory of the compressor is about 2^(window+2) + 2^(mem_level+9) bytes
  std::size_t threshold = 860; // bytes; smaller messages go uncompressed
};

namespace protocol {

// What both sides agreed on.
struct deflate_params {
  bool server_no_context_takeover = false;
  bool client_no_context_takeover = false;
  int server_max_window_bits = 15;
  int client_max_window_bits = 15;

  friend bool operator==(const deflate_params &, const deflate_params &) = default;
};

// A client's offer: the value of a Sec-WebSocket-Extensions header. Empty when not enabled.
std::string make_offer(const deflate_options &options);

// A server's choice among the offers of a request (`header`: all its Sec-WebSocket-Extensions values,
// joined by commas): the first acceptable one. Nothing when there is none, which is no failure; then
// `response` is left empty, else it is the value of the answer's header.
std::optional<deflate_params> accept_offer(std::string_view header, const deflate_options &options,
                                           std::string &response);

enum class response_verdict : std::uint8_t {
  accepted,
  declined,       // the header is absent or empty: go on without compression
  not_offered,    // another extension, or deflate that was not offered
  bad_parameters, // unknown, repeated, out of range, or not what the offer asked for
};
struct verified_response {
  response_verdict verdict = response_verdict::declined;
  deflate_params params;
};
// A client's check of the server's answer (RFC 7692 section 5.1): anything but the first two verdicts
// must fail the connection.
verified_response verify_response(std::string_view header, const deflate_options &offered);

namespace detail {
struct inflate_deleter {
  void operator()(z_stream_s *) const noexcept;
};
struct deflate_deleter {
  void operator()(z_stream_s *) const noexcept;
};
} // namespace detail

// Decompresses one message per call of `inflate`, or one per run of `part` calls and a `finish`.
class inflater {
public:
  inflater() noexcept = default; // without context takeover
  // `side`: the side that decompresses.
  inflater(role side, const deflate_params &params) noexcept;

  // Appends the message whose compressed bytes are `payload` (all its frames, in order) to `out`.
  // At most `limit` bytes are appended: violation::inflated_too_big beyond that. With `text` the
  // bytes are checked as UTF-8 on the way. After a violation, discard this object.
  violation inflate(std::span<const std::byte> payload, std::size_t limit, utf8_validator *text,
                    byte_buffer &out);

  // The same in parts, so that a violation shows with the first byte that proves it. `part` takes the
  // next bytes, `finish` ends the message; a message without bytes is finish alone. `out` holds what
  // came of this message so far and nothing else, `limit` bounds it; `text` is the same in all calls.
  // Until `finish` this owns a decoder of about 7 KiB and, from the first byte that comes out, its
  // window of at most 32 KiB; without takeover they go back to the thread or are freed then.
  // A peer that refers beyond its agreed window is not found out with certainty, here nor above.
  violation part(std::span<const std::byte> payload, std::size_t limit, utf8_validator *text,
                 byte_buffer &out);
  violation finish(std::size_t limit, utf8_validator *text, byte_buffer &out);

private:
  z_stream_s &own();

  std::unique_ptr<z_stream_s, detail::inflate_deleter> own_;
  bool takeover_ = false;
  bool begun_ = false; // bytes of an unfinished message came
  std::uint8_t window_bits_ = 15;
};

// Compresses one message per call.
class deflater {
public:
  // `side`: the side that compresses.
  deflater(role side, const deflate_params &params, const deflate_options &options) noexcept;

  // Appends the compressed message, without the final 00 00 ff ff (RFC 7692 section 7.2.1); it goes
  // into frames of which the first has RSV1 set. With takeover the results must be sent in the order
  // of the calls. Throws std::bad_alloc.
  void compress(std::span<const std::byte> payload, byte_buffer &out);
  bool context_takeover() const noexcept { return takeover_; }

private:
  std::unique_ptr<z_stream_s, detail::deflate_deleter> own_;
  bool takeover_;
  std::uint8_t window_bits_;
  std::uint8_t level_;
  std::uint8_t mem_level_;
};

} // namespace protocol
} // namespace chorus
