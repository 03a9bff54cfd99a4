#pragma once
// The members of a room that live on one shard, and what was published to them in this turn.
//
// Publishes of one turn are encoded once into a run of frames; at the end of the turn each member
// with nothing of its own waiting gets the whole run with one write. A member that joined in between,
// is excepted from some of it, or has output waiting gets its frames as references instead.

#include <chorus/server/arrival.hpp>
#include <chorus/server/gather.hpp>
#include <chorus/server/measures.hpp>
#include <chorus/server/resume_peer.hpp>
#include <chorus/server/room.hpp>
#include <chorus/session/session_core.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chorus::detail {

class room_core;

// Of a room in all shards; outlives it while something still counts.
struct room_counters {
  std::atomic<std::uint64_t> published{0};
  std::atomic<std::uint64_t> deliveries{0};
  std::atomic<std::uint64_t> dropped{0};
  std::atomic<std::uint64_t> evicted{0};
  std::atomic<std::uint64_t> expired{0};
  std::atomic<std::uint64_t> filter_failures{0};
  std::atomic<std::uint64_t> refused{0};
  std::atomic<std::size_t> members{0};
  std::atomic<std::size_t> in_transit{0}; // bytes, against room_transit_bytes
  std::atomic<std::uint64_t> broker_failures{0};
  std::atomic<std::uint64_t> unconfirmed{0};
  std::atomic<std::uint64_t> unnumbered{0};
  std::atomic<std::uint64_t> relayed{0};
  std::atomic<std::uint64_t> replayed{0};
  std::atomic<std::size_t> waiting{0};
  std::atomic<std::int64_t> degraded_since{0}; // steady clock, ns; 0: it is not
  std::atomic<std::int64_t> degraded_for{0};   // ns, before that
  resume_counters resume;
  // These don't change once the room is made.
  std::shared_ptr<resume_setup> all_rooms; // null: nobody here is under the resume protocol
  std::string resume_head;                 // of a message that is not kept
  std::function<void()> emptied;           // told when the last member has left; on its shard
  std::shared_ptr<room_measures> measures; // of the server; null: nobody measures

  std::chrono::nanoseconds degraded() const noexcept {
    const auto since = degraded_since.load(std::memory_order_relaxed);
    const std::chrono::nanoseconds now = std::chrono::steady_clock::now().time_since_epoch();
    return std::chrono::nanoseconds(degraded_for.load(std::memory_order_relaxed)) +
           (since == 0 ? now - now : now - std::chrono::nanoseconds(since));
  }
  bool measured() const noexcept { return measures && measures->on(); }
  // One more message; on `home`, the room's.
  void note_members(const shard &home) noexcept {
    measures->at(home.index())
        .members.observe(static_cast<double>(members.load(std::memory_order_relaxed)));
  }
};

// Where what user code throws in a room is told; empty: nowhere.
using room_complaints = std::function<void(std::string_view what, const session &member)>;

// Options of a publish or broadcast, owned. Most publishes have none (null).
struct publish_terms {
  std::vector<session_id> except;
  std::vector<std::string> except_clients; // those of them that are under the resume protocol
  member_filter only;
  std::string key;
  std::chrono::milliseconds time_to_live{0};
  std::string except_user{};
  lane how = lane::reliable;
  session_id to = 0;         // for this member alone
  std::uint64_t version = 0; // of a change of presence: for those who have the list as of before it
  // What is not for everybody, not for long, or not in the room's order has no place in a history.
  bool keepable() const noexcept {
    return !only && time_to_live.count() == 0 && except_user.empty() && how == lane::reliable;
  }
  bool plain() const noexcept {
    return except.empty() && !only && key.empty() && time_to_live.count() == 0 &&
           except_user.empty() && how == lane::reliable && to == 0 && version == 0;
  }
};

struct waiting_copy;

