#include <chorus/async/timer_wheel.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {
constexpr std::uint32_t due_list = timer_wheel::slots; // marks a timer that sits in the due list
}

void timer::cancel() noexcept {
  if (wheel_)
    wheel_->unlink(*this);
}

timer_wheel::timer_wheel(duration tick, time_point now) noexcept
    : tick_(std::max(tick, duration(1))), origin_(now) {}

timer_wheel::~timer_wheel() {
  for (auto *head : heads_)
    while (head) {
      auto *t = head;
      head = t->next_;
      t->wheel_ = nullptr;
    }
}

// The first tick whose time is not before `when`.
std::int64_t timer_wheel::tick_of(time_point when) const noexcept {
  if (when <= origin_)
    return 0;
  const auto since = when - origin_;
  return since / tick_ + (since % tick_ != duration::zero() ? 1 : 0);
}

void timer_wheel::link(timer &t, std::uint32_t slot) noexcept {
  timer *&head = slot == due_list ? due_ : heads_[slot];
  t.slot_ = slot;
  t.prev_ = nullptr;
  t.next_ = head;
  if (head)
    head->prev_ = &t;
  head = &t;
  t.wheel_ = this;
  ++count_;
}

void timer_wheel::unlink(timer &t) noexcept {
  timer *&head = t.slot_ == due_list ? due_ : heads_[t.slot_];
  if (t.prev_)
    t.prev_->next_ = t.next_;
  else
    head = t.next_;
  if (t.next_)
    t.next_->prev_ = t.prev_;
  t.wheel_ = nullptr;
  t.next_ = t.prev_ = nullptr;
  --count_;
}

void timer_wheel::start(timer &t, time_point when) noexcept {
  t.cancel();
  t.expiry_ = when;
  const auto tick = std::max(tick_of(when), current_ + 1);
  link(t, static_cast<std::uint32_t>(tick % static_cast<std::int64_t>(slots)));
}

void timer_wheel::advance(time_point now) noexcept {
  if (now < origin_)
    return;
  const auto last = (now - origin_) / tick_;
  if (count_ == 0) {
    current_ = std::max<std::int64_t>(current_, last);
    return;
  }
  // A jump of more than a whole turn visits every slot once.
  auto first = current_ + 1;
  if (last - first >= static_cast<std::int64_t>(slots))
    first = last - static_cast<std::int64_t>(slots) + 1;
  for (auto tick = first; tick <= last; ++tick) {
    current_ = std::max(current_, tick);
    auto *t = heads_[static_cast<std::size_t>(tick % static_cast<std::int64_t>(slots))];
    while (t) { // no callback runs here, so the list holds still
      auto *next = t->next_;
      if (tick_of(t->expiry_) <= last) {
        unlink(*t);
        link(*t, due_list);
      }
      t = next;
    }
  }
  current_ = std::max<std::int64_t>(current_, last);
  while (due_) {
    auto &t = *due_;
    unlink(t);
    t.fired_(t);
  }
}

} // namespace chorus::detail
