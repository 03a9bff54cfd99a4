#include <chorus/session/outbox.hpp>

#include <chorus/protocol/reader.hpp>

#include <algorithm>
#include <cstring>

namespace chorus::detail {

namespace {

constexpr std::size_t max_pieces = 64;
constexpr std::size_t join_limit = 64 * 1024;
constexpr std::size_t gather_limit = 1024 * 1024;

// Corks that connections of this thread borrow while they hold output: few at a time, and warm.
struct cork_pool {
  std::vector<std::unique_ptr<byte_buffer>> spare;

  static cork_pool &get() {
    thread_local cork_pool pool;
    return pool;
  }
  std::unique_ptr<byte_buffer> take() {
    if (spare.empty())
      return std::make_unique<byte_buffer>();
    auto cork = std::move(spare.back());
    spare.pop_back();
    return cork;
  }
  void give(std::unique_ptr<byte_buffer> cork) {
    if (spare.size() >= 16 || cork->storage().capacity() > 2 * outbox::cork_limit)
      return;
    cork->clear();
    spare.push_back(std::move(cork));
  }
};

// Where small messages of a queue are joined for one write.
std::byte *join_space() {
  thread_local const std::unique_ptr<std::byte[]> space(new std::byte[join_limit]);
  return space.get();
}

} // namespace

// One write: what it consists of, in order.
struct outbox::round {
  std::array<iovec, max_pieces> pieces;
  std::size_t count = 0;
  std::size_t bytes = 0;
  byte_buffer control;
  std::size_t joined = 0; // bytes used of the join space

  void add(const std::byte *data, std::size_t size) noexcept {
    if (size == 0)
      return;
    bytes += size;
    if (count != 0) {
      auto &last = pieces[count - 1];
      if (static_cast<const std::byte *>(last.iov_base) + last.iov_len == data) {
        last.iov_len += size;
        return;
      }
    }
    pieces[count++] = {const_cast<std::byte *>(data), size};
  }
};

outbox::outbox(encoder e, const session_options &options)
    : encoder_(std::move(e)), options_(&options) {}

outbox::~outbox() = default;

outbox::control_frames &outbox::control() {
  if (!control_)
    control_ = std::make_unique<control_frames>();
  return *control_;
}

outbox::queued outbox::make_queued(const message &m) {
  queued q;
  q.kind = m.kind();
  if (encoder_.format().context_takeover) {
    q.plain = true;
    q.owner = m.storage();
    q.data = m.bytes().data();
    q.size = m.size();
    return q;
  }
  if (m.size() >= reference_size) {
    if (const auto head = encoder_.head_of(q.head.data(), m.kind(), m.size())) {
      q.head_size = static_cast<std::uint8_t>(head);
      q.owner = m.storage();
      q.data = m.bytes().data();
      q.size = m.size();
      return q;
    }
  }
  byte_buffer bytes;
  encoder_.append(bytes, m.kind(), m.bytes());
  q.size = bytes.size();
  q.owner = bytes.take();
  q.data = q.owner.data();
  return q;
}

void outbox::push(queued q) {
  if (q.total() == 0 && !q.plain) { // an empty chunk of a raw stream leaves no trace on the wire
    finish(q);
    return;
  }
  queued_bytes_ += q.total();
  if (q.is_message)
    ++queued_messages_;
  if (q.extras && q.extras->expires != time_point::max())
    has_expiry_ = true;
  queue_.push_back(std::move(q));
}

// Room for one more of `size` bytes by dropping the oldest that may be dropped.
bool outbox::make_room(std::size_t size) {
  const auto staying = cork_bytes_ + (begun_ ? begun_->total() - begun_offset_ : 0);
  if (staying != 0 && staying + size > options_->queue_bytes)
    return false; // and the others are not dropped in vain
  for (std::size_t i = 0; !fits(size) && i < queue_.size();) {
    if (queue_[i].pinned || !queue_[i].is_message)
      ++i;
    else
      drop(i);
  }
  return fits(size);
}

void outbox::drop(std::size_t index) {
  auto &q = queue_[index];
  queued_bytes_ -= q.total();
  --queued_messages_;
  messages_dropped += 1;
  settle(q, write_outcome::dropped);
  if (index == 0)
    queue_.pop_front();
  else
    queue_.erase(index);
}

void outbox::settle(queued &q, write_outcome outcome) noexcept {
  if (q.extras && q.extras->sink) {
    auto sink = std::move(q.extras->sink);
    sink->on_outcome(q.extras->member, outcome);
  }
}

// All its bytes are with the kernel.
void outbox::finish(queued &q) noexcept {
  if (q.is_close)
    close_written_ = true;
  if (!q.is_message)
    return;
  messages_sent += 1;
  settle(q, write_outcome::written);
}

bool outbox::replace_by_key(queued &q) {
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    auto &old = queue_[i];
    if (!old.extras || old.extras->key != q.extras->key || old.pinned)
      continue;
    messages_dropped += 1;
    settle(old, write_outcome::dropped);
    queued_bytes_ -= old.total();
    queued_bytes_ += q.total();
    if (q.extras->expires != time_point::max())
      has_expiry_ = true;
    old = std::move(q);
    // It may have grown: the bound holds for the queue as a whole.
    for (std::size_t k = 0; queued_bytes_ > options_->queue_bytes && k < queue_.size();) {
      if (k == i || queue_[k].pinned || !queue_[k].is_message) {
        ++k;
        continue;
      }
      drop(k);
      if (k < i)
        --i;
    }
    return true;
  }
  return false;
}

