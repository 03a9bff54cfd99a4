#include <chorus/session/outbox.hpp>

#include <algorithm>
#include <cstring>

namespace chorus::detail {

outbox::outbox(encoder e, const session_options &options)
    : encoder_(std::move(e)), options_(&options) {}

outbox::~outbox() = default;

outbox::control_frames &outbox::control() {
  if (!control_)
    control_ = std::make_unique<control_frames>();
  return *control_;
}

outbox::queued outbox::make_queued(const message &m) {
  queued q;
  q.kind = m.kind();
  if (encoder_.format().context_takeover) {
    q.plain = true;
    q.owner = m.storage();
    q.data = m.bytes().data();
    q.size = m.size();
    return q;
  }
  if (m.size() >= reference_size) {
    if (const auto head = encoder_.head_of(q.head.data(), m.kind(), m.size())) {
      q.head_size = static_cast<std::uint8_t>(head);
      q.owner = m.storage();
      q.data = m.bytes().data();
      q.size = m.size();
      return q;
    }
  }
  byte_buffer bytes;
  encoder_.append(bytes, m.kind(), m.bytes());
  q.size = bytes.size();
  q.owner = bytes.take();
  q.data = q.owner.data();
  return q;
}

void outbox::stamp(queued &q) const noexcept {
  if (blocked_ && clock_)
    q.since = clock_->now();
}

time_point outbox::oldest_since() noexcept {
  auto oldest = time_point::max();
  if (!blocked_)
    return oldest;
  const auto look_at = [&](const queued &q) {
    oldest = std::min(oldest, q.since == time_point() ? waiting_since_ : q.since);
  };
  if (begun_)
    look_at(*begun_);
  if (!queue_.empty())
    look_at(queue_.front());
  if (lanes_ && !lanes_->control.empty())
    look_at(lanes_->control.front());
  if (lanes_ && !lanes_->latest.empty())
    look_at(lanes_->latest.front());
  return oldest;
}

void outbox::push(queued q) {
  if (q.total() == 0 && !q.plain) { // an empty chunk of a raw stream leaves no trace on the wire
    finish(q);
    return;
  }
  stamp(q);
  queued_bytes_ += q.total();
  if (q.is_message)
    ++queued_messages_;
  if (q.spared) {
    spared_bytes_ += q.total();
    ++spared_messages_;
  }
  if (q.extras && q.extras->expires != time_point::max())
    has_expiry_ = true;
  if (q.extras && q.extras->how == lane::control)
    lanes().control.push_back(std::move(q));
  else
    queue_.push_back(std::move(q));
  note();
}

// Room for one more of `size` bytes by dropping the oldest that may be dropped.
bool outbox::make_room(std::size_t size, overflow by) {
  auto staying = cork_bytes_ + (begun_ && !begun_->spared ? begun_->total() - begun_offset_ : 0);
  if (lanes_)
    for (std::size_t i = 0; i < lanes_->control.size(); ++i)
      staying += lanes_->control[i].total();
  if (staying != 0 && staying + size > options_->queue_bytes)
    return false; // and the others are not dropped in vain
  drop_latest_while_full(size);
  for (std::size_t i = 0; !fits(size) && i < queue_.size();) {
    if (queue_[i].pinned || !queue_[i].is_message)
      ++i;
    else
      drop(queue_, i, by);
  }
  return fits(size);
}

void outbox::note_drop(overflow by) noexcept {
  messages_dropped += 1;
  if (by == overflow::drop_oldest)
    dropped_oldest += 1;
  else if (by == overflow::drop_newest)
    dropped_newest += 1;
}

void outbox::drop(ring<queued> &from, std::size_t index, overflow by) {
  note_drop(by);
  remove(from, index);
}

void outbox::remove(ring<queued> &from, std::size_t index) {
  auto &q = from[index];
  queued_bytes_ -= q.total();
  --queued_messages_;
  settle(q, write_outcome::dropped);
  if (index == 0)
    from.pop_front();
  else
    from.erase(index);
}

bool outbox::replace_by_key(queued &q) {
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    auto &old = queue_[i];
    if (!old.extras || !old.extras->same_key(*q.extras) || old.pinned)
      continue;
    note_drop(overflow::latest);
    settle(old, write_outcome::dropped);
    queued_bytes_ -= old.total();
    queued_bytes_ += q.total();
    note();
    if (q.extras->expires != time_point::max())
      has_expiry_ = true;
    q.since = old.since;
    old = std::move(q);
    // It may have grown: the bound holds for the queue as a whole.
    for (std::size_t k = 0; bounded_bytes() > options_->queue_bytes && k < queue_.size();) {
      if (k == i || queue_[k].pinned || !queue_[k].is_message) {
        ++k;
        continue;
      }
      drop(queue_, k, overflow::latest);
      if (k < i)
        --i;
    }
    return true;
  }
  return false;
}

