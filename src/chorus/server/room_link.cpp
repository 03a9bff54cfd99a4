#include <chorus/server/room_link.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

// What comes from the engine while the history is read waits here; beyond it is read again.
constexpr std::size_t most_early = 1024;
constexpr std::size_t most_early_bytes = std::size_t{4} << 20;

} // namespace

room_link::room_link(const std::shared_ptr<room_core> &room, std::string channel,
                     std::shared_ptr<broker_node> node)
    : room_(room), home_(room->home()), name_(room->name()), channel_(std::move(channel)),
      node_(std::move(node)), engine_(node_->engine()), ours_(node_->name() + ":") {
  if (room->presence())
    presence_ = std::make_unique<presence_link>(*this);
}

void room_link::close() noexcept { engine_->unsubscribe(channel_, this); }

broker_message room_link::outgoing(const room_core &room, const message &m,
                                   const publish_terms *terms) {
  broker_message out;
  out.room = channel_;
  out.content = m;
  out.origin = ours_ + std::to_string(++number_);
  if (terms) {
    out.except_clients = terms->except_clients;
    out.key = terms->key;
    out.time_to_live = terms->time_to_live;
  }
  if (room.log() && (!terms || terms->keepable()))
    out.keep = room.options();
  return out;
}

void room_link::publish(const message &m, sent_out with) {
  const auto room = room_.lock();
  if (!room)
    return;
  auto out = outgoing(*room, m, with.terms.get());
  auto origin = out.origin;
  sent_.emplace(origin, std::move(with));
  engine_->publish(std::move(out), [weak = weak_from_this(),
                                    origin = std::move(origin)](result<broker_position> r) {
    if (const auto self = weak.lock())
      self->at_home(
          [origin, r = std::move(r)](room_link &link, room_core &) { link.answered(origin, r); });
  });
}

