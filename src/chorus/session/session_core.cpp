#include <chorus/session/session_core.hpp>

#include <algorithm>
#include <atomic>

namespace chorus::detail {

namespace {

std::atomic<session_id> last_id{0};

encoder make_encoder(const session_setup &setup) {
  if (!setup.websocket)
    return encoder(setup.options->frame);
  encoder e(setup.side, setup.compression, setup.options->compression);
  if (setup.envelope)
    e.mark_enveloped();
  return e;
}

std::variant<protocol::reader, protocol::framed_reader> make_reader(const session_setup &setup) {
  if (!setup.websocket) {
    protocol::framed_reader_options options;
    options.how = setup.options->frame;
    options.max_message = setup.options->max_message;
    options.check_utf8 = setup.options->check_utf8;
    return protocol::framed_reader(options);
  }
  protocol::reader_options options;
  options.side = setup.side;
  options.max_message = setup.options->max_message;
  if (setup.envelope) // the payload is looked at when it is out
    options.max_message += std::min(setup.envelope->max_head(), SIZE_MAX - options.max_message);
  options.check_utf8 = setup.options->check_utf8;
  options.deflate = setup.compression ? &*setup.compression : nullptr;
  return protocol::reader(options);
}

} // namespace

session_id next_session_id() noexcept { return ++last_id; }

session_core::session_core(session_setup setup)
    : home_(setup.carrier->home().shared_from_this()), carrier_(std::move(setup.carrier)),
      options_(setup.options), reader_(make_reader(setup)),
      out_(make_encoder(setup), *setup.options), timer_(*this), observer_(setup.observer),
      id_(setup.id != 0 ? setup.id : next_session_id()), side_(setup.side),
      remote_(setup.remote.empty() ? carrier_->remote_address() : std::move(setup.remote)),
      local_(carrier_->local_address()), terms_(std::move(setup.terms)) {
  keep_unsent_ = setup.keep_unsent;
  out_.use_clock(*home_);
  envelope_ = std::move(setup.envelope);
  origin_ = std::move(setup.origin);
  if (terms_) {
    out_.meter(terms_->meter.get());
    if (terms_->rate) {
      terms_->rate->owner = this;
      screened_ = true;
    }
  }
  if (!setup.subprotocol.empty())
    subprotocol_ = std::make_unique<const std::string>(std::move(setup.subprotocol));
}

session_core::~session_core() {
  home_->withdraw(*this);
  delete stop_.load(std::memory_order_acquire);
}

void session_core::open(std::span<const std::byte> received) {
  self_ = shared_from_this();
  home_->enroll(*this);
  opened_at_ = home_->now();
  last_received_ = last_message_ = opened_at_;
  next_ping_ = opened_at_ + options_->heartbeat.ping_interval;
  state_.store(session_state::open, std::memory_order_release);
  carrier_->listen(this);
  interest_ = ready_read;
  carrier_->set_interest(interest_);
  schedule_liveness();
  if (envelope_)
    envelope_->opened(*this);
  if (!received.empty()) {
    // They are parsed once the owner has had its turn to start a handler.
    bytes_received_ += received.size();
    input_owner_ = buffer::allocate(received.size());
    std::memcpy(input_owner_.data(), received.data(), received.size());
    input_ = input_owner_.span().first(received.size());
    continue_later();
  }
}

failure session_core::why_not_sending() const {
  if (end_.code())
    return end_;
  return failure(error::not_open, stage::close,
                 "the session is closing; it takes no more messages");
}

admission session_core::submit(const message &m, std::unique_ptr<message_extras> &extras) {
  if (envelope_)
    return submit_as_is(envelope_->wrap(m), extras);
  return submit_as_is(m, extras);
}

admission session_core::submit_as_is(const message &m, std::unique_ptr<message_extras> &extras) {
  if (home_->pending_rooms != 0)
    for (std::size_t i = 0; i < rooms_.size(); ++i)
      rooms_[i]->catch_up(*this);
  if (!out_.fits(m.size() + protocol::max_header_size)) {
    if (out_.blocked())
      out_.expire(home_->now());
    else
      flush();
  }
  if (!can_send())
    return admission::dropped;
  const auto taken = out_.offer(m, extras);
  if (taken == admission::evict) {
    evict();
  } else if (taken == admission::accepted) {
    last_message_ = home_->turn_time();
    if (out_.cork_full())
      flush();
    else if (!out_.blocked())
      home_->flush_later(*this);
  }
  return taken;
}

bool session_core::depart(std::size_t size, lane how) noexcept {
  // These policies refuse what doesn't fit; the others make room once it is here.
  const auto policy = options_->on_overflow;
  const bool refuses =
      how != lane::latest && (policy == overflow::wait || policy == overflow::drop_newest);
  const std::size_t queued = refuses ? out_.queued_bytes() : 0;
  auto before = in_transit_.load(std::memory_order_relaxed);
  do {
    if (queued + before != 0 && queued + before + size > options_->queue_bytes)
      return false;
  } while (!in_transit_.compare_exchange_weak(before, before + size, std::memory_order_relaxed));
  return true;
}

bool session_core::submit_small(message_kind kind, std::span<const std::byte> payload) {
  if (home_->pending_rooms != 0 || !can_send() || !send_waiters_.empty() || !websocket() ||
      envelope_ || !out_.cork(kind, payload))
    return false;
  last_message_ = home_->turn_time();
  if (out_.cork_full())
    flush();
  else
    home_->flush_later(*this);
  return true;
}

bool session_core::submit_encoded(const buffer &owner, std::span<const std::byte> frame) {
  if (out_.wire().format() != wire_format() || !send_waiters_.empty())
    return false;
  if (home_->pending_rooms != 0)
    for (std::size_t i = 0; i < rooms_.size(); ++i)
      rooms_[i]->catch_up(*this);
  if (!out_.blocked() && !out_.fits(frame.size()))
    flush();
  std::unique_ptr<message_extras> none;
  if (!can_send() || !out_.fits(frame.size()) ||
      out_.offer_encoded(owner, frame, none) != admission::accepted)
    return false;
  touch();
  if (!out_.blocked())
    home_->flush_later(*this);
  return true;
}

void session_core::flush_before_wait() noexcept {
  if (!out_.blocked() && !out_.empty())
    flush();
}

void session_core::flush_turn() noexcept {
  if (!carrier_ || out_.blocked() || out_.empty())
    return;
  auto keep = shared_from_this();
  flush();
}

void session_core::flush() noexcept {
  if (!carrier_ || write_failed_)
    return;
  const bool waited = out_.blocked();
  // A pong may be there before the write has returned.
  const auto before = out_.ping_pending() ? clock::now() : time_point();
  const auto status = out_.flush(*carrier_, home_->turn_time());
  if (out_.ping_written)
    ping_sent_at_ = before;
  // Outside a turn its time is that of the last one, which may be long ago.
  if (!waited && status == outbox::status::blocked)
    out_.blocked_at(home_->now());
  after_write(status);
}

void session_core::after_write(outbox::status status) noexcept {
  if (out_.ping_written) {
    out_.ping_written = false;
    ping_under_way_ = true;
  }
  if (status == outbox::status::failed) {
    // What the peer said last, its close frame perhaps, may still be there to read.
    write_failed_ = true;
    home_->post([self = shared_from_this()] { self->read_rest(); });
    return;
  }
  update_interest();
  if (!send_waiters_.empty())
    admit_waiters();
  if (status != outbox::status::drained) {
    schedule_liveness();
    return;
  }
  while (!flush_waiters_.empty() && out_.empty()) {
    flush_waiters_.front()->wake_later();
    flush_waiters_.pop_front();
  }
  if (!closing_ || !carrier_)
    return;
  if (!websocket()) {
    if (!write_shut_) {
      write_shut_ = true;
      carrier_->shutdown_write();
    }
    if (close_received_)
      finish();
    return;
  }
  if (!out_.close_written())
    return;
  close_sent_ = true;
  if (discarding_ || (close_received_ && side_ == protocol::role::server)) {
    if (!write_shut_) {
      write_shut_ = true;
      carrier_->shutdown_write();
    }
    if (!discarding_)
      finish();
  }
}

void session_core::admit_waiters() noexcept {
  while (!send_waiters_.empty() && can_send()) {
    auto &w = *send_waiters_.front();
    if (!out_.has_place_for(w.content->size() + protocol::max_header_size))
      return;
    if (envelope_ && !w.wrapped)
      out_.offer(envelope_->wrap(*w.content), w.extras);
    else
      out_.offer(*w.content, w.extras);
    w.accepted = true;
    w.linked = false;
    send_waiters_.pop_front();
    w.settled();
    if (!out_.blocked())
      home_->flush_later(*this);
  }
  answer_when_none_waits();
}

void session_core::answer_when_none_waits() noexcept {
  if (answer_due_ && send_waiters_.empty())
    home_->post([self = shared_from_this()] { // behind those who were let in
      if (self->answer_due_ && self->send_waiters_.empty())
        self->answer_close();
    });
}

void session_core::unlink(send_waiter &w) noexcept {
  if (!w.linked)
    return;
  w.linked = false;
  for (std::size_t i = 0; i < send_waiters_.size(); ++i)
    if (send_waiters_[i] == &w) {
      send_waiters_.erase(i);
      break;
    }
  answer_when_none_waits();
}

void session_core::part(const fan_in &room) noexcept {
  for (auto &r : rooms_)
    if (r.get() == &room) {
      r.swap(rooms_.back());
      rooms_.pop_back();
      return;
    }
}

void session_core::orphaned() noexcept {
  if (!close_when_unowned_)
    return;
  auto self = shared_from_this();
  home_->run([self] { self->start_close(close_code::normal, {}); });
}

std::stop_token session_core::stop_token() {
  auto *source = stop_.load(std::memory_order_acquire);
  if (!source) {
    auto fresh = std::make_unique<std::stop_source>();
    if (stop_.compare_exchange_strong(source, fresh.get(), std::memory_order_seq_cst))
      source = fresh.release();
  }
  if (state_.load(std::memory_order_seq_cst) == session_state::closed)
    source->request_stop();
  return source->get_token();
}

session_stats session_core::stats() const {
  session_stats s;
  s.messages_received = messages_received_;
  s.bytes_received = bytes_received_;
  s.messages_sent = out_.messages_sent;
  s.bytes_sent = out_.bytes_sent;
  s.messages_dropped = out_.messages_dropped;
  s.messages_confirmed = confirmed_;
  s.messages_unsent = unsent_;
  s.queued_bytes = out_.queued_bytes();
  s.queued_messages = out_.queued_messages();
  s.last_round_trip = std::chrono::nanoseconds(round_trip_ns_);
  if (terms_ && terms_->rate)
    s.messages_over_rate = terms_->rate->dropped;
  return s;
}

session make_session(session_setup setup) {
  const auto received = setup.received;
  const bool owned = setup.close_when_unowned;
  auto core = std::make_shared<session_core>(std::move(setup));
  core->open(received);
  if (!owned)
    return session(std::move(core));
  // All handles share a token whose end means that nobody uses the session any more.
  struct token {
    std::shared_ptr<session_core> core;
    ~token() { core->orphaned(); }
  };
  core->close_when_unowned();
  auto *raw = core.get();
  auto shared = std::make_shared<token>();
  shared->core = std::move(core);
  return session(std::shared_ptr<session_core>(std::move(shared), raw));
}

void set_observer(session &s, session_observer *observer) noexcept {
  s.core()->set_observer(observer);
}

std::vector<message> take_unsent(session &s) { return s.core()->out().take_unsent(); }

shard &shard_of(const session &s) noexcept { return s.core()->home(); }

} // namespace chorus::detail
