#include <chorus/server/room_away.hpp>

#include <chorus/server/room_link.hpp>

#include <utility>

namespace chorus::detail {

namespace {

// Of a message that waits, roughly: its place in the list, its terms, its outcomes.
constexpr std::size_t waiting_overhead = 512;
// Messages that are remembered since members got them and the engine may have them, too.
constexpr std::size_t most_given = 4096;
constexpr std::size_t most_unconfirmed = 1024;
// That are handed over at once, when all goes well. The first goes alone.
constexpr std::size_t most_at_a_time = 64;

} // namespace

bool room_away::is_away(const failure &why) noexcept {
  return why == error::lost || why == error::timed_out || why == error::queue_full;
}

std::size_t in_flight::cost() const noexcept {
  auto bytes = waiting_overhead + content.size();
  if (with.terms)
    bytes += with.terms->except.size() * sizeof(session_id) + with.terms->key.size();
  return bytes;
}

room_away::room_away(room_link &owner, const room_core &room)
    // Without a history nothing needs a place, and members here do without the others.
    : link_(owner), policy_(room.log() ? room.options().when_away : away_policy::degrade),
      most_(room.options().away_messages), most_bytes_(room.options().away_bytes),
      measures_(room.counters().measures) {}

room_away::~room_away() {
  end_degraded(nullptr);
  owe(false);
  if (waiting_.empty())
    return;
  all().waiting.fetch_sub(waiting_.size(), std::memory_order_relaxed);
  all().waiting_bytes.fetch_sub(waiting_bytes_, std::memory_order_relaxed);
}

bool room_away::takes(room_core &room, std::uint64_t number, in_flight &one) {
  if (policy_ == away_policy::refuse)
    return false;
  ended_ = ended_ || room.closed();
  if (mode_ == mode::here) {
    const bool buffers = policy_ == away_policy::buffer;
    if (ended_ && buffers)
      return false;
    if (link_.engine().status().connected && !(buffers && link_.failing()))
      return false;
    go_away(room);
  }
  const auto most = all().most_owing;
  if (mode_ == mode::alone && !owed_ && most != 0 && all().owing >= most)
    link_.refuse(room, one,
                 failure(error::queue_full, stage::none,
                         "as many rooms go on without the engine as "
                         "server_options::max_lingering_rooms lets"));
  else if (mode_ == mode::alone)
    give(room, one);
  else
    wait(room, number, std::move(one));
  keep_room(room);
  return true;
}

void room_away::owe(bool owes) noexcept {
  if (std::exchange(owed_, owes) == owes)
    return;
  if (owes)
    ++all().owing;
  else
    --all().owing;
}

void room_away::asked(room_core &room) {
  if (policy_ == away_policy::refuse)
    return;
  ++unanswered_;
  keep_room(room);
}

void room_away::succeeded(room_core &room, std::uint64_t number) {
  if (policy_ == away_policy::refuse)
    return;
  taken(number);
  if (handed_over_.erase(number) != 0 && handed_over_.empty())
    at_a_time_ = std::min(at_a_time_ * 2, most_at_a_time);
  answered(room, true);
}

void room_away::failed(room_core &room, std::uint64_t number, const failure &why,
                       std::optional<in_flight> one) {
  handed_over_.erase(number);
  const bool gone = is_away(why) && !(ended_ && policy_ == away_policy::buffer);
  if (why == error::unconfirmed) {
    if (one) {
      if (unconfirmed_.size() == most_unconfirmed)
        unconfirmed_.erase(unconfirmed_.begin());
      unconfirmed_.emplace(number, one->with.terms);
    }
    if (one || given_.contains(number)) // else all have it
      link_.refuse(room, one ? *one : in_flight(), why);
  } else if (policy_ == away_policy::refuse || !gone) {
    given_.erase(number);
    if (one)
      link_.refuse(room, *one, why);
  } else {
    given_.erase(number);
    if (policy_ == away_policy::buffer || mode_ == mode::returning) {
      if (mode_ == mode::here)
        go_away(room);
      if (one)
        wait(room, number, std::move(*one));
    } else if (mode_ == mode::alone) {
      if (one)
        give(room, *one);
    } else {
      if (one)
        link_.unanswered().emplace(number, std::move(*one));
      go_away(room);
    }
  }
  if (policy_ != away_policy::refuse)
    answered(room, !gone);
}

// What was asked before is done with before anything is handed over, which keeps the order.
void room_away::answered(room_core &room, bool well) {
  --unanswered_;
  if (!well)
    at_a_time_ = 1;
  if (mode_ == mode::alone && well) {
    come_back(room);
  } else if (mode_ == mode::waiting && unanswered_ == 0) {
    if (std::exchange(back_, false) || well)
      come_back(room);
    else
      look_after();
  } else if (mode_ == mode::waiting && well) {
    back_ = true;
  }
  keep_room(room);
}

// What is with the engine still is given to members now, unless there is too much of it to remember.
void room_away::go_away(room_core &room) {
  at_a_time_ = 1;
  back_ = false;
  link_.node()->watch().look();
  look_after();
  if (policy_ == away_policy::buffer) {
    mode_ = mode::waiting;
    return;
  }
  mode_ = mode::alone;
  epoch_.clear();
  if (room.log() && link_.up_to_date())
    epoch_ = *room.log()->messages().epoch();
  begin_degraded(room);
  auto all = unwait_all();
  auto &asked = link_.unanswered();
  for (std::size_t count = 0; !asked.empty() && count < most_given; ++count) {
    if (given_.size() == most_given) // the oldest never came
      given_.erase(given_.begin());
    given_.insert(asked.begin()->first);
    all.insert(asked.extract(asked.begin()));
  }
  for (const auto &[number, one] : all)
    give(room, one);
}

void room_away::give(room_core &room, const in_flight &one) {
  owe(true);
  room.counters().unnumbered.fetch_add(1, std::memory_order_relaxed);
  all().unnumbered.fetch_add(1, std::memory_order_relaxed);
  room.deliver(one.content, one.with, nullptr);
}

void room_away::wait(room_core &room, std::uint64_t number, in_flight one) {
  const auto cost = one.cost();
  const auto whole = all().waiting_bytes.load(std::memory_order_relaxed) + cost;
  if (waiting_.size() >= most_ || waiting_bytes_ + cost > most_bytes_) {
    link_.refuse(
        room, one,
        failure(error::queue_full, stage::none,
                std::to_string(waiting_.size()) +
                    " messages wait for the engine, as many as room_options::away_messages "
                    "and away_bytes let"));
    return;
  }
  if (all().most_bytes != 0 && whole > all().most_bytes) {
    link_.refuse(room, one,
                 failure(error::queue_full, stage::none,
                         "as much of all rooms waits for the engine as "
                         "server_options::max_history_bytes lets"));
    return;
  }
  one.with.weight.reset(); // it is bounded here
  waiting_bytes_ += cost;
  waiting_.emplace(number, std::move(one));
  room.counters().waiting.store(waiting_.size(), std::memory_order_relaxed);
  all().waited.fetch_add(1, std::memory_order_relaxed);
  all().waiting.fetch_add(1, std::memory_order_relaxed);
  all().waiting_bytes.fetch_add(cost, std::memory_order_relaxed);
}

in_flight room_away::unwait(flights::iterator at) {
  auto one = std::move(at->second);
  waiting_.erase(at);
  const auto cost = one.cost();
  waiting_bytes_ -= cost;
  all().waiting.fetch_sub(1, std::memory_order_relaxed);
  all().waiting_bytes.fetch_sub(cost, std::memory_order_relaxed);
  if (const auto room = link_.room())
    room->counters().waiting.store(waiting_.size(), std::memory_order_relaxed);
  return one;
}

flights room_away::unwait_all() {
  flights all;
  while (!waiting_.empty()) {
    const auto number = waiting_.begin()->first;
    all.emplace(number, unwait(waiting_.begin()));
  }
  return all;
}

bool room_away::had(std::uint64_t number, std::optional<in_flight> &one) {
  if (given_.erase(number) != 0)
    return true;
  if (const auto found = waiting_.find(number); found != waiting_.end()) {
    one = unwait(found);
  } else if (const auto known = unconfirmed_.find(number); known != unconfirmed_.end()) {
    one.emplace().with.terms = known->second;
    unconfirmed_.erase(known);
  }
  return false;
}

bool room_away::lets_in(room_core &room, const failure &why) {
  if (policy_ != away_policy::degrade || (!alone() && !is_away(why)))
    return false;
  // An engine that is there is to tell who is: a list that lacks some is for when nobody can know.
  if (room.presence() && room.options().when_away != away_policy::degrade &&
      link_.engine().status().connected)
    return false;
  if (!alone())
    go_away(room);
  keep_room(room);
  return true;
}

void room_away::come_back(room_core &room) {
  if (mode_ == mode::here || mode_ == mode::returning)
    return;
  if (!link_.engine().status().connected) {
    look_after();
    return;
  }
  if (mode_ == mode::waiting) {
    if (unanswered_ != 0)
      back_ = true;
    else
      hand_over(room);
  } else if (!link_.up_to_date() && (!owed_ || epoch_.empty())) {
    link_.begin(); // and when all is there, it comes back here
  } else if (owed_) {
    begin_epoch(room);
  } else {
    mode_ = mode::here;
    end_degraded(&room);
  }
  keep_room(room);
}

void room_away::hand_over(room_core &room) {
  while (!waiting_.empty() && handed_over_.size() < at_a_time_) {
    const auto number = waiting_.begin()->first;
    auto one = unwait(waiting_.begin());
    if (number < newest_) {
      link_.refuse(room, one,
                   failure(error::lost, stage::none,
                           "the engine took a later message before it was back, and this one would "
                           "come after that"));
      continue;
    }
    handed_over_.insert(number);
    link_.send(room, number, std::move(one));
  }
  if (handed_over_.empty())
    mode_ = mode::here;
}

// Whoever resumes is to be told, before anything has a place after what members got without one.
void room_away::begin_epoch(room_core &room) {
  mode_ = mode::returning;
  if (epoch_.empty())
    epoch_ = *room.log()->messages().epoch();
  link_.engine().begin_epoch(
      link_.channel(), epoch_, [weak = link_.weak_from_this(), this](const result<> &r) {
        if (const auto self = weak.lock())
          self->at_home([this, r](room_link &, room_core &core) { epoch_begun(core, r); });
      });
}

void room_away::epoch_begun(room_core &room, const result<> &r) {
  if (r.has_error()) {
    mode_ = mode::alone;
    link_.trouble("did not begin a new epoch, which members have to be told of", r.error());
    link_.try_again_soon();
    const auto all = unwait_all();
    for (const auto &[number, one] : all)
      give(room, one);
  } else {
    mode_ = mode::waiting;
    owe(false);
    epoch_.clear();
    end_degraded(&room);
    link_.look_again();
    come_back(room);
  }
  keep_room(room);
}

void room_away::end(room_core &room) {
  ended_ = true;
  // It answers, so it is asked for the rest.
  const bool back = mode_ == mode::waiting && !handed_over_.empty();
  auto all = unwait_all();
  std::size_t lost = 0;
  for (auto &[number, one] : all) {
    if (back) {
      link_.send(room, number, std::move(one));
    } else if (policy_ == away_policy::degrade) {
      give(room, one);
    } else {
      ++lost;
      link_.refuse(room, one,
                   failure(error::shut_down, stage::none,
                           "the server stopped before the broker's engine was back"),
                   true);
    }
  }
  if (lost != 0)
    link_.complain("was not back before the server stopped, and nobody gets what waited for it",
                   failure(error::shut_down, stage::none, std::to_string(lost) + " messages"));
  if (mode_ == mode::waiting)
    mode_ = mode::here;
  keep_room(room);
}

void room_away::begin_degraded(room_core &room) {
  if (!room.log() || degraded_since_ != std::chrono::steady_clock::time_point())
    return;
  degraded_since_ = std::chrono::steady_clock::now();
  all().begin_degraded(degraded_since_);
  room.counters().degraded_since =
      std::chrono::nanoseconds(degraded_since_.time_since_epoch()).count();
}

void room_away::end_degraded(room_core *room) noexcept {
  const auto since = std::exchange(degraded_since_, {});
  if (since == std::chrono::steady_clock::time_point())
    return;
  const auto now = std::chrono::steady_clock::now();
  all().end_degraded(now);
  if (!room)
    return;
  room->counters().degraded_since = 0;
  room->counters().degraded_for += std::chrono::nanoseconds(now - since).count();
}

void room_away::look_after() { link_.node()->look_after(link_.weak_from_this()); }

// Nobody may have a handle of it any more, and yet there is something to be done.
void room_away::keep_room(room_core &room) {
  const bool needed = !ended_ && !room.home()->stopped() &&
                      (unanswered_ != 0 || !waiting_.empty() || owed_ || mode_ == mode::returning);
  if (!needed) {
    let_room_go();
  } else if (!keep_) {
    keep_ = room.shared_from_this();
    room.home()->enroll(*this);
  }
}

void room_away::let_room_go() noexcept {
  if (!keep_)
    return;
  keep_->home()->leave(*this);
  const auto last = std::move(keep_); // perhaps the room itself goes
}

void room_away::on_shard_gone() noexcept { let_room_go(); }

} // namespace chorus::detail
