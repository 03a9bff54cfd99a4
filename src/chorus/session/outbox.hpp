#pragma once
// What a session has accepted and not yet handed to the kernel, in order, bounded.
//
//   [begun message] [close of a failure, pong, ping] [cork] [queue]
//
// In use only when messages name a lane: one of lane::control goes between the control frames and the
// cork, one of lane::latest behind the queue.
//
// While the kernel takes what it is given, small messages are encoded into the cork, one run of
// bytes that a single write sends. What the kernel did not take stays as a queue of references, and
// only there do the overflow policies act: on whole messages that have not begun.
// Sans-I/O but for `flush`, which writes to the stream it is given.

#include <chorus/async/timer_wheel.hpp>
#include <chorus/base/failure.hpp>
#include <chorus/base/message.hpp>
#include <chorus/base/ring.hpp>
#include <chorus/session/counter.hpp>
#include <chorus/session/encoder.hpp>
#include <chorus/session/options.hpp>
#include <chorus/session/terms.hpp>
#include <chorus/transport/stream.hpp>

#include <array>
#include <memory>
#include <string>
#include <vector>

namespace chorus::detail {

class shard;

enum class write_outcome : std::uint8_t { written, dropped, failed };

// Told what became of the copies of a broadcast.
class delivery_sink {
public:
  virtual void on_outcome(std::uint64_t member, write_outcome outcome) noexcept = 0;

protected:
  ~delivery_sink() = default;
};

// What may come with a message; most have none.
struct message_extras {
  std::string key;
  time_point expires = time_point::max();
  std::shared_ptr<delivery_sink> sink;
  std::uint64_t member = 0;    // session_id of the receiver
  const void *scope = nullptr; // keys of different scopes (rooms) are different
  lane how = lane::reliable;

  bool same_key(const message_extras &other) const noexcept {
    return scope == other.scope && key == other.key;
  }
};

enum class admission : std::uint8_t {
  accepted,
  must_wait, // full, overflow::wait
  dropped,   // full, this one was dropped (and counted)
  evict,     // full, overflow::close
};

class outbox {
public:
  // From this size on payloads are referenced instead of copied together.
  static constexpr std::size_t reference_size = 8 * 1024;
  // The cork is flushed when it has grown to this.
  static constexpr std::size_t cork_limit = 64 * 1024;

  // `options` outlive the outbox.
  outbox(encoder e, const session_options &options);
  outbox(const outbox &) = delete;
  outbox &operator=(const outbox &) = delete;
  ~outbox();

  const encoder &wire() const noexcept { return encoder_; }
  // For a run of frames shared by all connections of this (shareable) format.
  void encode(byte_buffer &to, message_kind kind, std::span<const std::byte> payload) {
    encoder_.append(to, kind, payload);
  }
  overflow policy() const noexcept { return options_->on_overflow; }
  // An empty message that is still to be compressed has no bytes yet.
  bool empty() const noexcept {
    return queued_bytes_ == 0 && queued_messages_ == 0 && !control_pending();
  }
  bool blocked() const noexcept { return blocked_; }
  // Nothing waits, so that a run of shared frames may be written directly.
  bool idle() const noexcept { return empty() && !blocked_; }
  bool cork_full() const noexcept { return cork_bytes_ >= cork_limit; }
  time_point blocked_since() const noexcept { return blocked_since_; }
  // Without a clock nothing has an age.
  void use_clock(const shard &home) noexcept { clock_ = &home; }
  // When the oldest of what waits for the kernel came; time_point::max() when nothing does. A message
  // that replaced one of its key has the age of its place. O(1).
  time_point oldest_since() noexcept;
  std::size_t queued_bytes() const noexcept { return queued_bytes_; }
  std::size_t queued_messages() const noexcept { return queued_messages_; }
  // What of that was spared from the bound.
  std::size_t spared_bytes() const noexcept { return spared_bytes_; }
  bool fits(std::size_t size) const noexcept {
    return bounded_bytes() == 0 ||
           (bounded_bytes() + size <= options_->queue_bytes &&
            (options_->queue_messages == 0 || bounded_messages() < options_->queue_messages));
  }

