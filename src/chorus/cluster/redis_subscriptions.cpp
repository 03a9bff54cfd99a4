#include <chorus/cluster/redis_broker.hpp>
#include <chorus/cluster/wire.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::chrono::minutes between_touches{15};
constexpr std::size_t touches_per_beat = 100;

} // namespace

void redis_engine::subscribe(std::string room, std::weak_ptr<broker_listener> to,
                             redis_owed<void> answer) {
  if (!pool_->up() && !pool_->clustered()) {
    shared_->refused.fetch_add(1, std::memory_order_relaxed);
    (*answer)(why_not({redis_outcome::kind::not_done, {}, pool_->why_down()}));
    return;
  }
  auto channel = shared_->names.channel(room);
  const auto [found, fresh] = subscriptions_.try_emplace(channel);
  auto &s = found->second;
  if (s.confirmed) {
    s.listeners.push_back(std::move(to));
    (*answer)({});
    return;
  }
  s.waits.push_back(
      {std::move(to), std::move(answer), home_->now() + shared_->options.answer_timeout});
  unconfirmed_.insert(channel);
  if (!fresh)
    return; // asked for already
  s.room = std::move(room);
  pool_->subscribe(std::move(channel));
}

void redis_engine::unsubscribe(const std::string &room, const broker_listener *who) {
  const auto channel = shared_->names.channel(room);
  const auto found = subscriptions_.find(channel);
  if (found == subscriptions_.end())
    return;
  std::erase_if(found->second.listeners, [&](const auto &weak) {
    const auto one = weak.lock();
    return !one || one.get() == who;
  });
  std::erase_if(found->second.waits, [&](auto &wait) {
    const auto one = wait.to.lock();
    if (one && one.get() != who)
      return false;
    (*wait.answer)({}); // it does not listen, which is what it wants by now
    return true;
  });
  drop_if_unheard(channel);
}

void redis_engine::drop_if_unheard(const std::string &channel) {
  const auto found = subscriptions_.find(channel);
  if (found == subscriptions_.end())
    return;
  auto &s = found->second;
  std::erase_if(s.listeners, [](const auto &weak) { return weak.expired(); });
  if (!s.listeners.empty() || !s.waits.empty())
    return;
  const auto name = channel; // which may be of what is erased
  subscriptions_.erase(found);
  pool_->unsubscribe(name);
}

void redis_engine::confirmed(const std::string &channel, bool again) {
  const auto found = subscriptions_.find(channel);
  if (found == subscriptions_.end())
    return;
  auto &s = found->second;
  const bool missed = again || s.confirmed || s.missed;
  s.confirmed = true;
  s.missed = false;
  if (missed && !s.listeners.empty()) {
    s.last = 0;
    gap(s);
  }
  unconfirmed_.erase(channel);
  for (auto &wait : std::exchange(s.waits, {})) {
    s.listeners.push_back(std::move(wait.to));
    (*wait.answer)({});
  }
  drop_if_unheard(channel);
}

// Those that have waited too long, or all: `why`.
void redis_engine::fail_waits(const failure *why) {
  std::vector<redis_subscription::waiting> over;
  std::vector<std::string> unheard;
  std::erase_if(unconfirmed_, [&](const auto &channel) {
    const auto s = subscriptions_.find(channel);
    if (s == subscriptions_.end())
      return true;
    std::erase_if(s->second.waits, [&](auto &wait) {
      if (!why && wait.until > home_->now())
        return false;
      over.push_back(std::move(wait));
      return true;
    });
    if (s->second.waits.empty())
      unheard.push_back(channel);
    return s->second.waits.empty();
  });
  for (const auto &channel : unheard)
    drop_if_unheard(channel);
  for (const auto &wait : over)
    if (why)
      (*wait.answer)(why_not({redis_outcome::kind::not_done, {}, *why}));
    else
      (*wait.answer)(failure(error::timed_out, stage::none,
                             "Redis has not confirmed the subscription in time: is its user "
                             "allowed the channel (&chorus:*), and is Redis overloaded?"));
}

template <class F> void redis_engine::tell(redis_subscription &s, F f) {
  for (const auto &weak : s.listeners)
    if (const auto to = weak.lock())
      f(*to);
}

void redis_engine::gap(redis_subscription &s) {
  ++gaps_;
  tell(s, [](broker_listener &to) { to.on_gap(); });
}

void redis_engine::came(std::string_view channel, std::string_view payload) {
  const auto found = subscriptions_.find(channel);
  if (found == subscriptions_.end())
    return;
  auto &s = found->second;
  ++received_;
  auto news = read_redis_news(payload);
  switch (news.is) {
  case redis_news::kind::unknown:
    ++unreadable_;
    return;
  case redis_news::kind::gap:
    s.last = 0;
    gap(s);
    return;
  case redis_news::kind::kept:
  case redis_news::kind::passing: {
    // One that can't be read has its place: those after it name it.
    if (news.is == redis_news::kind::kept)
      came_kept(s, news);
    auto m = read_broker_message(news.rest);
    if (m.has_error()) {
      ++unreadable_;
      return;
    }
    m->room = s.room;
    if (news.is == redis_news::kind::kept)
      m->at = {news.epoch, news.offset};
    tell(s, [&](broker_listener &to) { to.on_message(*m); });
    break;
  }
  case redis_news::kind::entered:
  case redis_news::kind::left: {
    auto who = read_broker_member(news.rest);
    if (who.has_error()) {
      ++unreadable_;
      return;
    }
    who->at = news.offset;
    broker_change change{s.room,
                         std::move(*who),
                         news.is == redis_news::kind::entered,
                         {std::move(news.epoch), news.offset}};
    if (!change.present)
      change.who.data.clear();
    tell(s, [&](broker_listener &to) { to.on_presence(change); });
    break;
  }
  }
  if (std::all_of(s.listeners.begin(), s.listeners.end(),
                  [](const auto &weak) { return weak.expired(); }))
    drop_if_unheard(found->first);
}

// Each message names the one before it: if that is not the newest known, something was missed, or Redis has
// come back with less than it had. Reading the history finds out which.
void redis_engine::came_kept(redis_subscription &s, const redis_news &news) {
  keep_alive(s, shared_->names.channel(s.room));
  if (s.last != 0 && (s.epoch != news.epoch || s.last != news.before))
    gap(s);
  s.epoch = news.epoch;
  s.last = news.offset;
  s.note(news.epoch, news.offset);
}

void redis_engine::keep_alive(redis_subscription &s, const std::string &channel) {
  if (!std::exchange(s.kept, true) && touched_.insert(channel).second)
    touches_.emplace_back(home_->now() + between_touches, channel);
}

// The keys of a room that is silent while somebody listens.
void redis_engine::touch_some() {
  for (std::size_t n = 0;
       n < touches_per_beat && !touches_.empty() && touches_.front().first <= home_->now(); ++n) {
    auto channel = std::move(touches_.front().second);
    touches_.pop_front();
    drop_if_unheard(channel);
    const auto found = subscriptions_.find(channel);
    if (found == subscriptions_.end()) {
      touched_.erase(channel);
      continue;
    }
    const auto &room = found->second.room;
    pool_->script(all_redis_scripts().touch,
                  {shared_->names.key(room, ":s"), shared_->names.key(room, ":m")},
                  {std::to_string(redis_least_life.count())}, [](const redis_outcome &) {});
    touches_.emplace_back(home_->now() + between_touches, std::move(channel));
  }
}

} // namespace chorus::detail
