#include <chorus/client/client_core.hpp>

#include <chorus/protocol/framing.hpp>
#include <chorus/protocol/violation.hpp>

#include <boost/asio/this_coro.hpp>

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

void client_core::note_extras(lock &, const queued_message &m) {
  if (!m.extras)
    return;
  keyed_ += !m.extras->key.empty();
  if (m.extras->expires == time_point::max())
    return;
  ++mortal_;
  if (m.extras->expires < expiry_armed_) {
    expiry_armed_ = m.extras->expires;
    home_->post([self = shared_from_this()] { self->arm_expiry(); });
  }
}

void client_core::push(lock &held, queued_message m) {
  outbox_bytes_ += m.content.size();
  note_extras(held, m);
  outbox_.push_back(std::move(m));
}

queued_message client_core::pop(lock &) {
  queued_message m = std::move(outbox_.front());
  outbox_.pop_front();
  outbox_bytes_ -= m.content.size();
  if (m.extras) {
    keyed_ -= !m.extras->key.empty();
    mortal_ -= m.extras->expires != time_point::max();
  }
  return m;
}

bool client_core::pop_due(lock &held, queued_message &m) {
  while (!outbox_.empty()) {
    m = pop(held);
    if (!expired(m))
      return true;
    drop(held, std::move(m), unsent_reason::expired);
    admit(held);
  }
  return false;
}

void client_core::put_back(lock &held, queued_message m) {
  if (m.extras && !m.extras->key.empty() && keyed_ != 0)
    for (std::size_t i = 0; i < outbox_.size(); ++i)
      if (outbox_[i].extras && outbox_[i].extras->key == m.extras->key) {
        drop(held, std::move(m), unsent_reason::replaced);
        return;
      }
  outbox_bytes_ += m.content.size();
  note_extras(held, m);
  outbox_.push_front(std::move(m));
}

bool client_core::replace(lock &held, queued_message &m) {
  if (!m.extras || m.extras->key.empty() || keyed_ == 0)
    return false;
  for (std::size_t i = 0; i < outbox_.size(); ++i) {
    auto &older = outbox_[i];
    if (!older.extras || older.extras->key != m.extras->key)
      continue;
    const auto bytes = outbox_bytes_ - older.content.size() + m.content.size();
    if (bytes > options_.outbox_bytes && m.content.size() > older.content.size() &&
        outbox_.size() > 1)
      return false;
    outbox_bytes_ = bytes;
    --keyed_;
    mortal_ -= older.extras->expires != time_point::max();
    note_extras(held, m);
    drop(held, std::exchange(older, std::move(m)), unsent_reason::replaced);
    return true;
  }
  return false;
}

// Nothing when the message has to wait for room.
std::optional<result<>> client_core::offer(lock &held, queued_message &m) {
  if (ended_)
    return end_;
  if (closing_)
    return failure(error::not_open);
  const auto size = m.content.size();
  if (senders_.empty() && replace(held, m))
    return result<>();
  if (!fits(held, size) && purge(held))
    admit(held);
  if (senders_.empty() && fits(held, size)) {
    push(held, std::move(m));
    return result<>();
  }
  switch (options_.outbox_overflow) {
  case overflow::drop_newest:
    ++stats_.messages_dropped;
    return failure(error::queue_full);
  case overflow::drop_oldest:
  case overflow::latest:
    while (!fits(held, size))
      drop(held, pop(held), unsent_reason::overflow);
    push(held, std::move(m));
    return result<>();
  default:
    return std::nullopt;
  }
}

// Gives room that came free to the senders that wait for it, in their order.
void client_core::admit(lock &held) {
  while (auto *first = senders_.first()) {
    auto &s = static_cast<sender &>(*first);
    if (!replace(held, s.content)) {
      if (!fits(held, s.content.content.size()))
        return;
      push(held, std::move(s.content));
    }
    s.outcome = result<>();
    wait_list::wake(s);
  }
}

// Without telling anybody of what was queued: no handler is called any more.
void client_core::discard_outbox(lock &, const failure &why) {
  stats_.messages_dropped += outbox_.size();
  stats_.messages_left += outbox_.size();
  outbox_.clear();
  outbox_bytes_ = 0;
  keyed_ = mortal_ = 0;
  while (auto *first = senders_.first()) {
    static_cast<sender &>(*first).outcome = result<>(why);
    wait_list::wake(*first);
  }
}

void client_core::sift_outbox(const std::function<bool(const message &)> &keep) {
  lock held(mutex_);
  const auto before = outbox_.size();
  for (std::size_t i = 0; i < before; ++i) {
    auto m = pop(held);
    if (keep(m.content))
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

std::unique_ptr<queued_message::terms>
client_core::terms_of(const client_send_options &options) const {
  if (options.key.empty() && options.time_to_live <= std::chrono::milliseconds::zero())
    return nullptr;
  auto out = std::make_unique<queued_message::terms>();
  out->key = options.key;
  constexpr std::chrono::hours most{24 * 366}; // what is added to the time must not overflow
  if (options.time_to_live > std::chrono::milliseconds::zero() && options.time_to_live < most)
    out->expires = home_->now() + options.time_to_live;
  return out;
}

result<> client_core::try_send(const message &m, std::unique_ptr<queued_message::terms> extras) {
  if (auto ok = check(m); !ok)
    return ok;
  queued_message offered{m, std::move(extras)};
  {
    lock held(mutex_);
    if (auto outcome = offer(held, offered); !outcome)
      return failure(error::queue_full);
    else if (!*outcome)
      return *outcome;
  }
  kick();
  return {};
}

task<result<>> client_core::send(std::shared_ptr<client_core> self, message m,
                                 std::unique_ptr<queued_message::terms> extras) {
  if (!self)
    co_return failure(error::not_open);
  auto &core = *self;
  if (auto ok = core.check(m); !ok)
    co_return ok;
  queued_message offered{std::move(m), std::move(extras)};
  std::optional<result<>> outcome;
  {
    lock held(core.mutex_);
    outcome = core.offer(held, offered);
  }
  if (!outcome) {
    const auto cancellation = co_await asio::this_coro::cancellation_state;
    sender waiting(core, co_await asio::this_coro::executor, std::move(offered));
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
