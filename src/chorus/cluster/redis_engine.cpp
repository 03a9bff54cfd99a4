#include <chorus/cluster/redis_broker.hpp>

#include <algorithm>
#include <utility>

namespace chorus::detail {

namespace {

constexpr std::size_t calls_per_turn = 256;
constexpr std::chrono::seconds between_beats{1};

} // namespace

redis_engine::redis_engine(std::shared_ptr<shard> home, std::shared_ptr<redis_shared> shared,
                           redis_subscriptions subscriptions, redis_leases leases)
    : home_(std::move(home)), shared_(std::move(shared)), subscriptions_(std::move(subscriptions)),
      leases_(std::move(leases)) {}

void redis_engine::begin() {
  if (closed_)
    return;
  self_ = shared_from_this();
  enrolled_ = true;
  home_->enroll(*this);
  begun_ = home_->now();
  redis_pool::listener told;
  told.on_message = [this](std::string_view channel, std::string_view payload) {
    came(channel, payload);
  };
  told.on_subscribed = [this](const std::string &channel, bool again) {
    confirmed(channel, again);
  };
  told.on_up = [this] {
    decided();
    settle_all();
  };
  told.on_down = [this](const failure &why) {
    // Nothing overtakes what may be on the connection that was lost.
    for (auto &[room, lane] : lanes_)
      lane.settling = lane.settling || !lane.flying.empty();
    for (auto &[node, lease] : leases_)
      for (auto &[room, state] : lease.rooms)
        state.added = false;
    decided();
    if (!pool_->clustered())
      fail_waits(&why);
  };
  told.on_event = [shared = shared_](std::string_view what) {
    if (shared->options.on_event)
      shared->options.on_event(what);
  };
  pool_ = redis_pool::make(home_, shared_->target, shared_->options, std::move(told));
  for (auto &[channel, s] : subscriptions_)
    pool_->subscribe(channel);
  pool_->begin();
  home_->start_after(tick_, between_beats);
  start_sweep();
}

// From the pool's callbacks and from the shard's end; twice does no harm.
void redis_engine::close() noexcept {
  const auto self = shared_from_this();
  if (std::exchange(closed_, true))
    return;
  tick_.cancel();
  lapse_.cancel();
  if (self_)
    home_->leave(*this);
  if (pool_)
    pool_->close();
  lanes_.clear();
  for (auto &[channel, s] : subscriptions_)
    s.waits.clear();
  self_.reset();
}

void redis_engine::on_shard_gone() noexcept {
  const auto self = shared_from_this();
  close();
  for (auto &[node, lease] : leases_) {
    lease.held.clear();
    lease.rooms.clear();
    lease.renewing = 0;
  }
  for (auto &[channel, s] : subscriptions_) {
    s.missed = true;
    s.confirmed = false;
  }
  std::deque<std::function<void(redis_engine &)>> calls; // answered when the lock has been let go
  std::lock_guard lock(shared_->mutex);
  if (shared_->engine == self)
    calls = move_on(shared_, std::move(subscriptions_), std::move(leases_));
}

void redis_engine::drain() {
  if (closed_)
    return;
  if (!decided_) {
    std::lock_guard lock(shared_->mutex);
    shared_->posted = false;
    return;
  }
  std::vector<std::function<void(redis_engine &)>> some;
  {
    std::lock_guard lock(shared_->mutex);
    auto &calls = shared_->calls;
    const auto count = std::min(calls.size(), calls_per_turn);
    some.assign(std::make_move_iterator(calls.begin()),
                std::make_move_iterator(calls.begin() + static_cast<std::ptrdiff_t>(count)));
    calls.erase(calls.begin(), calls.begin() + static_cast<std::ptrdiff_t>(count));
    shared_->posted = !calls.empty();
    if (shared_->posted)
      home_->post([self = shared_from_this()] { self->drain(); });
  }
  for (auto &f : some) {
    f(*this);
    f = nullptr;
  }
}

// The first word on Redis: calls since the beginning have waited for it.
void redis_engine::decided() {
  told_status();
  if (std::exchange(decided_, true))
    return;
  std::lock_guard lock(shared_->mutex);
  if (!std::exchange(shared_->posted, true))
    home_->post([self = shared_from_this()] { self->drain(); });
}

void redis_engine::told_status() {
  const bool up = pool_->up();
  auto why = up ? std::string() : pool_->why_down().message();
  {
    std::lock_guard lock(shared_->mutex);
    shared_->status = {up, std::move(why)};
  }
  take_stats();
}

void redis_engine::take_stats() {
  shared_->stats_asked = false;
  if (closed_ || !pool_)
    return;
  auto all = pool_->stats();
  all.received = received_;
  all.looked_up = looked_up_;
  all.gaps = gaps_;
  all.unreadable = unreadable_;
  std::lock_guard lock(shared_->mutex);
  shared_->stats = all;
}

void redis_engine::tick() {
  home_->start_after(tick_, between_beats);
  if (!decided_ && home_->now() - begun_ > shared_->options.connect_timeout)
    decided();
  fail_waits(nullptr);
  settle_all();
  touch_some();
  take_stats();
}

} // namespace chorus::detail
