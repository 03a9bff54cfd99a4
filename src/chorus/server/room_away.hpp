#pragma once
// What becomes of the messages of a room with history while its engine is away: see away_policy. Part of
// the room's link, on the room's home shard. It never asks an engine that is away by itself: whoever
// learns that it is back says so, `come_back`.

#include <chorus/async/shard.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/room_core.hpp>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

namespace chorus::detail {

class room_link;

// A message that the engine is to number, until it comes back with its place.
struct in_flight {
  message content{};
  sent_out with{};
  broker_position at{};    // once the engine has told
  time_point since{};      // of its publish
  std::uint64_t asked = 0; // what the engine was asked last, when it told
  std::size_t cost() const noexcept;
};
using flights = std::map<std::uint64_t, in_flight>; // in the order of their publishes

class room_away final : public resident {
public:
  room_away(room_link &owner, const room_core &room);
  ~room_away();

  // Takes `one`, unless the engine is to be asked.
  bool takes(room_core &room, std::uint64_t number, in_flight &one);
  // Such a failure says that it is away, and that a publish may be made again.
  static bool is_away(const failure &why) noexcept;
  // The engine is asked for a place, and has answered. `one`: the message, unless it is done with.
  void asked(room_core &room);
  void succeeded(room_core &room, std::uint64_t number);
  void failed(room_core &room, std::uint64_t number, const failure &why,
              std::optional<in_flight> one);
  // One of ours has a place.
  void taken(std::uint64_t number) noexcept { newest_ = std::max(newest_, number); }
  // One of ours has come with its place. True when members here have it already; `one` is what waited
  // here, although it had got through.
  bool had(std::uint64_t number, std::optional<in_flight> &one);
  // Members here have it already, and it may come with a place.
  bool gave(std::uint64_t number) const { return given_.contains(number); }
  // The engine answers, as it seems.
  void come_back(room_core &room);
  // Who arrives can't be let in by the engine: true when it may come in without.
  bool lets_in(room_core &room, const failure &why);
  // Members get messages without a place, and those who resume may have missed some.
  bool alone() const noexcept { return mode_ == mode::alone || mode_ == mode::returning; }
  bool owes() const noexcept { return owed_; }
  // The server stops: what waits does so no longer.
  void end(room_core &room);

  void on_shard_gone() noexcept override;

private:
  enum class mode : unsigned char {
    here,     // the engine is asked
    waiting,  // messages wait for it, or are handed to it one after the other
    alone,    // members get messages without it
    returning // they wait for the new epoch
  };

  void go_away(room_core &room);
  void owe(bool owes) noexcept;
  engine_counts &all() const noexcept { return measures_->engine; }
  void begin_degraded(room_core &room);
  void end_degraded(room_core *room) noexcept;
  void answered(room_core &room, bool well);
  void wait(room_core &room, std::uint64_t number, in_flight one);
  in_flight unwait(flights::iterator at);
  flights unwait_all();
  void give(room_core &room, const in_flight &one);
  void hand_over(room_core &room);
  void begin_epoch(room_core &room);
  void epoch_begun(room_core &room, const result<> &r);
  void look_after();
  void keep_room(room_core &room);
  void let_room_go() noexcept;

  room_link &link_;
  const away_policy policy_;
  const std::size_t most_;
  const std::size_t most_bytes_;
  mode mode_ = mode::here;
  bool ended_ = false; // the server stops
  bool owed_ = false;  // messages were given without a place since the epoch began
  std::string epoch_;  // that the room knew when it was left alone; empty: none
  bool back_ = false;  // the engine is, and only answers to what it was asked before are to come
  std::size_t unanswered_ = 0;
  std::size_t at_a_time_ = 1;           // that are handed over at once
  std::set<std::uint64_t> handed_over_; // without an answer
  flights waiting_;
  std::size_t waiting_bytes_ = 0;
  std::uint64_t newest_ = 0;      // that has a place
  std::set<std::uint64_t> given_; // that may come from the engine, too
  // Of those that may come although nobody knows: who is not to get them.
  std::map<std::uint64_t, std::shared_ptr<const publish_terms>> unconfirmed_;
  const std::shared_ptr<room_measures> measures_;          // of the server
  std::chrono::steady_clock::time_point degraded_since_{}; // none: it is not
  std::shared_ptr<room_core> keep_;                        // while something is to be done
};

} // namespace chorus::detail
