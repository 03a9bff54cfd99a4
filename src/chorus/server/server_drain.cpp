// Draining: what the conductor does, and what each shard does for it.

#include <chorus/server/server_core.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace chorus::detail {

namespace asio = boost::asio;
using std::chrono::milliseconds;

namespace {

constexpr milliseconds patience_with_shards{1000};

using seconds_in_double = std::chrono::duration<double>;

duration to_clock(double seconds) {
  constexpr double longest = 365.0 * 24 * 3600;
  return std::chrono::duration_cast<duration>(seconds_in_double(std::clamp(seconds, 0.0, longest)));
}

// "retry-after=1.25" (docs/protocol.md), in milliseconds, rounded up: nobody comes too early.
std::string reason_for(duration delay) {
  const auto ms = std::chrono::ceil<milliseconds>(std::max(delay, duration::zero())).count();
  std::string text = "retry-after=" + std::to_string(ms / 1000);
  if (ms % 1000 != 0) {
    auto fraction = std::to_string(1000 + ms % 1000).substr(1);
    while (fraction.back() == '0')
      fraction.pop_back();
    text += '.' + fraction;
  }
  return text;
}

result<> check(const drain_options &options) {
  const auto bad = [](const char *sentence) {
    return failure(error::bad_option, stage::close, sentence);
  };
  if (!(options.per_second >= 0) || !std::isfinite(options.per_second))
    return bad("drain_options::per_second must be zero or more");
  if (!(options.returns_per_second >= 0) || !std::isfinite(options.returns_per_second))
    return bad("drain_options::returns_per_second must be zero or more");
  if (options.window < milliseconds::zero() || options.retry_after < milliseconds::zero())
    return bad("drain_options::window and retry_after must not be negative");
  return {};
}

} // namespace

// The conductor's, while it drains.
struct drain_state {
  drain_options options;
  std::size_t not_begun = 0;     // shards that have not said yet what there is to close
  std::size_t not_empty = 0;     // shards that still have sessions
  std::vector<std::size_t> left; // sessions of each shard that were not told to close yet
  std::vector<std::size_t> begun;
  bool interrupted = true;  // until every close has begun
  std::size_t to_close = 0; // sessions there were, as far as the shards have said
  time_point began_at{};
  transport::waiter *waiting = nullptr;

  void wake() noexcept {
    if (waiting)
      waiting->on_ready(ready_read);
  }
};

// On the shard.

std::size_t server_shard::begin_drain(milliseconds retry_after, bool release) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(retry_after).count();
  retry_after_ = std::to_string(std::max<std::int64_t>(seconds, 1));
  draining_ = true;
  if (release)
    release_listeners();
  for (auto &live : sessions_now())
    if (live->open)
      to_close_.push_back(std::move(live));
  count.drain_sessions.fetch_add(to_close_.size(), std::memory_order_relaxed);
  return to_close_.size();
}

void server_shard::release_listeners() noexcept {
  for (const auto &door : doors_)
    door->listener().leave_file();
  close_listeners();
}

std::vector<socket_copy> server_shard::duplicate_listeners() const {
  std::vector<socket_copy> all;
  // In the order of the options, which is not that in which they were opened.
  for (auto door = doors_.rbegin(); door != doors_.rend(); ++door) {
    const auto &listener = (*door)->listener();
    auto one = listener.duplicate();
    if (one)
      all.push_back({std::move(one), listener.has_file()});
  }
  return all;
}

// The oldest first. Who has left meanwhile uses up its turn.
std::size_t server_shard::drain_some(const std::vector<duration> &delays) {
  std::size_t closed = 0;
  for (const auto delay : delays) {
    if (to_close_.empty())
      break;
    const auto live = std::move(to_close_.back());
    to_close_.pop_back();
    if (!live->open || !live->handle.is_open())
      continue;
    live->handle.start_close(close_code::service_restart, reason_for(delay));
    ++closed;
  }
  return closed;
}

