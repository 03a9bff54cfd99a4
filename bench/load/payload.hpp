#pragma once
// The messages of the load: a short tag (who sent it, which one it is) and a fixed body, all printable
// ASCII, so that the same bytes may go as text or as binary. Client frames are made by copying a frame
// that was masked once and laying the masked tag over it: no work per byte but one copy.

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <vector>

namespace load {

inline constexpr std::size_t tag_size = 8;
inline constexpr std::uint32_t sequence_mask = (1u << 30) - 1;

// Five digits of the sequence number, lowest first (a message shorter than the tag keeps those), then
// three of the sender. A digit is six bits laid upon '0'.
inline std::uint64_t make_tag(std::uint32_t sender, std::uint32_t sequence) {
  std::uint64_t tag = 0;
  for (unsigned i = 0; i < 5; ++i)
    tag |= static_cast<std::uint64_t>('0' + (sequence >> (6 * i) & 63)) << (8 * i);
  for (unsigned i = 0; i < 3; ++i)
    tag |= static_cast<std::uint64_t>('0' + (sender >> (6 * i) & 63)) << (8 * (5 + i));
  return tag;
}

inline std::uint32_t tag_sequence(std::uint64_t tag) {
  std::uint32_t sequence = 0;
  for (unsigned i = 0; i < 5; ++i)
    sequence |= (static_cast<std::uint32_t>(tag >> (8 * i) & 255) - '0') << (6 * i);
  return sequence & sequence_mask;
}

class payload {
public:
  // `size` in bytes, `text` chooses the opcode. The mask is drawn once and is not zero.
  payload(std::size_t size, bool text);

  std::size_t size() const { return size_; }
  std::size_t frame_size() const { return frame_.size(); }
  bool text() const { return text_; }

  // Writes one masked frame of frame_size() bytes.
  void write_frame(std::uint8_t *to, std::uint64_t tag) const {
    std::memcpy(to, frame_.data(), frame_.size());
    const std::uint64_t masked = tag ^ mask_;
    std::memcpy(to + header_, &masked, tag_bytes_);
  }

  // Bytes of the tag that a message of this size has room for.
  std::size_t tag_bytes() const { return tag_bytes_; }
  std::uint64_t tag_bits() const { return tag_bits_; }

  // Whether `n` bytes found at `offset` of a message are those of the body; the tag's own are not looked at.
  bool body_matches(const std::uint8_t *bytes, std::size_t n, std::size_t offset) const {
    if (offset + n > size_)
      return false;
    const std::size_t skip = offset < tag_bytes_ ? tag_bytes_ - offset : 0;
    return skip >= n || std::memcmp(bytes + skip, body_.data() + offset + skip, n - skip) == 0;
  }

private:
  std::size_t size_;
  std::size_t tag_bytes_;
  std::uint64_t tag_bits_;
  std::uint64_t mask_ = 0;
  std::size_t header_ = 0;
  bool text_;
  std::vector<std::uint8_t> body_;
  std::vector<std::uint8_t> frame_;
};

} // namespace load
