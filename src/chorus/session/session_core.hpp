#pragma once
// The state of one connection. Belongs to its shard's thread, but for what is marked as readable
// from any thread.
//
// A read turn: the stream is readable, one read goes into the shard's buffer (or straight into a
// large message), and its frames are parsed one by one as a waiting `receive` takes them, resumed
// inline. What the handler has not taken when it waits for something else is moved, owned, to the
// inbox before the turn ends. When the inbox is full, the unparsed rest is kept and nothing more is
// read until the handler has caught up.

#include <chorus/async/parked.hpp>
#include <chorus/base/ring.hpp>
#include <chorus/protocol/framing.hpp>
#include <chorus/protocol/reader.hpp>
#include <chorus/session/outbox.hpp>
#include <chorus/session/session.hpp>
#include <chorus/session/setup.hpp>

#include <atomic>
#include <memory>
#include <optional>
#include <stop_token>
#include <variant>

namespace chorus::detail {

// A room that holds publishes its members have not been given yet.
class fan_in {
public:
  // Queues at `member` what was published to it so far in this turn.
  virtual void catch_up(session_core &member) noexcept = 0;
  // The session has ended.
  virtual void on_member_gone(session_core &member) noexcept = 0;

protected:
  ~fan_in() = default;
};

// A `send` that waits for room; lives in the coroutine's frame.
struct send_waiter {
  // Unlinked: `accepted` (then `extras` were taken), or the session ended (`refused` tells how).
  virtual void settled() noexcept { sleeper.wake_later(); }

