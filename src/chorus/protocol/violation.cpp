#include <chorus/protocol/violation.hpp>

#include <string>

namespace chorus::protocol {

namespace {

class category_type final : public boost::system::error_category {
public:
  const char *name() const noexcept override { return "chorus.protocol"; }

  std::string message(int value) const override {
    switch (static_cast<violation>(value)) {
    case violation::none:
      return "no violation";
    case violation::reserved_bits:
      return "a reserved bit is set that no negotiated extension defines (RFC 6455 section 5.2)";
    case violation::compressed_control:
      return "a control frame is marked as compressed (RFC 7692 section 6.1)";
    case violation::compressed_continuation:
      return "a continuation frame is marked as compressed; only the first may be (RFC 7692 "
             "section 6.1)";
    case violation::reserved_opcode:
      return "the frame's opcode is reserved (RFC 6455 section 5.2)";
    case violation::unmasked_frame:
      return "a client's frame is not masked (RFC 6455 section 5.1)";
    case violation::masked_frame:
      return "a server's frame is masked (RFC 6455 section 5.1)";
    case violation::length_not_minimal:
      return "the frame's length is not in its shortest form (RFC 6455 section 5.2)";
    case violation::length_high_bit:
      return "the frame's 64-bit length has its highest bit set (RFC 6455 section 5.2)";
    case violation::control_fragmented:
      return "a control frame is fragmented (RFC 6455 section 5.5)";
    case violation::control_too_long:
      return "a control frame is longer than 125 bytes (RFC 6455 section 5.5)";
    case violation::unexpected_continuation:
      return "a continuation frame without a message to continue (RFC 6455 section 5.4)";
    case violation::expected_continuation:
      return "a new message begins inside an unfinished one (RFC 6455 section 5.4)";
    case violation::invalid_utf8:
      return "a text message is not valid UTF-8 (RFC 6455 section 8.1)";
    case violation::close_payload_of_one:
      return "a close frame has a payload of one byte (RFC 6455 section 5.5.1)";
    case violation::close_code_invalid:
      return "a close frame has a status code that must not be sent (RFC 6455 section 7.4)";
    case violation::close_reason_invalid_utf8:
      return "a close frame's reason is not valid UTF-8 (RFC 6455 section 5.5.1)";
    case violation::frame_too_big:
      return "a frame is larger than the limit of this side (RFC 6455 section 10.4)";
    case violation::message_too_big:
      return "a message is larger than the limit of this side (RFC 6455 section 10.4)";
    case violation::inflated_too_big:
      return "a message is larger than the limit of this side once decompressed (RFC 6455 section "
             "10.4)";
    case violation::bad_compressed_data:
      return "a compressed message does not decompress (RFC 7692 section 7.2.2)";
    case violation::line_too_long:
      return "a line is longer than the limit of this side";
    case violation::line_invalid_utf8:
      return "a line is not valid UTF-8";
    case violation::line_contains_newline:
      return "a message that is sent as a line can't contain a line feed or end in a carriage "
             "return; use the length prefix";
    case violation::prefix_overflow:
      return "a message of 4 GiB or more does not fit a 32-bit length prefix";
    case violation::framed_too_big:
      return "a message is larger than the limit of this side";
    case violation::framed_is_http:
      return "the peer speaks HTTP, not framed messages";
    case violation::framed_is_tls:
      return "the peer speaks TLS, not framed messages";
    }
    return "unknown violation " + std::to_string(value);
  }
};

} // namespace

const boost::system::error_category &violation_category() noexcept {
  static const category_type category;
  return category;
}

close_code close_code_for(violation v) noexcept {
  switch (v) {
  case violation::invalid_utf8:
  case violation::close_reason_invalid_utf8:
  case violation::bad_compressed_data:
  case violation::line_invalid_utf8:
    return close_code::invalid_payload;
  case violation::frame_too_big:
  case violation::message_too_big:
  case violation::inflated_too_big:
  case violation::line_too_long:
  case violation::prefix_overflow:
  case violation::framed_too_big:
    return close_code::message_too_big;
  default:
    return close_code::protocol_error;
  }
}

} // namespace chorus::protocol
