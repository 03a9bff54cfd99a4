#include <chorus/server/room_part.hpp>

#include <algorithm>

namespace chorus::detail {

namespace {
// A run this long is delivered at once, so that a burst of publishes in one turn stays bounded.
constexpr std::size_t run_limit = 256 * 1024;

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

struct waiting_copy final : send_waiter {
  explicit waiting_copy(std::shared_ptr<room_part> p) : part(std::move(p)) {}
  void settled() noexcept override {
    const auto keep = std::move(part);
    if (accepted)
      keep->count_delivered(1);
    else if (extras && extras->sink)
      extras->sink->on_outcome(extras->member, write_outcome::failed);
    const auto self = keep->release(*this);
  }
  std::shared_ptr<room_part> part; // the member may leave meanwhile, and the room go
  message copy;
  std::shared_ptr<session_core> core;
  std::shared_ptr<gather_part> outcomes;
};

room_part::room_part(std::shared_ptr<shard> home, std::shared_ptr<room_counters> counters,
                     std::shared_ptr<std::atomic<std::uint64_t>> evicted)
    : home_(std::move(home)), counters_(std::move(counters)), evicted_(std::move(evicted)) {}

room_part::~room_part() = default;

void room_part::add(const std::shared_ptr<session_core> &core) {
  const auto found = index_.find(core->id());
  if (found != index_.end()) {
    ++members_[found->second].seats;
    return;
  }
  index_.emplace(core->id(), static_cast<std::uint32_t>(members_.size()));
  members_.push_back({core.get(), core->id(), next_number_, 1});
  core->join(shared_from_this());
  count_.fetch_add(1, std::memory_order_relaxed);
  counters_->members.fetch_add(1, std::memory_order_relaxed);
}

void room_part::remove(session_id id) noexcept {
  const auto found = index_.find(id);
  if (found == index_.end() || --members_[found->second].seats != 0)
    return;
  auto *core = members_[found->second].core;
  if (!core)
    return;
  catch_up(*core); // it gets what was published before it left
  if (index_.find(id) == index_.end())
    return;
  core->part(*this);
  on_member_gone(*core);
}

void room_part::on_member_gone(session_core &core) noexcept {
  const auto found = index_.find(core.id());
  if (found == index_.end())
    return;
  const auto at = found->second;
  if (pending_.any_special)
    for (std::size_t i = 0; i < pending_.frames.size(); ++i)
      if (pending_.first + i >= members_[at].next)
        settle(pending_, i, core.id(), write_outcome::failed);
  index_.erase(found);
  count_.fetch_sub(1, std::memory_order_relaxed);
  counters_->members.fetch_sub(1, std::memory_order_relaxed);
  members_[at].core = nullptr;
  if (delivering_) {
    gone_while_delivering_ = true;
    return;
  }
  if (at + 1 != members_.size()) {
    members_[at] = members_.back();
    if (members_[at].core)
      index_[members_[at].id] = at;
  }
  members_.pop_back();
}

void room_part::sweep() noexcept {
  if (!std::exchange(gone_while_delivering_, false))
    return;
  std::erase_if(members_, [](const auto &m) { return m.core == nullptr; });
  for (std::size_t i = 0; i < members_.size(); ++i)
    index_[members_[i].id] = static_cast<std::uint32_t>(i);
}

std::vector<session_id> room_part::ids() const {
  std::vector<session_id> result;
  result.reserve(members_.size());
  for (const auto &m : members_)
    if (m.core)
      result.push_back(m.id);
  return result;
}

bool room_part::meant(const session_core &core, const publish_terms *terms) const {
  if (!terms)
    return true;
  if (std::find(terms->except.begin(), terms->except.end(), core.id()) != terms->except.end())
    return false;
  if (!terms->only)
    return true;
  const session handle(const_cast<session_core &>(core).shared_from_this());
  return terms->only(handle);
}

void room_part::publish(const message &m, std::shared_ptr<const publish_terms> terms,
                        std::shared_ptr<gather_part> outcomes) {
  const bool special = terms || outcomes;
  if (outcomes) {
    for (const auto &one : members_)
      if (one.core && meant(*one.core, terms.get()))
        outcomes->expect(*one.core);
  }
  if (count_.load(std::memory_order_relaxed) == 0) {
    if (outcomes)
      outcomes->begun();
    return;
  }
  if (pending_.empty()) {
    if (home_->stopped())
      return; // no turn will end any more
    pending_.first = next_number_;
    home_->enroll(*this);
    ++home_->pending_rooms;
    keep_ = shared_from_this();
    home_->flush_later(*this);
  }
  ++next_number_;
  frame f{};
  f.begin = pending_.bytes.size();
  const auto op = m.is_text() ? protocol::opcode::text : protocol::opcode::binary;
  auto *at = pending_.bytes.grow(m.size() + protocol::max_header_size);
  const auto head = protocol::encode_header(at, op, true, false, m.size());
  if (!m.empty())
    std::memcpy(at + head, m.bytes().data(), m.size());
  pending_.bytes.advance(head + m.size());
  f.payload = f.begin + head;
  f.end = pending_.bytes.size();
  f.kind = m.kind();
  f.special = special;
  if (special && !pending_.any_special) {
    pending_.any_special = true;
    pending_.extras.resize(pending_.frames.size());
  }
  pending_.frames.push_back(f);
  if (pending_.any_special) {
    auto &x = pending_.extras.emplace_back();
    x.sink = x.outcomes = outcomes;
    if (terms && terms->time_to_live.count() != 0) {
      x.expires = home_->now() + terms->time_to_live;
      x.sink = std::make_shared<expiring>(*home_, counters_, x.expires, outcomes);
    }
    x.terms = std::move(terms);
  }
  if (outcomes)
    outcomes->begun();
  if (pending_.bytes.size() >= run_limit && !delivering_)
    flush_turn();
}

void room_part::flush_turn() noexcept {
  if (pending_.empty()) {
    keep_.reset();
    return;
  }
  if (delivering_) {
    home_->flush_later(*this);
    return;
  }
  const auto keep = std::move(keep_);
  home_->withdraw(*this);
  home_->leave(*this);
  --home_->pending_rooms;
  auto r = std::exchange(pending_, run());
  pending_.first = next_number_;
  const auto end = r.first + r.frames.size();
  delivering_ = true;
  for (std::size_t i = 0; i < members_.size(); ++i) {
    auto &m = members_[i];
    if (m.next >= end)
      continue;
    const auto from = static_cast<std::size_t>(std::max(m.next, r.first) - r.first);
    m.next = end;
    if (m.core)
      deliver(*m.core, r, from);
    else // it went while others were served
      for (auto k = from; k < r.frames.size(); ++k)
        settle(r, k, m.id, write_outcome::failed);
  }
  delivering_ = false;
  sweep();
}

void room_part::on_shard_gone() noexcept {
  const auto keep = std::move(keep_);
  home_->withdraw(*this);
  --home_->pending_rooms;
  pending_ = run();
}

void room_part::catch_up(session_core &core) noexcept {
  if (pending_.empty() || delivering_)
    return;
  const auto found = index_.find(core.id());
  if (found == index_.end())
    return;
  auto &m = members_[found->second];
  const auto end = pending_.first + pending_.frames.size();
  if (m.next >= end)
    return;
  const auto from = static_cast<std::size_t>(std::max(m.next, pending_.first) - pending_.first);
  m.next = end;
  // The pending run may grow and move, so this member gets copies of its own.
  run copy;
  copy.first = pending_.first + from;
  const auto begin = pending_.frames[from].begin;
  copy.bytes.append(pending_.bytes.data() + begin, pending_.bytes.size() - begin);
  for (std::size_t i = from; i < pending_.frames.size(); ++i) {
    auto f = pending_.frames[i];
    f.begin -= begin;
    f.payload -= begin;
    f.end -= begin;
    copy.frames.push_back(f);
  }
  copy.any_special = pending_.any_special;
  if (copy.any_special)
    copy.extras.assign(pending_.extras.begin() + static_cast<std::ptrdiff_t>(from),
                       pending_.extras.end());
  delivering_ = true;
  deliver(core, copy, 0);
  delivering_ = false;
  sweep();
}

std::unique_ptr<message_extras> room_part::extras_for(const run &r, std::size_t index,
                                                      session_id id) const {
  if (!r.any_special)
    return nullptr;
  const auto &x = r.extras[index];
  if (!x.sink && (!x.terms || x.terms->key.empty()))
    return nullptr;
  auto extras = std::make_unique<message_extras>();
  if (x.terms)
    extras->key = x.terms->key;
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
    if (format.how != wire_format::kind::lines ||
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
  bool whole = format.shareable();
  if (whole && r.any_special)
    for (auto i = from; whole && i < r.frames.size(); ++i)
      whole = meant(core, r.extras[i].terms.get());
  core.touch();
  core.flush_before_wait(); // its own earlier output goes first
  if (whole && core.out().idle() && core.can_send() && deliver_run(core, r, from, encoded))
    return;
  const auto keep = core.shared_from_this(); // an eviction may end the session
  for (auto i = from; i < r.frames.size(); ++i) {
    if (r.any_special && !meant(core, r.extras[i].terms.get())) {
      settle(r, i, core.id(), write_outcome::dropped); // meant when it was published, perhaps
      continue;
    }
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
  const auto &f = r.frames[index];
  auto &out = core.out();
  const message_kind kind = f.kind;
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
  if (waiting_.empty() || !has_waiting(core))
    taken = shareable
                ? out.offer_encoded(encoded ? encoded->storage : r.bytes.storage(), wire, extras)
                : out.offer(message(kind, r.bytes.storage(), payload), extras);
  // The policy may have dropped others to make room for this one.
  counters_->dropped.fetch_add(out.messages_dropped - expired_here - dropped_before,
                               std::memory_order_relaxed);
  if (taken == admission::accepted) {
    count_delivered(1);
  } else if (taken == admission::must_wait && may_wait) {
    auto w = std::make_unique<waiting_copy>(shared_from_this());
    w->copy = message(kind, payload.data(), payload.size());
    w->content = &w->copy;
    w->extras = std::move(extras);
    w->core = core.shared_from_this();
    w->outcomes = r.extras[index].outcomes;
    core.link(*w);
    waiting_.push_back(std::move(w));
  } else if (taken != admission::dropped) {
    counters_->evicted.fetch_add(1, std::memory_order_relaxed);
    evicted_->fetch_add(1, std::memory_order_relaxed);
    core.evict();
  }
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
