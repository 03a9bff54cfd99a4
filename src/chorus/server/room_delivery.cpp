// How a part of a room hands its run of frames to one member: with one write where nothing of that
// member's own is in the way, else frame by frame under its overflow policy.

#include <chorus/server/room_part.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

// Copies that were dropped for their age on this thread, so that what an offer drops can be told
// apart.
thread_local std::uint64_t expired_here = 0;

// Told of the copies of one message with a time to live: what is dropped after that is dropped for
// its age.
class expiring final : public delivery_sink {
public:
  expiring(const shard &home, std::shared_ptr<room_counters> counters, time_point expires,
           std::shared_ptr<gather_part> outcomes) noexcept
      : home_(home), counters_(std::move(counters)), expires_(expires),
        outcomes_(std::move(outcomes)) {}
  void on_outcome(std::uint64_t member, write_outcome outcome) noexcept override {
    if (outcome != write_outcome::dropped || home_.now() < expires_) {
      if (outcomes_)
        outcomes_->on_outcome(member, outcome);
      return;
    }
    ++expired_here;
    counters_->expired.fetch_add(1, std::memory_order_relaxed);
    if (outcomes_)
      outcomes_->on_expired(member);
  }

private:
  const shard &home_; // of the session whose queue tells
  std::shared_ptr<room_counters> counters_;
  time_point expires_;
  std::shared_ptr<gather_part> outcomes_;
};

} // namespace

std::shared_ptr<delivery_sink> room_part::sink_of_age(time_point expires,
                                                      std::shared_ptr<gather_part> outcomes) const {
  return std::make_shared<expiring>(*home_, counters_, expires, std::move(outcomes));
}

void waiting_copy::settled() noexcept {
  const auto keep = std::move(part);
  if (accepted)
    keep->count_delivered(1);
  else if (extras && extras->sink)
    extras->sink->on_outcome(extras->member, write_outcome::failed);
  const auto self = keep->release(*this);
}

std::unique_ptr<message_extras> room_part::extras_for(const run &r, std::size_t index,
                                                      session_id id) const {
  if (!r.any_special)
    return nullptr;
  const auto &x = r.extras[index];
  if (!x.sink && (!x.terms || (x.terms->key.empty() && x.terms->how == lane::reliable)))
    return nullptr;
  auto extras = std::make_unique<message_extras>();
  if (x.terms) {
    extras->key = x.terms->key;
    extras->how = x.terms->how;
    extras->scope = counters_.get();
  }
  extras->expires = x.expires;
  extras->sink = x.sink;
  extras->member = id;
  return extras;
}

void room_part::settle(const run &r, std::size_t index, session_id id,
                       write_outcome outcome) const noexcept {
  if (r.any_special && r.extras[index].outcomes)
    r.extras[index].outcomes->on_outcome(id, outcome);
}

// As the member's encoder takes it.
message room_part::copy_of(const session_core &core, const run &r, std::size_t index) const {
  const auto &f = r.frames[index];
  const std::span<const std::byte> payload(r.bytes.data() + f.payload, f.end - f.payload);
  const message plain(f.kind, r.bytes.storage(), payload);
  if (!core.envelope())
    return plain;
  if (r.any_kept && r.keeps[index])
    return r.keeps[index]->enveloped();
  return with_head(counters_->resume_head, plain);
}

// The run in the wire format of `core`'s connection, encoded when its first such member comes.
const room_part::encoded_run *room_part::encode_for(session_core &core, run &r) {
  const auto &format = core.out().wire().format();
  for (const auto &other : r.others)
    if (other.format == format)
      return &other;
  encoded_run fresh;
  fresh.format = format;
  byte_buffer bytes;
  for (const auto &f : r.frames) {
    const std::span<const std::byte> payload(r.bytes.data() + f.payload, f.end - f.payload);
    const auto before = bytes.size();
    if (format.enveloped) {
      const auto index = fresh.ends.size();
      const auto *k = r.any_kept ? r.keeps[index].get() : nullptr;
      if (k && !format.compressed)
        bytes.append(k->wire());
      else
        core.out().encode(bytes, f.kind, copy_of(core, r, index).bytes());
    } else if (format.how != wire_format::kind::lines ||
               protocol::check_framed(framing::lines, payload) == protocol::violation::none)
      core.out().encode(bytes, f.kind, payload);
    if (bytes.size() == before)
      ++fresh.gaps;
    fresh.ends.push_back(bytes.size());
  }
  fresh.storage = bytes.take();
  r.others.push_back(std::move(fresh));
  return &r.others.back();
}