class room_part final : public fan_in,
                        public flushable,
                        public resident,
                        public std::enable_shared_from_this<room_part> {
public:
  room_part(std::shared_ptr<shard> home, std::shared_ptr<room_counters> counters,
            std::shared_ptr<const room_complaints> complaints);
  ~room_part();

  const std::shared_ptr<shard> &home() const noexcept { return home_; }
  // From any thread.
  std::size_t size() const noexcept { return count_.load(std::memory_order_relaxed); }

  // Before it is shared: in place of the members' own policies.
  void set_overflow(std::optional<overflow> policy) noexcept { overflow_ = policy; }

  // On the shard.
  // What is known of a member that has just been added, or joined again.
  void introduce(const std::shared_ptr<room_core> &room, session_id id, member_info info);
  void update(session_id id, const std::string &data);
  std::vector<member_entry> entries() const;
  // The list of who is present as of the change `version`, for one member.
  void show_list(session_id id, std::uint64_t version, const message &m);
  void add(const std::shared_ptr<session_core> &member);
  void remove(session_id member, const std::string &room = {}) noexcept;
  std::vector<session_id> ids() const;
  void close_all(close_code code, std::string_view reason);
  void publish(const message &m, std::shared_ptr<const publish_terms> terms,
               std::shared_ptr<gather_part> outcomes, kept k = nullptr);
  // A member may be on its way here: what is published meanwhile is for it.
  void expect() noexcept { expected_.fetch_add(1); }
  std::size_t expected() const noexcept { return expected_.load(); }
  bool wanted() const noexcept { return size() != 0 || expected() != 0; }
  // Who was expected becomes a member, and gets what it has missed; `a` is settled.
  void enter(arrival &a, const history::answer *past, const std::shared_ptr<room_core> &room);
  void unexpect() noexcept { expected_.fetch_sub(1); }
  // Another join of the session was quicker, and that membership is over: so is the position.
  bool outdated(const arrival &a, std::string_view room) const noexcept;
  // Who was expected does not come in.
  void turn_away(arrival &a, const failure &why) noexcept;
  // Members under the resume protocol have missed what came before `offset`.
  void tell_gap(const std::string &room, const std::string &epoch, std::uint64_t offset,
                protocol::resume_gap why);
  // A broadcast that goes to the engine first: who is meant now.
  void await(const publish_terms *terms, gather_part &outcomes) { expect_members(terms, outcomes); }
  // A broadcast that nobody gets.
  void refuse(const publish_terms *terms, gather_part &outcomes, const failure &why);
  // The deadline of a broadcast: copies of it that wait for room are given up.
  void give_up(gather_part &outcomes) noexcept;

  void flush_turn() noexcept override;
  void catch_up(session_core &member) noexcept override;
  void on_member_gone(session_core &member) noexcept override;
  // The publishes of an unfinished turn go with the shard.
  void on_shard_gone() noexcept override;

private:
  friend struct waiting_copy;
  struct member {
    session_core *core = nullptr; // null: gone, to be swept
    session_id id = 0;
    std::uint64_t next = 0; // number of the next frame it is to get
    std::uint32_t seats = 0;
  };
  struct frame {
    std::size_t begin;
    std::size_t payload;
    std::size_t end;
    message_kind kind;
    bool special; // has terms or outcomes
  };
  struct specials {
    std::shared_ptr<const publish_terms> terms;
    std::shared_ptr<gather_part> outcomes;
    time_point expires = time_point::max();
    std::shared_ptr<delivery_sink> sink; // counts what expires, and passes on to `outcomes`
  };
  // Frames as one run of bytes in some wire format; `ends` has one entry per frame.
  struct encoded_run {
    wire_format format;
    buffer storage;
    std::vector<std::size_t> ends;
    // Frames without bytes: messages that this format can't carry, and empty ones where nothing but
    // bytes counts (raw).
    std::size_t gaps = 0;
  };
  struct run {
    std::uint64_t first = 0; // number of the first frame
    byte_buffer bytes;       // unmasked WebSocket frames
    std::vector<frame> frames;
    std::vector<specials> extras; // as long as frames, or empty
    std::vector<encoded_run> others;
    std::vector<kept> keeps; // as long as frames, or empty; null: not kept
    bool any_special = false;
    bool any_kept = false;
    bool any_lane = false; // some frame is of another lane than most
    bool empty() const noexcept { return frames.empty(); }
  };

  // These run a filter, which may end sessions.
  bool meant(const session_core &core, const publish_terms *terms) const noexcept;
  bool chosen(const session_core &core, const specials &x) const noexcept;
  void expect_members(const publish_terms *terms, gather_part &outcomes);
  void deliver(session_core &core, run &r, std::size_t from) noexcept;
  // The run has terms or outcomes.
  void deliver_chosen(session_core &core, run &r, std::size_t from,
                      const encoded_run *encoded) noexcept;
  void deliver_each(session_core &core, run &r, std::size_t from,
                    const encoded_run *encoded) noexcept;
  bool deliver_run(session_core &core, run &r, std::size_t from,
                   const encoded_run *encoded) noexcept;
  void deliver_single(session_core &core, run &r, std::size_t index, const encoded_run *encoded);
  const encoded_run *encode_for(session_core &core, run &r);
  void deliver_kept(session_core &core, const run &r, std::size_t index,
                    const encoded_run *encoded);
  message copy_of(const session_core &core, const run &r, std::size_t index) const;
  void welcome(session_core &core, resume_peer &peer, const arrival &a, const history::answer *past,
               const std::string &room);
  void send_past(session_core &core, const history::answer &past);
  // For copies of a message with a time to live: counts those dropped for their age and passes all
  // on to `outcomes`, if there are any.
  std::shared_ptr<delivery_sink> sink_of_age(time_point expires,
                                             std::shared_ptr<gather_part> outcomes) const;
  std::unique_ptr<message_extras> extras_for(const run &r, std::size_t index, session_id id) const;
  void settle(const run &r, std::size_t index, session_id id, write_outcome outcome) const noexcept;
  void skip(session_core &core, const run &r, std::size_t index) noexcept;
  void count_delivered(std::size_t copies) noexcept {
    counters_->deliveries.fetch_add(copies, std::memory_order_relaxed);
  }
  member_entry entry_of(const session_core &core) const;
  bool has_waiting(const session_core &core) const noexcept;
  std::unique_ptr<waiting_copy> release(const waiting_copy &w) noexcept;
  void sweep() noexcept;

  std::shared_ptr<shard> home_;
  std::shared_ptr<room_counters> counters_;
  std::shared_ptr<const room_complaints> complaints_;
  std::vector<member> members_;
  std::unordered_map<session_id, std::uint32_t> index_;
  std::unordered_map<session_id, std::shared_ptr<member_info>> infos_; // of those who have a seat
  std::weak_ptr<room_core> room_; // of a room that keeps presence, once somebody has joined
  std::optional<overflow> overflow_;
  std::atomic<std::size_t> count_{0};
  std::atomic<std::size_t> expected_{0};
  std::uint64_t next_number_ = 0;
  run pending_;
  std::shared_ptr<room_part> keep_; // while a flush is due
  std::vector<std::unique_ptr<waiting_copy>> waiting_;
  std::vector<bool> chosen_; // scratch: which frames of a run with specials a member gets
  bool delivering_ = false;
  bool gone_while_delivering_ = false;
};

// A copy of a broadcast that waits for room in a member's full queue.
struct waiting_copy final : send_waiter {
  explicit waiting_copy(std::shared_ptr<room_part> p) : part(std::move(p)) {}
  void settled() noexcept override;
  std::shared_ptr<room_part> part; // the member may leave meanwhile, and the room go
  message copy;
  std::shared_ptr<session_core> core;
  std::shared_ptr<gather_part> outcomes;
};

} // namespace chorus::detail
