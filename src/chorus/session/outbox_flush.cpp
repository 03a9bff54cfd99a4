#include <chorus/session/outbox.hpp>

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

std::unique_ptr<byte_buffer> outbox::borrow_cork() { return cork_pool::get().take(); }

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

// Adds a waiting message to the round; false when the round is full.
inline bool outbox::gather(round &r, queued &q) {
  if (r.count + 2 > max_pieces || r.bytes > gather_limit)
    return false;
  if (q.plain) {
    byte_buffer bytes;
    encoder_.append(bytes, q.kind, {q.data, q.size});
    q.original = std::make_unique<message>(q.kind, std::move(q.owner),
                                           std::span<const std::byte>(q.data, q.size));
    queued_bytes_ += bytes.size();
    queued_bytes_ -= q.size;
    if (q.spared) {
      spared_bytes_ += bytes.size();
      spared_bytes_ -= q.size;
    }
    q.size = bytes.size();
    q.owner = bytes.take();
    q.data = q.owner.data();
    q.plain = false;
    q.pinned = true;
    q.encoded = ++encoded_;
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
  return true;
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
  if (lanes_ && cork_bytes_ != 0)
    split_cork(0); // others may go before some of it
  if (cork_bytes_ != 0)
    r.add(cork_->data(), cork_bytes_);
  expire(now);
  if (lanes_) {
    place p{.control_streak = lanes_->control_streak, .reliable_streak = lanes_->reliable_streak};
    for (;;) {
      const auto before = p;
      auto *list = next_at(p);
      if (!list)
        break;
      const auto index = list == &queue_            ? before.queue
                         : list == &lanes_->control ? before.control
                                                    : before.latest;
      if (!gather(r, (*list)[index]))
        break;
    }
    return;
  }
  for (std::size_t i = 0; i < queue_.size(); ++i)
    if (!gather(r, queue_[i]))
      break;
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
    unspare(*begun_, part, false);
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
    auto &list = lanes_ ? take_next() : queue_;
    auto &q = list.front();
    const auto total = q.total();
    if (q.is_message)
      --queued_messages_;
    unspare(q, std::min(written, total), q.is_message);
    if (written < total) {
      queued_bytes_ -= written;
      begun_ = std::make_unique<queued>(std::move(q));
      begun_offset_ = written;
      list.pop_front();
      return false;
    }
    queued_bytes_ -= total;
    written -= total;
    auto done = std::move(q);
    list.pop_front();
    finish(done);
  }
  return all;
}

outbox::status outbox::flush(transport::stream &to, time_point now) {
  for (;;) {
    round r;
    collect(r, now);
    if (r.bytes == 0) {
      lanes_.reset();
      blocked_ = false;
      note();
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
      note();
      return status::blocked;
    }
    blocked_ = false;
  }
}

} // namespace chorus::detail
