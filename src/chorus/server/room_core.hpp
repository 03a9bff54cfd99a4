#pragma once
// A room over all shards: its home shard numbers what is published and hands it to the shards that
// have members, so that every member sees the same order.

#include <chorus/async/runtime_core.hpp>
#include <chorus/base/ring.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/room_log.hpp>
#include <chorus/server/room_options.hpp>
#include <chorus/server/room_part.hpp>

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

namespace chorus::detail {

class broker_node;
class hub;
class presence;
class room_link;

// How a message sets out. Whatever carries it between shards holds its weight against
// room_transit_bytes; one that stays on its thread weighs nothing.
class departure {
public:
  class load {
  public:
    load(std::shared_ptr<room_counters> counters, std::size_t bytes) noexcept
        : counters_(std::move(counters)), bytes_(bytes) {}
    load(const load &) = delete;
    load &operator=(const load &) = delete;
    ~load() { counters_->in_transit.fetch_sub(bytes_, std::memory_order_relaxed); }

  private:
    std::shared_ptr<room_counters> counters_;
    std::size_t bytes_;
  };

  departure() noexcept = default;
  explicit departure(std::shared_ptr<const load> l) noexcept : weight(std::move(l)) {}

  std::shared_ptr<const load> weight;
  bool refused = false;
};

// What the rooms of a server share.
struct room_surroundings {
  std::shared_ptr<history_budget> budget;
  std::shared_ptr<resume_setup> resume;
  bool implicit = false; // nobody joins it: peers under the resume protocol are not told its name
  std::shared_ptr<broker_node> node;         // null: this server is alone
  std::shared_ptr<room_measures> measures{}; // null: nobody measures
};

// With what a message was sent out, until it is delivered.
struct sent_out {
  std::shared_ptr<const publish_terms> terms{};
  std::shared_ptr<const departure::load> weight{};
  std::vector<std::pair<std::shared_ptr<room_part>, std::shared_ptr<gather_part>>> outcomes{};
};

class room_core : public std::enable_shared_from_this<room_core> {
public:
  room_core(std::string name, const runtime_core &runtime, std::weak_ptr<hub> owner,
            const std::shared_ptr<const room_complaints> &complaints, const room_options &options,
            const room_surroundings &around);
  ~room_core();

  const std::string &name() const noexcept { return name_; }
  const std::shared_ptr<shard> &home() const noexcept { return home_; }
  // The part on `s`; null when `s` is no shard of this server's runtime.
  std::shared_ptr<room_part> part_on(const shard &s) const noexcept;
  const std::vector<std::shared_ptr<room_part>> &parts() const noexcept { return parts_; }
  room_counters &counters() const noexcept { return *counters_; }
  bool closed() const noexcept;
  const room_options &options() const noexcept { return options_; }
  // Once, when it is owned.
  void settle_in(const room_surroundings &around);
  // Null: no history. Its own belongs to the home shard.
  room_log *log() const noexcept { return log_.get(); }
  const std::shared_ptr<room_link> &link() const noexcept { return link_; } // null: no engine
  // From any thread: it is told of what others publish from here on. Does nothing without an engine.
  void connect();
  // Nothing of it is anywhere but where its members are.
  bool local() const noexcept { return !log_ && !link_; }
  // Members, or somebody on the way.
  bool has_anybody() const noexcept;
  // Empty unless the room keeps history: which clients those are.
  std::vector<std::string> clients_of(const std::vector<session_id> &ids) const;
  bool has_utf8_name() const noexcept { return utf8_name_; }
  // Whether it can be named to a peer under the resume protocol.
  bool nameable() const noexcept { return !counters_->resume_head.empty(); }
  detail::presence *presence() const noexcept { return presence_.get(); } // null: not kept
  // The hook of the server, for all its rooms; may be null or empty.
  std::shared_ptr<const join_hook> general_join_hook() const noexcept;
  void complain(const std::string &what, const session &about = session()) const;

  // From any thread.
  void publish(message m, std::shared_ptr<const publish_terms> terms);
  // On the home shard: a message of the room's own, not of its history.
  void announce(const message &m, const std::shared_ptr<const publish_terms> &terms);
  // From any thread, before `broadcast`; counts what it refuses.
  departure depart(const message &m, const publish_terms *terms);
  // On the shard of its member: takes `a` to the home shard and back; it is settled when the member is
  // in, perhaps at once.
  void arrive(const std::shared_ptr<arrival> &a);
  // On the home shard.
  task<result<broadcast_report>> broadcast(message m, std::shared_ptr<const publish_terms> terms,
                                           std::chrono::milliseconds deadline, bool list_delivered,
                                           departure way);

  // From any thread: somebody who was on the way in did perhaps not come.
  void look_whether_empty();
  // On the home shard, for the link.
  void answer(const std::shared_ptr<arrival> &a);
  kept adopt(const broker_message &m);
  void go_on_in(const std::string &epoch);
  // Members under the resume protocol are told that they have missed something, and where it goes on.
  void tell_gap(const std::string &epoch, std::uint64_t offset, protocol::resume_gap why);
  // To all members, on all shards.
  void deliver(const message &m, const sent_out &with, const kept &k);

private:
  // Published elsewhere, on its way to the home shard.
  struct submitted {
    message m;
    std::shared_ptr<const publish_terms> terms;
    std::shared_ptr<const departure::load> weight;
  };

  // What a filter publishes while one exists is handed out later.
  class now_handing_out {
  public:
    explicit now_handing_out(room_core &room) noexcept
        : flag_(room.handing_out_), before_(std::exchange(flag_, true)) {}
    ~now_handing_out() { flag_ = before_; }
    now_handing_out(const now_handing_out &) = delete;
    now_handing_out &operator=(const now_handing_out &) = delete;

  private:
    bool &flag_;
    const bool before_;
  };

  bool hand_out_next();
  void hand_out_waiting();
  kept keep(const message &m, const publish_terms *terms);
  void hand_out(const message &m, const std::shared_ptr<const publish_terms> &terms,
                const std::shared_ptr<const departure::load> &weight);

  std::string name_;
  room_options options_;
  std::weak_ptr<hub> owner_;
  std::shared_ptr<room_counters> counters_;
  std::vector<std::shared_ptr<room_part>> parts_;
  std::shared_ptr<shard> home_;
  std::shared_ptr<resume_setup> resume_;
  std::unique_ptr<room_log> log_;
  std::shared_ptr<const room_complaints> complaints_;
  std::unique_ptr<detail::presence> presence_;
  std::shared_ptr<room_link> link_; // null: no engine
  const bool utf8_name_;
  bool handing_out_ = false; // on the home shard: a filter may run
  std::atomic<std::size_t> waiting_{0};
  std::mutex incoming_mutex_;
  ring<submitted> incoming_; // `waiting_` of them, each with a post that takes the first
};

// What a seat holds; leaving is idempotent.
class membership {
public:
  membership(std::shared_ptr<room_core> room, std::shared_ptr<room_part> part, session_id id)
      : room_(std::move(room)), part_(std::move(part)), id_(id) {}
  const std::shared_ptr<room_core> &room() const noexcept { return room_; }
  void leave() noexcept;
  result<> update(std::string_view data);

private:
  std::shared_ptr<room_core> room_;
  std::shared_ptr<room_part> part_;
  session_id id_;
  std::atomic<bool> left_{false};
};

} // namespace chorus::detail