  // The bound holds with so much more in the queue, exactly.
  bool leaves_room_for(std::size_t bytes, std::size_t messages) const noexcept {
    return bounded_bytes() + bytes <= options_->queue_bytes &&
           (options_->queue_messages == 0 ||
            bounded_messages() + messages <= options_->queue_messages);
  }
  // The same, after what lane::latest gives up for it.
  bool has_place_for(std::size_t size) { return fits(size) || drop_latest_for(size); }

  // The common case of `offer`: copies a small message into the cork. False, and nothing is taken,
  // when it has to take the long way.
  bool cork(message_kind kind, std::span<const std::byte> payload);
  // Takes a message under the overflow policy. `extras` may be null; they are left alone when the
  // message must wait, and their sink was told when it was refused otherwise.
  admission offer(const message &m, std::unique_ptr<message_extras> &extras) {
    return offer(m, extras, policy());
  }
  admission offer(const message &m, std::unique_ptr<message_extras> &extras, overflow policy);
  // The same for bytes that are one frame of this connection's wire format already.
  admission offer_encoded(buffer owner, std::span<const std::byte> frame,
                          std::unique_ptr<message_extras> &extras) {
    return offer_encoded(std::move(owner), frame, extras, policy());
  }
  admission offer_encoded(buffer owner, std::span<const std::byte> frame,
                          std::unique_ptr<message_extras> &extras, overflow policy);
  // Takes what no policy may drop, whatever the bound: the caller has looked at that.
  void pin(const message &m, std::unique_ptr<message_extras> extras = nullptr);
  void pin_encoded(buffer owner, std::span<const std::byte> frame,
                   std::unique_ptr<message_extras> extras = nullptr);
  // The same for what is bounded elsewhere: it is not counted against the queue's bound.
  void spare(const message &m);
  void spare_encoded(buffer owner, std::span<const std::byte> frame);
  // The rest of shared frames written directly: the first one begun, at offset `begun`.
  void adopt_rest(const buffer &owner, std::span<const std::byte> frame, std::size_t begun,
                  std::unique_ptr<message_extras> extras, time_point now);

  void queue_pong(std::span<const std::byte> payload); // replaces a pending one
  void queue_ping(std::uint64_t payload);              // replaces a pending one
  bool ping_pending() const noexcept { return control_ && control_->ping; }
  // A close frame in its place after everything queued.
  void queue_close(close_code code, std::string_view reason);
  // Discards what has not begun and puts a close frame next.
  void fail_with_close(close_code code, std::string_view reason);
  bool close_written() const noexcept { return close_written_; }

  // Drops what has outlived its time to live.
  void expire(time_point now);
  // Output has begun to wait at `now`, whatever time the flush was given.
  void blocked_at(time_point now) noexcept { blocked_since_ = waiting_since_ = now; }

  enum class status : std::uint8_t { drained, blocked, failed };
  status flush(transport::stream &to, time_point now);

  // Tells `m` (null: nobody) of what waits; it outlives the outbox or is withdrawn.
  void meter(queue_meter *m) noexcept { meter_ = m; }
  // What `fail_with_close` gave up is let go of; it counts as unsent.
  void forget_withheld() noexcept;

  // The connection is over: nothing will be written any more. Sinks are told.
  void discard(bool keep_unsent) noexcept;
  // After `discard(true)`: the messages that were accepted and not begun, in order.
  std::vector<message> take_unsent();

  counter messages_sent;
  counter bytes_sent;
  counter messages_dropped;
  // Of the dropped: those whose time to live had passed, and those that went or did not come by
  // overflow::drop_oldest and drop_newest. The others gave way to newer ones of their key or lane.
  counter messages_expired;
  counter dropped_oldest;
  counter dropped_newest;
  void note_drop(overflow by) noexcept;
  // messages_sent as of the ping that was last written.
  std::uint64_t sent_before_ping = 0;
  bool ping_written = false; // set when a ping went out; cleared by the session
  std::uint64_t unsent = 0;

private:
  struct queued {
    buffer owner;
    const std::byte *data = nullptr;
    std::size_t size = 0;
    std::unique_ptr<message_extras> extras;
    std::array<std::byte, protocol::max_header_size> head{};
    std::uint8_t head_size = 0;
    message_kind kind = message_kind::binary;
    std::unique_ptr<message> original; // of what a compression context has encoded
    std::uint64_t encoded = 0;         // and as the how-manieth; 0: not yet
    bool plain = false;                // payload still to be encoded (context takeover)
    bool pinned = false; // must not be dropped: part of a compression context, or a close
    bool is_message = true;
    bool is_close = false;
    bool spared = false; // from the bound
    time_point since{};  // when it came to a queue that waited already