// What the policy says to one more message of `size` bytes that does not fit.
admission outbox::when_full(std::size_t size, std::unique_ptr<message_extras> &extras) {
  const auto refuse = [&](admission how, write_outcome outcome) {
    if (extras && extras->sink)
      extras->sink->on_outcome(extras->member, outcome);
    extras.reset();
    if (how == admission::dropped)
      messages_dropped += 1;
    return how;
  };
  switch (options_->on_overflow) {
  case overflow::wait:
    return admission::must_wait;
  case overflow::close:
    return refuse(admission::evict, write_outcome::failed);
  case overflow::drop_newest:
    break;
  case overflow::drop_oldest:
  case overflow::latest:
    if (make_room(size))
      return admission::accepted;
    break;
  }
  return refuse(admission::dropped, write_outcome::dropped);
}

// The cork goes before the queue, so it is open only while the queue is empty.
bool outbox::cork(message_kind kind, std::span<const std::byte> payload) {
  // What a compression context encodes stays plain till it is written: encoded, it could be neither
  // dropped nor given back. Raw chunks could not be told apart again.
  if (blocked_ || encoder_.format().how == wire_format::kind::raw || !queue_.empty() ||
      payload.size() >= reference_size || encoder_.format().context_takeover ||
      !fits(payload.size() + protocol::max_header_size))
    return false;
  if (!cork_)
    cork_ = cork_pool::get().take();
  const auto before = cork_->size();
  encoder_.append(*cork_, kind, payload);
  const auto added = cork_->size() - before;
  cork_bytes_ += added;
  queued_bytes_ += added;
  ++cork_messages_;
  ++queued_messages_;
  return true;
}

admission outbox::offer(const message &m, std::unique_ptr<message_extras> &extras) {
  const std::size_t size = m.size() + protocol::max_header_size;
  if (options_->on_overflow == overflow::latest && extras && !extras->key.empty()) {
    auto q = make_queued(m);
    q.extras = std::move(extras);
    if (replace_by_key(q))
      return admission::accepted;
    if (!fits(size))
      if (const auto full = when_full(size, q.extras); full != admission::accepted)
        return full;
    push(std::move(q));
    return admission::accepted;
  }
  if (!fits(size))
    if (const auto full = when_full(size, extras); full != admission::accepted)
      return full;
  if (!extras && cork(m.kind(), m.bytes()))
    return admission::accepted;
  auto q = make_queued(m);
  q.extras = std::move(extras);
  push(std::move(q));
  return admission::accepted;
}