void server_shard::when_empty(std::function<void()> told) {
  empty_ = std::move(told);
  check_empty();
}

void server_shard::check_empty() noexcept {
  if (empty_ && open_.load(std::memory_order_relaxed) == 0)
    std::exchange(empty_, nullptr)();
}

void server_shard::note_drained(const session &s) noexcept {
  const auto end = s.end();
  if (end == error::closed)
    (end.detail().by_peer ? count.drain_left : count.drain_closed)
        .fetch_add(1, std::memory_order_relaxed);
  check_empty();
}

// On the conductor.

task<result<drain_report>> server_core::drain(std::shared_ptr<server_core> self,
                                              drain_options options) {
  auto &home = *self->conductor();
  if (auto usable = check(options); !usable)
    co_return usable.error();
  auto expected = phase::running;
  if (self->phase_.compare_exchange_strong(expected, phase::draining)) {
    self->drain_ = std::make_shared<drain_state>();
    self->drain_->options = options;
    self->log_phase("draining");
    asio::co_spawn(home.executor(), conduct_drain(self), [self](std::exception_ptr e) {
      if (e) // nothing there throws but exhaustion
        std::rethrow_exception(e);
    });
  } else if (expected == phase::idle || expected == phase::starting) {
    self->stop_at_ = home.now() + options.stop_deadline;
    self->begin_stop();
  }
  auto until_stopped = wait_stopped(self);
  co_await std::move(until_stopped);

  drain_report report;
  if (self->drain_) {
    for (const auto &s : self->shards_)
      s->add_to(report);
    report.aborted = report.sessions - std::min(report.sessions, report.closed + report.left);
    report.begun = self->drain_->begun;
    report.interrupted = self->drain_->interrupted;
  }
  report.handlers_cancelled = self->report_.handlers_cancelled;
  co_return report;
}

void server_shard::add_to(drain_report &report) const noexcept {
  const auto value = [](const auto &one) {
    return static_cast<std::size_t>(one.load(std::memory_order_acquire));
  };
  report.sessions += value(count.drain_sessions);
  report.closed += value(count.drain_closed);
  report.left += value(count.drain_left);
  report.upgrades_refused += value(count.drain_refused);
}

void server_core::interrupt_drain() noexcept {
  if (drain_)
    drain_->wake();
}

// Sleeps until `deadline` or a wake; false when there is no more draining to do.
task<bool> server_core::drain_pause(std::shared_ptr<server_core> self, time_point deadline) {
  auto &d = *self->drain_;
  if (self->now() == phase::draining) {
    transport::waiter parked(*self->conductor());
    d.waiting = &parked;
    co_await parked.wait(deadline);
    d.waiting = nullptr;
  }
  co_return self->now() == phase::draining;
}

// Has every shard do `work`, which answers a number, and waits until all have, but not for long for one
// whose thread is busy with something else.
task<bool> server_core::drain_begin(std::shared_ptr<server_core> self) {
  const auto d = self->drain_;
  auto &home = *self->conductor();
  d->left.assign(self->shards_.size(), 0);
  d->not_begun = self->shards_.size();
  for (std::size_t i = 0; i < self->shards_.size(); ++i) {
    const auto s = self->shards_[i];
    s->home().post([self, d, s, i] {
      const auto count = s->begin_drain(d->options.retry_after, d->options.release_listeners);
      self->conductor()->post([d, i, count] {
        d->left[i] = count;
        d->to_close += count;
        --d->not_begun;
        d->wake();
      });
    });
  }
  const auto limit = home.now() + patience_with_shards;
  bool going_on = true;
  while (going_on && d->not_begun > 0 && home.now() < limit)
    going_on = co_await drain_pause(self, limit);
  co_return going_on;
}

