#include <chorus/session/session.hpp>

#include <chorus/session/bounds.hpp>
#include <chorus/session/verbs.hpp>

#include <algorithm>

namespace chorus {

using detail::core_ptr;
using detail::failed;
using detail::here_or_there;
using detail::no_session;
using detail::session_core;

std::string_view to_string(session_state s) noexcept {
  switch (s) {
  case session_state::connecting:
    return "connecting";
  case session_state::open:
    return "open";
  case session_state::closing:
    return "closing";
  case session_state::closed:
    break;
  }
  return "closed";
}

namespace detail {
std::string_view complaint_about(const heartbeat_options &given) noexcept {
  if (given.ping_interval.count() != 0 && given.pong_wait.count() != 0 &&
      given.pong_wait <= given.ping_interval)
    return "heartbeat.pong_wait must be longer than heartbeat.ping_interval, else peers are given "
           "up that had nothing to answer; zero switches either off";
  return {};
}

session_options bounded(session_options given) noexcept {
  auto &heartbeat = given.heartbeat;
  for (auto *time : {&heartbeat.ping_interval, &heartbeat.pong_wait, &heartbeat.write_wait,
                     &heartbeat.idle_limit})
    if (*time >= longest_time)
      *time = std::chrono::milliseconds(0);
  given.close_timeout = std::min(given.close_timeout, longest_time);
  return given;
}
} // namespace detail

std::string_view to_string(overflow o) noexcept {
  switch (o) {
  case overflow::wait:
    return "wait";
  case overflow::drop_newest:
    return "drop_newest";
  case overflow::drop_oldest:
    return "drop_oldest";
  case overflow::latest:
    return "latest";
  case overflow::close:
    break;
  }
  return "close";
}

std::string_view to_string(lane l) noexcept {
  switch (l) {
  case lane::reliable:
    return "reliable";
  case lane::control:
    return "control";
  case lane::latest:
    break;
  }
  return "latest";
}

namespace {

// Parks in one of the session's lists of waiters, which forgets it when it is cancelled.
struct listed_sleeper {
  explicit listed_sleeper(detail::ring<detail::parked *> &l) : list(l) {}
  ~listed_sleeper() {
    for (std::size_t i = 0; i < list.size(); ++i)
      if (list[i] == &sleeper) {
        list.erase(i);
        return;
      }
  }
  listed_sleeper(const listed_sleeper &) = delete;
  listed_sleeper &operator=(const listed_sleeper &) = delete;
  detail::ring<detail::parked *> &list;
  detail::parked sleeper;
};

task<result<>> flush_here(core_ptr core) {
  while (!core->outbox_empty() && core->state() != session_state::closed) {
    core->flush_before_wait();
    if (core->outbox_empty() || core->state() == session_state::closed)
      break;
    if (co_await detail::was_cancelled())
      co_return failure(error::cancelled);
    listed_sleeper s(core->flush_waiters());
    core->flush_waiters().push_back(&s.sleeper);
    co_await s.sleeper.park();
  }
  if (core->state() == session_state::closed)
    co_return core->why_ended();
  co_return result<>();
}

task<result<>> close_here(core_ptr core, close_code code, std::string reason) {
  core->start_close(code, reason);
  while (core->state() != session_state::closed) {
    if (co_await detail::was_cancelled())
      co_return failure(error::cancelled);
    listed_sleeper s(core->close_waiters());
    core->close_waiters().push_back(&s.sleeper);
    co_await s.sleeper.park();
  }
  if (core->why_ended() == error::closed)
    co_return result<>();
  co_return core->why_ended();
}

task<result<>> wait_closed_here(core_ptr core) {
  while (core->state() != session_state::closed) {
    if (co_await detail::was_cancelled())
      co_return failure(error::cancelled);
    listed_sleeper s(core->close_waiters());
    core->close_waiters().push_back(&s.sleeper);
    co_await s.sleeper.park();
  }
  co_return result<>();
}

task<result<std::chrono::nanoseconds>> ping_here(core_ptr core, std::chrono::milliseconds timeout) {
  if (!core->websocket())
    co_return failure(error::not_open, stage::open, "only WebSocket connections have pings");
  if (!core->can_send())
    co_return core->why_not_sending();
  struct waiting : session_core::ping_waiter {
    explicit waiting(session_core &c) noexcept : core(c) {}
    ~waiting() {
      auto &list = core.ping_waiters();
      for (std::size_t i = 0; i < list.size(); ++i)
        if (list[i] == this) {
          list.erase(i);
          return;
        }
    }
    session_core &core;
  };
  struct deadline : detail::timer {
    explicit deadline(detail::parked &p) noexcept
        : timer([](detail::timer &t) noexcept { static_cast<deadline &>(t).sleeper.wake_later(); }),
          sleeper(p) {}
    detail::parked &sleeper;
  };
  if (co_await detail::was_cancelled())
    co_return failure(error::cancelled);
  waiting w(*core);
  deadline d(w.sleeper);
  core->ping_waiters().push_back(&w);
  core->send_ping();
  core->home().start_after(d, timeout);
  co_await w.sleeper.park();
  if (w.round_trip)
    co_return *w.round_trip;
  if (w.done)
    co_return core->why_ended();
  if (co_await detail::was_cancelled())
    co_return failure(error::cancelled);
  co_return failure(error::timed_out, stage::open, "no pong came within the timeout");
}

task<failure> how_it_ended(core_ptr core) {
  auto work = wait_closed_here(core);
  auto waited = co_await here_or_there<void>(core, std::move(work));
  if (core->state() == session_state::closed)
    co_return core->why_ended();
  co_return waited.has_error() ? waited.error() : failure(error::cancelled);
}

task<failure> just(failure f) { co_return f; }

} // namespace

task<result<>> session::flush() {
  if (!core_)
    return failed<void>(no_session());
  return here_or_there<void>(core_, flush_here(core_));
}

task<result<std::chrono::nanoseconds>> session::ping(std::chrono::milliseconds timeout) {
  if (!core_)
    return failed<std::chrono::nanoseconds>(no_session());
  return here_or_there<std::chrono::nanoseconds>(
      core_, ping_here(core_, std::min(timeout, detail::longest_time)));
}

task<result<>> session::close(close_code code, std::string_view reason) {
  if (!core_)
    return failed<void>(no_session());
  return here_or_there<void>(core_, close_here(core_, code, std::string(reason)));
}

void session::start_close(close_code code, std::string_view reason) {
  if (core_)
    core_->home().run(
        [core = core_, code, text = std::string(reason)] { core->start_close(code, text); });
}

void session::abort() noexcept {
  if (core_)
    core_->home().run([core = core_] {
      core->abort(failure(error::aborted, stage::close, "the connection was aborted by this side"));
    });
}

void session::ignore_input() {
  if (core_)
    core_->home().run([core = core_] { core->ignore_input(); });
}

task<failure> session::wait_closed() {
  if (!core_)
    return just(no_session());
  return how_it_ended(core_);
}

std::stop_token session::stop_token() const {
  return core_ ? core_->stop_token() : std::stop_token();
}

session_id session::id() const noexcept { return core_ ? core_->id() : 0; }

session_state session::state() const noexcept {
  return core_ ? core_->state() : session_state::closed;
}

failure session::end() const { return core_ ? core_->end() : failure(error::not_open); }

std::string session::remote_address() const { return core_ ? core_->remote_address() : ""; }

std::string session::local_address() const { return core_ ? core_->local_address() : ""; }

std::string session::user() const { return core_ ? core_->user() : ""; }

bool session::is_websocket() const noexcept { return core_ && core_->websocket(); }

std::string session::subprotocol() const { return core_ ? core_->subprotocol() : ""; }

bool session::compressed() const noexcept {
  return core_ && core_->out().wire().format().compressed;
}

std::chrono::nanoseconds session::uptime() const noexcept {
  if (!core_)
    return std::chrono::nanoseconds(0);
  const auto until =
      core_->state() == session_state::closed ? core_->closed_at() : core_->home().now();
  return until - core_->opened_at();
}

session_stats session::stats() const { return core_ ? core_->stats() : session_stats(); }

} // namespace chorus
