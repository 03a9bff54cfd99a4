// What listeners of rooms are told, in its order.

#include <chorus/cluster/nats_rooms.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::size_t most_beginning = 64; // rooms at a time
constexpr std::size_t most_ahead = 4096;
constexpr std::size_t most_ahead_bytes = std::size_t{16} << 20;
constexpr std::chrono::milliseconds hole_wait{1'000}; // for a message that another has overtaken
constexpr std::chrono::milliseconds change_wait{10};  // for a change
constexpr std::chrono::milliseconds base_wait{200};
constexpr std::chrono::milliseconds late_wait{100};

} // namespace

// The message before it is named with each: what is missing is seen at once.
void nats_rooms::kept(const room &r, nats_event e) {
  if (!r->based || !r->early.empty()) {
    wait_with(r, std::move(e));
    return;
  }
  const auto *const s =
      r->record && r->record->policy != "-" ? core_.streams().kept(r->record->policy) : nullptr;
  if (!s || !s->known || s->name != e.stream || s->tag() != r->record->tag) {
    wait_with(r, std::move(e));
    if (!std::exchange(r->looking, true)) {
      r->record.reset();
      core_.spawn(look_up(r, {}));
    }
    return;
  }
  if (r->seen_tag != r->record->tag) {
    r->seen = 0;
    forget_ahead(*r);
    if (!std::exchange(r->seen_tag, r->record->tag).empty())
      gap(r);
  }
  if (e.sequence <= r->seen)
    return;
  if (e.before > r->seen) {
    if (r->ahead.empty())
      r->hole_since = nats_core::clock::now();
    settle_later(r, hole_wait);
    const auto size = e.data.size();
    if (r->ahead.emplace(e.sequence, std::move(e)).second)
      r->ahead_bytes += size;
    if (r->ahead.size() > most_ahead || r->ahead_bytes > most_ahead_bytes)
      skip_hole(r);
    return;
  }
  told(r, e);
  while (!r->ahead.empty() && r->ahead.begin()->second.before <= r->seen) {
    const auto next = std::move(r->ahead.begin()->second);
    r->ahead.erase(r->ahead.begin());
    r->ahead_bytes -= next.data.size();
    if (next.sequence > r->seen)
      told(r, next);
  }
}

void nats_rooms::told(const room &r, const nats_event &e) {
  const auto m = message_of(*r, r->record ? r->record->epoch : std::string(), e.data, e.sequence);
  r->seen = e.sequence;
  note(*r, e.sequence, m.has_value() ? m->content.size() : e.data.size());
  if (m.has_value())
    tell(r, [&](broker_listener &to) { to.on_message(*m); });
  else
    core_.count_unreadable();
}

void nats_rooms::forget_ahead(nats_room &r) {
  r.ahead.clear();
  r.ahead_bytes = 0;
}

void nats_rooms::skip_hole(const room &r) {
  gap(r);
  r->ahead_bytes = 0;
  for (const auto &[sequence, e] : std::exchange(r->ahead, {}))
    if (sequence > r->seen)
      told(r, e);
}

// Changes have no such chain: they wait a little for those that they may have overtaken, and one that comes
// later than that is told as a gap.
void nats_rooms::change(const room &r, const broker_change &c) {
  if (std::exchange(r->changed_epoch, c.at.epoch) != c.at.epoch)
    r->changed = 0;
  if (c.at.offset <= r->changed)
    r->missed_change = true;
  else
    r->changes.emplace(c.at.offset, c);
  if (r->changes.size() > most_ahead)
    settle(r);
  else
    settle_later(r, change_wait);
}

void nats_rooms::settle_later(const room &r, std::chrono::milliseconds wait) {
  const auto when = nats_core::clock::now() + wait;
  if (unsettled_.insert(r->token).second || when < r->settle_at)
    r->settle_at = when;
  core_.look_at(r->settle_at);
}

void nats_rooms::settle(const room &r) {
  unsettled_.erase(r->token);
  if (std::exchange(r->missed_change, false))
    gap(r);
  for (const auto &[offset, c] : std::exchange(r->changes, {})) {
    r->changed = offset;
    tell(r, [&](broker_listener &to) { to.on_presence(c); });
  }
  if (r->ahead.empty())
    return;
  const auto now = nats_core::clock::now();
  if (r->hole_since + hole_wait <= now)
    skip_hole(r);
  else
    settle_later(
        r, std::chrono::duration_cast<std::chrono::milliseconds>(r->hole_since + hole_wait - now) +
               std::chrono::milliseconds(1));
}