admission outbox::offer_encoded(buffer owner, std::span<const std::byte> frame,
                                std::unique_ptr<message_extras> &extras) {
  queued q;
  q.owner = std::move(owner);
  q.data = frame.data();
  q.size = frame.size();
  if (options_->on_overflow == overflow::latest && extras && !extras->key.empty()) {
    q.extras = std::move(extras);
    if (replace_by_key(q))
      return admission::accepted;
    extras = std::move(q.extras);
  }
  if (!fits(frame.size()))
    if (const auto full = when_full(frame.size(), extras); full != admission::accepted)
      return full;
  q.extras = std::move(extras);
  push(std::move(q));
  return admission::accepted;
}

void outbox::adopt_rest(const buffer &owner, std::span<const std::byte> frame, std::size_t begun,
                        std::unique_ptr<message_extras> extras, time_point now) {
  begun_ = std::make_unique<queued>();
  begun_->owner = owner;
  begun_->data = frame.data();
  begun_->size = frame.size();
  begun_->extras = std::move(extras);
  begun_offset_ = begun;
  queued_bytes_ += frame.size() - begun;
  if (!blocked_) {
    blocked_ = true;
    blocked_since_ = now;
  }
}

void outbox::queue_pong(std::span<const std::byte> payload) {
  auto &c = control();
  c.pong = true;
  c.pong_size = static_cast<std::uint8_t>(std::min(payload.size(), c.pong_payload.size()));
  if (c.pong_size != 0)
    std::memcpy(c.pong_payload.data(), payload.data(), c.pong_size);
}

void outbox::queue_ping(std::uint64_t payload) {
  auto &c = control();
  c.ping = true;
  c.ping_payload = payload;
}

void outbox::queue_close(close_code code, std::string_view reason) {
  queued q;
  q.is_message = false;
  q.is_close = true;
  q.pinned = true;
  byte_buffer bytes;
  protocol::append_close(bytes, encoder_.side(), static_cast<std::uint16_t>(code), reason);
  q.size = bytes.size();
  q.owner = bytes.take();
  q.data = q.owner.data();
  push(std::move(q));
}

void outbox::fail_with_close(close_code code, std::string_view reason) {
  if (cork_bytes_ != 0)
    split_cork(0);
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    auto &q = queue_[i];
    queued_bytes_ -= q.total();
    if (q.is_message) {
      --queued_messages_;
      settle(q, write_outcome::failed);
    }
  }
  withheld_ = std::move(queue_);
  auto &c = control();
  c.close = true;
  c.code = code;
  c.reason = reason;
}

void outbox::encode_control(byte_buffer &out) {
  const auto side = encoder_.side();
  if (control_->pong)
    protocol::append_frame(out, side, protocol::opcode::pong, true, false,
                           {control_->pong_payload.data(), control_->pong_size});
  if (control_->ping)
    protocol::append_frame(out, side, protocol::opcode::ping, true, false,
                           std::as_bytes(std::span(&control_->ping_payload, 1)));
  if (control_->close)
    protocol::append_close(out, side, static_cast<std::uint16_t>(control_->code), control_->reason);
}

void outbox::expire(time_point now) {
  if (!has_expiry_)
    return;
  has_expiry_ = false;
  for (std::size_t i = 0; i < queue_.size();) {
    const auto &q = queue_[i];
    if (q.extras && q.extras->expires <= now && !q.pinned) {
      drop(i);
      continue;
    }
    if (q.extras && q.extras->expires != time_point::max())
      has_expiry_ = true;
    ++i;
  }
}

