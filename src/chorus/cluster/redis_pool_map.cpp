// What a cluster says of its masters, and what follows from it.

#include <chorus/cluster/redis_pool_core.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>

#include <algorithm>
#include <random>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

// A refusal per call must not become a question per call.
constexpr std::chrono::milliseconds shortest_map_pause{50};

} // namespace

redis_pool_core::master *redis_pool_core::master_at(const redis_address &where) {
  for (const auto &m : masters_)
    if (m->where == where)
      return m.get();
  if (closed_)
    return nullptr;
  masters_.push_back(make_master(where, make_fixed_locator(where)));
  auto *made = masters_.back().get();
  made->caller->begin();
  return made;
}

void redis_pool_core::look_up_map() {
  if (closed_)
    return;
  if (asking_map_ || map_alarm_.active()) {
    map_wanted_ = true;
    return;
  }
  asking_map_ = true;
  map_wanted_ = false;
  const auto self = shared_from_this();
  auto work = ask_map(self);
  asio::co_spawn(ground_->home->executor(), std::move(work),
                 asio::bind_cancellation_slot(cancel_.slot(), [self](std::exception_ptr thrown) {
                   self->asking_map_ = false;
                   if (thrown && !self->closed_)
                     std::rethrow_exception(thrown);
                   if (!self->closed_)
                     self->map_later();
                 }));
}

// After a pause, in which what was learnt comes to be used.
void redis_pool_core::map_later() {
  auto pause = shortest_map_pause;
  if (slots_.empty() || map_failed_) {
    thread_local std::mt19937_64 random{std::random_device{}()};
    pause = std::max(pause, map_backoff_.next(random()));
    map_wanted_ = true;
  }
  ground_->home->start_after(map_alarm_, pause);
}

void redis_pool_core::map_due() {
  const auto self = shared_from_this();
  if (map_wanted_)
    look_up_map();
}

task<> redis_pool_core::ask_map(std::shared_ptr<redis_pool_core> self) {
  // Those that are connected know best; then the others, then what the URL names.
  std::vector<redis_address> asked;
  for (const bool open : {true, false})
    for (const auto &m : self->masters_)
      if (m->caller->open() == open)
        asked.push_back(m->where);
  const auto &seeds = self->ground_->target.addresses;
  for (const auto &one : seeds)
    if (std::find(asked.begin(), asked.end(), one) == asked.end())
      asked.push_back(one);
  const auto ground = self->ground_;
  failure last;
  for (const auto &where : asked) {
    redis_dial to{where, ground->tls, ground->options.connect_timeout};
    std::vector<std::string> words;
    words.emplace_back("CLUSTER");
    words.emplace_back("SLOTS");
    auto asking = redis_ask_once(ground->home, std::move(to), ground->target.user,
                                 ground->target.password, std::move(words));
    auto said = co_await std::move(asking);
    if (self->closed_)
      co_return;
    if (!said) {
      last = said.error();
      continue;
    }
    const auto ranges = read_redis_slots(*said, where);
    if (ranges) {
      self->take_map(*ranges);
      co_return;
    }
    last = at_address(ranges.error(), where);
  }
  self->map_failed(last);
}

void redis_pool_core::map_failed(const failure &why) {
  map_failed_ = true;
  if (const auto sentence = why.message(); map_told_ != sentence) {
    map_told_ = sentence;
    event("the cluster can't be asked for its masters: " + sentence);
  }
  if (slots_.empty() && !closed_)
    down(why);
}

void redis_pool_core::take_map(const std::vector<redis_slot_range> &ranges) {
  map_failed_ = false;
  map_told_.clear();
  map_backoff_.reset();
  const auto first_time = slots_.empty();
  slots_.assign(redis_slots, nullptr);
  for (const auto &range : ranges) {
    auto *m = master_at(range.master);
    std::fill(slots_.begin() + range.first, slots_.begin() + range.last + 1, m);
  }
  // By the word of somebody who has not heard of it yet a master may still be one that is asked elsewhere.
  const auto all = masters_;
  for (const auto &m : all)
    if (std::find(slots_.begin(), slots_.end(), m.get()) == slots_.end())
      drop_master(m);
  for (const auto &m : all) {
    if (!m->subscriber)
      continue;
    for (auto &[channel, again] : m->subscriber->take_if([&](const std::string &name) {
           auto *now_at = owner(redis_slot(name));
           return now_at != nullptr && now_at != m.get();
         }))
      subscribe_at(*owner(redis_slot(channel)), std::move(channel), again);
  }
  std::vector<std::pair<std::string, bool>> still;
  for (auto &[channel, again] : std::exchange(homeless_, {}))
    if (auto *m = owner(redis_slot(channel)))
      subscribe_at(*m, std::move(channel), again);
    else
      still.emplace_back(std::move(channel), again);
  for (auto &one : still)
    homeless_.push_back(std::move(one));
  if (first_time)
    event("the cluster has " + std::to_string(masters_.size()) + " masters");
  if (!homeless_.empty() || std::find(slots_.begin(), slots_.end(), nullptr) != slots_.end())
    map_wanted_ = true;
  look_if_up(true);
  pump_all();
}

void redis_pool_core::drop_master(std::shared_ptr<master> m) {
  std::erase(masters_, m);
  const failure why(error::lost, stage::open, "another Redis serves these slots now");
  if (m->subscriber) {
    for (auto &[channel, again] :
         m->subscriber->take_if([](const std::string &) { return true; })) {
      if (auto *to = owner(redis_slot(channel)))
        subscribe_at(*to, std::move(channel), again);
      else
        homeless_.emplace_back(std::move(channel), again);
    }
    m->subscriber->close();
  }
  if (m->caller->open() && !m->caller->quiet()) {
    leaving_.push_back(m); // until what waits there is answered
    m->caller->retire(why);
    return;
  }
  m->caller->end_calls(redis_outcome::kind::unknown, why);
  m->caller->close();
}

void redis_pool_core::channel_moved(redis_subscriber &from, std::string channel, bool again,
                                    std::string refusal) {
  if (closed_)
    return;
  const auto self = shared_from_this();
  if (const auto to = read_redis_redirect(refusal, from.where()); to && !slots_.empty())
    slots_[to->slot] = master_at(to->to);
  auto *m = owner(redis_slot(channel));
  // By whom it is served now only the new map says.
  if (!m || m->subscriber.get() == &from)
    homeless_.emplace_back(std::move(channel), again);
  else
    subscribe_at(*m, std::move(channel), again);
  if (clustered())
    look_up_map();
}

} // namespace chorus::detail
