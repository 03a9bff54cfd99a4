#pragma once
// A queue that owns no memory while it is empty and idle: what an idle connection holds many of.

#include <cstddef>
#include <memory>
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

  bool empty() const noexcept { return size_ == 0; }
  std::size_t size() const noexcept { return size_; }
  T &operator[](std::size_t i) noexcept { return slots_[(head_ + i) & (capacity_ - 1)].value; }
  T &front() noexcept { return slots_[head_].value; }
  T &back() noexcept { return (*this)[size_ - 1]; }

  void push_back(T value) {
    reserve_one();
    ::new (static_cast<void *>(&slots_[(head_ + size_) & (capacity_ - 1)].value))
        T(std::move(value));
    ++size_;
  }
  void push_front(T value) {
    reserve_one();
    head_ = (head_ + capacity_ - 1) & (capacity_ - 1);
    ::new (static_cast<void *>(&slots_[head_].value)) T(std::move(value));
    ++size_;
  }
  void pop_front() noexcept {
    slots_[head_].value.~T();
    head_ = (head_ + 1) & (capacity_ - 1);
    if (--size_ == 0)
      release();
  }
  // Removes element `i`, keeping the order of the others. O(n).
  void erase(std::size_t i) noexcept {
    for (; i + 1 < size_; ++i)
      (*this)[i] = std::move((*this)[i + 1]);
    (*this)[size_ - 1].~T();
    if (--size_ == 0)
      release();
  }
  void clear() noexcept {
    while (size_ != 0)
      pop_front();
  }
  void swap(ring &other) noexcept {
    std::swap(slots_, other.slots_);
    std::swap(capacity_, other.capacity_);
    std::swap(head_, other.head_);
    std::swap(size_, other.size_);
  }

private:
  union slot {
    slot() noexcept {}
    ~slot() {}
    T value;
  };

  void reserve_one() {
    if (size_ < capacity_)
      return;
    const std::size_t larger = capacity_ ? capacity_ * 2 : 8;
    std::unique_ptr<slot[]> fresh(new slot[larger]);
    for (std::size_t i = 0; i < size_; ++i) {
      T &from = (*this)[i];
      ::new (static_cast<void *>(&fresh[i].value)) T(std::move(from));
      from.~T();
    }
    slots_ = std::move(fresh);
    capacity_ = larger;
    head_ = 0;
  }
  void release() noexcept {
    head_ = 0;
    slots_.reset();
    capacity_ = 0;
  }

  std::unique_ptr<slot[]> slots_;
  std::size_t capacity_ = 0;
  std::size_t head_ = 0;
  std::size_t size_ = 0;
};

} // namespace chorus::detail
