#include <chorus/server/room.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/server/presence_core.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/room_join.hpp>
#include <chorus/server/room_link.hpp>

namespace chorus {

using detail::publish_terms;
using detail::room_core;

std::string_view to_string(delivery d) noexcept {
  switch (d) {
  case delivery::delivered:
    return "delivered";
  case delivery::dropped:
    return "dropped";
  case delivery::failed:
    return "failed";
  case delivery::pending:
    break;
  }
  return "pending";
}

namespace {

std::vector<session_id> ids_of(const exclusion &except) {
  std::vector<session_id> ids(except.many().begin(), except.many().end());
  if (except.one() != 0)
    ids.push_back(except.one());
  return ids;
}

// Most messages need no terms; these are seen at a glance.
template <class Options> bool for_everybody(const room_core &core, const Options &options) {
  const auto &otherwise = core.options();
  return options.except.one() == 0 && options.except.many().empty() && !options.only &&
         options.except_user.empty() && options.time_to_live.count() == 0 &&
         otherwise.time_to_live.count() == 0 &&
         options.lane.value_or(otherwise.lane) == lane::reliable;
}

template <class Options> publish_terms terms_of(const room_core &core, const Options &options) {
  publish_terms terms;
  terms.except = ids_of(options.except);
  terms.except_clients = core.clients_of(terms.except);
  terms.only = options.only;
  terms.except_user = options.except_user;
  const auto &otherwise = core.options();
  terms.time_to_live =
      options.time_to_live.count() != 0 ? options.time_to_live : otherwise.time_to_live;
  terms.how = options.lane.value_or(otherwise.lane);
  return terms;
}

std::shared_ptr<const publish_terms> owned(const room_core &core, const publish_options &options) {
  if (options.key.empty() && for_everybody(core, options))
    return nullptr;
  auto terms = terms_of(core, options);
  terms.key = options.key;
  return std::make_shared<const publish_terms>(std::move(terms));
}

std::shared_ptr<const publish_terms> owned(const room_core &core,
                                           const broadcast_options &options) {
  if (for_everybody(core, options))
    return nullptr;
  auto terms = terms_of(core, options);
  return std::make_shared<const publish_terms>(std::move(terms));
}

task<broadcast_report> broadcast_from_anywhere(std::shared_ptr<room_core> core, message m,
                                               std::shared_ptr<const publish_terms> terms,
                                               std::chrono::milliseconds deadline,
                                               bool list_delivered) {
  if (!core)
    co_return broadcast_report();
  auto way = core->depart(m, terms.get());
  if (way.refused)
    m = message();
  auto work =
      core->broadcast(std::move(m), std::move(terms), deadline, list_delivered, std::move(way));
  if (core->home()->here()) {
    auto report = co_await std::move(work);
    co_return std::move(*report);
  }
  auto report = co_await detail::on_shard<result<broadcast_report>>(core->home(), std::move(work));
  if (report.has_error())
    co_return broadcast_report(); // the runtime has ended, and all members with it
  co_return std::move(*report);
}

// Waits for the hello of a peer under the resume protocol, or for the end of its session.
task<result<>> greeted(std::shared_ptr<detail::session_core> core, detail::resume_peer &peer) {
  struct listed {
    explicit listed(detail::ring<detail::parked *> &l) : list(l) { list.push_back(&sleeper); }
    ~listed() {
      for (std::size_t i = 0; i < list.size(); ++i)
        if (list[i] == &sleeper) {
          list.erase(i);
          return;
        }
    }
    detail::ring<detail::parked *> &list;
    detail::parked sleeper;
  };
  while (!peer.greeted() && core->state() != session_state::closed) {
    core->flush_before_wait();
    if (peer.greeted() || core->state() == session_state::closed)
      break;
    listed here(peer.awaiting());
    co_await here.sleeper.park();
    if (co_await detail::was_cancelled())
      co_return failure(error::cancelled);
  }
  co_return result<>();
}

// Of one that is cancelled nothing remains but what is on its way.
struct waited_for {
  explicit waited_for(std::shared_ptr<detail::arrival> a) : one(std::move(a)) {
    one->core->home().enroll(*one);
  }
  ~waited_for() {
    one->core->home().leave(*one);
    one->abandoned = !one->settled;
  }
  waited_for(const waited_for &) = delete;
  waited_for &operator=(const waited_for &) = delete;
  std::shared_ptr<detail::arrival> one;
};

// On the session's shard.
task<result<seat>> join_here(std::shared_ptr<room_core> core, session s, std::size_t newcomer,
                             detail::member_info info) {
  if (s.core()->can_send()) {
    auto asking = detail::ask_to_join(core, s, info);
    auto allowed = co_await std::move(asking);
    if (allowed.has_error())
      co_return allowed.error();
  }
  if (core->closed())
    co_return failure(error::room_closed, stage::open, "the server is stopping");
  if (!s.core()->can_send())
    co_return s.core()->why_not_sending();
  auto part = core->part_on(s.core()->home());
  if (!part)
    co_return failure(error::bad_option, stage::configure,
                      "the session lives in another runtime than the room's server");
  if (core->presence() && !core->has_utf8_name())
    co_return failure(error::bad_option, stage::configure,
                      "a room whose name is no UTF-8 can't tell its members who is present, since "
                      "that names the room; choose another name, or leave presence off");
  auto *const peer = detail::peer_of(*s.core());
  if (!peer && core->local()) {
    part->add(s.core()->shared_from_this());
    part->introduce(core, s.id(), std::move(info));
    co_return seat(std::make_shared<detail::membership>(core, part, s.id()));
  }
  auto a = std::make_shared<detail::arrival>();
  a->core = s.core()->shared_from_this();
  a->part = part;
  a->newcomer = newcomer;
  a->info = std::move(info);
  if (peer) {
    if (!core->nameable())
      co_return failure(
          error::bad_option, stage::configure,
          "a room whose name is no UTF-8 or longer than 700 bytes can't be joined under "
          "the resume protocol");
    auto waiting = greeted(a->core, *peer);
    const auto hello = co_await std::move(waiting);
    if (hello.has_error())
      co_return hello.error();
    if (!s.core()->can_send())
      co_return s.core()->why_not_sending();
    a->client = peer->client();
    if (const auto *named = peer->position_in(core->name()))
      a->position = *named;
  }
  waited_for way(a);
  core->arrive(a);
  while (!a->settled && !s.core()->home().stopped()) {
    co_await a->sleeper.park();
    if (a->settled)
      break;
    if (co_await detail::was_cancelled())
      co_return failure(error::cancelled);
  }
  if (!a->settled)
    co_return failure(error::room_closed, stage::open, "the server has stopped");
  if (a->refused.code())
    co_return a->refused;
  co_return seat(std::make_shared<detail::membership>(core, part, s.id()));
}

task<result<seat>> join_from_anywhere(std::shared_ptr<room_core> core, session s,
                                      std::size_t newcomer, result<detail::member_info> info) {
  if (!core || !s)
    co_return failure(error::not_open, stage::none, "this handle names no room or no session");
  if (info.has_error())
    co_return info.error();
  auto home = s.core()->home_ptr();
  auto work = join_here(std::move(core), std::move(s), newcomer, std::move(*info));
  if (home->here())
    co_return co_await std::move(work);
  co_return co_await detail::on_shard<result<seat>>(std::move(home), std::move(work));
}

task<result<std::vector<session_id>>> ids_of_part(std::shared_ptr<detail::room_part> part) {
  co_return part->ids();
}

task<std::vector<session_id>> ids_of_room(std::shared_ptr<room_core> core) {
  std::vector<session_id> all;
  if (!core)
    co_return all;
  for (const auto &part : core->parts()) {
    if (part->size() == 0)
      continue;
    auto work = ids_of_part(part);
    auto ids =
        co_await detail::on_shard<result<std::vector<session_id>>>(part->home(), std::move(work));
    if (ids.has_value())
      all.insert(all.end(), ids->begin(), ids->end());
  }
  co_return all;
}

task<result<std::vector<member_entry>>> entries_of_part(std::shared_ptr<detail::room_part> part) {
  co_return part->entries();
}

task<std::vector<member_entry>> entries_of_room(std::shared_ptr<room_core> core) {
  std::vector<member_entry> all;
  if (!core)
    co_return all;
  for (const auto &part : core->parts()) {
    if (part->size() == 0)
      continue;
    auto work = entries_of_part(part);
    auto entries =
        co_await detail::on_shard<result<std::vector<member_entry>>>(part->home(), std::move(work));
    if (entries.has_value())
      for (auto &one : *entries)
        all.push_back(std::move(one));
  }
  co_return all;
}

struct roll_call final : detail::resident {
  void on_shard_gone() noexcept override { sleeper.wake_later(); }
  detail::parked sleeper;
  bool over = false;
};

struct enrolled {
  enrolled(detail::shard &s, detail::resident &r) noexcept : where(s), one(r) { where.enroll(one); }
  ~enrolled() { where.leave(one); }
  enrolled(const enrolled &) = delete;
  enrolled &operator=(const enrolled &) = delete;
  detail::shard &where;
  detail::resident &one;
};

// On the home shard. Without the engine's answer it is what is known here.
task<result<std::vector<presence_entry>>> presence_here(std::shared_ptr<room_core> core) {
  const auto &link = core->link();
  if (link && !link->presence()->known()) {
    auto call = std::make_shared<roll_call>();
    enrolled here(*core->home(), *call);
    link->presence()->when_known([call](const failure &) {
      call->over = true;
      call->sleeper.wake_later();
    });
    link->begin();
    while (!call->over && !core->home()->stopped()) {
      co_await call->sleeper.park();
      if (co_await detail::was_cancelled())
        co_return failure(error::cancelled);
    }
  }
  co_return core->presence()->list();
}

task<std::vector<presence_entry>> presence_of_room(std::shared_ptr<room_core> core) {
  std::vector<presence_entry> all;
  if (!core || !core->presence())
    co_return all;
  auto work = presence_here(core);
  auto list =
      co_await detail::on_shard<result<std::vector<presence_entry>>>(core->home(), std::move(work));
  if (list.has_value())
    all = std::move(*list);
  co_return all;
}

} // namespace

const std::string &room::name() const noexcept {
  static const std::string none;
  return core_ ? core_->name() : none;
}

task<result<seat>> room::join(session s, join_options options) {
  result<detail::member_info> info = detail::member_info();
  if (core_ && s)
    info = detail::info_of(*core_, s, options);
  return join_from_anywhere(core_, std::move(s), options.history, std::move(info));
}

void room::publish(message m, publish_options options) {
  if (core_)
    core_->publish(std::move(m), owned(*core_, options));
}

task<broadcast_report> room::broadcast(message m, broadcast_options options) {
  return broadcast_from_anywhere(core_, std::move(m), core_ ? owned(*core_, options) : nullptr,
                                 options.deadline, options.list_delivered);
}

std::size_t room::size() const noexcept {
  return core_ ? core_->counters().members.load(std::memory_order_relaxed) : 0;
}

task<std::vector<session_id>> room::members() const { return ids_of_room(core_); }

task<std::vector<member_entry>> room::member_list() const { return entries_of_room(core_); }

task<std::vector<presence_entry>> room::presence() const { return presence_of_room(core_); }

room_stats room::stats() const noexcept {
  room_stats s;
  if (!core_)
    return s;
  const auto &c = core_->counters();
  s.members = c.members.load(std::memory_order_relaxed);
  s.published = c.published.load(std::memory_order_relaxed);
  s.deliveries = c.deliveries.load(std::memory_order_relaxed);
  s.dropped = c.dropped.load(std::memory_order_relaxed);
  s.evicted = c.evicted.load(std::memory_order_relaxed);
  s.expired = c.expired.load(std::memory_order_relaxed);
  s.filter_failures = c.filter_failures.load(std::memory_order_relaxed);
  s.refused = c.refused.load(std::memory_order_relaxed);
  s.resume = c.resume.values();
  s.broker_failures = c.broker_failures.load(std::memory_order_relaxed);
  s.waiting = c.waiting.load(std::memory_order_relaxed);
  s.unconfirmed = c.unconfirmed.load(std::memory_order_relaxed);
  s.unnumbered = c.unnumbered.load(std::memory_order_relaxed);
  s.relayed = c.relayed.load(std::memory_order_relaxed);
  s.replayed = c.replayed.load(std::memory_order_relaxed);
  s.degraded = std::chrono::duration_cast<std::chrono::milliseconds>(c.degraded());
  return s;
}

seat::seat(std::shared_ptr<detail::membership> m) noexcept : membership_(std::move(m)) {}

seat &seat::operator=(seat &&other) noexcept {
  if (this != &other) {
    leave();
    membership_ = std::move(other.membership_);
  }
  return *this;
}

seat::~seat() { leave(); }

chorus::room seat::room() const {
  return membership_ ? chorus::room(membership_->room()) : chorus::room();
}

void seat::leave() noexcept {
  if (const auto m = std::move(membership_))
    m->leave();
}

result<> seat::update(std::string_view data) {
  if (!membership_)
    return failure(error::not_open, stage::none, "this seat has been left");
  return membership_->update(data);
}

void seat::publish(message m, publish_options options) { room().publish(std::move(m), options); }

task<broadcast_report> seat::broadcast(message m, broadcast_options options) {
  return room().broadcast(std::move(m), options);
}

} // namespace chorus
