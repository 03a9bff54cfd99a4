#include <chorus/server/room_link.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

// Engines have time limits of their own; one that says nothing for so long won't say anything.
constexpr std::chrono::seconds answer_patience{60};
// Between what has failed and the next try.
constexpr backoff_options retry_pauses{std::chrono::milliseconds(100), 2,
                                       std::chrono::milliseconds(5000), jitter::partial};

// Of messages, that are recognised in another epoch: all that the engine keeps, if it can be.
std::size_t most_known(const room_core &room) {
  constexpr std::size_t fewest = 1024, most = 16 * 1024;
  if (!room.log())
    return 0;
  const auto kept = room.options().history_messages;
  return std::clamp(kept == 0 ? 4 * fewest : kept, fewest, most);
}

} // namespace

room_link::room_link(const std::shared_ptr<room_core> &room, std::string channel,
                     std::shared_ptr<broker_node> node)
    : room_(room), home_(room->home()), name_(room->name()), channel_(std::move(channel)),
      node_(std::move(node)), engine_(node_->engine()), ours_(node_->name() + ":"),
      pauses_(retry_pauses), random_state_(std::hash<std::string>()(ours_ + channel_)),
      known_(most_known(*room)), away_(*this, *room) {
  if (room->presence())
    presence_ = std::make_unique<presence_link>(*this);
}

void room_link::close() noexcept { engine_->unsubscribe(channel_, this); }

