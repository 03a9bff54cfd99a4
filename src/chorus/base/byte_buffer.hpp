#pragma once
// A growable run of bytes on a `buffer`: appended to by one owner, then shared without a copy.

#include <chorus/base/buffer.hpp>

#include <cstddef>
#include <cstring>
#include <span>
#include <string_view>

namespace chorus {

class byte_buffer {
public:
  byte_buffer() noexcept = default;
  byte_buffer(byte_buffer &&other) noexcept
      : storage_(std::move(other.storage_)), size_(std::exchange(other.size_, 0)) {}
  byte_buffer &operator=(byte_buffer &&other) noexcept {
    storage_ = std::move(other.storage_);
    size_ = std::exchange(other.size_, 0);
    return *this;
  }

  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  std::byte *data() const noexcept { return storage_.data(); }
  std::span<const std::byte> span() const noexcept { return {storage_.data(), size_}; }

  // Room for `count` more bytes, to be filled in and then committed with `advance`.
  std::byte *grow(std::size_t count) {
    if (storage_.capacity() - size_ < count)
      reallocate(count);
    return storage_.data() + size_;
  }
  void advance(std::size_t count) noexcept { size_ += count; }

  void append(const void *bytes, std::size_t count) {
    if (count == 0)
      return;
    std::memcpy(grow(count), bytes, count);
    size_ += count;
  }
  void append(std::span<const std::byte> bytes) { append(bytes.data(), bytes.size()); }
  void append(std::string_view bytes) { append(bytes.data(), bytes.size()); }

  void truncate(std::size_t size) noexcept { size_ = size; }
  void clear() noexcept { size_ = 0; }
  // Gives the storage away and leaves this empty. The bytes are its first `size()`.
  buffer take() noexcept {
    size_ = 0;
    return std::exchange(storage_, buffer());
  }
  // The storage, shared; do not append while it is shared.
  const buffer &storage() const noexcept { return storage_; }

private:
  void reallocate(std::size_t count);

  buffer storage_;
  std::size_t size_ = 0;
};

} // namespace chorus
