#include <chorus/cluster/redis_subscriber.hpp>

#include <chorus/base/text.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::chrono::milliseconds first_retry{200};
constexpr std::chrono::milliseconds longest_retry{5'000};

} // namespace

redis_subscriber::redis_subscriber(std::shared_ptr<const redis_ground> ground,
                                   std::shared_ptr<redis_locator> locator,
                                   redis_subscriber_user &owner, bool sharded)
    : redis_line(std::move(ground), std::move(locator), ":channels"), user_(&owner),
      sharded_(sharded) {}

void redis_subscriber::ask(question what, const std::string &name, std::uint64_t life) {
  scratch_.clear();
  if (what == question::ping)
    write_redis_command(scratch_, {"PING"});
  else if (what == question::subscribe)
    write_redis_command(scratch_, {sharded_ ? "SSUBSCRIBE" : "SUBSCRIBE", name});
  else
    write_redis_command(scratch_, {sharded_ ? "SUNSUBSCRIBE" : "UNSUBSCRIBE", name});
  link()->send(scratch_);
  asked_.push_back({what, name, life, now()});
}

void redis_subscriber::add(std::string name, bool again) {
  auto [at, fresh] = channels_.try_emplace(std::move(name));
  if (!fresh)
    return;
  at->second.life = ++lives_;
  at->second.again = again;
  if (open())
    ask(question::subscribe, at->first, at->second.life);
}

bool redis_subscriber::remove(const std::string &name) {
  if (channels_.erase(name) == 0)
    return false;
  if (open())
    ask(question::unsubscribe, name, 0);
  return true;
}

std::vector<std::pair<std::string, bool>>
redis_subscriber::take_if(const std::function<bool(const std::string &)> &wanted) {
  std::vector<std::pair<std::string, bool>> taken;
  for (const auto &[name, one] : channels_)
    if (wanted(name))
      taken.emplace_back(name, one.again);
  for (const auto &[name, again] : taken)
    remove(name);
  return taken;
}

void redis_subscriber::opened(const redis_welcome &) {
  refused_ = 0;
  for (auto &[name, one] : channels_) {
    one.confirmed = false;
    one.retry = time_point::max();
    ask(question::subscribe, name, one.life);
  }
  user_->subscriber_up(*this);
}

void redis_subscriber::lost(const failure &why, std::uint64_t) {
  asked_.clear();
  user_->subscriber_down(*this, why, true);
}

void redis_subscriber::failed(const failure &why) { user_->subscriber_down(*this, why, false); }

void redis_subscriber::on_reply(redis_reply r) {
  using type = redis_reply::type;
  const auto self = shared_from_this();
  const auto owner = this->owner();
  if (r.is == type::list && r.items.size() == 3) {
    const auto &kind = r.items[0].text;
    const auto &name = r.items[1].text;
    if (kind == "message" || kind == "smessage") {
      if (const auto at = channels_.find(name); at != channels_.end() && at->second.confirmed)
        user_->channel_message(name, r.items[2].text);
    } else if (kind == "subscribe" || kind == "ssubscribe") {
      confirmed(name);
    } else if (kind == "unsubscribe" || kind == "sunsubscribe") {
      ended(name);
    }
  } else if (r.is == type::error) {
    refused(r.text);
  } else if (!asked_.empty() && asked_.front().what == question::ping) {
    asked_.pop_front(); // "+PONG", or a list of two when something is subscribed
  } else {
    give_up(failure(error::protocol, stage::open, "Redis said something that it was not asked"));
  }
  if (!closed())
    retire_if_idle();
}

void redis_subscriber::confirmed(const std::string &name) {
  if (asked_.empty() || asked_.front().what != question::subscribe ||
      asked_.front().channel != name)
    return give_up(failure(error::protocol, stage::open,
                           "Redis confirmed a subscription that it was not asked for"));
  const auto life = asked_.front().life;
  asked_.pop_front();
  proven();
  const auto at = channels_.find(name);
  if (at == channels_.end() || at->second.life != life)
    return; // it was ended in between, and perhaps wanted again: then another confirmation comes
  at->second.confirmed = true;
  at->second.refusals = 0;
  user_->channel_subscribed(name, std::exchange(at->second.again, true));
}

void redis_subscriber::refused(const std::string &text) {
  if (asked_.empty())
    return give_up(failure(error::protocol, stage::open, "Redis said: " + one_line(text, 200)));
  const auto was = std::move(asked_.front());
  asked_.pop_front();
  if (was.what == question::ping)
    return retire(redis_refusal({redis_reply::type::error, 0, text, {}}, "PING"));
  const auto at = channels_.find(was.channel);
  if (at == channels_.end() || at->second.life != was.life)
    return;
  if (text.starts_with("MOVED ")) {
    const bool again = at->second.again;
    channels_.erase(at);
    return user_->channel_moved(*this, was.channel, again, text);
  }
  auto &one = at->second;
  one.retry = now() + std::min(longest_retry, first_retry * (1 << std::min(one.refusals, 5U)));
  ++refused_;
  if (one.refusals++ == 0)
    user_->subscriber_event(
        "Redis refuses a subscription, which is tried again: " +
        redis_refusal({redis_reply::type::error, 0, text, {}}, "SUBSCRIBE").detail().sentence);
}

void redis_subscriber::ended(const std::string &name) {
  if (!asked_.empty() && asked_.front().what == question::unsubscribe &&
      asked_.front().channel == name) {
    asked_.pop_front();
    return;
  }
  // Nobody asked: its slot has gone to another master.
  const auto at = channels_.find(name);
  if (at == channels_.end())
    return;
  const bool again = at->second.again;
  channels_.erase(at);
  user_->channel_moved(*this, name, again, {});
}

void redis_subscriber::tick(time_point now) {
  if (!link())
    return;
  const auto late = [&] {
    return !asked_.empty() &&
           now - std::max(asked_.front().since, link()->last_heard()) > options().answer_timeout;
  };
  if (late())
    link()->read_now();
  if (link() && late())
    return give_up(failure(error::timed_out, stage::open,
                           "Redis has not answered on the connection for subscriptions in " +
                               std::to_string(options().answer_timeout.count()) + " ms"));
  if (!open())
    return;
  if (refused_ != 0) {
    refused_ = 0;
    for (auto &[name, one] : channels_)
      if (one.retry <= now) {
        one.retry = time_point::max();
        ask(question::subscribe, name, one.life);
      } else if (one.retry != time_point::max()) {
        ++refused_;
      }
  }
  if (asked_.empty() && now - link()->last_heard() > options().ping_interval)
    ask(question::ping, {}, 0);
}

} // namespace chorus::detail
