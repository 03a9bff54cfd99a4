#include <chorus/session/outbox.hpp>

#include <algorithm>

// The lanes beside the queue: which message leaves next, and what gives way to what.

namespace chorus::detail {

namespace {

// So many of a higher lane in a row at most, while one of a lower lane waits.
constexpr unsigned longest_streak = 8;

} // namespace

outbox::lane_queues &outbox::lanes() {
  if (!lanes_)
    lanes_ = std::make_unique<lane_queues>();
  return *lanes_;
}

// The list whose message at `p` is the next to leave, and `p` behind it; null at the end.
ring<outbox::queued> *outbox::next_at(place &p) noexcept {
  const auto waits = [](ring<queued> &list, std::size_t at) { return at < list.size(); };
  bool control = waits(lanes_->control, p.control);
  bool queue = waits(queue_, p.queue);
  bool latest = waits(lanes_->latest, p.latest);
  // What a compression context has encoded leaves in the order in which it was encoded.
  const auto encoded = [](ring<queued> &list, std::size_t at, bool is_there) {
    return is_there && list[at].encoded != 0 ? list[at].encoded : UINT64_MAX;
  };
  if (encoded_ != 0) {
    const auto a = encoded(lanes_->control, p.control, control);
    const auto b = encoded(queue_, p.queue, queue);
    const auto c = encoded(lanes_->latest, p.latest, latest);
    if (const auto first = std::min({a, b, c}); first != UINT64_MAX) {
      control = first == a;
      queue = first == b;
      latest = first == c;
    }
  }
  if (control && !((queue || latest) && p.control_streak >= longest_streak)) {
    p.control_streak = queue || latest ? p.control_streak + 1 : 0;
    ++p.control;
    return &lanes_->control;
  }
  p.control_streak = 0;
  if (queue && !(latest && p.reliable_streak >= longest_streak)) {
    p.reliable_streak = latest ? p.reliable_streak + 1 : 0;
    ++p.queue;
    return &queue_;
  }
  p.reliable_streak = 0;
  if (!latest)
    return nullptr;
  ++p.latest;
  return &lanes_->latest;
}

// The list whose front leaves now.
ring<outbox::queued> &outbox::take_next() noexcept {
  place p{.control_streak = lanes_->control_streak, .reliable_streak = lanes_->reliable_streak};
  auto *const list = next_at(p);
  lanes_->control_streak = p.control_streak;
  lanes_->reliable_streak = p.reliable_streak;
  return *list;
}

// Drops the oldest of lane::latest if that is enough for one more message of `size` bytes.
bool outbox::drop_latest_for(std::size_t size) {
  if (!lanes_ || lanes_->latest.empty())
    return false;
  std::size_t bytes = bounded_bytes();
  std::size_t messages = bounded_messages();
  for (std::size_t i = 0; i < lanes_->latest.size(); ++i)
    if (!lanes_->latest[i].pinned) {
      bytes -= lanes_->latest[i].total();
      --messages;
    }
  if (bytes != 0 && (bytes + size > options_->queue_bytes ||
                     (options_->queue_messages != 0 && messages >= options_->queue_messages)))
    return false;
  drop_latest_while_full(size);
  return true;
}

void outbox::drop_latest_while_full(std::size_t size) {
  if (!lanes_)
    return;
  for (std::size_t i = 0; !fits(size) && i < lanes_->latest.size();) {
    if (lanes_->latest[i].pinned)
      ++i;
    else
      drop(lanes_->latest, i, overflow::latest);
  }
}

admission outbox::offer_latest(queued q, std::unique_ptr<message_extras> &extras) {
  q.extras = std::move(extras);
  auto &list = lanes().latest;
  const bool expires = q.extras->expires != time_point::max();
  const auto size = q.total();
  if (size == 0 && !q.plain) {
    finish(q);
    return admission::accepted;
  }
  std::size_t old = list.size();
  if (!q.extras->key.empty())
    for (std::size_t i = 0; i < list.size() && old == list.size(); ++i)
      if (list[i].extras->same_key(*q.extras) && !list[i].pinned)
        old = i;
  if (old != list.size() && size <= list[old].total()) {
    note_drop(overflow::latest);
    settle(list[old], write_outcome::dropped);
    queued_bytes_ -= list[old].total() - size;
    q.since = list[old].since;
    list[old] = std::move(q);
    has_expiry_ = has_expiry_ || expires;
    note();
    return admission::accepted;
  }
  // One that grew may need the room of others; then it goes to the end.
  if (old != list.size())
    drop(list, old, overflow::latest);
  if (!fits(size) && !drop_latest_for(size)) {
    note_drop(overflow::latest);
    settle(q, write_outcome::dropped);
    return admission::dropped;
  }
  stamp(q);
  queued_bytes_ += size;
  ++queued_messages_;
  has_expiry_ = has_expiry_ || expires;
  list.push_back(std::move(q));
  note();
  return admission::accepted;
}

// All that waits into the queue, in the order of leaving.
void outbox::merge_lanes() {
  if (!lanes_)
    return;
  if (cork_bytes_ != 0)
    split_cork(0);
  ring<queued> all;
  while (!lanes_->control.empty() || !queue_.empty() || !lanes_->latest.empty()) {
    auto &list = take_next();
    all.push_back(std::move(list.front()));
    list.pop_front();
  }
  queue_ = std::move(all);
  lanes_.reset();
}

} // namespace chorus::detail
