// From the outbox to the present session, and back from one that has ended.

#include <chorus/client/client_core.hpp>

#include <chorus/session/setup.hpp>

#include <boost/asio/co_spawn.hpp>

#include <algorithm>

namespace chorus::detail {

namespace asio = boost::asio;

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

// A message with extras that comes back gets them back: it is remembered for as long as it may be in
// the session's queue. That has the last of what was sent, in order.
void client_core::handed_over(lock &held, queued_message m) {
  ++handed_;
  ++stats_.messages_sent;
  if (m.extras) {
    const auto queued = session_.stats().queued_messages;
    while (!lent_.empty() && handed_ - lent_.front().first >= queued)
      lent_.pop_front();
    lent_.push_back({handed_, std::move(m)});
  }
  admit(held);
}

// Messages that may expire or be replaced wait here rather than in the session, where they can't.
bool client_core::must_wait(lock &, const session &s) {
  constexpr std::size_t most_ahead = 64 * 1024;
  return outbox_.front().extras && s.stats().queued_bytes >= most_ahead;
}

void client_core::drain() {
  for (;;) {
    queued_message m;
    {
      lock held(mutex_);
      if (!ready_ || writing_)
        return;
      if (!outbox_.empty() && must_wait(held, session_)) {
        writing_ = true;
        break;
      }
      if (!pop_due(held, m)) {
        idle_.wake_all();
        return;
      }
      in_hand_ = true;
    }
    const auto sent = session_.try_send(m.content);
    {
      lock held(mutex_);
      in_hand_ = false;
      if (sent) {
        handed_over(held, std::move(m));
        continue;
      }
      const auto why = sent.error();
      if (why != error::queue_full && !gone(session_, why)) {
        drop(held, std::move(m), unsent_reason::refused, why);
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
    queued_message m;
    session s = core.session_;
    bool wait = false;
    {
      lock held(core.mutex_);
      if (!core.ready_ || core.outbox_.empty())
        break;
      wait = core.must_wait(held, s);
      if (!wait && !core.pop_due(held, m))
        break;
    }
    if (wait) {
      const auto flushed = co_await s.flush();
      if (!flushed)
        break;
      continue;
    }
    auto sent = co_await s.send(m.content);
    lock held(core.mutex_);
    if (sent) {
      core.handed_over(held, std::move(m));
    } else if (core.gone(s, sent.error())) {
      core.put_back(held, std::move(m));
      break;
    } else {
      core.drop(held, std::move(m), unsent_reason::refused, sent.error());
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
  // From the last to the first, as they are in `lent_`; what else comes back has no extras. What was
  // sent directly takes no number, so the numbers fall at most as fast as messages come.
  for (std::uint64_t taken = 0; unsent.size() > stale; ++taken) {
    queued_message m{std::move(unsent.back()), nullptr};
    unsent.pop_back();
    if (!lent_.empty() && handed_ - lent_.back().first <= taken &&
        lent_.back().second.content == m.content) {
      m.extras = std::move(lent_.back().second.extras);
      lent_.erase(lent_.size() - 1);
    }
    put_back(held, std::move(m));
  }
  lent_.clear();
  accounted_ = true;
  stats_.bytes_received += last.bytes_received;
  stats_.bytes_sent += last.bytes_sent;
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

} // namespace chorus::detail