bool room_link::ready_for(const std::shared_ptr<arrival> &a) {
  const auto room = room_.lock();
  // From a server that was told more already, or of a new epoch: so the engine has more, unless it has
  // lost it.
  const bool ahead = state_ == state::ready && a->position && room->log() && !a->caught_up &&
                     (a->position->epoch != *room->log()->messages().epoch() ||
                      a->position->offset > room->log()->messages().last());
  if (state_ == state::ready && !ahead)
    return true;
  if (state_ != state::ready && comes_in_alone())
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

// The engine can't be reached, and need not be.
bool room_link::comes_in_alone() {
  const auto room = room_.lock();
  if (!away_.alone()) {
    const auto now = engine_->status();
    if (now.connected || !away_.lets_in(*room, failure(error::lost, stage::none, now.why)))
      return false;
  }
  let_in_ = let_in_ || !filled_;
  wanted_ = true;
  return true;
}

void room_link::begin() {
  wanted_ = true;
  if ((state_ == state::filling || state_ == state::listing) && std::exchange(stuck_, false)) {
    state_ == state::listing ? list() : fill();
    return;
  }
  if (state_ != state::idle)
    return;
  state_ = state::subscribing;
  const auto asked = await_answer();
  engine_->subscribe(channel_, weak_from_this(), [weak = weak_from_this(), asked](result<> r) {
    if (const auto self = weak.lock())
      self->at_home([r = std::move(r), asked](room_link &link, room_core &) {
        if (asked == link.asked_)
          link.subscribed(r);
      });
  });
}

void room_link::subscribed(const result<> &r) {
  answer_came();
  if (r.has_error()) {
    state_ = state::idle;
    trouble("did not subscribe", r.error());
    try_again_soon();
    if (presence_)
      presence_->give_up(r.error());
    give_up(r.error());
    forget_passed(*room_.lock());
    return;
  }
  const auto room = room_.lock();
  if (presence_) {
    list();
  } else {
    go_on(*room);
  }
}

void room_link::list() {
  state_ = state::listing;
  stuck_ = false;
  await_answer();
  presence_->read();
}

void room_link::presence_known(const failure &why) {
  if (state_ != state::listing)
    return;
  answer_came();
  if (why.code()) {
    stuck_ = true;
    try_again_soon();
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
  if (state_ == state::ready || (state_ == state::filling && !stuck_)) {
    if (presence_ && presence_->known())
      presence_->read();
    else
      all_is_well();
  } else if (wanted_) {
    begin();
  }
  if (const auto room = room_.lock())
    away_.come_back(*room);
}

void room_link::look_again() {
  if (state_ == state::filling && !stuck_)
    again_ = true;
  else if (state_ == state::filling || (state_ == state::ready && room_.lock()->log()))
    fill();
}

void room_link::end() {
  if (const auto room = room_.lock())
    away_.end(*room);
}

void room_link::fill() {
  const auto room = room_.lock();
  state_ = state::filling;
  again_ = stuck_ = false;
  auto &log = room->log()->messages();
  const auto asked = await_answer();
  engine_->history(channel_, {*log.epoch(), log.last()},
                   [weak = weak_from_this(), asked](result<broker_page> page) {
                     if (const auto self = weak.lock())
                       self->at_home([page = std::move(page), asked](room_link &link, room_core &) {
                         if (asked == link.asked_)
                           link.filled(page);
                       });
                   });
}

void room_link::filled(const result<broker_page> &page) {
  answer_came();
  if (page.has_error()) {
    // Since it was asked it has said that there is more, and may say nothing any more.
    if (again_) {
      fill();
      return;
    }
    stuck_ = true;
    trouble("did not give the room's history; its messages wait", page.error());
    try_again_soon();
    give_up(page.error());
    return;
  }
  const auto room = room_.lock();
  note_epoch(*room, *page);
  room->log()->messages().place(page->epoch, page->trimmed);
  // Who came in before that was told nothing of the past, and does not get it now.
  const bool to_members = filled_ || !let_in_;
  std::uint64_t fresh = 0;
  for (const auto &m : page->messages)
    if (to_members)
      fresh += deliver(*room, m) != given::nothing;
    else if (room->adopt(m))
      known_.note(m.origin);
  if (filled_ && room->has_anybody()) {
    room->counters().replayed.fetch_add(fresh, std::memory_order_relaxed);
    room->counters().measures->engine.replayed.fetch_add(fresh, std::memory_order_relaxed);
  }
  if (page->more || again_) {
    fill();
    return;
  }
  become_ready(*room);
}

// Members have not got what this node can't read any more, or what others got without a place.
void room_link::note_epoch(room_core &room, const broker_page &page) {
  const auto &log = room.log()->messages();
  const bool other = page.epoch != *log.epoch();
  const auto before = log.last();
  if (!filled_ || (!other && page.trimmed <= before))
    return;
  // The engine has what is here, and tells what came after it.
  const bool goes_on = other && page.last >= before &&
                       (page.messages.empty() || page.messages.front().at.offset > before);
  if (goes_on)
    room.go_on_in(page.epoch);
  told_at_ = goes_on ? std::max(page.trimmed, before) : page.trimmed;
  if (other) {
    known_.epoch_ended();
    for (const auto &m : page.messages) {
      const auto ours = number_of(m);
      if (!known_.had(m.origin) && !(ours && away_.gave(*ours)))
        break;
      told_at_ = m.at.offset;
    }
  }
  passed_ = 0;
  room.tell_gap(page.epoch, told_at_,
                other ? protocol::resume_gap::epoch : protocol::resume_gap::trimmed);
  if (goes_on && page.trimmed <= before)
    complain("ended the room's epoch, and who resumes is told so",
             failure(error::lost, stage::none,
                     "members of some servers were given messages without it"));
  else
    complain("lost messages, which members here do not get",
             failure(error::lost, stage::none,
                     other ? "the room has begun a new epoch" : "they are not kept any more"));
}

void room_link::become_ready(room_core &room) {
  state_ = state::ready;
  if (room.log() && std::exchange(let_in_, false) && !filled_ && !away_.owes())
    room.tell_gap(*room.log()->messages().epoch(), room.log()->messages().last(),
                  protocol::resume_gap::epoch);
  filled_ = true;
  troubled_ = false;
  pauses_.reset();
  if (retry_)
    retry_->stop();
  early_bytes_ = 0;
  for (const auto &m : std::exchange(early_, {}))
    if (!of_another_epoch(room, m))
      deliver_live(room, m);
  tell_passed(room);
  forget_passed(room);
  away_.come_back(room);
  for (const auto &a : std::exchange(arrivals_, {}))
    room.answer(a);
}

void room_link::tell_passed(room_core &room) {
  const auto at = std::exchange(passed_, 0);
  if (at <= told_at_)
    return;
  told_at_ = at;
  room.tell_gap(*room.log()->messages().epoch(), at, protocol::resume_gap::epoch);
}

void room_link::give_up(const failure &why) {
  const auto room = room_.lock();
  if (room && !arrivals_.empty() && away_.lets_in(*room, why)) {
    let_in_ = let_in_ || !filled_;
    for (const auto &a : std::exchange(arrivals_, {}))
      room->answer(a);
    return;
  }
  for (const auto &a : std::exchange(arrivals_, {}))
    a->part->home()->run([a, why, room] {
      a->part->turn_away(*a, why);
      if (room)
        room->look_whether_empty();
    });
}

void room_link::on_message(const broker_message &m) noexcept {
  const bool once = m.at.offset == 0 && !m.origin.starts_with(ours_);
  take([m](room_link &link) { link.arrived(m); }, m.content.size() + m.origin.size(), once);
}

void room_link::on_presence(const broker_change &c) noexcept {
  if (!presence_)
    return;
  take([c](room_link &link) { link.presence_->changed(c); }, c.who.data.size() + c.who.id.size());
}

void room_link::on_gap() noexcept {
  take([](room_link &link) {
    if (const auto room = link.room_.lock())
      link.gap(*room);
  });
}

void room_link::gap(room_core &room) {
  if (presence_ && (presence_->known() || state_ == state::listing))
    presence_->read();
  // A new epoch is begun before anything is read, and messages are handed over after that.
  const bool alone = away_.alone();
  if (alone)
    away_.come_back(room);
  look_again();
  if (!alone)
    away_.come_back(room);
}

void room_link::set(std::shared_ptr<home_alarm> &which, duration after, void (room_link::*then)()) {
  if (!which)
    which = std::make_shared<home_alarm>(home_, [weak = weak_from_this(), then] {
      const auto self = weak.lock();
      if (const auto room = self ? self->room() : nullptr)
        (self.get()->*then)();
    });
  which->set(after);
}

std::uint64_t room_link::await_answer() {
  set(answer_due_, answer_patience, &room_link::overdue);
  return ++asked_;
}

void room_link::answer_came() noexcept {
  if (answer_due_)
    answer_due_->stop();
}

void room_link::overdue() {
  const failure why(error::timed_out, stage::none,
                    "it did not answer within " + std::to_string(answer_patience.count()) + " s");
  if (state_ == state::subscribing) {
    ++asked_;
    engine_->unsubscribe(channel_, this); // else it may come to be told of everything twice
    subscribed(why);
  } else if (state_ == state::listing) {
    await_answer();
    presence_->overdue(why);
  } else if (state_ == state::filling) {
    ++asked_;
    filled(why);
  }
}

void room_link::try_again_soon() {
  // splitmix64
  auto z = random_state_ += 0x9e3779b97f4a7c15U;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9U;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebU;
  set(retry_, pauses_.next(z ^ (z >> 31)), &room_link::retry);
}

void room_link::retry() {
  const auto room = room_.lock();
  if (room->closed())
    return;
  if (!engine_->status().connected) {
    try_again_soon();
    return;
  }
  if (state_ == state::idle || stuck_)
    begin();
  away_.come_back(*room);
}

// Told and counted once, until all is well again.
void room_link::trouble(std::string_view what, const failure &why) {
  node_->look_after(weak_from_this(), why == error::not_open);
  if (std::exchange(troubled_, true))
    return;
  if (const auto room = room_.lock())
    room->counters().broker_failures.fetch_add(1, std::memory_order_relaxed);
  complain(what, why);
}

void room_link::complain(std::string_view what, const failure &why) {
  if (const auto room = room_.lock())
    room->complain("The broker " + std::string(what) + ": " + why.message() + " (room \"" + name_ +
                   "\").");
}

} // namespace chorus::detail