void outbox::collect(round &r, time_point now) {
  if (begun_) {
    const auto head = static_cast<std::size_t>(begun_->head_size);
    if (begun_offset_ < head)
      r.add(begun_->head.data() + begun_offset_, head - begun_offset_);
    const auto from = begun_offset_ > head ? begun_offset_ - head : 0;
    r.add(begun_->data + from, begun_->size - from);
  }
  if (control_pending()) {
    encode_control(r.control);
    r.add(r.control.data(), r.control.size());
  }
  if (cork_bytes_ != 0)
    r.add(cork_->data(), cork_bytes_);
  expire(now);
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    auto &q = queue_[i];
    if (r.count + 2 > max_pieces || r.bytes > gather_limit)
      break;
    if (q.plain) {
      byte_buffer bytes;
      encoder_.append(bytes, q.kind, {q.data, q.size});
      q.original = std::make_unique<message>(q.kind, std::move(q.owner),
                                             std::span<const std::byte>(q.data, q.size));
      queued_bytes_ += bytes.size();
      queued_bytes_ -= q.size;
      q.size = bytes.size();
      q.owner = bytes.take();
      q.data = q.owner.data();
      q.plain = false;
      q.pinned = true;
    }
    if (q.total() < reference_size && r.joined + q.total() <= join_limit) {
      auto *at = join_space() + r.joined;
      std::memcpy(at, q.head.data(), q.head_size);
      if (q.size != 0)
        std::memcpy(at + q.head_size, q.data, q.size);
      r.joined += q.total();
      r.add(at, q.total());
    } else {
      r.add(q.head.data(), q.head_size);
      r.add(q.data, q.size);
    }
  }
}

// The kernel took the first `written` bytes of the cork and no more: what is left becomes a begun
// message and a queue of references into it.
void outbox::split_cork(std::size_t written) {
  auto bytes = std::move(*cork_);
  cork_.reset();
  const auto size = cork_bytes_;
  const auto &storage = bytes.storage();
  ring<queued> rest;
  std::size_t at = 0;
  while (at < size) {
    const auto length =
        std::min(size - at, encoder_.frame_length({storage.data() + at, size - at}));
    if (at + length <= written) {
      messages_sent += 1;
      --queued_messages_;
    } else {
      queued q;
      q.owner = storage;
      q.data = storage.data() + at;
      q.size = length;
      if (at < written) {
        begun_ = std::make_unique<queued>(std::move(q));
        begun_offset_ = written - at;
        --queued_messages_;
      } else {
        rest.push_back(std::move(q));
      }
    }
    at += length;
  }
  while (!queue_.empty()) { // accepted after the cork
    rest.push_back(std::move(queue_.front()));
    queue_.pop_front();
  }
  queue_ = std::move(rest);
  cork_bytes_ = cork_messages_ = 0;
}

// Accounts for `written` bytes of the round; true when all of it went.
bool outbox::consume(round &r, std::size_t written) {
  bytes_sent += written;
  const bool all = written == r.bytes;
  if (begun_) {
    const auto left = begun_->total() - begun_offset_;
    const auto part = std::min(left, written);
    queued_bytes_ -= part;
    written -= part;
    if (part < left) {
      begun_offset_ += part;
      return false;
    }
    finish(*begun_);
    begun_.reset();
    begun_offset_ = 0;
  }
  if (!r.control.empty()) {
    if (written == 0)
      return false;
    if (control_->ping) {
      ping_written = true;
      sent_before_ping = messages_sent;
    }
    const bool closes = control_->close;
    const auto size = r.control.size();
    control_.reset();
    if (written < size) {
      begun_ = std::make_unique<queued>();
      begun_->is_message = false;
      begun_->is_close = closes;
      begun_->size = size;
      begun_->owner = r.control.take();
      begun_->data = begun_->owner.data();
      begun_offset_ = written;
      queued_bytes_ += size - written;
      return false;
    }
    written -= size;
    close_written_ = close_written_ || closes;
  }
  if (cork_bytes_ != 0) {
    const auto part = std::min(cork_bytes_, written);
    queued_bytes_ -= part;
    if (part < cork_bytes_) {
      split_cork(part);
      return false;
    }
    written -= part;
    messages_sent += cork_messages_;
    queued_messages_ -= cork_messages_;
    cork_bytes_ = cork_messages_ = 0;
    cork_pool::get().give(std::move(cork_));
  }
  while (written != 0) {
    auto &q = queue_.front();
    const auto total = q.total();
    if (q.is_message)
      --queued_messages_;
    if (written < total) {
      queued_bytes_ -= written;
      begun_ = std::make_unique<queued>(std::move(q));
      begun_offset_ = written;
      queue_.pop_front();
      return false;
    }
    queued_bytes_ -= total;
    written -= total;
    auto done = std::move(q);
    queue_.pop_front();
    finish(done);
  }
  return all;
}

