#include "payload.hpp"

#include <algorithm>
#include <random>

namespace load {

payload::payload(std::size_t size, bool text)
    : size_{size}, tag_bytes_{std::min(size, tag_size)},
      tag_bits_{tag_bytes_ == 8 ? ~std::uint64_t{0} : (std::uint64_t{1} << (8 * tag_bytes_)) - 1},
      text_{text}, body_(size) {
  for (std::size_t i = 0; i < size; ++i)
    body_[i] = static_cast<std::uint8_t>('a' + i * 7 % 26);

  frame_.push_back(text ? 0x81 : 0x82);
  if (size < 126) {
    frame_.push_back(static_cast<std::uint8_t>(0x80 | size));
  } else if (size < 65536) {
    frame_.push_back(0x80 | 126);
    for (int shift = 8; shift >= 0; shift -= 8)
      frame_.push_back(static_cast<std::uint8_t>(size >> shift));
  } else {
    frame_.push_back(0x80 | 127);
    for (int shift = 56; shift >= 0; shift -= 8)
      frame_.push_back(static_cast<std::uint8_t>(static_cast<std::uint64_t>(size) >> shift));
  }
  std::random_device random;
  std::uint32_t key = 0;
  while (key == 0)
    key = static_cast<std::uint32_t>(random());
  std::uint8_t mask[4];
  std::memcpy(mask, &key, 4);
  mask_ = static_cast<std::uint64_t>(key) << 32 | key;
  frame_.insert(frame_.end(), mask, mask + 4);
  header_ = frame_.size();
  for (std::size_t i = 0; i < size; ++i)
    frame_.push_back(static_cast<std::uint8_t>(body_[i] ^ mask[i & 3]));
}

} // namespace load
