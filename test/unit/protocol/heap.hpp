#pragma once
// Bytes that the program holds on the heap, as the allocator counts them.

#include <chorus/base/buffer.hpp>

#include <cstddef>
#include <malloc.h>

#if defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CHORUS_TEST_SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CHORUS_TEST_SANITIZED 1
#endif
#ifdef CHORUS_TEST_SANITIZED
extern "C" std::size_t __sanitizer_get_current_allocated_bytes();
#endif

namespace protocol_test {

inline std::size_t heap_in_use() {
  chorus::buffer::trim_cache();
#ifdef CHORUS_TEST_SANITIZED
  return __sanitizer_get_current_allocated_bytes();
#else
  const auto info = ::mallinfo2();
  return info.uordblks + info.hblkhd;
#endif
}

} // namespace protocol_test