void room_part::deliver(session_core &core, run &r, std::size_t from) noexcept {
  if (!core.can_send()) {
    for (auto i = from; i < r.frames.size(); ++i)
      settle(r, i, core.id(), write_outcome::failed);
    return;
  }
  const auto &format = core.out().wire().format();
  const encoded_run *encoded = nullptr;
  if (!(format == wire_format()) && format.shareable())
    encoded = encode_for(core, r);
  if (r.any_special) {
    deliver_chosen(core, r, from, encoded);
    return;
  }
  core.touch();
  core.flush_before_wait(); // its own earlier output goes first
  if (!format.shareable() || !core.out().idle() || !core.can_send() ||
      !deliver_run(core, r, from, encoded))
    deliver_each(core, r, from, encoded);
}

void room_part::deliver_chosen(session_core &core, run &r, std::size_t from,
                               const encoded_run *encoded) noexcept {
  const auto keep = core.shared_from_this(); // a filter may end the session
  // Lanes need each message on its own.
  bool whole = core.out().wire().format().shareable() && !r.any_lane;
  chosen_.clear();
  for (auto i = from; i < r.frames.size(); ++i) {
    chosen_.push_back(chosen(core, r.extras[i]));
    whole = whole && chosen_.back();
  }
  if (!core.can_send()) {
    for (auto i = from; i < r.frames.size(); ++i)
      settle(r, i, core.id(), write_outcome::failed);
    return;
  }
  core.touch();
  core.flush_before_wait();
  if (!whole || !core.out().idle() || !core.can_send() || !deliver_run(core, r, from, encoded))
    deliver_each(core, r, from, encoded);
}

void room_part::deliver_each(session_core &core, run &r, std::size_t from,
                             const encoded_run *encoded) noexcept {
  const auto keep = core.shared_from_this(); // an eviction may end the session
  for (auto i = from; i < r.frames.size(); ++i) {
    if (r.any_special && !chosen_[i - from])
      continue;
    if (!core.can_send()) {
      settle(r, i, core.id(), write_outcome::failed);
      continue;
    }
    deliver_single(core, r, i, encoded);
  }
  if (!core.out().blocked())
    home_->flush_later(core);
}

// One write for all frames from `from` on; false when nothing was done.
bool room_part::deliver_run(session_core &core, run &r, std::size_t from,
                            const encoded_run *encoded) noexcept {
  const auto &storage = encoded ? encoded->storage : r.bytes.storage();
  const auto end_of = [&](std::size_t i) { return encoded ? encoded->ends[i] : r.frames[i].end; };
  const auto start_of = [&](std::size_t i) { return i == 0 ? 0 : end_of(i - 1); };
  const auto begin = start_of(from);
  const auto total = end_of(r.frames.size() - 1) - begin;
  auto &out = core.out();
  std::size_t bytes = 0;
  if (total != 0) {
    const iovec piece{storage.data() + begin, total};
    const auto written = core.carrier()->write_some({&piece, 1});
    if (written.status == transport::io_status::failed) {
      core.after_write(outbox::status::failed);
      for (auto i = from; i < r.frames.size(); ++i)
        settle(r, i, core.id(), write_outcome::failed);
      return true;
    }
    if (written.status == transport::io_status::ok)
      bytes = written.bytes;
  }
  out.bytes_sent += bytes;
  if (bytes == total && (!encoded || encoded->gaps == 0)) {
    const auto count = r.frames.size() - from;
    out.messages_sent += count;
    count_delivered(count);
    if (r.any_special)
      for (auto i = from; i < r.frames.size(); ++i)
        settle(r, i, core.id(), write_outcome::written);
    return true;
  }
  // What the kernel did not take: the begun frame, then references under the member's policy.
  const auto keep = core.shared_from_this(); // an eviction may end the session
  const auto reached = begin + bytes;
  bool blocked = false;
  for (auto i = from; i < r.frames.size(); ++i) {
    const auto start = start_of(i);
    if (start == end_of(i)) {
      skip(core, r, i);
    } else if (end_of(i) <= reached) {
      out.messages_sent += 1;
      settle(r, i, core.id(), write_outcome::written);
      count_delivered(1);
    } else if (!std::exchange(blocked, true)) {
      const std::span<const std::byte> wire(storage.data() + start, end_of(i) - start);
      out.adopt_rest(storage, wire, reached - start, extras_for(r, i, core.id()),
                     home_->turn_time());
      count_delivered(1);
    } else if (!core.can_send()) {
      settle(r, i, core.id(), write_outcome::failed);
    } else {
      deliver_single(core, r, i, encoded);
    }
  }
  if (blocked)
    core.after_write(outbox::status::blocked);
  return true;
}

// A frame without bytes in this member's wire format.
void room_part::skip(session_core &core, const run &r, std::size_t index) noexcept {
  const auto &f = r.frames[index];
  if (f.payload == f.end) {
    core.out().messages_sent += 1;
    count_delivered(1);
    settle(r, index, core.id(), write_outcome::written);
    return;
  }
  core.out().messages_dropped += 1;
  counters_->dropped.fetch_add(1, std::memory_order_relaxed);
  settle(r, index, core.id(), write_outcome::dropped);
}

