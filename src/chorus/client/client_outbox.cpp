#include <chorus/client/client_core.hpp>

#include <chorus/protocol/framing.hpp>
#include <chorus/protocol/violation.hpp>
#include <chorus/session/setup.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/this_coro.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;

// What no connection could carry.
result<> client_core::check(const message &m) const {
  if (framed_only_)
    if (const auto wrong = protocol::check_framed(options_.session.frame, m.bytes());
        wrong != protocol::violation::none)
      return failure(make_error_code(wrong));
  return {};
}

bool client_core::fits(lock &, std::size_t size) const noexcept {
  return outbox_.empty() ||
         (outbox_bytes_ + size <= options_.outbox_bytes &&
          (options_.outbox_messages == 0 || outbox_.size() < options_.outbox_messages));
}

void client_core::push(lock &, message m) {
  outbox_bytes_ += m.size();
  outbox_.push_back(std::move(m));
}

message client_core::pop(lock &) {
  message m = std::move(outbox_.front());
  outbox_.pop_front();
  outbox_bytes_ -= m.size();
  return m;
}

void client_core::put_back(lock &, message m) {
  outbox_bytes_ += m.size();
  outbox_.push_front(std::move(m));
}

// Nothing when the message has to wait for room.
std::optional<result<>> client_core::offer(lock &held, const message &m) {
  if (ended_)
    return end_;
  if (closing_)
    return failure(error::not_open);
  if (senders_.empty() && fits(held, m.size())) {
    push(held, m);
    return result<>();
  }
  switch (options_.outbox_overflow) {
  case overflow::drop_newest:
    ++stats_.messages_dropped;
    return failure(error::queue_full);
  case overflow::drop_oldest:
    while (!fits(held, m.size())) {
      pop(held);
      ++stats_.messages_dropped;
    }
    push(held, m);
    return result<>();
  default:
    return std::nullopt;
  }
}

void client_core::handed_over(lock &held) {
  ++handed_;
  ++stats_.messages_sent;
  admit(held);
}

// Gives room that came free to the senders that wait for it, in their order.
void client_core::admit(lock &held) {
  while (auto *first = senders_.first()) {
    auto &s = static_cast<sender &>(*first);
    if (!fits(held, s.content.size()))
      return;
    push(held, std::move(s.content));
    s.outcome = result<>();
    wait_list::wake(s);
  }
}

void client_core::discard_outbox(lock &, const failure &why) {
  stats_.messages_dropped += outbox_.size();
  outbox_.clear();
  outbox_bytes_ = 0;
  while (auto *first = senders_.first()) {
    static_cast<sender &>(*first).outcome = result<>(why);
    wait_list::wake(*first);
  }
}

void client_core::sift_outbox(const std::function<bool(const message &)> &keep) {
  lock held(mutex_);
  const auto before = outbox_.size();
  for (std::size_t i = 0; i < before; ++i) {
    message m = pop(held);
    if (keep(m))
      push(held, std::move(m));
    else
      ++stats_.messages_dropped;
  }
  if (outbox_.size() == before)
    return;
  admit(held);
  if (outbox_.empty())
    idle_.wake_all();
}

result<> client_core::try_send(const message &m) {
  if (auto ok = check(m); !ok)
    return ok;
  {
    lock held(mutex_);
    if (auto outcome = offer(held, m); !outcome)
      return failure(error::queue_full);
    else if (!*outcome)
      return *outcome;
  }
  kick();
  return {};
}

task<result<>> client_core::send(std::shared_ptr<client_core> self, message m) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  if (auto ok = core.check(m); !ok)
    co_return ok;
  std::optional<result<>> outcome;
  {
    lock held(core.mutex_);
    outcome = core.offer(held, m);
  }
  if (!outcome) {
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    sender waiting(core, co_await asio::this_coro::executor, std::move(m));
    {
      lock held(core.mutex_);
      // The room may have come free meanwhile.
      waiting.outcome = core.offer(held, waiting.content);
      if (!waiting.outcome)
        core.senders_.add(waiting);
    }
    for (;;) {
      {
        lock held(core.mutex_);
        outcome = waiting.outcome;
        if (!outcome && cancellation.cancelled() != asio::cancellation_type::none)
          wait_list::remove(waiting); // from here on nothing takes the message
      }
      if (outcome)
        break;
      if (co_await was_cancelled())
        co_return failure(error::cancelled);
      co_await waiting.wait();
    }
  }
  if (*outcome)
    core.kick();
  co_return *outcome;
}

void client_core::kick() {
  if (home_->here()) {
    drain();
    return;
  }
  {
    lock held(mutex_);
    if (!ready_ || drain_posted_)
      return;
    drain_posted_ = true;
  }
  home_->post([self = shared_from_this()] {
    {
      lock held(self->mutex_);
      self->drain_posted_ = false;
    }
    self->drain();
  });
}

