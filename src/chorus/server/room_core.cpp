#include <chorus/server/room_core.hpp>

#include <chorus/protocol/utf8.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/presence_core.hpp>
#include <chorus/server/room_join.hpp>
#include <chorus/server/room_link.hpp>

#include <algorithm>
#include <functional>
#include <utility>

namespace chorus::detail {

room_core::room_core(std::string name, const runtime_core &runtime, std::weak_ptr<hub> owner,
                     const std::shared_ptr<const room_complaints> &complaints,
                     const room_options &options, const room_surroundings &around)
    : name_(std::move(name)), options_(options), owner_(std::move(owner)),
      counters_(std::make_shared<room_counters>()), complaints_(complaints),
      utf8_name_(protocol::is_valid_utf8(std::as_bytes(std::span(name_)))) {
  for (const auto &s : runtime.shards) {
    parts_.push_back(std::make_shared<room_part>(s, counters_, complaints));
    parts_.back()->set_overflow(options_.on_overflow);
  }
  if (options_.presence)
    presence_ = std::make_unique<detail::presence>(*this, complaints_);
  home_ = runtime.shards[std::hash<std::string>()(name_) % runtime.shards.size()];
  // Its own part is the last: a filter that publishes while it is asked there comes later everywhere.
  const auto own = std::ranges::find(parts_, home_, &room_part::home);
  std::rotate(own, std::next(own), parts_.end());
  resume_ = around.resume;
  counters_->all_rooms = resume_;
  counters_->measures = around.measures;
  // The longest header is a joined's: its other members take up to 250 bytes.
  constexpr std::size_t longest_head = protocol::max_server_header - 250;
  if (name_.empty() || around.implicit)
    counters_->resume_head = protocol::plain_msg_header; // everyone's
  else if (utf8_name_)
    counters_->resume_head = protocol::write_msg_header(name_);
  if (counters_->resume_head.size() > longest_head)
    counters_->resume_head.clear();
  if (options_.keeps_history() && around.budget)
    log_ = std::make_unique<room_log>(*this, options_, around.budget);
}

void room_core::settle_in(const room_surroundings &around) {
  if (around.node)
    link_ = std::make_shared<room_link>(shared_from_this(),
                                        around.implicit ? user_channel(name_) : room_channel(name_),
                                        around.node);
  if (log_)
    counters_->emptied = [home = home_, weak = weak_from_this()] {
      home->post([weak] {
        if (const auto self = weak.lock())
          self->log_->emptied();
      });
    };
}

void room_core::connect() {
  if (link_)
    home_->run([self = shared_from_this()] { self->link_->begin(); });
}

bool room_core::has_anybody() const noexcept {
  // In this order: who was expected is a member before it is no longer expected.
  const bool coming = std::any_of(parts_.begin(), parts_.end(),
                                  [](const auto &part) { return part->expected() != 0; });
  return coming || counters_->members.load() != 0;
}

std::vector<std::string> room_core::clients_of(const std::vector<session_id> &ids) const {
  return log_ && resume_ ? resume_->clients.of(ids) : std::vector<std::string>();
}

room_core::~room_core() {
  if (link_)
    link_->close();
  if (const auto owner = owner_.lock())
    owner->forget(name_, this);
}

bool room_core::closed() const noexcept {
  const auto owner = owner_.lock();
  return !owner || owner->closed();
}

std::shared_ptr<room_part> room_core::part_on(const shard &s) const noexcept {
  for (const auto &part : parts_)
    if (part->home().get() == &s)
      return part;
  return nullptr;
}

namespace {

// Of a message on its way, roughly: its block of memory, what is posted for it, its terms.
constexpr std::size_t transit_overhead = 512;

} // namespace

departure room_core::depart(const message &m, const publish_terms *terms) {
  const auto has_members_elsewhere = [this](const auto &part) {
    return part->home() != home_ && part->wanted();
  };
  if (home_->here() && !handing_out_ && !link_ &&
      std::none_of(parts_.begin(), parts_.end(), has_members_elsewhere))
    return {};
  auto bytes = m.size() + transit_overhead;
  if (terms)
    bytes +=
        terms->except.size() * sizeof(session_id) + terms->key.size() + terms->except_user.size();
  auto &all = counters_->in_transit;
  auto before = all.load(std::memory_order_relaxed);
  do {
    if (before != 0 && before + bytes > room_transit_bytes) {
      counters_->refused.fetch_add(1, std::memory_order_relaxed);
      departure none;
      none.refused = true;
      return none;
    }
  } while (!all.compare_exchange_weak(before, before + bytes, std::memory_order_relaxed));
  return departure(std::make_shared<const departure::load>(counters_, bytes));
}

void room_core::publish(message m, std::shared_ptr<const publish_terms> terms) {
  auto way = depart(m, terms.get());
  if (way.refused)
    return;
  if (home_->here() && !handing_out_) {
    hand_out_waiting();
    hand_out(m, terms, way.weight);
    return;
  }
  {
    std::lock_guard lock(incoming_mutex_);
    incoming_.push_back({std::move(m), std::move(terms), std::move(way.weight)});
    waiting_.fetch_add(1, std::memory_order_release);
  }
  if (!home_->post([self = shared_from_this()] { self->hand_out_next(); })) {
    ring<submitted> none;
    std::lock_guard lock(incoming_mutex_);
    none.swap(incoming_);
    waiting_.store(0, std::memory_order_relaxed);
  }
}

// One may have been taken before its post came.
bool room_core::hand_out_next() {
  submitted one;
  {
    std::lock_guard lock(incoming_mutex_);
    if (incoming_.empty())
      return false;
    one = std::move(incoming_.front());
    incoming_.pop_front();
    waiting_.fetch_sub(1, std::memory_order_relaxed);
  }
  hand_out(one.m, one.terms, one.weight);
  return true;
}

// What was published elsewhere before something that reached this thread by another way, such as a
// socket, is numbered before what that brings about.
void room_core::hand_out_waiting() {
  for (auto n = waiting_.load(std::memory_order_acquire); n != 0 && hand_out_next(); --n) {
  }
}

void room_core::hand_out(const message &m, const std::shared_ptr<const publish_terms> &terms,
                         const std::shared_ptr<const departure::load> &weight) {
  const now_handing_out now(*this);
  counters_->published.fetch_add(1, std::memory_order_relaxed);
  if (counters_->measured())
    counters_->note_members(*home_);
  if (link_) {
    if (log_ && (!terms || terms->keepable())) {
      link_->publish(m, {terms, weight});
      return;
    }
    if (!terms || (!terms->only && terms->except_user.empty())) // which can't be carried
      link_->pass_on(m, terms.get());
  }
  const auto k = log_ ? keep(m, terms.get()) : nullptr;
  for (const auto &part : parts_) {
    if (part->home() == home_)
      part->publish(m, terms, nullptr, k);
    else if (part->wanted())
      part->home()->post([part, m, terms, weight, k] { part->publish(m, terms, nullptr, k); });
  }
}

void room_core::deliver(const message &m, const sent_out &with, const kept &k) {
  if (with.outcomes.empty()) {
    for (const auto &part : parts_)
      if (part->wanted())
        part->home()->run([part, m, terms = with.terms, weight = with.weight, k] {
          part->publish(m, terms, nullptr, k);
        });
    return;
  }
  for (const auto &[part, outcomes] : with.outcomes)
    part->home()->run([p = part, o = outcomes, m, terms = with.terms, weight = with.weight, k] {
      // After its deadline nobody waits for the outcomes any more.
      p->publish(m, terms, o->reported() ? nullptr : o, k);
    });
}

void room_core::tell_gap(const std::string &epoch, std::uint64_t offset, protocol::resume_gap why) {
  for (const auto &part : parts_)
    if (part->wanted())
      part->home()->run([part, self = shared_from_this(), epoch, offset, why] {
        part->tell_gap(self->name_, epoch, offset, why);
      });
}

kept room_core::adopt(const broker_message &m) {
  history_budget::victims gone;
  auto k = log_->messages().adopt(m.at.epoch, m.at.offset, m.content, m.except_clients,
                                  home_->now(), gone);
  log_->published(std::move(gone));
  return k;
}

void room_core::go_on_in(const std::string &epoch) {
  history_budget::victims gone;
  log_->messages().go_on_in(epoch, gone);
  log_->published(std::move(gone));
}

// Null for what has no place in a history.
kept room_core::keep(const message &m, const publish_terms *terms) {
  if (link_ || (terms && !terms->keepable()))
    return nullptr;
  history_budget::victims gone;
  auto k = log_->messages().append(m, terms ? terms->except_clients : std::vector<std::string>(),
                                   home_->now(), gone);
  log_->published(std::move(gone));
  return k;
}

void room_core::arrive(const std::shared_ptr<arrival> &a) {
  a->part->expect();
  if (!log_ && !link_) {
    a->part->enter(*a, nullptr, shared_from_this());
    return;
  }
  if (!home_->run([self = shared_from_this(), a] { self->answer(a); }))
    a->settle(failure(error::room_closed, stage::open, "the server has stopped"));
}

void room_core::answer(const std::shared_ptr<arrival> &a) {
  if (link_ && !link_->ready_for(a))
    return;
  if (!log_) {
    a->part->home()->run([self = shared_from_this(), a] { a->part->enter(*a, nullptr, self); });
    return;
  }
  log_->arriving();
  // Of what was published meanwhile some has no place.
  const bool alone = link_ && link_->alone();
  auto past = log_->messages().for_client(a->position && !alone ? &*a->position : nullptr,
                                          a->client, a->newcomer, home_->now());
  if (a->position && alone) {
    past.recovered = false;
    past.why = protocol::resume_gap::epoch;
  }
  a->part->home()->run([self = shared_from_this(), a, past = std::move(past)] {
    if (a->part->outdated(*a, self->name_)) {
      a->position.reset();
      self->arrive(a);
      a->part->unexpect();
      return;
    }
    a->part->enter(*a, &past, self);
    self->look_whether_empty();
  });
}

void room_core::look_whether_empty() {
  if (log_ && !has_anybody())
    home_->run([self = shared_from_this()] { self->log_->emptied(); });
}

void room_core::announce(const message &m, const std::shared_ptr<const publish_terms> &terms) {
  for (const auto &part : parts_) {
    if (part->home() == home_)
      part->publish(m, terms, nullptr);
    else if (part->size() != 0)
      part->home()->post([part, m, terms] { part->publish(m, terms, nullptr); });
  }
}

std::shared_ptr<const join_hook> room_core::general_join_hook() const noexcept {
  const auto owner = owner_.lock();
  return owner ? owner->on_join() : nullptr;
}

void room_core::complain(const std::string &what, const session &about) const {
  if (*complaints_)
    (*complaints_)(what, about);
}

void membership::leave() noexcept {
  if (left_.exchange(true))
    return;
  // The room stays until its part has let the member go.
  part_->home()->run([room = room_, part = part_, id = id_] { part->remove(id, room->name()); });
}

result<> membership::update(std::string_view data) {
  if (left_.load(std::memory_order_relaxed))
    return failure(error::not_open, stage::none, "this seat has been left");
  if (auto checked = check_member_data(*room_, data); checked.has_error())
    return checked;
  part_->home()->run(
      [room = room_, part = part_, id = id_, d = std::string(data)] { part->update(id, d); });
  return {};
}

} // namespace chorus::detail
