#include <chorus/session/encoder.hpp>

#include <algorithm>
#include <limits>

namespace chorus::detail {

namespace {

protocol::opcode opcode_of(message_kind kind) noexcept {
  return kind == message_kind::text ? protocol::opcode::text : protocol::opcode::binary;
}

wire_format::kind kind_of(framing how) noexcept {
  switch (how) {
  case framing::length32:
    return wire_format::kind::length32;
  case framing::lines:
    return wire_format::kind::lines;
  case framing::raw:
    break;
  }
  return wire_format::kind::raw;
}

framing framing_of(wire_format::kind how) noexcept {
  switch (how) {
  case wire_format::kind::lines:
    return framing::lines;
  case wire_format::kind::raw:
    return framing::raw;
  default:
    return framing::length32;
  }
}

} // namespace

encoder::encoder(protocol::role side, const std::optional<protocol::deflate_params> &agreed,
                 const deflate_options &options)
    : side_(side) {
  format_.masked = side == protocol::role::client;
  if (!agreed)
    return;
  deflater_ = std::make_unique<protocol::deflater>(side, *agreed, options);
  threshold_ = static_cast<std::uint32_t>(
      std::min<std::size_t>(options.threshold, std::numeric_limits<std::uint32_t>::max()));
  format_.compressed = true;
  format_.context_takeover = deflater_->context_takeover();
  format_.window_bits =
      static_cast<std::uint8_t>(side == protocol::role::server ? agreed->server_max_window_bits
                                                               : agreed->client_max_window_bits);
  format_.level = static_cast<std::uint8_t>(options.level);
}

encoder::encoder(framing how) noexcept { format_.how = kind_of(how); }

protocol::violation encoder::check(const message &m) const noexcept {
  return websocket() ? protocol::violation::none
                     : protocol::check_framed(framing_of(format_.how), m.bytes());
}

void encoder::append(byte_buffer &out, message_kind kind, std::span<const std::byte> payload) {
  if (!websocket()) {
    // Checked before the message was accepted.
    [[maybe_unused]] const auto refused =
        protocol::append_framed(out, framing_of(format_.how), payload);
    return;
  }
  if (compresses(payload.size())) {
    byte_buffer packed;
    deflater_->compress(payload, packed);
    protocol::append_frame(out, side_, opcode_of(kind), true, true, packed.span());
    return;
  }
  if (format_.masked) {
    protocol::append_frame(out, side_, opcode_of(kind), true, false, payload);
    return;
  }
  std::byte *at = out.grow(payload.size() + protocol::max_header_size);
  const std::size_t head =
      protocol::encode_header(at, opcode_of(kind), true, false, payload.size());
  if (!payload.empty())
    std::memcpy(at + head, payload.data(), payload.size());
  out.advance(head + payload.size());
}

std::size_t encoder::head_of(std::byte *head, message_kind kind, std::size_t size) const noexcept {
  if (websocket() && !format_.masked && !compresses(size))
    return protocol::encode_header(head, opcode_of(kind), true, false, size);
  if (format_.how == wire_format::kind::length32) {
    for (unsigned i = 0; i < 4; ++i)
      head[i] = static_cast<std::byte>(size >> (8 * (3 - i)));
    return 4;
  }
  return 0;
}

std::size_t encoder::frame_length(std::span<const std::byte> bytes) const noexcept {
  const auto at = [&](std::size_t i) { return std::to_integer<std::size_t>(bytes[i]); };
  switch (format_.how) {
  case wire_format::kind::length32:
    return 4 + (at(0) << 24 | at(1) << 16 | at(2) << 8 | at(3));
  case wire_format::kind::lines:
    for (std::size_t i = 0; i < bytes.size(); ++i)
      if (bytes[i] == std::byte{'\n'})
        return i + 1;
    return bytes.size();
  case wire_format::kind::raw:
    return bytes.size();
  case wire_format::kind::websocket:
    break;
  }
  std::size_t size = at(1) & 0x7f;
  std::size_t head = 2;
  if (size == 126) {
    size = at(2) << 8 | at(3);
    head = 4;
  } else if (size == 127) {
    size = 0;
    for (std::size_t i = 2; i < 10; ++i)
      size = size << 8 | at(i);
    head = 10;
  }
  return head + size + (format_.masked ? 4 : 0);
}

} // namespace chorus::detail
