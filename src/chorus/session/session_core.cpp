#include <chorus/session/session_core.hpp>

#include <atomic>

namespace chorus::detail {

namespace {

std::atomic<session_id> last_id{0};

encoder make_encoder(const session_setup &setup) {
  if (!setup.websocket)
    return encoder(setup.options->frame);
  return encoder(setup.side, setup.compression, setup.options->compression);
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
  options.check_utf8 = setup.options->check_utf8;
  options.deflate = setup.compression ? &*setup.compression : nullptr;
  return protocol::reader(options);
}

failure closed_with(close_code code, std::string_view reason, bool by_peer,
                    const std::string &address) {
  failure_detail detail;
  detail.where = stage::close;
  detail.close_code = static_cast<std::uint16_t>(code);
  detail.close_reason = reason;
  detail.by_peer = by_peer;
  detail.address = address;
  detail.sentence = by_peer ? "the peer closed the connection" : "closed by this side";
  if (code != close_code::no_status)
    detail.sentence += " with code " + std::to_string(static_cast<unsigned>(code));
  if (!reason.empty())
    detail.sentence += " (" + std::string(reason) + ")";
  return failure(make_error_code(error::closed), std::move(detail));
}

failure ended_with(error e, const std::string &address, std::string sentence,
                   close_code code = close_code::abnormal) {
  failure_detail detail;
  detail.where = stage::open;
  detail.address = address;
  detail.close_code = static_cast<std::uint16_t>(code);
  detail.sentence = std::move(sentence);
  return failure(make_error_code(e), std::move(detail));
}

} // namespace

session_core::session_core(session_setup setup)
    : home_(setup.carrier->home().shared_from_this()), carrier_(std::move(setup.carrier)),
      options_(setup.options), reader_(make_reader(setup)),
      out_(make_encoder(setup), *setup.options), timer_(*this), observer_(setup.observer),
      id_(++last_id), side_(setup.side), remote_(carrier_->remote_address()),
      local_(carrier_->local_address()) {
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
  if (!received.empty()) {
    // They are parsed once the owner has had its turn to start a handler.
    bytes_received_ += received.size();
    input_owner_ = buffer::allocate(received.size());
    std::memcpy(input_owner_.data(), received.data(), received.size());
    input_ = input_owner_.span().first(received.size());
    continue_later();
  }
}

// Sending ---------------------------------------------------------------------------------------

failure session_core::why_not_sending() const {
  if (end_.code())
    return end_;
  return failure(error::not_open, stage::close,
                 "the session is closing; it takes no more messages");
}

admission session_core::submit(const message &m, std::unique_ptr<message_extras> &extras) {
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

bool session_core::submit_small(message_kind kind, std::span<const std::byte> payload) {
  if (home_->pending_rooms != 0 || !can_send() || !send_waiters_.empty() || !websocket() ||
      !out_.cork(kind, payload))
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
  const auto status = out_.flush(*carrier_, home_->turn_time());
  // Outside a turn its time is that of the last one, which may be long ago.
  if (!waited && status == outbox::status::blocked)
    out_.blocked_at(home_->now());
  after_write(status);
}

void session_core::after_write(outbox::status status) noexcept {
  if (out_.ping_written) {
    out_.ping_written = false;
    ping_under_way_ = true;
    ping_sent_at_ = clock::now();
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
    if (!out_.fits(w.content->size() + protocol::max_header_size))
      return;
    out_.offer(*w.content, w.extras);
    w.accepted = true;
    w.linked = false;
    send_waiters_.pop_front();
    w.settled();
    if (!out_.blocked())
      home_->flush_later(*this);
  }
}

void session_core::unlink(send_waiter &w) noexcept {
  if (!w.linked)
    return;
  w.linked = false;
  for (std::size_t i = 0; i < send_waiters_.size(); ++i)
    if (send_waiters_[i] == &w) {
      send_waiters_.erase(i);
      return;
    }
}

void session_core::evict() noexcept {
  if (closing_)
    return;
  end_ = ended_with(error::evicted, remote_,
                    "closed because the peer did not keep up: its queue was full",
                    close_code::try_again_later);
  closing_ = true;
  discarding_ = true;
  state_.store(session_state::closing, std::memory_order_release);
  end_input(end_);
  if (!websocket()) {
    abort(end_);
    return;
  }
  out_.fail_with_close(close_code::try_again_later, "queue full");
  begin_close_deadline();
  home_->flush_later(*this);
}

void session_core::part(const fan_in &room) noexcept {
  for (auto &r : rooms_)
    if (r.get() == &room) {
      r.swap(rooms_.back());
      rooms_.pop_back();
      return;
    }
}

// Closing ---------------------------------------------------------------------------------------

void session_core::start_close(close_code code, std::string_view reason) {
  if (closing_ || state() == session_state::closed)
    return;
  if (home_->pending_rooms != 0)
    for (std::size_t i = 0; i < rooms_.size(); ++i)
      rooms_[i]->catch_up(*this);
  if (closing_)
    return;
  auto keep = shared_from_this();
  if (answer_due_) {
    answer_close();
    return;
  }
  closing_ = true;
  own_close_ = std::make_unique<failure>(closed_with(code, reason, false, remote_));
  state_.store(session_state::closing, std::memory_order_release);
  while (!send_waiters_.empty()) {
    auto &w = *send_waiters_.front();
    w.refused = why_not_sending();
    w.linked = false;
    send_waiters_.pop_front();
    w.settled();
  }
  begin_close_deadline();
  if (stalled_)
    continue_later();
  if (websocket())
    out_.queue_close(code, reason);
  if (!out_.blocked())
    flush();
}

failure session_core::how_we_closed() const {
  return own_close_ ? *own_close_ : closed_with(close_code::normal, {}, false, remote_);
}

void session_core::on_peer_close(close_code code, std::string_view reason) {
  close_received_ = true;
  if (!closing_) {
    end_ = closed_with(code, reason, true, remote_);
    begin_close_deadline();
    end_input(end_);
    // A handler that is being given a batch right now answers that first. One that is busy with
    // something else is not waited for: closes are answered whatever it does.
    answer_due_ = true;
    if (!batch_ || batch_->empty())
      answer_close();
    return;
  }
  if (!end_.code()) {
    end_ = how_we_closed();
    confirmed_.set(out_.messages_sent);
  }
  end_input(end_);
  if (!out_.blocked())
    flush();
}

void session_core::answer_close() {
  answer_due_ = false;
  if (closing_)
    return;
  closing_ = true;
  state_.store(session_state::closing, std::memory_order_release);
  out_.queue_close(static_cast<close_code>(end_.detail().close_code), {});
  if (!out_.blocked())
    flush();
}

void session_core::on_violation(protocol::violation v) {
  const bool too_big =
      v == protocol::violation::message_too_big || v == protocol::violation::frame_too_big ||
      v == protocol::violation::inflated_too_big || v == protocol::violation::line_too_long;
  const auto code = protocol::close_code_for(v);
  const auto text = protocol::make_error_code(v).message();
  if (!end_.code())
    end_ = ended_with(too_big ? error::message_too_big : error::protocol, remote_, text, code);
  closing_ = true;
  discarding_ = true;
  state_.store(session_state::closing, std::memory_order_release);
  end_input(end_);
  if (!websocket()) {
    abort(end_);
    return;
  }
  if (!close_sent_)
    out_.fail_with_close(code, text);
  begin_close_deadline();
  if (!out_.blocked())
    flush();
}

void session_core::on_input_end(transport::io_status status) noexcept {
  const bool failed = status == transport::io_status::failed;
  if (!end_.code()) {
    const bool cut = websocket() || !std::get<protocol::framed_reader>(reader_).at_boundary();
    const auto why = carrier_->error();
    if (failed)
      end_ = ended_with(error::lost, remote_,
                        "the connection was lost: " +
                            (why ? why.message() : std::string("the peer reset it")));
    else if (cut)
      end_ = ended_with(error::lost, remote_,
                        "the peer ended the connection without a closing handshake");
    else
      end_ = closing_ ? how_we_closed() : closed_with(close_code::no_status, {}, true, remote_);
  }
  const bool orderly = !failed && !websocket() && end_.code() == error::closed && !closing_;
  end_input(end_);
  if (!orderly) {
    finish();
    return;
  }
  // A framed peer has said all it wants to say; it may still read what is queued.
  close_received_ = true;
  closing_ = true;
  state_.store(session_state::closing, std::memory_order_release);
  begin_close_deadline();
  update_interest();
  if (!out_.blocked())
    flush();
}

void session_core::end_input(failure why) noexcept {
  if (!end_.code())
    end_ = std::move(why);
  input_ended_ = true;
  input_ = {};
  receiver_.wake_later();
}

void session_core::begin_close_deadline() {
  close_deadline_ = home_->now() + options_->close_timeout;
  schedule_liveness();
}

void session_core::abort(failure why) noexcept {
  if (state() == session_state::closed)
    return;
  if (!end_.code())
    end_ = std::move(why);
  end_input(end_);
  if (carrier_)
    carrier_->close(true);
  finish();
}

void session_core::finish() noexcept {
  if (state() == session_state::closed)
    return;
  const auto keep = shared_from_this();
  self_.reset();
  closing_ = true;
  input_ended_ = true;
  if (!end_.code())
    end_ = ended_with(error::lost, remote_, "the connection was lost");
  closed_at_ = home_->now();
  timer_.cancel();
  home_->withdraw(*this);
  home_->leave(*this);
  if (carrier_) {
    carrier_->listen(nullptr);
    carrier_->close(false);
    carrier_.reset();
  }
  auto rooms = std::exchange(rooms_, {});
  for (const auto &room : rooms)
    room->on_member_gone(*this);
  out_.discard();
  unsent_.set(out_.unsent);
  state_.store(session_state::closed, std::memory_order_seq_cst);
  wake_all();
  // Either this sees the source of a concurrent `stop_token`, or that one sees `closed`.
  if (auto *source = stop_.load(std::memory_order_seq_cst))
    source->request_stop();
  if (auto *observer = std::exchange(observer_, nullptr)) {
    const session handle(keep);
    observer->on_session_closed(handle);
  }
}

void session_core::wake_all() noexcept {
  receiver_.wake_later();
  for (; !send_waiters_.empty(); send_waiters_.pop_front()) {
    auto &w = *send_waiters_.front();
    w.linked = false;
    w.refused = end_;
    w.settled();
  }
  for (; !flush_waiters_.empty(); flush_waiters_.pop_front())
    flush_waiters_.front()->wake_later();
  for (; !ping_waiters_.empty(); ping_waiters_.pop_front()) {
    ping_waiters_.front()->done = true;
    ping_waiters_.front()->sleeper.wake_later();
  }
  for (; !close_waiters_.empty(); close_waiters_.pop_front())
    close_waiters_.front()->wake_later();
}

void session_core::on_shard_gone() noexcept {
  auto keep = shared_from_this();
  end_ = failure(error::shut_down, stage::open, "the runtime ended while the session was open");
  finish();
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
  return s;
}

// Setup -----------------------------------------------------------------------------------------

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
