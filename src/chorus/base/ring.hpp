#pragma once
// A queue that is one pointer while it is empty: what an idle connection holds many of.

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace chorus::detail {

template <class T> class ring {
public:
  ring() noexcept = default;
  ring(ring &&other) noexcept { swap(other); }
  ring &operator=(ring &&other) noexcept {
    ring(std::move(other)).swap(*this);
    return *this;
  }
  ~ring() { clear(); }

  bool empty() const noexcept { return block_ == nullptr; }
  std::size_t size() const noexcept { return block_ ? block_->size : 0; }
  // These need an element.
  T &operator[](std::size_t i) noexcept { return *slot(*block_, i); }
  T &front() noexcept { return (*this)[0]; }
  T &back() noexcept { return (*this)[block_->size - 1]; }

  void push_back(T value) {
    reserve_one();
    std::construct_at(slot(*block_, block_->size), std::move(value));
    ++block_->size;
  }
  void push_front(T value) {
    reserve_one();
    block_->head = (block_->head + block_->capacity - 1) & (block_->capacity - 1);
    std::construct_at(slot(*block_, 0), std::move(value));
    ++block_->size;
  }
  void pop_front() noexcept {
    std::destroy_at(slot(*block_, 0));
    block_->head = (block_->head + 1) & (block_->capacity - 1);
    --block_->size;
    release_if_empty();
  }
  // Removes element `i`, keeping the order of the others. O(n).
  void erase(std::size_t i) noexcept {
    for (; i + 1 < block_->size; ++i)
      (*this)[i] = std::move((*this)[i + 1]);
    std::destroy_at(slot(*block_, i));
    --block_->size;
    release_if_empty();
  }
  void clear() noexcept {
    while (!empty())
      pop_front();
  }
  void swap(ring &other) noexcept { std::swap(block_, other.block_); }

private:
  static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);

  // Followed by its slots.
  struct alignas(T) alignas(std::size_t) header {
    std::size_t capacity; // a power of two
    std::size_t head = 0;
    std::size_t size = 0;
  };

  static T *slot(header &b, std::size_t i) noexcept {
    return reinterpret_cast<T *>(&b + 1) + ((b.head + i) & (b.capacity - 1));
  }
  void reserve_one() {
    if (block_ && block_->size < block_->capacity)
      return;
    const std::size_t capacity = block_ ? block_->capacity * 2 : 8;
    header *const larger =
        ::new (::operator new(sizeof(header) + capacity * sizeof(T))) header{capacity};
    for (; larger->size < size(); ++larger->size) {
      T &from = (*this)[larger->size];
      std::construct_at(slot(*larger, larger->size), std::move(from));
      std::destroy_at(&from);
    }
    ::operator delete(std::exchange(block_, larger));
  }
  void release_if_empty() noexcept {
    if (block_->size == 0)
      ::operator delete(std::exchange(block_, nullptr));
  }

  header *block_ = nullptr;
};

} // namespace chorus::detail
