#include <chorus/client/client_core.hpp>

#include <chorus/session/session_core.hpp>
#include <chorus/session/setup.hpp>

#include <boost/asio/co_spawn.hpp>

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
    if (core.telling_)
      co_await core.settled();
    if (core.stopping())
      break;
    const auto id = core.begin_attempt();
    auto opened = co_await core.attempt(core.plans_[core.next_url_]);
    failure why;
    if (opened && core.abandoned()) {
      opened->abort();
      break;
    }
    if (opened) {
      core.failed_in_row_ = 0;
      core.ever_connected_ = true;
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
        core.stats_.last_error = why.code();
      }
      core.log_failed(id, why);
      if (core.attempt_failed_)
        core.attempt_failed_(why);
      core.emit("on_error", core.options_.on_error, &client_listener::on_error, why);
      if (core.out_of_attempts(why)) {
        end = core.exhausted(why);
        break;
      }
    }
    if (core.telling_)
      co_await core.settled();
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
    const auto delay = core.delay_after(why, opened.has_value());
    if (!delay) {
      end = delay.error();
      break;
    }
    core.enter(client_state::disconnected);
    if (core.telling_)
      co_await core.settled();
    co_await core.back_off(*delay);
  }
  auto leaving = core.leave_outbox(end == error::closed ? failure(error::not_open) : end);
  co_await std::move(leaving);
  auto finishing = core.finish(std::move(end), std::move(close_outcome));
  co_await std::move(finishing);
}

// From open to closed, everything received and the outbox accounted for.
task<failure> client_core::serve(session s) {
  note_connected(s);
  handed_ = direct_ = 0;
  closer_running_ = false;
  auto greeted = greet(s);
  co_await std::move(greeted);
  const auto after_greeting = s.stats();
  direct_ = after_greeting.messages_sent + after_greeting.queued_messages;
  if (auto *envelope = envelope_of(s)) {
    direct_ -= std::min(direct_, envelope->own_messages());
    envelope->forget_taken(s.core()->untaken());
    catch_up(s, nullptr);
  }
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
    stats_.last_error = why.code();
    down_since_ = home_->now();
    idle_.wake_all();
  }
  log_gone(s, why, stopping());
  emit("on_disconnect", options_.on_disconnect, &client_listener::on_disconnect, why);
  if (telling_)
    co_await settled();
  co_return why;
}

task<> client_core::greet(session s) {
  greeting_ = true;
  emit("on_connect", options_.on_connect, &client_listener::on_connect, s);
  if (telling_) {
    if (stopping())
      home_->post([self = shared_from_this()] { self->cancel_handlers(); });
    co_await settled();
  }
  greeting_ = false;
}

// Receives until the session has nothing more to give.
task<failure> client_core::pump(session &s) {
  const auto stop = s.stop_token();
  for (;;) {
    auto got = co_await s.receive();
    message_place place;
    if (memory_)
      catch_up(s, got ? &place : nullptr);
    if (telling_)
      co_await settled();
    if (!got) {
      // Else the client would hear nothing on a connection that stays open.
      if (got.error() == error::busy)
        s.core()->abort(failure(error::busy, stage::open,
                                "something else receives on the client's session; receive by the "
                                "client, or before it is open"));
      co_return got.error();
    }
    bool full = false;
    if (const auto watcher = watcher_) {
      {
        lock held(mutex_);
        ++stats_.messages_received;
      }
      watcher->on_message(*got, place.room != nullptr);
    } else {
      {
        lock held(mutex_);
        ++stats_.messages_received;
      }
      if (hears_messages()) {
        const auto &heard = *got;
        emit("on_message", options_.on_message, &client_listener::on_message, heard);
        if (telling_)
          co_await settled();
      }
      lock held(mutex_);
      if (hears_messages() && !kept_for_receive_)
        continue;
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
      return stop.stop_requested() ||
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
    if (s == client_state::disconnected)
      hurry_ = false;
  }
  emit("on_state", options_.on_state, &client_listener::on_state, s);
}

} // namespace chorus::detail
