#include <chorus/session/session_core.hpp>

namespace chorus::detail {

namespace {
// What one turn hands over before the other connections get theirs: messages, and bytes of those
// that had to be put together or inflated.
constexpr std::uint16_t turn_limit = 256;
constexpr std::size_t turn_bytes_limit = std::size_t{1} << 20;
// Up to here a batch copies what was read; beyond, it takes the shard's buffer with it.
constexpr std::size_t batch_copy_limit = 32 * 1024;
constexpr int direct_reads = 16;
// Of a peer that has gone, parsed at once past the bound of the inbox.
constexpr std::size_t rest_bytes = std::size_t{1} << 20;
// Of a whole read buffer each, far more than a kernel holds of a connection that has ended.
constexpr int rest_reads = 256;
} // namespace

void session_core::on_ready(unsigned what) noexcept {
  auto keep = shared_from_this();
  if ((what & ready_write) && carrier_)
    flush();
  if (!carrier_ || !(what & (ready_read | ready_hangup)))
    return;
  if ((what & ready_hangup) && stalled_) {
    // The peer is gone while the handler is behind: what has arrived is kept for it.
    read_rest();
    return;
  }
  readable();
}

void session_core::update_interest() noexcept {
  if (!carrier_)
    return;
  unsigned wanted = 0;
  if (!stalled_ && (!input_ended_ || websocket()))
    wanted |= ready_read;
  if (out_.blocked())
    wanted |= ready_write;
  if (wanted != interest_) {
    interest_ = wanted;
    carrier_->set_interest(wanted);
  }
}

void session_core::readable() noexcept {
  for (int i = 0; i < direct_reads; ++i) {
    if (stalled_ || continue_posted_ || !carrier_)
      return; // what was read before comes first
    auto *ws = std::get_if<protocol::reader>(&reader_);
    std::span<std::byte> direct;
    if (!discarding_ && !input_ended_)
      direct = ws ? ws->tail() : std::get<protocol::framed_reader>(reader_).tail();
    const auto space = direct.empty() ? home_->read_buffer().span() : direct;
    const auto r = carrier_->read_some(space);
    if (r.status == transport::io_status::would_block)
      return;
    if (r.status != transport::io_status::ok) {
      on_input_end(r.status);
      return;
    }
    bytes_received_ += r.bytes;
    last_received_ = home_->turn_time();
    if (discarding_ || input_ended_)
      continue;
    if (direct.empty()) {
      input_ = space.first(r.bytes);
      run_turn();
      return;
    }
    in_turn_ = true;
    if (ws)
      handle(*ws, ws->commit(r.bytes));
    else {
      auto &framed = std::get<protocol::framed_reader>(reader_);
      handle(framed, framed.commit(r.bytes));
    }
    in_turn_ = false;
    if (input_ended_)
      receiver_.wake_later();
    if (have_current_) {
      run_turn();
      return;
    }
  }
}

// Reads what the kernel still holds behind `input_`, as it is: no more will come. It is parsed when
// the handler comes for it, so a peer that has gone costs no more than what it has sent.
void session_core::keep_rest() noexcept {
  byte_buffer rest;
  rest.append(input_);
  for (int i = 0; i < rest_reads; ++i) {
    const auto space = home_->read_buffer().span();
    const auto r = carrier_->read_some(space);
    if (r.status != transport::io_status::ok)
      break;
    bytes_received_ += r.bytes;
    rest.append(space.first(r.bytes));
  }
  const auto size = rest.size();
  input_owner_ = rest.take();
  input_ = size == 0 ? std::span<std::byte>() : input_owner_.span().first(size);
  late_ = true;
}

// The peer has gone, or nothing can be written to it any more: takes what is there and ends the
// session. It goes to the inbox, past its bound by so much at most; the rest is kept as it came.
void session_core::read_rest() noexcept {
  if (!carrier_)
    return;
  stalled_ = false;
  if (terms_ && terms_->rate) {
    terms_->rate->lifted = true;
    release_input();
  }
  in_turn_ = true;
  auto last = transport::io_status::failed;
  std::size_t spare = rest_bytes;
  for (bool more = !input_ended_; more;) {
    while (spare != 0 && (have_current_ || parse_next())) {
      const auto before = inbox_bytes_;
      move_to_inbox();
      spare -= std::min(spare, inbox_bytes_ - before + sizeof(message));
    }
    if (!carrier_ || input_ended_)
      break;
    if (spare == 0) {
      keep_rest();
      break;
    }
    input_owner_.reset();
    const auto space = home_->read_buffer().span();
    const auto r = carrier_->read_some(space);
    more = r.status == transport::io_status::ok;
    if (!more && !write_failed_)
      last = r.status;
    bytes_received_ += r.bytes;
    input_ = space.first(r.bytes);
  }
  in_turn_ = false;
  if (!carrier_)
    return;
  if (!late_)
    input_ = {};
  if (!end_.code())
    on_input_end(last == transport::io_status::end ? last : transport::io_status::failed);
  finish();
}

// Takes the subprotocol's part off the reader's message; false when nothing is left for a receiver.
template <class Reader> bool session_core::unwrap(Reader &reader) {
  if constexpr (std::is_same_v<Reader, protocol::reader>) {
    std::size_t head = 0;
    switch (envelope_->unwrap(reader.payload(), head)) {
    case session_envelope::verdict::payload:
      reader.drop_front(head);
      if (reader.payload().size() <= options_->max_message)
        return true;
      if (!late_)
        on_violation(protocol::violation::message_too_big);
      return false;
    case session_envelope::verdict::consumed:
      return false;
    case session_envelope::verdict::refused:
      if (!late_)
        fail(error::protocol, envelope_->complaint_code(), envelope_->complaint());
      return false;
    }
  }
  return true;
}

template <class Reader> bool session_core::handle(Reader &reader, protocol::event e) {
  switch (e) {
  case protocol::event::message:
    if (envelope_ && !unwrap(reader))
      return false;
    messages_received_ += 1;
    last_message_ = home_->turn_time();
    if (reader.owned())
      turn_bytes_ += reader.payload().size();
    if (screened_ && (over_rate(reader.payload().size()) || ignoring_))
      return false;
    have_current_ = true;
    return true;
  case protocol::event::violation:
    if (!late_)
      on_violation(reader.why());
    return false; // the reader takes nothing more
  default:
    break;
  }
  if constexpr (std::is_same_v<Reader, protocol::reader>) {
    switch (e) {
    case protocol::event::ping:
      if (!closing_ && !(screened_ && over_rate(reader.payload().size()))) {
        out_.queue_pong(reader.payload());
        if (!out_.blocked())
          home_->flush_later(*this);
      }
      break;
    case protocol::event::pong:
      if (screened_ && !ping_under_way_)
        over_rate(reader.payload().size());
      on_pong(reader.payload());
      break;
    case protocol::event::close:
      if (!late_)
        on_peer_close(reader.close_code(), reader.close_reason());
      break;
    default:
      break;
    }
  }
  return false;
}

// Parses up to the next message; false when there is none in what was read.
bool session_core::parse_next() {
  if (auto *ws = std::get_if<protocol::reader>(&reader_)) {
    while (!input_.empty() && (!input_ended_ || late_))
      if (handle(*ws, ws->next(input_)))
        return true;
    return false;
  }
  auto &framed = std::get<protocol::framed_reader>(reader_);
  while (!input_.empty() && (!input_ended_ || late_))
    if (handle(framed, framed.next(input_)))
      return true;
  return false;
}

void session_core::take_current(message &out) {
  have_current_ = false;
  const auto take_from = [&](auto &reader) {
    const auto payload = reader.payload();
    const auto kind = reader.kind();
    out = reader.owned() ? message(kind, reader.take_storage(), payload)
                         : message(kind, payload.data(), payload.size());
  };
  if (auto *ws = std::get_if<protocol::reader>(&reader_))
    take_from(*ws);
  else
    take_from(std::get<protocol::framed_reader>(reader_));
}

// There may be more in what was read, and it may be parsed now.
bool session_core::may_parse() const noexcept { return late_ || (in_turn_ && !turn_spent()); }

bool session_core::turn_spent() const noexcept {
  return turn_messages_ >= turn_limit || turn_bytes_ >= turn_bytes_limit;
}

template <> bool session_core::ready<message>() {
  return !inbox_.empty() || (may_parse() && (have_current_ || parse_next()));
}

template <> message session_core::take<message>() {
  message m;
  if (inbox_.empty()) {
    ++turn_messages_;
    take_current(m);
    return m;
  }
  m = std::move(inbox_.front());
  inbox_.pop_front();
  inbox_bytes_ -= m.size();
  if (stalled_ && inbox_bytes_ * 2 <= options_->inbox_bytes &&
      inbox_.size() * 2 <= options_->inbox_messages)
    continue_later();
  return m;
}

void session_core::move_to_inbox() {
  message m;
  take_current(m);
  inbox_bytes_ += m.size();
  inbox_.push_back(std::move(m));
}

bool session_core::inbox_full() const noexcept {
  return !inbox_.empty() &&
         (inbox_bytes_ >= options_->inbox_bytes || inbox_.size() >= options_->inbox_messages);
}

// Gives the unparsed rest an owner, so that the shard's buffer is free again.
void session_core::stash_rest() {
  if (have_current_)
    move_to_inbox();
  if (input_.empty() || input_owner_)
    return;
  input_owner_ = buffer::allocate(input_.size());
  std::memcpy(input_owner_.data(), input_.data(), input_.size());
  input_ = input_owner_.span().first(input_.size());
}

void session_core::stall() noexcept {
  stalled_ = true;
  update_interest();
}

void session_core::continue_later() noexcept {
  if (continue_posted_)
    return;
  continue_posted_ = true;
  home_->post([self = shared_from_this()] { self->continue_turn(); });
}

void session_core::continue_turn() noexcept {
  continue_posted_ = false;
  if (!carrier_)
    return;
  if (holding()) {
    if (!closing_) { // what was taken before may still be waited for
      run_turn();
      return;
    }
    release_input();
  }
  if (std::exchange(stalled_, false))
    last_received_ = home_->turn_time(); // the silence was ours
  run_turn();
  update_interest();
}

// Hands what was read to whoever waits; see the header.
void session_core::run_turn() noexcept {
  in_turn_ = true;
  turn_messages_ = 0;
  turn_bytes_ = 0;
  for (;;) {
    if (receiver_.waiting()) {
      if (turn_spent() && (have_current_ || !input_.empty() || !inbox_.empty())) {
        stash_rest();
        continue_later();
        break;
      }
      if (wants_batch_) {
        fill_batch();
        if (!batch_ || batch_->empty())
          break;
      } else {
        if (inbox_.empty() && !have_current_ && !parse_next())
          break;
      }
      receiver_.wake_inline(*home_);
      continue;
    }
    if (!have_current_ && !parse_next())
      break;
    if (ignoring_) {
      have_current_ = false;
      continue;
    }
    if (inbox_full()) {
      if (closing_) {
        // The peer's answer is behind what nobody may come for any more.
        if (envelope_) { // which counts what it let through as received
          move_to_inbox();
          envelope_->ignored();
        }
        ignoring_ = screened_ = true;
        continue;
      }
      stash_rest();
      stall();
      break;
    }
    move_to_inbox();
  }
  in_turn_ = false;
  if (batch_) { // its taker was cancelled, or lives on another executor
    for (std::size_t i = 0; i < batch_->size(); ++i) {
      inbox_bytes_ += (*batch_)[i].size();
      inbox_.push_back(batch_->take(i));
    }
    batch_.reset();
  }
  if (input_.empty())
    input_owner_.reset();
  if (input_ended_)
    receiver_.wake_later();
  if (answer_due_ && send_waiters_.empty())
    answer_close(); // the handler has done with its batch what it could do at once
}

void session_core::fill_batch() {
  if (!batch_)
    batch_ = std::make_unique<message_batch>();
  while (!inbox_.empty()) {
    auto m = std::move(inbox_.front());
    inbox_.pop_front();
    inbox_bytes_ -= m.size();
    batch_->add(message_view(m.kind(), m.bytes()));
    if (m.storage())
      batch_->add(m.storage());
  }
  if (stalled_)
    continue_later();
  if (!may_parse())
    return;
  if (have_current_) {
    message m;
    take_current(m);
    batch_->add(message_view(m.kind(), m.bytes()));
    if (m.storage())
      batch_->add(m.storage());
  }
  if (input_.empty())
    return;
  if (!input_owner_) {
    if (input_.size() <= batch_copy_limit)
      stash_rest();
    else
      input_owner_ = home_->lease();
  }
  bool shared = false;
  const auto add_from = [&](auto &reader) {
    const auto payload = reader.payload();
    batch_->add(message_view(reader.kind(), payload));
    if (reader.owned())
      batch_->add(reader.take_storage());
    else if (!std::exchange(shared, true))
      batch_->add(input_owner_);
  };
  while (turn_bytes_ < turn_bytes_limit && parse_next()) {
    have_current_ = false;
    ++turn_messages_;
    if (auto *ws = std::get_if<protocol::reader>(&reader_))
      add_from(*ws);
    else
      add_from(std::get<protocol::framed_reader>(reader_));
  }
}

template <> bool session_core::ready<message_batch>() {
  if (!batch_ || batch_->empty())
    fill_batch();
  if (!batch_->empty())
    return true;
  batch_.reset();
  return false;
}

template <> message_batch session_core::take<message_batch>() {
  return std::move(*std::exchange(batch_, nullptr));
}

void session_core::give_back(message &m) {
  inbox_bytes_ += m.size();
  inbox_.push_front(std::move(m));
  receiver_.wake_later();
}

void session_core::give_back(message_batch &batch) {
  for (auto i = batch.size(); i != 0; --i) {
    auto m = batch.take(i - 1);
    give_back(m);
  }
}

void session_core::ignore_input() {
  ignoring_ = screened_ = true;
  inbox_.clear();
  inbox_bytes_ = 0;
  if (stalled_)
    continue_later();
}

} // namespace chorus::detail
