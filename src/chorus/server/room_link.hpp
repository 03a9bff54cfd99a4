#pragma once
// A room's connection to the engine that it shares with other servers. What is to be kept goes to the
// engine first and comes back with its place, for the publisher's own server as for all. On the room's
// home shard, but for what the engine calls.

#include <chorus/base/backoff.hpp>
#include <chorus/server/arrival.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/broker_node.hpp>
#include <chorus/server/home_alarm.hpp>
#include <chorus/server/known_origins.hpp>
#include <chorus/server/presence_link.hpp>
#include <chorus/server/room_away.hpp>
#include <chorus/server/room_core.hpp>

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

namespace chorus::detail {

class room_link final : public broker_listener, public std::enable_shared_from_this<room_link> {
public:
  // `channel` is what the engine calls the room.
  room_link(const std::shared_ptr<room_core> &room, std::string channel,
            std::shared_ptr<broker_node> node);

  // A message that the engine numbers; delivered when it comes back.
  void publish(const message &m, sent_out with);
  // One that is with this server's members already.
  void pass_on(const message &m, const publish_terms *terms);
  // True when `a` may enter now; else it is taken, and comes back to the room when all is there.
  bool ready_for(const std::shared_ptr<arrival> &a);
  // Members are let in, and get messages, without the engine.
  bool alone() const noexcept { return away_.alone(); }
  // On the home shard: the server stops.
  void end();
  // Listens from here on, if the engine lets it, now or later.
  void begin();
  // The room is going, from any thread.
  void close() noexcept;

  void on_message(const broker_message &m) noexcept override;
  void on_presence(const broker_change &c) noexcept override;
  void on_gap() noexcept override;

  // On the home shard, for the presence and for the node.
  presence_link *presence() const noexcept { return presence_.get(); } // null: not kept
  std::shared_ptr<room_core> room() const noexcept { return room_.lock(); }
  broker &engine() const noexcept { return *engine_; }
  const std::string &channel() const noexcept { return channel_; }
  const std::shared_ptr<broker_node> &node() const noexcept { return node_; }
  void presence_known(const failure &why);
  // What has failed is tried again once the engine answers.
  void mend();
  void trouble(std::string_view what, const failure &why);
  // The next trouble is told again.
  void all_is_well() noexcept { troubled_ = troubled_ && state_ != state::ready; }
  void complain(std::string_view what, const failure &why);
  // Something has failed; it is tried again after a pause, if nothing else does it before.
  void try_again_soon();

  // For what becomes of messages while the engine is away.
  void send(room_core &room, std::uint64_t number, in_flight one);
  // Nobody gets it; `quietly`: which is told elsewhere.
  void refuse(room_core &room, const in_flight &one, const failure &why, bool quietly = false);
  flights &unanswered() noexcept { return sent_; }
  // Some has come back, or is about to, since the engine was away.
  bool failing() const noexcept { return failing_.load(std::memory_order_acquire) != 0; }
  // All that the engine has is here.
  bool up_to_date() const noexcept { return state_ == state::ready; }
  void look_again();

  // Runs `f` with the room on its home shard, as long as there is one.
  template <class F> void at_home(F f) {
    home_->post([self = shared_from_this(), f = std::move(f)]() mutable {
      if (const auto room = self->room_.lock())
        f(*self, *room);
    });
  }

private:
  enum class state : unsigned char { idle, subscribing, listing, filling, ready };

  broker_message outgoing(const room_core &room, std::uint64_t number, const message &m,
                          const publish_terms *terms);
  void answered(room_core &room, std::uint64_t number, const result<broker_position> &r);
  void arrived(const broker_message &m);
  static bool of_another_epoch(room_core &room, const broker_message &m);
  // What members here get of it now: nothing, what somebody else published, or what was published here.
  enum class given : unsigned char { nothing, theirs, ours };
  given deliver(room_core &room, const broker_message &m);
  void deliver_live(room_core &room, const broker_message &m); // not from the history
  std::optional<std::uint64_t> number_of(const broker_message &m) const noexcept; // none: not ours
  void subscribed(const result<> &r);
  bool comes_in_alone();
  void list();
  void fill();
  void filled(const result<broker_page> &page);
  void become_ready(room_core &room);
  bool passed(const room_core &room, const in_flight &one) const;
  void forget_passed(room_core &room);
  void give_up(const failure &why);
  void go_on(room_core &room);
  // Of so many bytes, that can't be read again if it is lost.
  void take(std::function<void(room_link &)> one, std::size_t bytes = 0, bool once = false);
  void take_all(room_core &room);
  void gap(room_core &room);
  void note_epoch(room_core &room, const broker_page &page);
  // Members have been given what comes last, and learn where that is now.
  void tell_passed(room_core &room);
  // Of what the engine is asked now; an answer to anything else comes too late.
  std::uint64_t await_answer();
  void answer_came() noexcept;
  void overdue();
  void retry();
  void set(std::shared_ptr<home_alarm> &which, duration after, void (room_link::*then)());

  const std::weak_ptr<room_core> room_;
  const std::shared_ptr<shard> home_;
  const std::string name_;
  const std::string channel_;
  const std::shared_ptr<broker_node> node_;
  const std::shared_ptr<broker> engine_;
  const std::string ours_; // what our origins begin with
  std::unique_ptr<presence_link> presence_;
  state state_ = state::idle;
  bool filled_ = false;   // once
  bool wanted_ = false;   // by itself, not only by who arrives
  bool troubled_ = false; // and that has been told
  bool again_ = false;    // while filling: more has come than was kept here
  bool let_in_ = false;   // members, before the history was read
  bool stuck_ = false;    // while listing or filling: the engine failed; the next event asks again
  std::uint64_t asked_ = 0; // what the engine was, last
  std::shared_ptr<home_alarm> answer_due_;
  std::shared_ptr<home_alarm> retry_;
  backoff pauses_;
  std::uint64_t random_state_;
  std::size_t early_bytes_ = 0;
  known_origins known_;
  std::uint64_t passed_ = 0;  // offset of what came last, if members had been given it before
  std::uint64_t told_at_ = 0; // where members go on, as they were told last
  room_away away_;
  flights sent_;                      // what the engine was asked to number, until it comes
  std::vector<broker_message> early_; // while filling
  std::vector<std::shared_ptr<arrival>> arrivals_;
  std::atomic<std::size_t> failing_{0}; // answers that are on their way here
  std::mutex incoming_mutex_;
  std::vector<std::function<void(room_link &)>> incoming_; // from the engine
  std::size_t incoming_bytes_ = 0;
  std::uint64_t incoming_once_ = 0; // of them, that can't be read again
  std::uint64_t overrun_ = 0;       // such that were lost before all of them
  bool incoming_gap_ = false;       // before all of them
};

} // namespace chorus::detail
