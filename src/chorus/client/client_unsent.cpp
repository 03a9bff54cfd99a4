// What becomes of messages that will not be sent: counted, and told of.

#include <chorus/client/client_core.hpp>

#include <algorithm>

namespace chorus {

std::string_view to_string(unsent_reason r) noexcept {
  switch (r) {
  case unsent_reason::expired:
    return "expired";
  case unsent_reason::replaced:
    return "replaced";
  case unsent_reason::overflow:
    return "overflow";
  case unsent_reason::refused:
    return "refused";
  case unsent_reason::left_over:
    break;
  }
  return "left_over";
}

namespace detail {

namespace {
constexpr std::size_t most_reports = 1024;
} // namespace

bool client_core::expired(const queued_message &m) const noexcept {
  return m.extras && m.extras->expires <= home_->now();
}

void client_core::drop(lock &held, queued_message m, unsent_reason reason, const failure &why) {
  ++stats_.messages_dropped;
  stats_.messages_expired += reason == unsent_reason::expired;
  stats_.messages_replaced += reason == unsent_reason::replaced;
  stats_.messages_left += reason == unsent_reason::left_over;
  if (!options_.on_unsent && !options_.listener)
    return;
  const auto size = m.content.size();
  if (reports_.size() >= most_reports ||
      (!reports_.empty() && report_bytes_ + size > options_.outbox_bytes)) {
    ++stats_.unsent_unreported;
    return;
  }
  report_bytes_ += size;
  reports_.push_back(
      {std::move(m.content), m.extras ? std::move(m.extras->key) : std::string(), reason, why});
  note_report(held);
}

// The handlers run on the shard, without the mutex.
void client_core::note_report(lock &) {
  if (!reports_.empty() && !std::exchange(report_posted_, true))
    home_->post([self = shared_from_this()] { self->report_unsent(); });
}

// Those that there are now: a handler that sends again makes more, and the shard has others to serve.
void client_core::report_unsent() {
  std::size_t due = 0;
  {
    lock held(mutex_);
    due = reports_.size();
  }
  for (; due != 0; --due) {
    if (telling_) { // which calls again
      lock held(mutex_);
      report_posted_ = false;
      return;
    }
    unsent_message next;
    {
      lock held(mutex_);
      if (abandoned_)
        reports_.clear();
      if (reports_.empty())
        break;
      next = std::move(reports_.front());
      reports_.pop_front();
      report_bytes_ -= next.content.size();
    }
    emit("on_unsent", options_.on_unsent, &client_listener::on_unsent, next);
  }
  lock held(mutex_);
  report_posted_ = false;
  if (!reports_.empty()) {
    note_report(held);
    return;
  }
  report_bytes_ = 0;
  supervisor_.wake_all();
}

bool client_core::purge(lock &held) {
  if (mortal_ == 0)
    return false;
  const auto before = outbox_.size();
  for (std::size_t i = 0; i < before; ++i) {
    auto m = pop(held);
    if (expired(m))
      drop(held, std::move(m), unsent_reason::expired);
    else
      push(held, std::move(m));
  }
  return outbox_.size() != before;
}

// So that what expires while nothing else happens is told of then.
void client_core::arm_expiry() {
  lock held(mutex_);
  if (ended_)
    return;
  if (purge(held)) {
    admit(held);
    if (outbox_.empty())
      idle_.wake_all();
  }
  expiry_armed_ = time_point::max();
  for (std::size_t i = 0; mortal_ != 0 && i < outbox_.size(); ++i)
    if (outbox_[i].extras)
      expiry_armed_ = std::min(expiry_armed_, outbox_[i].extras->expires);
  if (expiry_armed_ == time_point::max())
    return;
  // Many that expire one after the other are looked at in groups.
  constexpr std::chrono::milliseconds least{10};
  expiry_armed_ = std::max(expiry_armed_, home_->now() + least);
  home_->start(expiry_timer_, expiry_armed_);
}

// At the client's end, while handlers may still be called: all of it is told, however much it is.
task<> client_core::leave_outbox(failure why) {
  ring<queued_message> left;
  {
    lock held(mutex_);
    if (ended_)
      co_return;
    closing_ = true;
    left.swap(outbox_);
    discard_outbox(held, why);
  }
  bool more = true;
  while (more) {
    {
      lock held(mutex_);
      const bool nobody = abandoned_ || ended_;
      while (!left.empty()) {
        const auto size = left.front().content.size();
        if (!nobody && !reports_.empty() &&
            (reports_.size() >= most_reports || report_bytes_ + size > options_.outbox_bytes))
          break;
        drop(held, std::move(left.front()), unsent_reason::left_over, why);
        left.pop_front();
      }
      more = !left.empty();
    }
    auto told = until(supervisor_,
                      [this] { return (reports_.empty() && !telling_) || abandoned_ || ended_; });
    co_await std::move(told);
  }
}

} // namespace detail
} // namespace chorus