// Begins `count` closes at `now`, on the shards that have most left; `delays` tells each when to return.
void server_core::drain_some(const std::vector<duration> &delays, time_point now) {
  const auto d = drain_;
  std::vector<std::vector<duration>> parts(shards_.size());
  for (const auto delay : delays) {
    const auto most = std::max_element(d->left.begin(), d->left.end());
    if (*most == 0)
      break;
    --*most;
    parts[static_cast<std::size_t>(most - d->left.begin())].push_back(delay);
  }
  const auto second = static_cast<std::size_t>(
      std::chrono::duration_cast<std::chrono::seconds>(now - d->began_at).count());
  for (std::size_t i = 0; i < parts.size(); ++i) {
    if (parts[i].empty())
      continue;
    shards_[i]->home().post(
        [self = shared_from_this(), d, s = shards_[i], part = std::move(parts[i]), second] {
          const auto closed = s->drain_some(part);
          self->conductor()->post([d, closed, second] {
            if (d->begun.size() <= second)
              d->begun.resize(second + 1);
            d->begun[second] += closed;
          });
        });
  }
}

task<> server_core::conduct_drain(std::shared_ptr<server_core> self) {
  const auto d = self->drain_;
  auto &home = *self->conductor();
  d->began_at = home.now();
  bool going_on = co_await drain_begin(self);

  const auto count_left = [&] {
    std::size_t sum = 0;
    for (const auto n : d->left)
      sum += n;
    return sum;
  };
  const auto &o = d->options;
  const double window = seconds_in_double(o.window).count();
  // Seconds between closes, and between returns. The window is for all that there are, also for those
  // that a shard tells of late.
  const auto step = [&] {
    return o.per_second > 0   ? 1 / o.per_second
           : d->to_close == 0 ? 0
                              : window / static_cast<double>(d->to_close);
  };
  const auto return_step = [&] {
    return o.returns_per_second > 0 ? std::max(step(), 1 / o.returns_per_second) : step();
  };
  // A timer that comes late may catch up with this much, not with more: the pace is a promise to who
  // takes the clients on, the window only a wish.
  const auto slack = std::max<duration>(milliseconds(100), 2 * home.tick());
  auto next = home.now();
  auto next_return = home.now() + o.retry_after;
  // What a shard tells late, because its thread was busy, is closed as the rest is.
  const auto latest =
      home.now() + self->setup_->options.session.close_timeout + patience_with_shards;
  while (going_on && (count_left() > 0 || (d->not_begun > 0 && home.now() < latest))) {
    const auto now = home.now();
    next = std::max(next, now - slack);
    std::vector<duration> delays;
    for (auto some = count_left(); some > 0 && next <= now; --some) {
      next_return = std::max(next_return, now + o.retry_after);
      delays.push_back(next_return - now);
      next_return += to_clock(return_step());
      next += to_clock(step());
    }
    self->drain_some(delays, now);
    if (count_left() > 0)
      going_on = co_await drain_pause(self, next);
    else if (d->not_begun > 0)
      going_on = co_await drain_pause(self, latest);
  }
  d->interrupted = !going_on;

  // Every close has its own deadline; the limit is only for a shard that is stuck.
  const auto limit =
      home.now() + self->setup_->options.session.close_timeout + patience_with_shards;
  if (going_on) {
    d->not_empty = self->shards_.size();
    auto told = [d, home = self->conductor()] {
      home->post([d] {
        --d->not_empty;
        d->wake();
      });
    };
    for (const auto &s : self->shards_)
      s->home().post([s, told] { s->when_empty(told); });
  }
  while (going_on && d->not_empty > 0 && home.now() < limit)
    going_on = co_await drain_pause(self, limit);
  self->log_drained(d->interrupted);
  if (going_on) {
    self->stop_at_ = std::min(self->stop_at_, home.now() + o.stop_deadline);
    self->begin_stop();
  } else if (self->now() == phase::stopped) { // abandoned
    for (auto *caller : self->callers_)
      self->wake(caller);
  }
}

} // namespace chorus::detail
