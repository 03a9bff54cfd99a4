#include <chorus/base/buffer.hpp>

#include <array>
#include <bit>
#include <cstdlib>
#include <new>

namespace chorus {

namespace {
constexpr std::size_t smallest_class = 12; // 4 KiB
constexpr std::size_t largest_class = 24;  // 16 MiB
constexpr std::size_t class_count = largest_class - smallest_class + 1;
constexpr std::uint32_t not_recycled = 0xffffffffU;
constexpr std::size_t cache_limit = std::size_t{16} << 20; // bytes a thread keeps
} // namespace

struct buffer_cache {
  struct slot {
    buffer::block *head = nullptr;
  };
  std::array<slot, class_count> slots{};
  std::size_t bytes = 0;

  static buffer_cache *&alive() noexcept {
    thread_local buffer_cache *pointer = nullptr;
    return pointer;
  }
  // Null once the thread is going away, so that late releases go straight to the heap.
  static buffer_cache *get() noexcept {
    thread_local bool created = false;
    if (!created) {
      created = true;
      thread_local buffer_cache cache;
      alive() = &cache;
    }
    return alive();
  }

  ~buffer_cache() {
    trim();
    alive() = nullptr;
  }
  void trim() noexcept {
    for (auto &s : slots)
      while (auto *b = pop(s))
        std::free(b);
    bytes = 0;
  }
  static buffer::block *&next(buffer::block *b) noexcept {
    return *reinterpret_cast<buffer::block **>(b + 1);
  }
  static buffer::block *pop(slot &s) noexcept {
    auto *b = s.head;
    if (b)
      s.head = next(b);
    return b;
  }
  static void put(slot &s, buffer::block *b) noexcept {
    next(b) = s.head;
    s.head = b;
  }
};

buffer buffer::allocate(std::size_t capacity) {
  std::uint32_t size_class = not_recycled;
  if (capacity >= (std::size_t{1} << smallest_class) &&
      capacity <= (std::size_t{1} << largest_class)) {
    const auto bits = static_cast<std::size_t>(std::bit_width(capacity - 1));
    size_class = static_cast<std::uint32_t>(bits - smallest_class);
    capacity = std::size_t{1} << bits;
    if (auto *cache = buffer_cache::get())
      if (auto *b = buffer_cache::pop(cache->slots[size_class])) {
        cache->bytes -= capacity;
        b->refs.store(1, std::memory_order_relaxed);
        return buffer(b);
      }
  }
  if (capacity > SIZE_MAX - sizeof(block))
    throw std::bad_alloc();
  void *p = std::malloc(sizeof(block) + capacity);
  if (!p)
    throw std::bad_alloc();
  auto *b = new (p) block{{1}, size_class, capacity};
  return buffer(b);
}

void buffer::release(block *b) noexcept {
  if (b->size_class != not_recycled)
    if (auto *cache = buffer_cache::get(); cache && cache->bytes + b->capacity <= cache_limit) {
      cache->bytes += b->capacity;
      buffer_cache::put(cache->slots[b->size_class], b);
      return;
    }
  std::free(b);
}

void buffer::trim_cache() noexcept {
  if (auto *cache = buffer_cache::get())
    cache->trim();
}

std::size_t buffer::cached_bytes() noexcept {
  auto *cache = buffer_cache::get();
  return cache ? cache->bytes : 0;
}

} // namespace chorus
