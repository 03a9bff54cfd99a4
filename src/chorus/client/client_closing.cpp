// How a client ends: closed in order, given up, abandoned, or with its runtime.

#include <chorus/client/client_core.hpp>

#include <boost/asio/co_spawn.hpp>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

void pass_on(const std::exception_ptr &e) {
  if (e)
    std::rethrow_exception(e);
}

} // namespace

// `close` was called. Whatever the supervisor is doing, it comes to an end.
void client_core::begin_close() {
  bool open;
  {
    lock held(mutex_);
    if (ended_)
      return;
    open = ready_ && session_;
    supervisor_.wake_all();
  }
  enter(client_state::closing);
  if (attempting_)
    cancel_attempt_.emit(asio::cancellation_type::terminal);
  if (greeting_)
    cancel_handlers();
  if (!handler_limit_.active() && !handlers_limited_)
    home_->start_after(handler_limit_, options_.session.close_timeout);
  if (!open || closer_running_)
    return;
  closer_running_ = true;
  asio::co_spawn(home_->executor(), close_session(shared_from_this(), session_), pass_on);
}

// Hands over what is queued, then closes. The session's own deadline begins with its close; this
// one covers both.
task<> client_core::close_session(std::shared_ptr<client_core> self, session s) {
  struct deadline : timer {
    explicit deadline(session &which) noexcept
        : timer([](timer &t) noexcept { static_cast<deadline &>(t).late.abort(); }), late(which) {}
    session &late;
  };
  auto &core = *self;
  deadline limit(s);
  core.home_->start_after(limit, core.options_.session.close_timeout);
  core.drain();
  const auto id = s.id();
  auto drained = core.until(core.idle_, [c = self.get(), id] {
    return c->session_.id() != id || (c->outbox_.empty() && !c->writing_ && !c->in_hand_);
  });
  co_await std::move(drained);
  s.start_close(core.close_code_, core.close_reason_);
  auto over = core.until(core.idle_, [c = self.get(), id] { return c->session_.id() != id; });
  co_await std::move(over);
}

void client_core::abort_now() {
  session s;
  {
    lock held(mutex_);
    s = session_;
    supervisor_.wake_all();
  }
  if (attempting_)
    cancel_attempt_.emit(asio::cancellation_type::terminal);
  cancel_handlers();
  s.abort();
}

// The end. What waits is told only after the last callback.
task<> client_core::finish(failure why, result<> close_outcome) {
  {
    lock held(mutex_);
    if (ended_)
      co_return;
    closing_ = true;
    discard_outbox(held, why);
  }
  log_gave_up(why);
  enter(client_state::closed);
  if (telling_)
    co_await settled();
  lock held(mutex_);
  if (ended_)
    co_return;
  ended_ = true;
  end_ = why;
  if (why != error::closed)
    last_failure_ = why;
  close_outcome_ = std::move(close_outcome);
  open_or_ended_.wake_all();
  readable_.wake_all();
  idle_.wake_all();
}

// `supervise` is no more: it has finished, or its runtime has gone.
void client_core::supervisor_gone() noexcept {
  home_->leave(*this);
  expiry_timer_.cancel();
  handler_limit_.cancel();
  session last;
  {
    lock held(mutex_);
    if (!ended_)
      last = session_;
  }
  // The sessions of a shard that goes are closed before their clients.
  if (last && last.state() == session_state::closed)
    account(last);
  session gone; // after the mutex is free
  {
    lock held(mutex_);
    std::swap(session_, gone);
    supervised_ = false;
    if (!ended_) {
      state_ = client_state::closed;
      closing_ = ended_ = true;
      ready_ = false;
      end_ = last_failure_ = error::shut_down;
      close_outcome_ = result<>(end_);
      discard_outbox(held, end_);
      open_or_ended_.wake_all();
      readable_.wake_all();
      idle_.wake_all();
    }
  }
  tell_watcher_of_end();
}

// The runtime has gone; the context below it may live on, if it is the user's, and with it
// `supervise`, which then has nothing left to do.
void client_core::on_shard_gone() noexcept {
  const auto self = shared_from_this();
  supervisor_gone();
  events_.clear();
  {
    lock held(mutex_);
    supervisor_.wake_all();
  }
  if (attempting_)
    cancel_attempt_.emit(asio::cancellation_type::terminal);
  cancel_handlers();
}

} // namespace chorus::detail