    std::size_t total() const noexcept { return head_size + size; }
  };
  struct control_frames {
    std::array<std::byte, protocol::max_control_payload> pong_payload;
    std::uint8_t pong_size = 0;
    bool pong = false;
    bool ping = false;
    bool close = false;
    std::uint64_t ping_payload = 0;
    close_code code = close_code::normal;
    std::string reason;
  };
  struct round;
  // The lanes beside the queue, and how many messages of a higher lane have gone in a row while one of
  // a lower lane waited.
  struct lane_queues {
    ring<queued> control;
    ring<queued> latest;
    unsigned control_streak = 0;
    unsigned reliable_streak = 0;
  };
  // A place in the order of leaving.
  struct place {
    std::size_t control = 0;
    std::size_t queue = 0;
    std::size_t latest = 0;
    unsigned control_streak = 0;
    unsigned reliable_streak = 0;
  };

  bool control_pending() const noexcept {
    return control_ && (control_->pong || control_->ping || control_->close);
  }
  // What counts against the bound.
  std::size_t bounded_bytes() const noexcept { return queued_bytes_ - spared_bytes_; }
  std::size_t bounded_messages() const noexcept { return queued_messages_ - spared_messages_; }
  // `bytes` of `q` have gone, or the whole message.
  void unspare(const queued &q, std::size_t bytes, bool message) noexcept {
    if (!q.spared)
      return;
    spared_bytes_ -= bytes;
    spared_messages_ -= message ? 1 : 0;
  }
  control_frames &control();
  static std::unique_ptr<byte_buffer> borrow_cork();
  queued make_queued(const message &m);
  void push(queued q);
  void stamp(queued &q) const noexcept;
  bool replace_by_key(queued &q);
  bool make_room(std::size_t size, overflow by);
  admission when_full(std::size_t size, std::unique_ptr<message_extras> &extras, overflow policy);
  void drop(ring<queued> &from, std::size_t index, overflow by);
  void remove(ring<queued> &from, std::size_t index);
  void expire_in(ring<queued> &list, time_point now);
  // outbox_lanes.cpp
  lane_queues &lanes();
  admission offer_latest(queued q, std::unique_ptr<message_extras> &extras);
  bool drop_latest_for(std::size_t size);
  void drop_latest_while_full(std::size_t size);
  ring<queued> *next_at(place &p) noexcept;
  ring<queued> &take_next() noexcept;
  void merge_lanes();
  void settle(queued &q, write_outcome outcome) noexcept;
  void finish(queued &q) noexcept;
  void forget_queue() noexcept;
  void note() noexcept {
    if (meter_)
      meter_->changed(blocked_ ? static_cast<std::size_t>(queued_bytes_) : 0);
  }
  void split_cork(std::size_t written);
  void encode_control(byte_buffer &out);
  void collect(round &r, time_point now);
  bool gather(round &r, queued &q);
  bool consume(round &r, std::size_t written);

  encoder encoder_;
  const session_options *options_;
  queue_meter *meter_ = nullptr;
  counter queued_bytes_;    // begun, cork and queue; control frames aside
  counter queued_messages_; // cork and queue
  std::size_t spared_bytes_ = 0;
  std::size_t spared_messages_ = 0;
  std::size_t cork_bytes_ = 0;
  std::size_t cork_messages_ = 0;
  std::unique_ptr<byte_buffer> cork_;
  std::unique_ptr<queued> begun_;
  std::size_t begun_offset_ = 0;
  ring<queued> queue_;
  ring<queued> withheld_; // given up for a close frame; told of as unsent
  std::unique_ptr<control_frames> control_;
  std::unique_ptr<lane_queues> lanes_; // null while no message waits in one
  std::uint64_t encoded_ = 0;          // messages that a compression context has encoded
  const shard *clock_ = nullptr;
  time_point blocked_since_{}; // or the kernel last took something
  time_point waiting_since_{};
  bool blocked_ = false;
  bool close_written_ = false;
  bool has_expiry_ = false;
};

} // namespace chorus::detail
