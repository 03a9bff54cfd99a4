#include <chorus/session/session_core.hpp>

// How a session ends: closed by either side, failed, evicted or cut.

namespace chorus::detail {

namespace {

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

// What the stream knows of it, such as a TLS alert and what it asks for, stays with it.
failure lost_by(const failure &why, const std::string &address) {
  failure_detail detail;
  detail.where = stage::open;
  detail.address = address;
  detail.close_code = static_cast<std::uint16_t>(close_code::abnormal);
  detail.sentence = "the connection was lost: ";
  if (!why.code()) {
    detail.sentence += "the peer reset it";
  } else if (const auto &more = why.detail(); more.sentence.empty()) {
    detail.sentence += why.message();
  } else {
    detail.sentence += more.sentence;
    detail.hint = more.hint;
    detail.tls_alert = more.tls_alert;
  }
  return failure(make_error_code(error::lost), std::move(detail));
}

failure other_protocol(const std::string &sentence, bool tls, protocol::role side,
                       const std::string &address) {
  failure_detail detail;
  detail.where = stage::open;
  detail.address = address;
  detail.close_code = static_cast<std::uint16_t>(close_code::protocol_error);
  detail.sentence = sentence;
  if (side == protocol::role::server)
    detail.sentence += "; does the client want another port, or another scheme than its own?";
  else if (tls)
    detail.hint = "try tls://HOST:PORT, or wss://HOST:PORT/PATH for WebSocket";
  else
    detail.hint = "try ws://HOST:PORT/PATH (wss:// where it speaks TLS)";
  return failure(make_error_code(error::no_protocol), std::move(detail));
}

// The end of a close that this side began, with what the peer's close frame said.
failure answered_with(const failure &end, close_code code, std::string_view reason) {
  auto detail = end.detail();
  detail.answer_code = static_cast<std::uint16_t>(code);
  detail.answer_reason = reason;
  return failure(end.code(), std::move(detail));
}

} // namespace

void session_core::evict() noexcept {
  if (!closing_)
    evict_with("closed because the peer did not keep up: its queue was full", "queue full");
}

void session_core::evict_for_budget() noexcept {
  const std::string sentence =
      "closed because the queues of all sessions exceeded the server's queue_budget_bytes, and "
      "this peer's was the largest";
  if (state() == session_state::closed)
    return;
  const auto keep = shared_from_this();
  const bool first = !closing_;
  if (first)
    evict_with(sentence, "out of memory for queues");
  out_.forget_withheld();
  // Behind a large message of which the peer takes nothing a close frame would keep the memory.
  if (carrier_ && (!first || out_.queued_bytes() > outbox::cork_limit))
    abort(ended_with(error::evicted, remote_, sentence, close_code::try_again_later));
}

void session_core::evict_with(std::string sentence, std::string_view reason) noexcept {
  end_ = ended_with(error::evicted, remote_, std::move(sentence), close_code::try_again_later);
  closing_ = true;
  discarding_ = true;
  state_.store(session_state::closing, std::memory_order_release);
  end_input(end_);
  if (!websocket()) {
    abort(end_);
    return;
  }
  out_.fail_with_close(close_code::try_again_later, reason);
  begin_close_deadline();
  home_->flush_later(*this);
}

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
    // A handler that is being given a batch right now answers that first: till it waits for
    // something but room to send. Else closes are answered whatever it does.
    answer_due_ = true;
    if (!batch_ || batch_->empty())
      answer_close();
    return;
  }
  if (!end_.code()) {
    end_ = answered_with(how_we_closed(), code, reason);
    // An answer to our close, so it has seen all before it; not a close of its own that met ours.
    if (out_.close_written() && end_.detail().close_code == static_cast<std::uint16_t>(code))
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
  using protocol::violation;
  const auto sentence = protocol::make_error_code(v).message();
  if (v == violation::framed_is_http || v == violation::framed_is_tls) {
    if (state() != session_state::closed && !end_.code())
      end_ = other_protocol(sentence, v == violation::framed_is_tls, side_, remote_);
    fail(error::no_protocol, protocol::close_code_for(v), sentence);
    return;
  }
  const bool too_big = v == violation::message_too_big || v == violation::frame_too_big ||
                       v == violation::inflated_too_big || v == violation::line_too_long ||
                       v == violation::framed_too_big;
  fail(too_big ? error::message_too_big : error::protocol, protocol::close_code_for(v), sentence);
}

void session_core::fail(error why, close_code code, std::string_view sentence) {
  if (state() == session_state::closed)
    return;
  const std::string text(sentence);
  if (!end_.code())
    end_ = ended_with(why, remote_, text, code);
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
    if (failed)
      end_ = lost_by(carrier_->why(), remote_);
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
  if (!late_)
    input_ = {};
  if (!in_turn_) // which wakes it inline as long as there is something to take
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
  if (terms_ && terms_->rate)
    terms_->rate->cancel();
  home_->withdraw(*this);
  home_->leave(*this);
  if (carrier_) {
    carrier_->listen(nullptr);
    carrier_->close(false);
    carrier_.reset();
  }
  if (envelope_)
    envelope_->closed();
  auto rooms = std::exchange(rooms_, {});
  for (const auto &room : rooms)
    room->on_member_gone(*this);
  out_.discard(keep_unsent_);
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

} // namespace chorus::detail