// What the policy says to one more message of `size` bytes that does not fit.
admission outbox::when_full(std::size_t size, std::unique_ptr<message_extras> &extras,
                            overflow policy) {
  if (drop_latest_for(size))
    return admission::accepted;
  const auto refuse = [&](admission how, write_outcome outcome) {
    if (extras && extras->sink)
      extras->sink->on_outcome(extras->member, outcome);
    extras.reset();
    if (how == admission::dropped)
      note_drop(policy);
    return how;
  };
  switch (policy) {
  case overflow::wait:
    return admission::must_wait;
  case overflow::close:
    return refuse(admission::evict, write_outcome::failed);
  case overflow::drop_newest:
    break;
  case overflow::drop_oldest:
  case overflow::latest:
    if (make_room(size, policy))
      return admission::accepted;
    break;
  }
  return refuse(admission::dropped, write_outcome::dropped);
}

// The cork goes before the queue, so it is open only while the queue is empty.
bool outbox::cork(message_kind kind, std::span<const std::byte> payload) {
  // What a compression context encodes stays plain till it is written: encoded, it could be neither
  // dropped nor given back. Raw chunks could not be told apart again.
  if (blocked_ || encoder_.format().how == wire_format::kind::raw || !queue_.empty() ||
      payload.size() >= reference_size || encoder_.format().context_takeover ||
      !fits(payload.size() + protocol::max_header_size))
    return false;
  if (!cork_)
    cork_ = borrow_cork();
  const auto before = cork_->size();
  encoder_.append(*cork_, kind, payload);
  const auto added = cork_->size() - before;
  cork_bytes_ += added;
  queued_bytes_ += added;
  ++cork_messages_;
  ++queued_messages_;
  return true;
}

admission outbox::offer(const message &m, std::unique_ptr<message_extras> &extras,
                        overflow policy) {
  const std::size_t size = m.size() + protocol::max_header_size;
  if (extras && extras->how == lane::latest)
    return offer_latest(make_queued(m), extras);
  if (extras && policy == overflow::latest && extras->how == lane::reliable &&
      !extras->key.empty()) {
    auto q = make_queued(m);
    q.extras = std::move(extras);
    if (replace_by_key(q))
      return admission::accepted;
    if (!fits(size))
      if (const auto full = when_full(size, q.extras, policy); full != admission::accepted)
        return full;
    push(std::move(q));
    return admission::accepted;
  }
  if (!fits(size))
    if (const auto full = when_full(size, extras, policy); full != admission::accepted)
      return full;
  if (!extras && cork(m.kind(), m.bytes()))
    return admission::accepted;
  auto q = make_queued(m);
  q.extras = std::move(extras);
  push(std::move(q));
  return admission::accepted;
}

admission outbox::offer_encoded(buffer owner, std::span<const std::byte> frame,
                                std::unique_ptr<message_extras> &extras, overflow policy) {
  queued q;
  q.owner = std::move(owner);
  q.data = frame.data();
  q.size = frame.size();
  if (extras && extras->how == lane::latest)
    return offer_latest(std::move(q), extras);
  if (extras && policy == overflow::latest && extras->how == lane::reliable &&
      !extras->key.empty()) {
    q.extras = std::move(extras);
    if (replace_by_key(q))
      return admission::accepted;
    extras = std::move(q.extras);
  }
  if (!fits(frame.size()))
    if (const auto full = when_full(frame.size(), extras, policy); full != admission::accepted)
      return full;
  q.extras = std::move(extras);
  push(std::move(q));
  return admission::accepted;
}

