#include <chorus/protocol/mask.hpp>

#include <openssl/rand.h>
#include <pthread.h>

#include <array>
#include <atomic>
#include <bit>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <utility>

namespace chorus::protocol {

namespace {

// Lowered to SSE2 or NEON, or to two words where there is neither.
using block = std::uint64_t __attribute__((vector_size(16)));

template <class T> T load(const std::byte *p) noexcept {
  T value;
  std::memcpy(&value, p, sizeof value);
  return value;
}
template <class T> void store(std::byte *p, T value) noexcept {
  std::memcpy(p, &value, sizeof value);
}

// The key as the byte at `offset` sees it.
std::uint32_t rotated(std::uint32_t key, unsigned offset) noexcept {
  const int bits = static_cast<int>((offset & 3U) * 8U);
  if constexpr (std::endian::native == std::endian::little)
    return std::rotr(key, bits);
  else
    return std::rotl(key, bits);
}

// Returns the union of all result bytes, folded into 64 bits, when `Collect`.
template <bool Collect>
std::uint64_t transform(std::byte *to, const std::byte *from, std::size_t n,
                        std::uint32_t key) noexcept {
  const std::uint64_t wide = std::uint64_t{key} << 32 | key;
  std::uint64_t seen = 0;
  if (n >= 16) {
    const block k = {wide, wide};
    block all = {0, 0};
    for (; n >= 64; n -= 64, to += 64, from += 64) {
      const block a = load<block>(from) ^ k;
      const block b = load<block>(from + 16) ^ k;
      const block c = load<block>(from + 32) ^ k;
      const block d = load<block>(from + 48) ^ k;
      store(to, a);
      store(to + 16, b);
      store(to + 32, c);
      store(to + 48, d);
      if constexpr (Collect)
        all |= (a | b) | (c | d);
    }
    for (; n >= 16; n -= 16, to += 16, from += 16) {
      const block a = load<block>(from) ^ k;
      store(to, a);
      if constexpr (Collect)
        all |= a;
    }
    if constexpr (Collect)
      seen = all[0] | all[1];
  }
  if (n & 8U) {
    const auto a = load<std::uint64_t>(from) ^ wide;
    store(to, a);
    seen |= a;
    to += 8;
    from += 8;
  }
  if (n & 4U) {
    const auto a = load<std::uint32_t>(from) ^ key;
    store(to, a);
    seen |= a;
    to += 4;
    from += 4;
  }
  const auto bytes = std::bit_cast<std::array<std::byte, 4>>(key);
  for (std::size_t i = 0; i < (n & 3U); ++i) {
    to[i] = from[i] ^ bytes[i];
    seen |= static_cast<std::uint64_t>(to[i]);
  }
  return seen;
}

constexpr std::size_t batch_keys = 256;

struct key_batch {
  std::array<std::uint32_t, batch_keys> keys;
  std::size_t left = 0;
  unsigned generation = 0;
};

// A forked child has its parent's batches in memory: it must not use them.
std::atomic<unsigned> fork_generation{0};

[[gnu::noinline]] void refill(key_batch &batch) {
  static std::once_flag watched;
  std::call_once(watched, [] {
    pthread_atfork(nullptr, nullptr,
                   [] { fork_generation.fetch_add(1, std::memory_order_relaxed); });
  });
  batch.generation = fork_generation.load(std::memory_order_relaxed);
  if (RAND_bytes(reinterpret_cast<unsigned char *>(batch.keys.data()), sizeof batch.keys) != 1)
    throw std::runtime_error("no randomness for masking: OpenSSL's generator failed");
  batch.left = batch_keys;
}

} // namespace

void apply_mask(std::byte *data, std::size_t n, std::uint32_t key, unsigned offset) noexcept {
  transform<false>(data, data, n, rotated(key, offset));
}

bool apply_mask_ascii(std::byte *data, std::size_t n, std::uint32_t key, unsigned offset) noexcept {
  return (transform<true>(data, data, n, rotated(key, offset)) & 0x8080808080808080U) == 0;
}

void mask_copy(std::byte *to, const std::byte *from, std::size_t n, std::uint32_t key,
               unsigned offset) noexcept {
  transform<false>(to, from, n, rotated(key, offset));
}

std::uint32_t next_mask_key() {
  thread_local key_batch batch;
  if (batch.left == 0 || batch.generation != fork_generation.load(std::memory_order_relaxed))
    refill(batch);
  // Cleared, so that no key stays in memory after its use.
  return std::exchange(batch.keys[--batch.left], 0U);
}

} // namespace chorus::protocol
