#include <chorus/session/session_core.hpp>

#include <algorithm>
#include <cstring>

namespace chorus::detail {

// One wheel timer per session, at the nearest of its deadlines. Traffic only moves time stamps; the
// timer looks at them when it fires.

void session_core::on_timer(timer &t) noexcept {
  auto &core = static_cast<liveness_timer &>(t).core;
  auto keep = core.shared_from_this();
  core.check_liveness();
}

void session_core::send_ping() {
  if (ping_under_way_ || out_.ping_pending() || closing_ || close_received_ || !websocket())
    return;
  out_.queue_ping(++ping_number_);
  if (!out_.blocked())
    home_->flush_later(*this);
}

void session_core::on_pong(std::span<const std::byte> payload) noexcept {
  std::uint64_t number = 0;
  if (!ping_under_way_ || payload.size() != sizeof number)
    return;
  std::memcpy(&number, payload.data(), sizeof number);
  if (number != ping_number_)
    return;
  ping_under_way_ = false;
  const auto round_trip = clock::now() - ping_sent_at_;
  round_trip_ns_.set(static_cast<std::uint64_t>(
      std::chrono::duration_cast<std::chrono::nanoseconds>(round_trip).count()));
  confirmed_.set(out_.sent_before_ping);
  if (observer_)
    observer_->on_round_trip(round_trip);
  for (; !ping_waiters_.empty(); ping_waiters_.pop_front()) {
    auto &w = *ping_waiters_.front();
    w.round_trip = round_trip;
    w.done = true;
    w.sleeper.wake_later();
  }
}

bool session_core::expects_pongs() const noexcept {
  const auto &heartbeat = options_->heartbeat;
  return heartbeat.pong_wait.count() != 0 && heartbeat.ping_interval.count() != 0 && websocket();
}

void session_core::check_liveness() noexcept {
  if (state() == session_state::closed)
    return;
  const auto now = home_->now();
  const auto &heartbeat = options_->heartbeat;
  const auto gave_up = [&](error e, const char *sentence) {
    failure_detail detail;
    detail.where = stage::open;
    detail.address = remote_;
    detail.close_code = static_cast<std::uint16_t>(close_code::abnormal);
    detail.sentence = sentence;
    abort(failure(make_error_code(e), std::move(detail)));
  };
  if (now >= close_deadline_)
    return gave_up(error::aborted, "the peer did not finish the close in time; the connection was "
                                   "aborted");
  if (heartbeat.write_wait.count() != 0 && out_.blocked() &&
      now >= out_.blocked_since() + heartbeat.write_wait)
    return gave_up(error::write_timeout, "timed out: the peer took no data within write wait");
  if (!closing_) {
    const bool reading = !stalled_;
    if (expects_pongs() && reading && now >= last_received_ + heartbeat.pong_wait)
      return gave_up(error::timed_out,
                     "timed out: nothing came from the peer within pong wait, pings included");
    if (heartbeat.idle_limit.count() != 0 && now >= last_message_ + heartbeat.idle_limit) {
      start_close(close_code::going_away, "idle");
      return;
    }
    if (heartbeat.ping_interval.count() != 0 && now >= next_ping_) {
      next_ping_ = now + heartbeat.ping_interval;
      send_ping();
    }
  }
  schedule_liveness();
}

void session_core::schedule_liveness() noexcept {
  if (state() == session_state::closed)
    return;
  const auto &heartbeat = options_->heartbeat;
  auto next = close_deadline_;
  if (heartbeat.write_wait.count() != 0 && out_.blocked())
    next = std::min(next, out_.blocked_since() + heartbeat.write_wait);
  if (!closing_) {
    if (expects_pongs())
      next = std::min(next, (stalled_ ? home_->now() : last_received_) + heartbeat.pong_wait);
    if (heartbeat.idle_limit.count() != 0)
      next = std::min(next, last_message_ + heartbeat.idle_limit);
    if (heartbeat.ping_interval.count() != 0 && websocket())
      next = std::min(next, next_ping_);
  }
  if (next == time_point::max())
    timer_.cancel();
  else if (!timer_.active() || timer_.expiry() != next)
    home_->start(timer_, next);
}

} // namespace chorus::detail