void outbox::pin(const message &m, std::unique_ptr<message_extras> extras) {
  auto q = make_queued(m);
  q.extras = std::move(extras);
  q.pinned = true;
  push(std::move(q));
}

void outbox::pin_encoded(buffer owner, std::span<const std::byte> frame,
                         std::unique_ptr<message_extras> extras) {
  queued q;
  q.owner = std::move(owner);
  q.data = frame.data();
  q.size = frame.size();
  q.extras = std::move(extras);
  q.pinned = true;
  push(std::move(q));
}

void outbox::spare(const message &m) {
  auto q = make_queued(m);
  q.pinned = q.spared = true;
  push(std::move(q));
}

void outbox::spare_encoded(buffer owner, std::span<const std::byte> frame) {
  queued q;
  q.owner = std::move(owner);
  q.data = frame.data();
  q.size = frame.size();
  q.pinned = q.spared = true;
  push(std::move(q));
}

void outbox::adopt_rest(const buffer &owner, std::span<const std::byte> frame, std::size_t begun,
                        std::unique_ptr<message_extras> extras, time_point now) {
  begun_ = std::make_unique<queued>();
  begun_->owner = owner;
  begun_->data = frame.data();
  begun_->size = frame.size();
  begun_->extras = std::move(extras);
  begun_offset_ = begun;
  queued_bytes_ += frame.size() - begun;
  if (!blocked_) {
    blocked_ = true;
    blocked_since_ = waiting_since_ = now;
  }
  note();
}

void outbox::queue_pong(std::span<const std::byte> payload) {
  auto &c = control();
  c.pong = true;
  c.pong_size = static_cast<std::uint8_t>(std::min(payload.size(), c.pong_payload.size()));
  if (c.pong_size != 0)
    std::memcpy(c.pong_payload.data(), payload.data(), c.pong_size);
}

void outbox::queue_ping(std::uint64_t payload) {
  auto &c = control();
  c.ping = true;
  c.ping_payload = payload;
}

void outbox::queue_close(close_code code, std::string_view reason) {
  merge_lanes();
  queued q;
  q.is_message = false;
  q.is_close = true;
  q.pinned = true;
  byte_buffer bytes;
  protocol::append_close(bytes, encoder_.side(), static_cast<std::uint16_t>(code), reason);
  q.size = bytes.size();
  q.owner = bytes.take();
  q.data = q.owner.data();
  push(std::move(q));
}

void outbox::fail_with_close(close_code code, std::string_view reason) {
  if (cork_bytes_ != 0)
    split_cork(0);
  merge_lanes();
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    auto &q = queue_[i];
    queued_bytes_ -= q.total();
    unspare(q, q.total(), true);
    if (q.is_message) {
      --queued_messages_;
      settle(q, write_outcome::failed);
    }
  }
  withheld_ = std::move(queue_);
  auto &c = control();
  c.close = true;
  c.code = code;
  c.reason = reason;
  note();
}

void outbox::expire(time_point now) {
  if (!has_expiry_)
    return;
  has_expiry_ = false;
  expire_in(queue_, now);
  if (lanes_) {
    expire_in(lanes_->control, now);
    expire_in(lanes_->latest, now);
  }
}

void outbox::expire_in(ring<queued> &list, time_point now) {
  for (std::size_t i = 0; i < list.size();) {
    const auto &q = list[i];
    if (q.extras && q.extras->expires <= now && !q.pinned) {
      messages_dropped += 1;
      messages_expired += 1;
      remove(list, i);
      continue;
    }
    if (q.extras && q.extras->expires != time_point::max())
      has_expiry_ = true;
    ++i;
  }
}

} // namespace chorus::detail
