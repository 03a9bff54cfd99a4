#include <chorus/base/message.hpp>

#include <cstring>

namespace chorus {

std::string_view to_string(message_kind kind) noexcept {
  return kind == message_kind::text ? "text" : "binary";
}

message::message(message_kind kind, const void *data, std::size_t size) : size_(size), kind_(kind) {
  if (size == 0)
    return;
  storage_ = buffer::allocate(size);
  std::memcpy(storage_.data(), data, size);
  data_ = storage_.data();
}

} // namespace chorus