void room_link::pass_on(const message &m, const publish_terms *terms) {
  const auto room = room_.lock();
  if (!room)
    return;
  auto out = outgoing(*room, m, terms);
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

void room_link::answered(const std::string &origin, const result<broker_position> &r) {
  const auto found = sent_.find(origin);
  const auto room = room_.lock();
  if (r.has_error() && room) {
    room->counters().broker_failures.fetch_add(1, std::memory_order_relaxed);
    complain("refused a message, which nobody gets", r.error());
  }
  if (found == sent_.end() || !room)
    return; // it was quicker
  if (r.has_value()) {
    found->second.at = r->offset;
    forget_passed(*room);
    return;
  }
  const auto lost = std::move(found->second);
  sent_.erase(found);
  for (const auto &[part, outcomes] : lost.outcomes)
    part->home()->run([p = part, o = outcomes, terms = lost.terms, why = r.error()] {
      p->refuse(terms.get(), *o, why);
    });
}

// What was numbered and will not come, since nobody here listens or it is older than what was read.
void room_link::forget_passed(room_core &room) {
  if (state_ != state::idle && state_ != state::ready)
    return;
  const auto last = room.log() ? room.log()->messages().last() : UINT64_MAX;
  std::erase_if(sent_, [&](auto &entry) {
    auto &one = entry.second;
    if (one.at == 0 || (state_ == state::ready && one.at > last))
      return false;
    for (const auto &[part, outcomes] : one.outcomes)
      part->home()->run([o = outcomes] { o->begun(); });
    return true;
  });
}

bool room_link::ready_for(const std::shared_ptr<arrival> &a) {
  const auto room = room_.lock();
  // From a server that was told more already: so the engine has more, unless it has lost it.
  const bool ahead = state_ == state::ready && a->position && room->log() && !a->caught_up &&
                     a->position->epoch == *room->log()->messages().epoch() &&
                     a->position->offset > room->log()->messages().last();
  if (state_ == state::ready && !ahead)
    return true;
  arrivals_.push_back(a);
  if (ahead) {
    a->caught_up = true;
    fill();
    return false;
  }
  begin();
  return false;
}

void room_link::begin() {
  wanted_ = true;
  if ((state_ == state::filling || state_ == state::listing) && std::exchange(stuck_, false)) {
    state_ == state::listing ? presence_->read() : fill();
    return;
  }
  if (state_ != state::idle)
    return;
  state_ = state::subscribing;
  engine_->subscribe(channel_, weak_from_this(), [weak = weak_from_this()](result<> r) {
    if (const auto self = weak.lock())
      self->at_home([r = std::move(r)](room_link &link, room_core &) { link.subscribed(r); });
  });
}

void room_link::subscribed(const result<> &r) {
  if (r.has_error()) {
    state_ = state::idle;
    trouble("did not subscribe", r.error());
    if (presence_)
      presence_->give_up(r.error());
    give_up(r.error());
    return;
  }
  const auto room = room_.lock();
  if (presence_) {
    state_ = state::listing;
    presence_->read();
  } else {
    go_on(*room);
  }
}

void room_link::presence_known(const failure &why) {
  if (state_ != state::listing)
    return;
  if (why.code()) {
    stuck_ = true;
    give_up(why);
  } else {
    go_on(*room_.lock());
  }
}

void room_link::go_on(room_core &room) {
  if (room.log())
    fill();
  else
    become_ready(room);
}

void room_link::mend() {
  troubled_ = false;
  if (state_ == state::ready || (state_ == state::filling && !stuck_)) {
    if (presence_ && presence_->known())
      presence_->read();
  } else if (wanted_) {
    begin();
  }
}

void room_link::fill() {
  const auto room = room_.lock();
  state_ = state::filling;
  again_ = false;
  auto &log = room->log()->messages();
  engine_->history(channel_, {*log.epoch(), log.last()},
                   [weak = weak_from_this()](result<broker_page> page) {
                     if (const auto self = weak.lock())
                       self->at_home([page = std::move(page)](room_link &link, room_core &) {
                         link.filled(page);
                       });
                   });
}

void room_link::filled(const result<broker_page> &page) {
  if (page.has_error()) {
    stuck_ = true;
    trouble("did not give the room's history; its messages wait", page.error());
    give_up(page.error());
    return;
  }
  const auto room = room_.lock();
  note_loss(*room, *page);
  room->log()->messages().place(page->epoch, page->trimmed);
  for (const auto &m : page->messages)
    deliver(*room, m);
  if (page->more || again_) {
    fill();
    return;
  }
  become_ready(*room);
}

// Members have not got what this node can't read any more.
void room_link::note_loss(room_core &room, const broker_page &page) {
  const auto &log = room.log()->messages();
  const bool other = page.epoch != *log.epoch();
  if (!filled_ || (!other && page.trimmed <= log.last()))
    return;
  room.tell_gap(page.epoch, page.trimmed,
                other ? protocol::resume_gap::epoch : protocol::resume_gap::trimmed);
  complain("lost messages, which members here do not get",
           failure(error::lost, stage::none,
                   other ? "the room has begun a new epoch" : "they are not kept any more"));
}

void room_link::become_ready(room_core &room) {
  state_ = state::ready;
  filled_ = true;
  troubled_ = false;
  early_bytes_ = 0;
  for (const auto &m : std::exchange(early_, {}))
    deliver(room, m);
  forget_passed(room);
  for (const auto &a : std::exchange(arrivals_, {}))
    room.answer(a);
}

void room_link::give_up(const failure &why) {
  const auto room = room_.lock();
  for (const auto &a : std::exchange(arrivals_, {}))
    a->part->home()->run([a, why, room] {
      a->part->turn_away(*a, why);
      if (room)
        room->look_whether_empty();
    });
}

// In the engine's order: what a shard posts to itself may be overtaken by what others post to it.
void room_link::take(std::function<void(room_link &)> one) {
  {
    std::lock_guard lock(incoming_mutex_);
    incoming_.push_back(std::move(one));
    if (incoming_.size() != 1)
      return; // on its way
  }
  at_home([](room_link &link, room_core &) {
    std::vector<std::function<void(room_link &)>> all;
    {
      std::lock_guard lock(link.incoming_mutex_);
      all.swap(link.incoming_);
    }
    for (const auto &f : all)
      f(link);
  });
}

void room_link::on_message(const broker_message &m) noexcept {
  take([m](room_link &link) { link.arrived(m); });
}

void room_link::on_presence(const broker_change &c) noexcept {
  if (!presence_)
    return;
  take([c](room_link &link) { link.presence_->changed(c); });
}

void room_link::on_gap() noexcept {
  at_home([](room_link &link, room_core &room) {
    if (link.presence_ && (link.presence_->known() || link.state_ == state::listing))
      link.presence_->read();
    if (link.state_ == state::listing)
      return;
    if (!room.log() || link.state_ == state::idle || link.state_ == state::subscribing)
      return;
    if (link.state_ == state::filling && !link.stuck_)
      link.again_ = true;
    else
      link.fill();
  });
}

void room_link::arrived(const broker_message &m) {
  const auto room = room_.lock();
  if (state_ == state::ready) {
    deliver(*room, m);
    return;
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

void room_link::deliver(room_core &room, const broker_message &m) {
  const bool ours = m.origin.starts_with(ours_);
  const bool is_kept = m.at.offset != 0 && room.log();
  if (ours && !is_kept)
    return; // its members have it
  sent_out with;
  if (ours)
    if (const auto found = sent_.find(m.origin); found != sent_.end()) {
      with = std::move(found->second);
      sent_.erase(found);
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
      return;
  }
  room.deliver(k ? k->content : m.content, with, k);
}

// Told once, until all is well again.
void room_link::trouble(std::string_view what, const failure &why) {
  if (const auto room = room_.lock())
    room->counters().broker_failures.fetch_add(1, std::memory_order_relaxed);
  node_->look_after(weak_from_this(), why == error::not_open);
  if (!std::exchange(troubled_, true))
    complain(what, why);
}

void room_link::complain(std::string_view what, const failure &why) {
  if (const auto room = room_.lock())
    room->complain("The broker " + std::string(what) + ": " + why.message() + " (room \"" + name_ +
                   "\").");
}

} // namespace chorus::detail
