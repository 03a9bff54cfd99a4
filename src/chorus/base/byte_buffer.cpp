#include <chorus/base/byte_buffer.hpp>

#include <algorithm>
#include <new>

namespace chorus {

void byte_buffer::reallocate(std::size_t count) {
  if (count > SIZE_MAX / 2 - size_)
    throw std::bad_alloc();
  auto larger =
      buffer::allocate(std::max({size_ + count, storage_.capacity() * 2, std::size_t{256}}));
  if (size_ != 0)
    std::memcpy(larger.data(), storage_.data(), size_);
  storage_ = std::move(larger);
}

} // namespace chorus
