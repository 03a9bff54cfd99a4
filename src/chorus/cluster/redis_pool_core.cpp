#include <chorus/cluster/redis_pool_core.hpp>

#include <chorus/transport/tls.hpp>

#include <algorithm>
#include <unistd.h>
#include <utility>

namespace chorus::detail {

namespace {

// CLIENT SETNAME takes no blanks and nothing beyond ASCII.
std::string client_name(std::string_view wanted) {
  std::string name =
      wanted.empty() ? "chorus-" + std::to_string(::getpid()) : std::string(wanted.substr(0, 200));
  for (char &c : name)
    if (c <= ' ' || c > '~')
      c = '-';
  return name;
}

std::shared_ptr<const redis_pool::listener> complete(redis_pool::listener told) {
  if (!told.on_message)
    told.on_message = [](std::string_view, std::string_view) {};
  if (!told.on_subscribed)
    told.on_subscribed = [](const std::string &, bool) {};
  if (!told.on_up)
    told.on_up = [] {};
  if (!told.on_down)
    told.on_down = [](const failure &) {};
  if (!told.on_event)
    told.on_event = [](std::string_view) {};
  return std::make_shared<const redis_pool::listener>(std::move(told));
}

std::int64_t ticks(time_point t) noexcept { return t.time_since_epoch().count(); }

} // namespace

redis_pool_core::redis_pool_core(std::shared_ptr<shard> home, const redis_target &target,
                                 const redis_options &options, redis_pool::listener told)
    : ground_(std::make_shared<redis_ground>()), told_(complete(std::move(told))),
      outstanding_(redis_slots), asked_(redis_slots),
      lanes_alarm_(*this, [](timer &t) noexcept { static_cast<alarm &>(t).core.lanes_due(); }),
      map_backoff_(options.reconnect),
      map_alarm_(*this, [](timer &t) noexcept { static_cast<alarm &>(t).core.map_due(); }) {
  ground_->home = std::move(home);
  ground_->options = options;
  ground_->options.client_name = client_name(options.client_name);
  ground_->target = target;
  if (target.tls) {
    auto made = transport::make_client_context(options.tls);
    if (made)
      ground_->tls = std::move(*made);
    else
      fatal_ = made.error();
  }
}

redis_pool_core::~redis_pool_core() { close(); }

void redis_pool_core::begin() {
  if (std::exchange(begun_, true) || closed_)
    return;
  const auto self = shared_from_this();
  ground_->home->enroll(*this);
  counts_.away_since = ticks(ground_->home->now());
  if (fatal_.code())
    return down(fatal_);
  if (clustered())
    return look_up_map();
  auto locator = ground_->target.is == redis_target::kind::sentinel
                     ? make_sentinel_locator(ground_)
                     : make_fixed_locator(ground_->target.addresses.front());
  masters_.push_back(make_master(ground_->target.addresses.front(), std::move(locator)));
  masters_.back()->caller->begin();
  for (auto &[channel, again] : std::exchange(homeless_, {}))
    subscribe_at(*masters_.front(), std::move(channel), again);
}

void redis_pool_core::close() noexcept {
  if (std::exchange(closed_, true))
    return;
  const auto self = weak_from_this().lock(); // null in the destructor
  if (begun_)
    ground_->home->leave(*this);
  told_ = complete({});
  lanes_alarm_.cancel();
  map_alarm_.cancel();
  if (asking_map_)
    cancel_.emit(boost::asio::cancellation_type::terminal);
  for (auto *list : {&masters_, &leaving_})
    for (auto &m : std::exchange(*list, {})) {
      m->caller->close();
      if (m->subscriber)
        m->subscriber->close();
    }
  slots_.clear();
  const failure why(error::not_open, stage::none,
                    "the connection to Redis was closed by this side");
  for (auto &[slot, one] : std::exchange(lanes_, {}))
    for (auto &[order, waiting] : one.calls)
      refuse(std::move(waiting.call), why);
  counts_.up = false;
  std::lock_guard lock(why_mutex_);
  why_ = why;
}

void redis_pool_core::on_shard_gone() noexcept { close(); }

failure redis_pool_core::why_down() const {
  std::lock_guard lock(why_mutex_);
  return why_;
}

broker_stats redis_pool_core::stats() const {
  const auto &c = counts_;
  broker_stats s;
  s.connects = c.connects;
  s.disconnects = c.disconnects;
  s.commands = c.commands;
  s.waiting = c.waiting;
  s.waiting_bytes = c.waiting_bytes;
  const auto now = ticks(clock::now());
  const auto oldest = c.oldest.load();
  const auto gone = std::chrono::duration_cast<std::chrono::microseconds>(
      duration(oldest == 0 ? 0 : std::max<std::int64_t>(now - oldest, 0)));
  s.lag = oldest == 0 ? std::chrono::microseconds(c.last_took.load()) : gone;
  s.away = std::chrono::milliseconds(c.away.load());
  if (const auto since = c.away_since.load(); since != 0)
    s.away += std::chrono::duration_cast<std::chrono::milliseconds>(
        duration(std::max<std::int64_t>(now - since, 0)));
  return s;
}

void redis_pool_core::event(const std::string &sentence) {
  const auto told = told_;
  told->on_event(sentence);
}

std::shared_ptr<redis_pool_core::master>
redis_pool_core::make_master(const redis_address &where, std::shared_ptr<redis_locator> locator) {
  auto made = std::make_shared<master>();
  made->number = ++masters_made_;
  made->where = where;
  made->caller = std::make_shared<redis_caller>(ground_, std::move(locator), *this);
  made->caller->keep(weak_from_this());
  return made;
}

redis_pool_core::master *redis_pool_core::master_of(const redis_caller &c) noexcept {
  for (const auto *list : {&masters_, &leaving_})
    for (const auto &m : *list)
      if (m->caller.get() == &c)
        return m.get();
  return nullptr;
}

redis_pool_core::master *redis_pool_core::master_of(const redis_subscriber &s) noexcept {
  for (const auto &m : masters_)
    if (m->subscriber.get() == &s)
      return m.get();
  return nullptr;
}

redis_pool_core::master *redis_pool_core::owner(std::uint16_t slot) noexcept {
  if (!clustered())
    return masters_.empty() ? nullptr : masters_.front().get();
  return slots_.empty() ? nullptr : slots_[slot];
}

void redis_pool_core::caller_up(redis_caller &c) {
  auto *m = master_of(c);
  if (!m)
    return;
  ++counts_.connects;
  const auto address = to_string(c.where());
  if (!m->was_up)
    event("Redis at " + address + " is reached");
  else if (address != m->address)
    event("the master is now Redis at " + address);
  else
    event("Redis at " + address + " is reached again" +
          (c.run() == m->run ? "" : ", which has been restarted"));
  m->was_up = true;
  m->told.clear();
  m->address = address;
  m->run = c.run();
  // The other connection may be to a master that is none any more, and hear nothing.
  if (m->subscriber && m->subscriber->open() && m->subscriber->run() != c.run())
    m->subscriber->give_up(failure(error::lost, stage::open, "another Redis is the master now"));
  look_if_up(false);
}

void redis_pool_core::caller_ready(redis_caller &) {
  const auto self = shared_from_this();
  look_if_up(true);
  pump_all();
}

// Up is told when what was undecided has ended; down at once.
void redis_pool_core::look_if_up(bool tell) {
  if (closed_ || masters_.empty())
    return;
  for (const auto &m : masters_)
    if (!m->caller->open())
      return;
  if (const auto since = counts_.away_since.exchange(0); since != 0)
    counts_.away += std::chrono::duration_cast<std::chrono::milliseconds>(
                        duration(ticks(ground_->home->now()) - since))
                        .count();
  counts_.up.store(true, std::memory_order_release);
  if (!tell || !std::exchange(told_up_owed_, false))
    return;
  told_down_ = false;
  const auto told = told_;
  told->on_up();
}

void redis_pool_core::down(const failure &why) {
  {
    std::lock_guard lock(why_mutex_);
    why_ = why;
  }
  if (counts_.up.exchange(false))
    counts_.away_since = ticks(ground_->home->now());
  told_up_owed_ = true;
  if (std::exchange(told_down_, true))
    return;
  const auto told = told_;
  told->on_down(why);
}

void redis_pool_core::caller_down(redis_caller &c, const failure &why, bool was_up) {
  const auto self = shared_from_this();
  auto *m = master_of(c);
  if (!m || closed_)
    return;
  if (was_up)
    ++counts_.disconnects;
  const auto left = std::find_if(leaving_.begin(), leaving_.end(),
                                 [&](const auto &one) { return one.get() == m; });
  if (left != leaving_.end()) {
    const auto gone = *left;
    leaving_.erase(left);
    // Its slots are served elsewhere: what it still gets it refuses.
    gone->caller->end_calls(redis_outcome::kind::unknown, why);
    gone->caller->close();
    return;
  }
  const auto sentence = why.message();
  const auto kept = masters_; // what is told may close all
  if (m->told != sentence) {  // not at each attempt
    m->told = sentence;
    event(was_up ? "the connection to Redis is lost: " + sentence
                 : "Redis can't be reached: " + sentence);
  }
  if (closed_)
    return;
  down(why);
  if (closed_)
    return;
  if (clustered())
    look_up_map();
  pump_all();
}

void redis_pool_core::subscribe_at(master &m, std::string channel, bool again) {
  if (!m.subscriber) {
    m.subscriber = std::make_shared<redis_subscriber>(
        ground_,
        ground_->target.is == redis_target::kind::sentinel ? make_sentinel_locator(ground_)
                                                           : make_fixed_locator(m.where),
        *this, clustered());
    m.subscriber->keep(weak_from_this());
    m.subscriber->add(std::move(channel), again);
    m.subscriber->begin();
    return;
  }
  m.subscriber->add(std::move(channel), again);
}

void redis_pool_core::subscribe(std::string channel) {
  if (closed_)
    return;
  if (auto *m = owner(redis_slot(channel)))
    return subscribe_at(*m, std::move(channel), false);
  for (const auto &one : homeless_)
    if (one.first == channel)
      return;
  homeless_.emplace_back(std::move(channel), false);
}

void redis_pool_core::unsubscribe(const std::string &channel) {
  for (auto &m : masters_)
    if (m->subscriber && m->subscriber->remove(channel))
      return;
  std::erase_if(homeless_, [&](const auto &one) { return one.first == channel; });
}

void redis_pool_core::channel_message(std::string_view channel, std::string_view payload) {
  const auto told = told_;
  told->on_message(channel, payload);
}

void redis_pool_core::channel_subscribed(const std::string &channel, bool again) {
  const auto told = told_;
  told->on_subscribed(channel, again);
}

void redis_pool_core::subscriber_up(redis_subscriber &s) {
  ++counts_.connects;
  auto *m = master_of(s);
  if (m)
    m->told_channels.clear();
  if (m && m->caller->open() && m->caller->run() != s.run())
    m->caller->retire(failure(error::lost, stage::open, "another Redis is the master now"));
}

void redis_pool_core::subscriber_down(redis_subscriber &s, const failure &why, bool was_up) {
  const auto self = shared_from_this();
  if (!was_up) { // mostly the connection for commands tells it
    auto *m = master_of(s);
    if (m && m->caller->open() && std::exchange(m->told_channels, why.message()) != why.message())
      event("there is no connection for subscriptions: " + why.message());
    return;
  }
  ++counts_.disconnects;
  if (s.size() != 0)
    event("the connection for subscriptions is lost: " + why.message());
  if (clustered() && !closed_)
    look_up_map();
}

void redis_pool_core::subscriber_event(std::string_view sentence) { event(std::string(sentence)); }

} // namespace chorus::detail