  const message *content = nullptr;
  std::unique_ptr<message_extras> extras;
  parked sleeper;
  bool linked = false;
  bool accepted = false;
  bool wrapped = false; // `content` is as it goes on the wire
  failure refused = error::cancelled;

protected:
  ~send_waiter() = default;
};

class session_core final : public std::enable_shared_from_this<session_core>,
                           public ready_listener,
                           public flushable,
                           public resident {
public:
  explicit session_core(session_setup setup);
  ~session_core();

  void open(std::span<const std::byte> received);

  // Any thread.
  shard &home() const noexcept { return *home_; }
  const std::shared_ptr<shard> &home_ptr() const noexcept { return home_; }
  session_id id() const noexcept { return id_; }
  session_state state() const noexcept { return state_.load(std::memory_order_acquire); }
  failure end() const { return state() == session_state::closed ? end_ : failure(); }
  const std::string &remote_address() const noexcept { return remote_; }
  const std::string &local_address() const noexcept { return local_; }
  std::string user() const { return terms_ ? terms_->user : std::string(); }
  // What its owner has given it to hold: a server's session has its request.
  const std::shared_ptr<const void> &origin() const noexcept { return origin_; }
  std::string subprotocol() const { return subprotocol_ ? *subprotocol_ : std::string(); }
  time_point opened_at() const noexcept { return opened_at_; }
  time_point closed_at() const noexcept { return closed_at_; }
  session_stats stats() const;
  std::stop_token stop_token();

  // Receiving.
  bool ended() const noexcept { return input_ended_; }
  // The receiver has seen the end: a close of the peer that came behind messages is answered now.
  void acknowledge_end() {
    if (answer_due_)
      answer_close();
  }
  const failure &why_ended() const noexcept { return end_; }
  // Whether there is a message or batch to take, and its taking. `T`: message or message_batch.
  template <class T> bool ready();
  template <class T> T take();
  // Puts back in front what a receive took and did not deliver.
  void give_back(message &m);
  void give_back(message_batch &batch);
  bool claim_receiver() noexcept { return !std::exchange(receiver_claimed_, true); }
  void release_receiver() noexcept { receiver_claimed_ = false; }
  parked &receiver() noexcept { return receiver_; }
  void want_batch(bool yes) noexcept { wants_batch_ = yes; }
  void ignore_input();
  // Messages that were read and wait for a receive, but for a batch that is being filled.
  std::size_t untaken() const noexcept { return inbox_.size() + (have_current_ ? 1U : 0U); }

  // Sending. `submit` flushes first when that makes room.
  bool can_send() const noexcept {
    return state_.load(std::memory_order_relaxed) == session_state::open && !closing_;
  }
  failure why_not_sending() const;
  admission submit(const message &m, std::unique_ptr<message_extras> &extras);
  // `submit` of a small message that is copied at once; false when it has to take the long way.
  bool submit_small(message_kind kind, std::span<const std::byte> payload);
  // From another thread: room for a message of `size` bytes on its way here, until `arrived`.
  bool depart(std::size_t size, lane how) noexcept;
  void arrived(std::size_t size) noexcept {
    in_transit_.fetch_sub(size, std::memory_order_relaxed);
  }
  // Takes a plain server-side frame by reference; false, and nothing is taken, when this connection
  // needs another encoding or the message would have to wait.
  bool submit_encoded(const buffer &owner, std::span<const std::byte> frame);
  bool has_send_waiters() const noexcept { return !send_waiters_.empty(); }
  void link(send_waiter &w) {
    w.linked = true;
    send_waiters_.push_back(&w);
  }
  void unlink(send_waiter &w) noexcept;
  void flush_before_wait() noexcept;
  void flush_turn() noexcept override;
  bool outbox_empty() const noexcept { return out_.empty(); }
  ring<parked *> &flush_waiters() noexcept { return flush_waiters_; }

  // Fan-out: see server/room_part.
  outbox &out() noexcept { return out_; }
  transport::stream *carrier() noexcept { return carrier_.get(); }
  void after_write(outbox::status status) noexcept;
  void evict() noexcept;
  // The queues of all sessions together hold more than they may, and this one the most.
  void evict_for_budget() noexcept;
  // A message passed that did not go through `submit`: for the idle limit.
  void touch() noexcept { last_message_ = home_->turn_time(); }
  void join(std::shared_ptr<fan_in> room) { rooms_.push_back(std::move(room)); }
  void part(const fan_in &room) noexcept;

  // Ping and close.
  struct ping_waiter {
    parked sleeper;
    std::optional<std::chrono::nanoseconds> round_trip;
    bool done = false;
  };
  void send_ping();
  ring<ping_waiter *> &ping_waiters() noexcept { return ping_waiters_; }
  void start_close(close_code code, std::string_view reason);
  void abort(failure why) noexcept;
  ring<parked *> &close_waiters() noexcept { return close_waiters_; }
  bool websocket() const noexcept { return out_.wire().websocket(); }
  // The peer broke a rule of what is spoken here: discards what is queued and closes with `code`.
  void fail(error why, close_code code, std::string_view sentence);
  session_envelope *envelope() const noexcept { return envelope_.get(); }

  void set_observer(session_observer *observer) noexcept { observer_ = observer; }
  static void on_rate_timer(timer &t) noexcept;
  // The last handle of a session that nobody else owns has gone.
  void orphaned() noexcept;
  void close_when_unowned() noexcept { close_when_unowned_ = true; }

private:
  using input_reader = std::variant<protocol::reader, protocol::framed_reader>;

  // ready_listener, resident
  void on_ready(unsigned what) noexcept override;
  void on_shard_gone() noexcept override;

  // session_read.cpp
  void readable() noexcept;
  void keep_rest() noexcept;
  void read_rest() noexcept;
  bool may_parse() const noexcept;
  bool turn_spent() const noexcept;
  void run_turn() noexcept;
  bool parse_next();
  template <class Reader> bool handle(Reader &reader, protocol::event e);
  template <class Reader> bool unwrap(Reader &reader);
  void take_current(message &out);
  void move_to_inbox();
  bool inbox_full() const noexcept;
  void stash_rest();
  void stall() noexcept;
  void continue_later() noexcept;
  void continue_turn() noexcept;
  void fill_batch();
  void on_pong(std::span<const std::byte> payload) noexcept;

  // session_rate.cpp: what `screened_` stands for.
  bool over_rate(std::size_t size) noexcept;
  void hold_input(time_point until) noexcept;
  void release_input() noexcept;
  bool holding() const noexcept { return terms_ && terms_->rate && terms_->rate->holding; }
  void on_peer_close(close_code code, std::string_view reason);
  void answer_close();
  void on_violation(protocol::violation v);
  void on_input_end(transport::io_status status) noexcept;
  void update_interest() noexcept;

  // session_core.cpp
  void flush() noexcept;
  void admit_waiters() noexcept;
  // The peer's close that waits for them is answered once they are gone.
  void answer_when_none_waits() noexcept;
  admission submit_as_is(const message &m, std::unique_ptr<message_extras> &extras);
  void end_input(failure why) noexcept;
  void finish() noexcept;
  failure how_we_closed() const;
  void begin_close_deadline();
  void wake_all() noexcept;

  // session_live.cpp
  static void on_timer(timer &t) noexcept;
  bool expects_pongs() const noexcept;
  void check_liveness() noexcept;
  void evict_with(std::string sentence, std::string_view reason) noexcept;
  void schedule_liveness() noexcept;

  struct liveness_timer : timer {
    explicit liveness_timer(session_core &c) noexcept : timer(&session_core::on_timer), core(c) {}
    session_core &core;
  };

  // Hot.
  std::shared_ptr<shard> home_;
  std::unique_ptr<transport::stream> carrier_;
  std::shared_ptr<const session_options> options_;
  std::unique_ptr<session_envelope> envelope_; // null: none
  input_reader reader_;
  std::span<std::byte> input_; // unparsed, of the present turn
  buffer input_owner_;         // holds `input_` when it is not the shard's buffer
  bool in_turn_ = false;
  bool have_current_ = false; // the reader holds a message nobody has taken
  bool wants_batch_ = false;
  bool ignoring_ = false;
  bool screened_ = false; // messages are not simply taken: they are ignored, or under a rate
  bool receiver_claimed_ = false;
  bool stalled_ = false;         // the inbox is full: nothing is read
  bool continue_posted_ = false; // a turn over the stash is due
  bool input_ended_ = false;
  bool closing_ = false; // no message is accepted any more
  bool close_sent_ = false;
  bool close_received_ = false;
  bool answer_due_ = false; // the peer's close waits for the handler to answer its batch
  bool late_ = false; // the connection is gone; `input_` is what had come, parsed as it is taken
  bool discarding_ = false; // after a failure: input is read and thrown away until the peer ends
  bool write_shut_ = false;
  bool write_failed_ = false;
  bool close_when_unowned_ = false;
  bool keep_unsent_ = false;
  std::uint32_t turn_messages_ = 0;
  std::size_t turn_bytes_ = 0; // of messages in memory of their own
  unsigned interest_ = 0;
  parked receiver_;
  ring<message> inbox_;
  std::size_t inbox_bytes_ = 0;
  std::atomic<std::size_t> in_transit_{0}; // bytes on their way here from other threads
  std::unique_ptr<message_batch> batch_;
  outbox out_;
  std::vector<std::shared_ptr<fan_in>> rooms_;
  std::atomic<session_state> state_{session_state::connecting};

  ring<send_waiter *> send_waiters_;
  ring<parked *> flush_waiters_;
  ring<ping_waiter *> ping_waiters_;
  ring<parked *> close_waiters_;

  // Liveness.
  liveness_timer timer_;
  time_point last_received_{};
  time_point last_message_{};
  time_point next_ping_{};
  time_point ping_sent_at_{};
  time_point close_deadline_ = time_point::max();
  std::uint64_t ping_number_ = 0;
  bool ping_under_way_ = false;

  // Cold.
  counter messages_received_;
  counter bytes_received_;
  counter confirmed_;
  counter round_trip_ns_;
  counter unsent_;
  std::unique_ptr<failure> own_close_; // what the end will be called when this side began it
  session_observer *observer_ = nullptr;
  std::shared_ptr<session_core> self_; // while not closed
  session_id id_;
  protocol::role side_;
  std::string remote_;
  std::string local_;
  std::unique_ptr<const std::string> subprotocol_; // null: none
  std::unique_ptr<session_terms> terms_;           // null: none
  std::shared_ptr<const void> origin_;
  time_point opened_at_{};
  time_point closed_at_{};
  failure end_;
  std::atomic<std::stop_source *> stop_{nullptr}; // owned; made when somebody asks
};

template <> bool session_core::ready<message>();
template <> message session_core::take<message>();
template <> bool session_core::ready<message_batch>();
template <> message_batch session_core::take<message_batch>();

} // namespace chorus::detail