void room_part::deliver_single(session_core &core, run &r, std::size_t index,
                               const encoded_run *encoded) {
  if (r.any_kept && r.keeps[index] && core.envelope()) {
    deliver_kept(core, r, index, encoded);
    return;
  }
  const auto &f = r.frames[index];
  auto &out = core.out();
  const std::span<const std::byte> payload(r.bytes.data() + f.payload, f.end - f.payload);
  std::span<const std::byte> wire;
  const bool shareable = out.wire().format().shareable();
  if (shareable) {
    const auto begin = encoded ? (index == 0 ? 0 : encoded->ends[index - 1]) : f.begin;
    const auto end = encoded ? encoded->ends[index] : f.end;
    if (begin == end) {
      skip(core, r, index);
      return;
    }
    wire = {(encoded ? encoded->storage : r.bytes.storage()).data() + begin, end - begin};
  }
  // The bound is for what the kernel does not take, and what has not outlived its time.
  if (!out.fits(payload.size() + protocol::max_header_size)) {
    if (out.blocked())
      out.expire(home_->now());
    else
      core.flush_before_wait();
  }
  auto extras = extras_for(r, index, core.id());
  const bool may_wait = r.any_special && r.extras[index].outcomes;
  const std::uint64_t dropped_before = out.messages_dropped - expired_here;
  auto taken = admission::must_wait; // behind this room's earlier copies, if some wait
  const auto policy = overflow_.value_or(out.policy());
  if (waiting_.empty() || !has_waiting(core) || (extras && extras->how == lane::latest))
    taken = shareable ? out.offer_encoded(encoded ? encoded->storage : r.bytes.storage(), wire,
                                          extras, policy)
                      : out.offer(copy_of(core, r, index), extras, policy);
  // The policy may have dropped others to make room for this one.
  counters_->dropped.fetch_add(out.messages_dropped - expired_here - dropped_before,
                               std::memory_order_relaxed);
  if (taken == admission::accepted) {
    count_delivered(1);
  } else if (taken == admission::must_wait && may_wait) {
    auto w = std::make_unique<waiting_copy>(shared_from_this());
    const auto shared = copy_of(core, r, index);
    w->wrapped = true;
    w->copy = message(shared.kind(), shared.bytes().data(), shared.size());
    w->content = &w->copy;
    w->extras = std::move(extras);
    w->core = core.shared_from_this();
    w->outcomes = r.extras[index].outcomes;
    core.link(*w);
    waiting_.push_back(std::move(w));
  } else if (taken != admission::dropped) {
    counters_->evicted.fetch_add(1, std::memory_order_relaxed);
    core.evict();
  }
}

// A message with an offset, for a member that may count on it: queued, or the end of the session, which
// the client takes up again where it was.
void room_part::deliver_kept(session_core &core, const run &r, std::size_t index,
                             const encoded_run *encoded) {
  auto &out = core.out();
  const auto &k = *r.keeps[index];
  if (!out.fits(k.size)) {
    if (out.blocked())
      out.expire(home_->now());
    else
      core.flush_before_wait();
  }
  if (!core.can_send()) {
    settle(r, index, core.id(), write_outcome::failed);
    return;
  }
  if (!out.fits(k.size) || has_waiting(core)) {
    settle(r, index, core.id(), write_outcome::failed);
    counters_->evicted.fetch_add(1, std::memory_order_relaxed);
    core.evict();
    return;
  }
  auto extras = extras_for(r, index, core.id());
  if (!encoded) {
    out.pin(k.enveloped(), std::move(extras));
  } else {
    const auto begin = index == 0 ? 0 : encoded->ends[index - 1];
    out.pin_encoded(encoded->storage,
                    {encoded->storage.data() + begin, encoded->ends[index] - begin},
                    std::move(extras));
  }
  count_delivered(1);
}

bool room_part::has_waiting(const session_core &core) const noexcept {
  return std::any_of(waiting_.begin(), waiting_.end(),
                     [&](const auto &w) { return w->core.get() == &core; });
}

std::unique_ptr<waiting_copy> room_part::release(const waiting_copy &w) noexcept {
  const auto found = std::find_if(waiting_.begin(), waiting_.end(),
                                  [&](const auto &entry) { return entry.get() == &w; });
  auto copy = std::move(*found);
  *found = std::move(waiting_.back());
  waiting_.pop_back();
  return copy;
}

void room_part::give_up(gather_part &outcomes) noexcept {
  const auto keep = shared_from_this();
  for (std::size_t i = 0; i < waiting_.size();) {
    auto &w = *waiting_[i];
    if (w.outcomes.get() != &outcomes) {
      ++i;
      continue;
    }
    w.core->unlink(w);
    outcomes.on_outcome(w.extras->member, write_outcome::dropped);
    counters_->dropped.fetch_add(1, std::memory_order_relaxed);
    release(w);
  }
  outcomes.give_up();
}

} // namespace chorus::detail
