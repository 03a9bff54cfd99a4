#pragma once
// `message_batch`: the messages of one read, owning their bytes together.

#include <chorus/base/message.hpp>

#include <cstddef>
#include <vector>

namespace chorus {

// One message of a batch; valid as long as the batch.
class message_view {
public:
  message_view(message_kind kind, std::span<const std::byte> bytes) noexcept
      : data_(bytes.data()), size_(bytes.size()), kind_(kind) {}
  message_kind kind() const noexcept { return kind_; }
  bool is_text() const noexcept { return kind_ == message_kind::text; }
  std::size_t size() const noexcept { return size_; }
  std::string_view text() const noexcept { return {reinterpret_cast<const char *>(data_), size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

private:
  const std::byte *data_;
  std::size_t size_;
  message_kind kind_;
};

class message_batch {
public:
  message_batch() = default;

  std::size_t size() const noexcept { return views_.size(); }
  bool empty() const noexcept { return views_.empty(); }
  auto begin() const noexcept { return views_.begin(); }
  auto end() const noexcept { return views_.end(); }
  const message_view &operator[](std::size_t i) const noexcept { return views_[i]; }
  // One of its messages, sharing the batch's storage, to outlive the batch.
  message take(std::size_t i) const {
    if (views_[i].size() == 0)
      return message(views_[i].kind(), nullptr, 0); // its bytes have no owner
    return message(views_[i].kind(), owners_.size() == 1 ? owners_[0] : owner_of(i),
                   views_[i].bytes());
  }

  // For the session: adds a message whose bytes lie in a buffer added before or after.
  void add(message_view view) { views_.push_back(view); }
  void add(buffer owner) { owners_.push_back(std::move(owner)); }
  void clear() noexcept {
    views_.clear();
    owners_.clear();
  }

private:
  const buffer &owner_of(std::size_t i) const noexcept {
    for (const auto &b : owners_)
      if (views_[i].bytes().data() >= b.data() &&
          views_[i].bytes().data() < b.data() + b.capacity())
        return b;
    return owners_.front();
  }

  std::vector<message_view> views_;
  std::vector<buffer> owners_;
};

} // namespace chorus
