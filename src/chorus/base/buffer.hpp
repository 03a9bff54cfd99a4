#pragma once
// A reference-counted block of bytes. Copies share the block; the last one gives it back. Blocks of
// 4 KiB and more are recycled through a bounded cache of the releasing thread, since touching fresh
// pages costs more than copying: recycling alone doubles the rate of 1 MiB echoes.
//
// The count is atomic: a buffer may be shared between threads as long as nobody writes to it.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace chorus {

class buffer {
public:
  buffer() noexcept = default;
  // Uninitialised, at least `capacity` bytes (rounded up to a power of two from 4 KiB on).
  // Throws std::bad_alloc.
  static buffer allocate(std::size_t capacity);

  buffer(const buffer &other) noexcept : block_(other.block_) {
    if (block_)
      block_->refs.fetch_add(1, std::memory_order_relaxed);
  }
  buffer(buffer &&other) noexcept : block_(std::exchange(other.block_, nullptr)) {}
  buffer &operator=(buffer other) noexcept {
    std::swap(block_, other.block_);
    return *this;
  }
  ~buffer() { reset(); }

  void reset() noexcept {
    if (block_ && (block_->refs.load(std::memory_order_acquire) == 1 ||
                   block_->refs.fetch_sub(1, std::memory_order_acq_rel) == 1))
      release(block_);
    block_ = nullptr;
  }

  explicit operator bool() const noexcept { return block_ != nullptr; }
  std::byte *data() const noexcept {
    return block_ ? reinterpret_cast<std::byte *>(block_ + 1) : nullptr;
  }
  std::size_t capacity() const noexcept { return block_ ? block_->capacity : 0; }
  std::span<std::byte> span() const noexcept { return {data(), capacity()}; }
  // True when no other buffer shares the block, so that it may be written to.
  bool unique() const noexcept {
    return block_ && block_->refs.load(std::memory_order_acquire) == 1;
  }

  // Gives back what the calling thread's cache holds.
  static void trim_cache() noexcept;
  // Bytes in the calling thread's cache.
  static std::size_t cached_bytes() noexcept;

private:
  struct alignas(16) block {
    std::atomic<std::uint32_t> refs;
    std::uint32_t size_class;
    std::size_t capacity;
  };
  explicit buffer(block *b) noexcept : block_(b) {}
  static void release(block *) noexcept;
  friend struct buffer_cache;

  block *block_ = nullptr;
};

} // namespace chorus