outbox::status outbox::flush(transport::stream &to, time_point now) {
  for (;;) {
    round r;
    collect(r, now);
    if (r.bytes == 0) {
      blocked_ = false;
      return status::drained;
    }
    const auto result = to.write_some({r.pieces.data(), r.count});
    if (result.status == transport::io_status::failed)
      return status::failed;
    const bool progress = result.status == transport::io_status::ok && result.bytes != 0;
    const bool all = progress && consume(r, result.bytes);
    if (!all) {
      if (!progress && cork_bytes_ != 0)
        split_cork(0);
      if (progress || !blocked_)
        blocked_since_ = now;
      blocked_ = true;
      return status::blocked;
    }
    blocked_ = false;
  }
}

void outbox::discard() noexcept {
  if (begun_)
    settle(*begun_, write_outcome::failed);
  for (std::size_t i = 0; i < queue_.size(); ++i) {
    unsent += queue_[i].is_message ? 1 : 0;
    settle(queue_[i], write_outcome::failed);
  }
  for (std::size_t i = 0; i < withheld_.size(); ++i)
    unsent += withheld_[i].is_message ? 1 : 0;
  unsent += cork_messages_;
  control_.reset();
  begun_.reset();
  blocked_ = false;
}

std::vector<message> outbox::take_unsent() {
  std::vector<message> result;
  // What is encoded is read back the way the peer would have.
  const auto decode = [&](std::span<const std::byte> wire) {
    byte_buffer copy;
    copy.append(wire);
    std::span<std::byte> input(copy.data(), copy.size());
    const auto collect_from = [&](auto &reader) {
      while (reader.next(input) == protocol::event::message)
        result.push_back(
            reader.owned()
                ? message(reader.kind(), reader.take_storage(), reader.payload())
                : message(reader.kind(), reader.payload().data(), reader.payload().size()));
    };
    if (encoder_.websocket()) {
      protocol::deflate_params params;
      params.server_no_context_takeover = params.client_no_context_takeover = true;
      protocol::reader_options options;
      options.side = encoder_.side() == protocol::role::client ? protocol::role::server
                                                               : protocol::role::client;
      options.max_message = SIZE_MAX;
      options.deflate = encoder_.format().compressed ? &params : nullptr;
      protocol::reader reader(options);
      collect_from(reader);
    } else if (encoder_.format().how == wire_format::kind::raw) {
      result.emplace_back(message_kind::binary, wire.data(), wire.size());
    } else {
      protocol::framed_reader_options options;
      options.how =
          encoder_.format().how == wire_format::kind::lines ? framing::lines : framing::length32;
      options.max_message = SIZE_MAX;
      protocol::framed_reader reader(options);
      collect_from(reader);
    }
  };
  if (cork_bytes_ != 0)
    decode({cork_->data(), cork_bytes_});
  for (auto *list : {&withheld_, &queue_}) {
    for (std::size_t i = 0; i < list->size(); ++i) {
      auto &q = (*list)[i];
      if (!q.is_message)
        continue;
      if (q.original)
        result.push_back(*std::move(q.original));
      else if (q.plain || q.head_size != 0)
        result.emplace_back(q.kind, q.owner, std::span<const std::byte>(q.data, q.size));
      else
        decode({q.data, q.size});
    }
    list->clear();
  }
  cork_.reset();
  cork_bytes_ = cork_messages_ = 0;
  queued_messages_.set(0);
  queued_bytes_.set(0);
  return result;
}

} // namespace chorus::detail
