// What goes out through a room's link, and what comes in.

#include <chorus/server/room_link.hpp>

#include <charconv>
#include <utility>

namespace chorus::detail {

namespace {

// What comes from the engine while the history is read waits here; beyond it is read again.
constexpr std::size_t most_early = 1024;
constexpr std::size_t most_early_bytes = std::size_t{4} << 20;
// What comes from the engine while the room's shard is busy; beyond it all of that is lost, as by a gap.
constexpr std::size_t most_incoming = 4096;
constexpr std::size_t most_incoming_bytes = std::size_t{4} << 20;

} // namespace

broker_message room_link::outgoing(const room_core &room, std::uint64_t number, const message &m,
                                   const publish_terms *terms) {
  broker_message out;
  out.room = channel_;
  out.content = m;
  out.origin = ours_ + std::to_string(number);
  if (terms) {
    out.except_clients = terms->except_clients;
    out.key = terms->key;
    out.time_to_live = terms->time_to_live;
  }
  if (room.log() && (!terms || terms->keepable()))
    out.keep = room.options();
  return out;
}

std::optional<std::uint64_t> room_link::number_of(const broker_message &m) const noexcept {
  if (!m.origin.starts_with(ours_))
    return std::nullopt;
  std::uint64_t number = 0;
  std::from_chars(m.origin.data() + ours_.size(), m.origin.data() + m.origin.size(), number);
  return number;
}

void room_link::publish(const message &m, sent_out with) {
  const auto room = room_.lock();
  if (!room)
    return;
  const auto number = node_->next_number();
  in_flight one{m, std::move(with), {}, home_->now()};
  if (!away_.takes(*room, number, one))
    send(*room, number, std::move(one));
}

void room_link::send(room_core &room, std::uint64_t number, in_flight one) {
  auto out = outgoing(room, number, one.content, one.with.terms.get());
  if (room.counters().measured())
    out.published = wall_time(home_->now() - one.since);
  sent_.emplace(number, std::move(one));
  away_.asked(room);
  engine_->publish(std::move(out), [weak = weak_from_this(), number](result<broker_position> r) {
    const auto self = weak.lock();
    if (!self)
      return;
    // What is published before this comes home is not to overtake it.
    const bool away = r.has_error() && room_away::is_away(r.error());
    if (away)
      self->failing_.fetch_add(1, std::memory_order_release);
    self->at_home([number, away, r = std::move(r)](room_link &link, room_core &core) {
      link.answered(core, number, r);
      if (away)
        link.failing_.fetch_sub(1, std::memory_order_relaxed);
    });
  });
}

void room_link::pass_on(const message &m, const publish_terms *terms) {
  const auto room = room_.lock();
  if (!room)
    return;
  auto out = outgoing(*room, node_->next_number(), m, terms);
  if (room->counters().measured())
    out.published = wall_time({});
  engine_->publish(std::move(out), [weak = weak_from_this()](const result<broker_position> &r) {
    if (r.has_value())
      return;
    if (const auto self = weak.lock())
      self->at_home([why = r.error()](room_link &link, room_core &core) {
        core.counters().broker_failures.fetch_add(1, std::memory_order_relaxed);
        link.complain("did not take a message, which members elsewhere do not get", why);
      });
  });
}

void room_link::answered(room_core &room, std::uint64_t number, const result<broker_position> &r) {
  const auto found = sent_.find(number);
  if (r.has_value()) {
    if (found != sent_.end()) {
      auto &one = found->second;
      one.at = *r;
      one.asked = asked_;
      if (passed(room, one))
        forget_passed(room);
      else if (state_ == state::ready && room.log() && r->epoch != *room.log()->messages().epoch())
        fill(); // it comes, or did not come with what was read of its epoch
    }
    away_.succeeded(room, number);
    return;
  }
  std::optional<in_flight> one; // none: it was quicker
  if (found != sent_.end()) {
    one = std::move(found->second);
    sent_.erase(found);
  }
  away_.failed(room, number, r.error(), std::move(one));
}

void room_link::refuse(room_core &room, const in_flight &one, const failure &why, bool quietly) {
  const bool known = !(why == error::unconfirmed);
  auto &own = room.counters();
  auto &all = own.measures->engine;
  (known ? own.broker_failures : own.unconfirmed).fetch_add(1, std::memory_order_relaxed);
  (known ? all.refused : all.unconfirmed).fetch_add(1, std::memory_order_relaxed);
  if (!quietly)
    complain(known ? "refused a message, which nobody gets"
                   : "does not know whether anybody gets a message",
             why);
  for (const auto &[part, outcomes] : one.with.outcomes)
    part->home()->run(
        [p = part, o = outcomes, terms = one.with.terms, why] { p->refuse(terms.get(), *o, why); });
}

// It was numbered and will not come, since nobody here listens or it is older than what was read.
bool room_link::passed(const room_core &room, const in_flight &one) const {
  if (one.at.offset == 0 || (state_ != state::idle && state_ != state::ready))
    return false;
  if (state_ == state::idle || !room.log())
    return true;
  const auto &log = room.log()->messages();
  return one.at.epoch == *log.epoch() ? one.at.offset <= log.last() : one.asked < asked_;
}

void room_link::forget_passed(room_core &room) {
  std::erase_if(sent_, [&](const auto &entry) {
    const auto &one = entry.second;
    if (!passed(room, one))
      return false;
    const failure why(error::lost, stage::none,
                      "the room did not keep it until this server could read it");
    for (const auto &[part, outcomes] : one.with.outcomes)
      part->home()->run([p = part, o = outcomes, terms = one.with.terms, why] {
        p->refuse(terms.get(), *o, why);
      });
    return true;
  });
}

// It came late, and what followed the end of its epoch has been read, or it came early. The history tells.
bool room_link::of_another_epoch(room_core &room, const broker_message &m) {
  return m.at.offset != 0 && room.log() && m.at.epoch != *room.log()->messages().epoch();
}

// In the engine's order: what a shard posts to itself may be overtaken by what others post to it.
void room_link::take(std::function<void(room_link &)> one, std::size_t bytes, bool once) {
  {
    std::lock_guard lock(incoming_mutex_);
    const bool on_its_way = !incoming_.empty();
    if (on_its_way &&
        (incoming_.size() == most_incoming || incoming_bytes_ + bytes > most_incoming_bytes)) {
      overrun_ += std::exchange(incoming_once_, 0);
      incoming_.clear();
      incoming_bytes_ = 0;
      incoming_gap_ = true;
    }
    incoming_.push_back(std::move(one));
    incoming_bytes_ += bytes;
    incoming_once_ += once;
    if (on_its_way)
      return;
  }
  at_home([](room_link &link, room_core &room) { link.take_all(room); });
}

void room_link::take_all(room_core &room) {
  std::vector<std::function<void(room_link &)>> all;
  std::uint64_t lost = 0;
  bool missed = false;
  {
    std::lock_guard lock(incoming_mutex_);
    all.swap(incoming_);
    incoming_bytes_ = 0;
    incoming_once_ = 0;
    lost = std::exchange(overrun_, 0);
    missed = std::exchange(incoming_gap_, false);
  }
  if (lost != 0) {
    room.counters().refused.fetch_add(lost, std::memory_order_relaxed);
    complain("said more at a time than this server could take, and members here do not get it",
             failure(error::queue_full, stage::none, std::to_string(lost) + " messages"));
  }
  if (missed)
    gap(room);
  for (const auto &f : all)
    f(*this);
  if (state_ == state::ready)
    tell_passed(room);
}

void room_link::arrived(const broker_message &m) {
  const auto room = room_.lock();
  if (state_ == state::ready) {
    if (!of_another_epoch(*room, m)) {
      deliver_live(*room, m);
      return;
    }
    fill();
  }
  if (state_ == state::idle)
    return;
  if (m.at.offset == 0 && m.origin.starts_with(ours_))
    return;
  early_bytes_ += m.content.size();
  if (early_.size() == most_early || early_bytes_ > most_early_bytes) {
    early_.clear();
    early_bytes_ = 0;
    again_ = true;
  } else {
    early_.push_back(m);
  }
  if (state_ == state::filling && std::exchange(stuck_, false))
    fill();
}

void room_link::deliver_live(room_core &room, const broker_message &m) {
  const auto what = deliver(room, m);
  if (what == given::nothing || !room.has_anybody())
    return;
  room.counters().relayed.fetch_add(1, std::memory_order_relaxed);
  if (what == given::theirs && room.counters().measured())
    room.counters().measures->note_delivery(home_->index(), m.published);
}

room_link::given room_link::deliver(room_core &room, const broker_message &m) {
  const auto ours = number_of(m);
  const bool is_kept = m.at.offset != 0 && room.log();
  if (ours && !is_kept)
    return given::nothing; // its members have it
  sent_out with;
  bool had = false;
  if (ours) {
    std::optional<in_flight> one;
    if (auto found = sent_.extract(*ours)) {
      one = std::move(found.mapped());
      if (room.counters().measured())
        room.counters()
            .measures->at(home_->index())
            .engine_seconds.observe(in_seconds(home_->now() - one->since));
    } else {
      had = away_.had(*ours, one);
    }
    away_.taken(*ours);
    if (one)
      with = std::move(one->with);
  }
  if (!with.terms && (!m.except_clients.empty() || !m.key.empty() || m.time_to_live.count() != 0)) {
    auto terms = std::make_shared<publish_terms>();
    terms->except_clients = m.except_clients;
    terms->key = m.key;
    terms->time_to_live = m.time_to_live;
    with.terms = std::move(terms);
  }
  kept k;
  if (is_kept) {
    k = room.adopt(m);
    if (!k)
      return given::nothing;
    had = had || known_.had(m.origin);
    known_.note(m.origin);
    passed_ = had ? m.at.offset : 0;
  }
  if (had)
    return given::nothing;
  room.deliver(k ? k->content : m.content, with, k);
  return m.origin.starts_with(ours_) ? given::ours : given::theirs;
}

} // namespace chorus::detail
