#pragma once
// What a peer did wrong: one enumerator per rule, usable as an error code of the category
// "chorus.protocol". The message names the rule and its section.

#include <chorus/protocol/close_code.hpp>

#include <boost/system/error_code.hpp>

#include <cstdint>
#include <type_traits>

namespace chorus::protocol {

enum class violation : std::uint8_t {
  none = 0,

  // Frames, RFC 6455.
  reserved_bits,           // RSV2 or RSV3, or RSV1 where nothing gives it a meaning
  compressed_control,      // RSV1 on a control frame
  compressed_continuation, // RSV1 on a continuation frame
  reserved_opcode,
  unmasked_frame, // from a client
  masked_frame,   // from a server
  length_not_minimal,
  length_high_bit,
  control_fragmented,
  control_too_long,
  unexpected_continuation, // no message to continue
  expected_continuation,   // a new message inside an unfinished one
  invalid_utf8,
  close_payload_of_one,
  close_code_invalid,
  close_reason_invalid_utf8,

  // Limits of this side.
  frame_too_big,
  message_too_big,
  inflated_too_big,

  // permessage-deflate, RFC 7692.
  bad_compressed_data,

  // Messages framed on a byte stream (tcp://, tls://).
  line_too_long,
  line_invalid_utf8,
  line_contains_newline, // own payload can't be sent as one line (or ends in a carriage return)
  prefix_overflow,       // own payload is longer than a 32-bit prefix can say
  framed_too_big,        // the prefix announces more than the limit of this side
  framed_is_http,        // what would be such a prefix is the beginning of HTTP
  framed_is_tls,         // or of TLS
};

const boost::system::error_category &violation_category() noexcept;

inline boost::system::error_code make_error_code(violation v) noexcept {
  return {static_cast<int>(v), violation_category()};
}

// The code that the close frame answering `v` carries: 1002, 1007 or 1009.
close_code close_code_for(violation v) noexcept;

} // namespace chorus::protocol

template <>
struct boost::system::is_error_code_enum<chorus::protocol::violation> : std::true_type {};
