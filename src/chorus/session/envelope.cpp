#include <chorus/session/envelope.hpp>

#include <cstring>

namespace chorus::detail {

message with_head(std::string_view head, const message &m) {
  const auto size = head.size() + m.size();
  auto storage = buffer::allocate(size);
  std::memcpy(storage.data(), head.data(), head.size());
  if (!m.empty())
    std::memcpy(storage.data() + head.size(), m.bytes().data(), m.size());
  const auto bytes = storage.span().first(size);
  return message(m.kind(), std::move(storage), bytes);
}

} // namespace chorus::detail