// The session takes nothing any more, as opposed to: it did not like this one message.
bool client_core::gone(const session &s, const failure &why) const noexcept {
  return !s.is_open() || (why == condition::ended && why.code() != error::message_too_big);
}

void client_core::drain() {
  for (;;) {
    message m;
    {
      lock held(mutex_);
      if (!ready_ || writing_)
        return;
      if (outbox_.empty()) {
        idle_.wake_all();
        return;
      }
      m = pop(held);
      in_hand_ = true;
    }
    const auto sent = session_.try_send(m);
    {
      lock held(mutex_);
      in_hand_ = false;
      if (sent) {
        handed_over(held);
        continue;
      }
      const auto why = sent.error();
      if (why != error::queue_full && !gone(session_, why)) {
        ++stats_.messages_dropped;
        admit(held);
        continue;
      }
      put_back(held, std::move(m));
      if (gone(session_, why))
        return; // `serve` will notice, and queue again what came back
      writing_ = true;
    }
    break;
  }
  asio::co_spawn(home_->executor(), write(shared_from_this()), [](const std::exception_ptr &e) {
    if (e)
      std::rethrow_exception(e);
  });
}

// Runs while the session's queue is full: waits for room there, message by message.
task<> client_core::write(std::shared_ptr<client_core> self) {
  auto &core = *self;
  for (;;) {
    message m;
    session s = core.session_;
    {
      lock held(core.mutex_);
      if (!core.ready_ || core.outbox_.empty())
        break;
      m = core.pop(held);
    }
    auto sent = co_await s.send(m);
    lock held(core.mutex_);
    if (sent) {
      core.handed_over(held);
    } else if (core.gone(s, sent.error())) {
      core.put_back(held, std::move(m));
      break;
    } else {
      ++core.stats_.messages_dropped;
      core.admit(held);
    }
  }
  lock held(core.mutex_);
  core.writing_ = false;
  core.supervisor_.wake_all();
  core.idle_.wake_all();
}

// After a session has ended: what it had not begun goes back to the front of the outbox, what it had
// begun and the peer did not confirm is counted. Once for each: the runtime's end may come before
// `serve` gets there.
void client_core::account(session &s) {
  {
    lock held(mutex_);
    if (session_ != s)
      return;
  }
  auto unsent = take_unsent(s);
  auto last = s.stats();
  if (auto *envelope = envelope_of(s))
    envelope->settle(unsent, last);
  // What `on_connect` sent belongs to that connection: it was first, so it is the first of what is
  // left once less than that has begun.
  const std::uint64_t accepted = handed_ + direct_;
  const auto back = static_cast<std::uint64_t>(unsent.size());
  // What was sent on `current()` directly comes back as well but is not among the accepted.
  const auto begun = std::max(accepted > back ? accepted - back : 0, last.messages_sent);
  const auto stale = begun < direct_ ? std::min(direct_ - begun, back) : 0;
  lock held(mutex_);
  while (unsent.size() > stale) {
    put_back(held, std::move(unsent.back()));
    unsent.pop_back();
  }
  const auto again = back - stale;
  stats_.messages_sent -= std::min(again, stats_.messages_sent);
  const auto settled = last.messages_confirmed + last.messages_dropped;
  const auto by_hand = begun > settled ? begun - settled : 0;
  const auto by_session = last.messages_sent > last.messages_confirmed
                              ? last.messages_sent - last.messages_confirmed
                              : 0;
  stats_.messages_unconfirmed += std::max(by_hand, by_session);
  stats_.messages_dropped += last.messages_dropped;
  if (last.last_round_trip.count() != 0)
    stats_.last_round_trip = last.last_round_trip;
}

task<result<>> client_core::flush(std::shared_ptr<client_core> self) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  for (;;) {
    auto drained = core.until(core.idle_, [c = self.get()] {
      return c->ended_ ||
             (c->outbox_.empty() && c->senders_.empty() && !c->writing_ && !c->in_hand_);
    });
    if (!co_await std::move(drained)) {
      if (co_await was_cancelled())
        co_return failure(error::cancelled);
      continue;
    }
    session s;
    {
      lock held(core.mutex_);
      if (core.ended_)
        co_return core.end_;
      s = core.session_;
    }
    if (!s)
      co_return result<>(); // nothing queued, and no connection that could hold something
    auto flushed = co_await s.flush();
    if (flushed)
      co_return flushed;
    if (flushed.error() == error::cancelled)
      co_return flushed;
    // The connection was lost: what came back is queued once it has been accounted for.
    auto accounted = core.until(
        core.idle_, [c = self.get(), id = s.id()] { return c->ended_ || c->session_.id() != id; });
    if (!co_await std::move(accounted) && co_await was_cancelled())
      co_return failure(error::cancelled);
  }
}

} // namespace chorus::detail