// Finds out where the room stands, from where on listeners are told of all. `gap`: they may have lost
// something before that.
void nats_rooms::begin_again(const room &r, bool with_gap) {
  r->based = false;
  r->gap_then = r->gap_then || with_gap;
  ++r->begun;
  if (std::exchange(r->basing, true))
    return;
  to_base_.push_back(r);
  begin_some();
}

void nats_rooms::begin_some() {
  while (basing_ < most_beginning && !to_base_.empty()) {
    ++basing_;
    core_.spawn(find_base(std::exchange(to_base_.front(), nullptr)));
    to_base_.pop_front();
  }
}

// Has one of the places of `begin_some` for one attempt, and begins at the end of the queue after a failure,
// so that rooms that fail don't keep others from being told so.
task<> nats_rooms::find_base(room r) {
  for (;;) {
    const auto begun = r->begun;
    const auto outcome = co_await look_for_base(r);
    if (outcome.has_error()) {
      turn_away(r, outcome.error());
      --basing_;
      begin_some();
      if (r->heard && core_.ready())
        co_await core_.pause(base_wait);
      if (r->heard && core_.ready()) {
        to_base_.push_back(r);
        begin_some();
      } else { // with the next connection, or the next listener
        r->basing = false;
        if (!r->waiting.empty())
          turn_away(r, outcome.error());
      }
      co_return;
    }
    if (begun == r->begun || !r->heard) {
      r->based = r->heard != nullptr;
      break;
    }
  }
  r->basing = false;
  --basing_;
  begin_some();
  for (const auto &one : std::exchange(r->waiting, {}))
    one.answer({});
  if (std::exchange(r->gap_then, false))
    gap(r);
  for (auto &e : take_early(*r))
    heard(r, std::move(e));
}

void nats_rooms::turn_away_late(nats_core::clock::time_point now) {
  if (now < late_at_)
    return;
  late_at_ = nats_core::clock::time_point::max();
  const auto limit = core_.options().look_up_timeout;
  std::vector<room> late;
  for (const auto &[token, r] : rooms_) {
    if (r->waiting.empty())
      continue;
    const auto until = r->waiting.front().since + limit;
    if (until <= now)
      late.push_back(r);
    else
      late_at_ = std::min(late_at_, until);
  }
  // Not for each of many that come one after the other.
  if (late_at_ != nats_core::clock::time_point::max()) {
    late_at_ = std::max(late_at_, now + late_wait);
    core_.look_at(late_at_);
  }
  for (const auto &r : late)
    turn_away(r, failure(error::timed_out, stage::none,
                         "NATS did not say in time where the room's messages stand"));
}

// Who gets a failure does not listen.
void nats_rooms::turn_away(const room &r, const failure &why) {
  const auto all = std::exchange(r->waiting, {});
  for (const auto &one : all)
    std::erase_if(r->listeners, [&](const auto &weak) {
      return !weak.owner_before(one.who) && !one.who.owner_before(weak);
    });
  forget(r);
  for (const auto &one : all)
    one.answer(why);
}

task<result<>> nats_rooms::look_for_base(room r) {
  auto &streams = core_.streams();
  // Answered by the server when it has the subscription, which was sent before.
  const auto now = co_await streams.last(streams.records(), core_.subject("e." + r->token));
  if (now.has_error())
    co_return now.error();
  auto record = nats_record::parse(now->data, now->sequence);
  std::uint64_t seen = 0;
  std::string tag;
  if (record && record->policy != "-") {
    if (auto *const s = streams.kept(record->policy)) {
      const auto there = co_await streams.ensure(*s);
      if (there.has_error())
        co_return there.error();
      tag = s->tag();
      const auto newest =
          co_await streams.last(*s, core_.subject("h." + record->policy + "." + r->token));
      if (newest.has_error())
        co_return newest.error();
      seen = newest->sequence;
    }
  }
  r->seen = seen;
  r->seen_tag = tag;
  forget_ahead(*r);
  if (record && (!r->record || r->record->at < record->at))
    r->record = std::move(record);
  co_return result<>();
}

} // namespace chorus::detail
