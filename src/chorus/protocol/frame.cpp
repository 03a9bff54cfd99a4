#include <chorus/protocol/close_code.hpp>
#include <chorus/protocol/frame.hpp>
#include <chorus/protocol/mask.hpp>
#include <chorus/protocol/utf8.hpp>

#include <array>

namespace chorus::protocol {

void append_frame(byte_buffer &out, role side, opcode op, bool fin, bool rsv1,
                  std::span<const std::byte> payload) {
  std::byte *const at = out.grow(max_header_size + payload.size());
  std::size_t header;
  if (side == role::client) {
    const auto key = next_mask_key();
    header = encode_masked_header(at, op, fin, rsv1, payload.size(), key);
    mask_copy(at + header, payload.data(), payload.size(), key);
  } else {
    header = encode_header(at, op, fin, rsv1, payload.size());
    if (!payload.empty())
      std::memcpy(at + header, payload.data(), payload.size());
  }
  out.advance(header + payload.size());
}

void append_close(byte_buffer &out, role side, std::uint16_t code, std::string_view reason) {
  std::array<std::byte, max_control_payload> payload;
  std::size_t size = 0;
  if (valid_on_wire(code)) {
    payload[0] = static_cast<std::byte>(code >> 8);
    payload[1] = static_cast<std::byte>(code & 0xffU);
    const auto bytes = std::as_bytes(std::span(reason));
    const std::size_t kept = valid_utf8_prefix(bytes, payload.size() - 2);
    if (kept != 0)
      std::memcpy(payload.data() + 2, bytes.data(), kept);
    size = 2 + kept;
  }
  append_frame(out, side, opcode::close, true, false, std::span(payload).first(size));
}

} // namespace chorus::protocol
