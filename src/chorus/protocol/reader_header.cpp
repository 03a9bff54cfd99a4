#include <chorus/protocol/reader.hpp>
#include <chorus/protocol/reader_state.hpp>

#include <algorithm>
#include <cstring>

namespace chorus::protocol {

// Checks what is there of a header, so that a bad one is refused at its first wrong byte. `length`
// stays 0 until it is whole.
violation reader::read_header(std::span<const std::byte> bytes, frame &out,
                              std::size_t &length) const {
  const bool in_message = work_ && work_->in_message;
  const auto first = static_cast<unsigned>(bytes[0]);
  const unsigned op = first & 0x0fU;
  out.op = static_cast<opcode>(op);
  out.fin = (first & 0x80U) != 0;
  out.rsv1 = (first & 0x40U) != 0;
  if ((first & 0x30U) != 0 || (out.rsv1 && !deflate_))
    return violation::reserved_bits;
  if ((op > 2 && op < 8) || op > 10)
    return violation::reserved_opcode;
  if (is_control(out.op)) {
    if (out.rsv1)
      return violation::compressed_control;
    if (!out.fin)
      return violation::control_fragmented;
  } else if (out.op == opcode::continuation) {
    if (out.rsv1)
      return violation::compressed_continuation;
    if (!in_message)
      return violation::unexpected_continuation;
  } else if (in_message) {
    return violation::expected_continuation;
  }

  if (bytes.size() < 2)
    return violation::none;
  const auto second = static_cast<unsigned>(bytes[1]);
  if ((second & 0x80U) != mask_bit_)
    return mask_bit_ ? violation::unmasked_frame : violation::masked_frame;
  const unsigned form = second & 0x7fU;
  if (is_control(out.op) && form > max_control_payload)
    return violation::control_too_long;
  const std::size_t width = form == 126 ? 2U : form == 127 ? 8U : 0U;
  if (bytes.size() < 2 + width)
    return violation::none;
  out.size = width == 0 ? form : detail::big_endian(bytes.data() + 2, width);
  if (width == 8 && out.size >> 63 != 0)
    return violation::length_high_bit;
  if ((width == 2 && out.size < 126) || (width == 8 && out.size < 65536))
    return violation::length_not_minimal;

  if (!is_control(out.op)) {
    if (out.size > max_frame_)
      return violation::frame_too_big;
    // Data that does not compress grows by a little when it is compressed.
    const bool compressed = in_message ? work_->compressed : out.rsv1;
    std::uint64_t limit = max_message_;
    if (compressed)
      limit = std::min<std::uint64_t>(SIZE_MAX / 2, limit) + limit / 64 + 64;
    const std::uint64_t before = in_message ? work_->wire : 0;
    if (out.size > limit - before)
      return violation::message_too_big;
  }

  const std::size_t whole = 2 + width + (mask_bit_ ? 4U : 0U);
  if (bytes.size() < whole)
    return violation::none;
  if (mask_bit_)
    std::memcpy(&out.key, bytes.data() + 2 + width, sizeof out.key);
  length = whole;
  return violation::none;
}

} // namespace chorus::protocol
