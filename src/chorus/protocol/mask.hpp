#pragma once
// Masking (RFC 6455 section 5.3), 64 bytes per step. A key is the four bytes of the frame's header
// as they lie in memory, whatever the byte order of the machine.

#include <cstddef>
#include <cstdint>

namespace chorus::protocol {

// Masks or unmasks `n` bytes in place. `offset`: how many bytes of the frame's payload came before;
// only its value modulo 4 counts.
void apply_mask(std::byte *data, std::size_t n, std::uint32_t key, unsigned offset = 0) noexcept;

// The same; true when every resulting byte is ASCII, which spares text a second pass.
bool apply_mask_ascii(std::byte *data, std::size_t n, std::uint32_t key,
                      unsigned offset = 0) noexcept;

// Out of place; the ranges must not overlap.
void mask_copy(std::byte *to, const std::byte *from, std::size_t n, std::uint32_t key,
               unsigned offset = 0) noexcept;

// Unpredictable (RFC 6455 section 10.3), from OpenSSL's generator in batches of the calling thread.
// No batch entry is handed out twice, in a forked child neither. Throws std::runtime_error when the
// system has no randomness.
std::uint32_t next_mask_key();

} // namespace chorus::protocol
