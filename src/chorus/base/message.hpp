#pragma once
// `message`: one whole message, text or binary. A slice of a shared, constant buffer: copying it
// shares the bytes, and it may be handed to another thread.

#include <chorus/base/buffer.hpp>

#include <compare>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace chorus {

enum class message_kind : std::uint8_t { text, binary };
std::string_view to_string(message_kind) noexcept;

class message {
public:
  message() noexcept = default;
  // A text message; copies. The text should be valid UTF-8: the peer refuses anything else (1007).
  message(std::string_view text) : message(message_kind::text, text.data(), text.size()) {}
  message(const char *text) : message(std::string_view(text)) {}
  message(const std::string &text) : message(std::string_view(text)) {}
  // Copies `size` bytes.
  message(message_kind kind, const void *data, std::size_t size);
  // Shares `storage`; `bytes` must lie within it and not change from now on.
  message(message_kind kind, buffer storage, std::span<const std::byte> bytes) noexcept
      : storage_(std::move(storage)), data_(bytes.data()), size_(bytes.size()), kind_(kind) {}

  message_kind kind() const noexcept { return kind_; }
  bool is_text() const noexcept { return kind_ == message_kind::text; }
  bool is_binary() const noexcept { return kind_ == message_kind::binary; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  // The payload, of either kind. Valid as long as this message or a copy of it lives.
  std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_), size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  std::string str() const { return std::string(text()); }
  const buffer &storage() const noexcept { return storage_; }

  // Same kind, same bytes.
  friend bool operator==(const message &a, const message &b) noexcept {
    return a.kind_ == b.kind_ && a.text() == b.text();
  }

private:
  buffer storage_;
  const std::byte *data_ = nullptr;
  std::size_t size_ = 0;
  message_kind kind_ = message_kind::text;
};

inline message text(std::string_view payload) { return message(payload); }
inline message binary(std::span<const std::byte> payload) {
  return message(message_kind::binary, payload.data(), payload.size());
}
inline message binary(std::string_view payload) {
  return message(message_kind::binary, payload.data(), payload.size());
}

} // namespace chorus
