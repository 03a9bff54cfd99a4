#pragma once
// How one connection's messages look on the wire: its framing, its role's masking, its compression.

#include <chorus/base/byte_buffer.hpp>
#include <chorus/base/message.hpp>
#include <chorus/protocol/deflate.hpp>
#include <chorus/protocol/frame.hpp>
#include <chorus/protocol/framing.hpp>

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>

namespace chorus::detail {

// Connections with the same wire format may share encoded bytes.
struct wire_format {
  enum class kind : std::uint8_t { websocket, length32, lines, raw };
  kind how = kind::websocket;
  bool masked = false;           // a client's frames: never shared
  bool compressed = false;       // without context takeover
  bool context_takeover = false; // compressed at flush, for this connection alone
  std::uint8_t window_bits = 15;
  std::uint8_t level = 1;
  bool enveloped = false; // messages are wrapped before they come here

  bool shareable() const noexcept { return !masked && !context_takeover; }
  friend bool operator==(const wire_format &, const wire_format &) = default;
};

class encoder {
public:
  // WebSocket.
  encoder(protocol::role side, const std::optional<protocol::deflate_params> &agreed,
          const deflate_options &options);
  // Framed stream.
  explicit encoder(framing how) noexcept;

  const wire_format &format() const noexcept { return format_; }
  bool websocket() const noexcept { return format_.how == wire_format::kind::websocket; }
  void mark_enveloped() noexcept { format_.enveloped = true; }
  protocol::role side() const noexcept { return side_; }

  // none, or why the framing can't carry the message.
  protocol::violation check(const message &m) const noexcept;
  // Appends the message as it goes on the wire. With context takeover the order of the calls must be
  // the order on the wire. Throws std::bad_alloc.
  void append(byte_buffer &out, message_kind kind, std::span<const std::byte> payload);
  // Only the header, when the payload may follow as it is (unmasked, uncompressed): its length, else
  // 0. `head` takes protocol::max_header_size bytes.
  std::size_t head_of(std::byte *head, message_kind kind, std::size_t size) const noexcept;

  // Length of the frame at the front of encoded bytes of this format.
  std::size_t frame_length(std::span<const std::byte> bytes) const noexcept;

private:
  bool compresses(std::size_t size) const noexcept { return deflater_ && size >= threshold_; }

  wire_format format_;
  protocol::role side_ = protocol::role::server;
  std::uint32_t threshold_ = 0;
  std::unique_ptr<protocol::deflater> deflater_;
};

} // namespace chorus::detail
