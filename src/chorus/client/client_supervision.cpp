#include <chorus/client/client_core.hpp>

#include <chorus/client/retry_hint.hpp>
#include <chorus/session/setup.hpp>
#include <chorus/transport/tls.hpp>

#include <boost/asio/as_tuple.hpp>
#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <stop_token>

namespace chorus::detail {

namespace asio = boost::asio;

namespace {

void pass_on(const std::exception_ptr &e) {
  if (e)
    std::rethrow_exception(e);
}

} // namespace

void client_core::launch() {
  struct start {
    lease held;
    std::shared_ptr<shard> home;
    void operator()() { asio::co_spawn(home->executor(), supervise(std::move(held)), pass_on); }
  };
  home_->post(start{lease(shared_from_this()), home_});
}

// One round: an attempt, the life of the connection, the wait before the next attempt.
task<> client_core::supervise(lease held) {
  auto &core = *held;
  core.home_->enroll(core);
  failure end(error::closed, stage::close, "the client was closed");
  result<> close_outcome;
  while (!core.stopping()) {
    core.enter(client_state::connecting);
    const auto id = core.begin_attempt();
    auto opened = co_await core.attempt(core.plans_[core.next_url_]);
    failure why;
    if (opened && core.abandoned()) {
      opened->abort();
      break;
    }
    if (opened) {
      core.failed_in_row_ = 0;
      const auto opened_at = core.home_->now();
      why = co_await core.serve(*opened);
      if (core.home_->now() - opened_at >= core.options_.proven_after) {
        core.backoff_.reset();
        core.choose_again();
      } else {
        core.choose_next();
      }
      if (core.stopping() && why != error::closed)
        close_outcome = why;
    } else {
      why = opened.error();
      core.choose_next();
      if (core.stopping())
        break;
      {
        lock guard(core.mutex_);
        core.last_failure_ = why;
      }
      core.log_failed(id, why);
      core.call(core.options_.on_error, why);
      if (core.options_.max_attempts != 0 && ++core.failed_in_row_ >= core.options_.max_attempts &&
          !is_fatal(why)) {
        end = core.exhausted(why);
        break;
      }
    }
    if (core.stopping())
      break;
    if (opened && core.met_too_big_again(why)) {
      end = core.too_big(why);
      break;
    }
    if (is_fatal(why)) {
      end = why;
      break;
    }
    core.enter(client_state::disconnected);
    co_await core.back_off(core.delay_after(why));
  }
  core.finish(std::move(end), std::move(close_outcome));
}

// Reading the system's certificates costs more than all the rest of an attempt.
result<> client_core::prepare_tls(connect_plan &plan) {
  if (!plan.where.is_secure() || plan.dial.ready_context || options_.reread_tls_files)
    return {};
  if (!tls_context_) {
    auto made = transport::make_client_context(options_.tls);
    if (!made)
      return made.error();
    tls_context_ = *std::move(made);
    tls_context_->remember_sessions();
  }
  plan.dial.ready_context = tls_context_;
  return {};
}

void client_core::shuffle() noexcept {
  for (std::size_t left = plans_.size(); left > 1; --left)
    std::swap(plans_[left - 1], plans_[static_cast<std::size_t>(random() % left)]);
}

void client_core::choose_next() noexcept {
  next_url_ = (next_url_ + 1) % plans_.size();
  if (next_url_ == 0 && options_.order == url_order::shuffled)
    shuffle();
}

// After a connection that had proven itself.
void client_core::choose_again() noexcept {
  if (options_.order == url_order::sticky)
    return;
  next_url_ = 0;
  if (options_.order == url_order::shuffled)
    shuffle();
}

task<result<session>> client_core::open(std::shared_ptr<client_core> self,
                                        std::shared_ptr<const connect_plan> plan) {
  if (self->options_.fresh_headers && plan->where.is_websocket()) {
    auto asking = self->options_.fresh_headers();
    const auto headers = co_await std::move(asking);
    if (!headers)
      co_return headers.error();
    auto changed = with_headers(*plan, *headers);
    if (!changed)
      co_return changed.error();
    plan = *std::move(changed);
  }
  auto opening = open_session(self->home_, std::move(plan));
  co_return co_await std::move(opening);
}

// In a coroutine of its own, so that it can be cancelled alone.
task<result<session>> client_core::attempt(std::shared_ptr<connect_plan> plan) {
  if (auto prepared = prepare_tls(*plan); !prepared)
    co_return prepared.error();
  attempting_ = true;
  auto opening = open(shared_from_this(), std::move(plan));
  auto [failed, opened] = co_await asio::co_spawn(
      home_->executor(), std::move(opening),
      asio::bind_cancellation_slot(cancel_attempt_.slot(), asio::as_tuple(asio::use_awaitable)));
  attempting_ = false;
  if (tls_context_) {
    lock held(mutex_);
    stats_.tls_resumed = tls_context_->resumed();
  }
  if (failed) {
    if (!stopping())
      std::rethrow_exception(failed);
    co_return failure(error::aborted);
  }
  co_return opened;
}

// From open to closed, everything received and the outbox accounted for.
task<failure> client_core::serve(session s) {
  note_connected(s);
  handed_ = direct_ = 0;
  closer_running_ = false;
  call(options_.on_connect, s);
  const auto after_callback = s.stats();
  direct_ = after_callback.messages_sent + after_callback.queued_messages;
  if (const auto *envelope = envelope_of(s))
    direct_ -= std::min(direct_, envelope->own_messages());
  if (options_.ignore_input)
    s.ignore_input();
  enter(client_state::open);
  {
    lock held(mutex_);
    ready_ = true;
    open_or_ended_.wake_all();
  }
  drain();
  if (stopping())
    begin_close();

  co_await pump(s);
  const auto why = co_await s.wait_closed();
  {
    lock held(mutex_);
    ready_ = false;
  }
  auto written = until(supervisor_, [this] { return !writing_; });
  co_await std::move(written);
  account(s);
  if (const auto watcher = watcher_)
    watcher->on_lost(why);
  {
    lock held(mutex_);
    session_ = session();
    last_failure_ = why;
    down_since_ = home_->now();
    idle_.wake_all();
  }
  log_gone(s, why, stopping());
  call(options_.on_disconnect, why);
  co_return why;
}

// Receives until the session has nothing more to give.
task<failure> client_core::pump(session &s) {
  const auto stop = s.stop_token();
  for (;;) {
    auto got = co_await s.receive();
    message_place place;
    if (memory_)
      catch_up(s, got ? &place : nullptr);
    if (!got)
      co_return got.error();
    bool full = false;
    if (const auto watcher = watcher_) {
      {
        lock held(mutex_);
        ++stats_.messages_received;
      }
      watcher->on_message(*got, place.room != nullptr);
    } else if (options_.on_message) {
      {
        lock held(mutex_);
        ++stats_.messages_received;
      }
      call(options_.on_message, *got);
    } else {
      lock held(mutex_);
      ++stats_.messages_received;
      inbox_bytes_ += got->size();
      inbox_.push_back({*std::move(got), std::move(place)});
      readable_.wake_all();
      full = inbox_full(held);
    }
    // What a dead connection had received is kept beyond the bound: it is bounded itself.
    if (!full || stop.stop_requested())
      continue;
    const auto died = [this]() noexcept {
      std::lock_guard held(mutex_);
      supervisor_.wake_all();
    };
    std::stop_callback on_death(stop, died);
    auto room = until(supervisor_, [this, &stop, inbox_bound = options_.session.inbox_messages] {
      return closing_ || stop.stop_requested() ||
             (inbox_.size() < inbox_bound && inbox_bytes_ < options_.session.inbox_bytes) ||
             inbox_.empty();
    });
    co_await std::move(room);
  }
}

bool client_core::inbox_full(lock &) const noexcept {
  return !inbox_.empty() && (inbox_.size() >= options_.session.inbox_messages ||
                             inbox_bytes_ >= options_.session.inbox_bytes);
}

// What the server asked for, or the backoff's own.
duration client_core::delay_after(const failure &why) noexcept {
  using std::chrono::milliseconds;
  const auto own = backoff_.next(random());
  const auto asked = retry_hint(why);
  if (!asked || options_.max_retry_after <= milliseconds::zero())
    return own;
  constexpr milliseconds worth_trusting{1000};
  auto delay = std::min(*asked, options_.max_retry_after);
  if (options_.backoff.spread != jitter::none) {
    const auto most = static_cast<std::uint64_t>(std::min(delay / 10, worth_trusting).count());
    delay += milliseconds(static_cast<std::int64_t>(random() % (most + 1)));
  }
  // A server that says "at once" again and again must not keep the client spinning.
  return delay < worth_trusting && backoff_.attempts() > 1 ? std::max(delay, own) : delay;
}

// Until the delay is over, `reconnect_now` or the end; and until what has arrived before was taken,
// at least in part, so that connections that come and go don't fill the memory.
task<> client_core::back_off(duration delay) {
  struct alarm : timer {
    explicit alarm(client_core &c) noexcept
        : timer([](timer &t) noexcept {
            auto &core = static_cast<alarm &>(t).owner;
            std::lock_guard held(core.mutex_);
            core.waited_ = true;
            core.supervisor_.wake_all();
          }),
          owner(c) {}
    client_core &owner;
  };
  {
    lock held(mutex_);
    waited_ = hurry_ = false;
  }
  alarm over(*this);
  home_->start_after(over, delay);
  auto elapsed = until(supervisor_, [this] { return closing_ || waited_ || hurry_; });
  co_await std::move(elapsed);
  auto room = until(supervisor_, [this] {
    return closing_ || inbox_.empty() ||
           (inbox_.size() < options_.session.inbox_messages &&
            inbox_bytes_ < options_.session.inbox_bytes);
  });
  co_await std::move(room);
}

failure client_core::exhausted(const failure &last) const {
  auto detail = last.detail();
  detail.hint.clear(); // the message below has it
  detail.sentence = "gave up after " + std::to_string(options_.max_attempts) +
                    " attempts in a row; the last one: " + last.message();
  return failure(make_error_code(error::attempts_exhausted), std::move(detail));
}

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
  s.abort();
}

bool client_core::stopping() const {
  lock held(mutex_);
  return closing_;
}

bool client_core::abandoned() const {
  lock held(mutex_);
  return abandoned_;
}

void client_core::enter(client_state s) {
  {
    lock held(mutex_);
    if (state_ == s || state_ == client_state::closed ||
        (closing_ && s != client_state::closing && s != client_state::closed))
      return;
    state_ = s;
  }
  call(options_.on_state, s);
}

// The end. What waits is told only after the last callback.
void client_core::finish(failure why, result<> close_outcome) {
  {
    lock held(mutex_);
    if (ended_)
      return;
    closing_ = true;
    discard_outbox(held, why == error::closed ? failure(error::not_open) : why);
  }
  log_gave_up(why);
  enter(client_state::closed);
  lock held(mutex_);
  if (ended_)
    return;
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
  {
    lock held(mutex_);
    supervisor_.wake_all();
  }
  if (attempting_)
    cancel_attempt_.emit(asio::cancellation_type::terminal);
}

} // namespace chorus::detail
