#pragma once
// A room's history on its home shard, and how long it keeps its room alive: while there are members, and
// for a while after. Belongs to the home shard's thread, but for construction and destruction.

#include <chorus/async/shard.hpp>
#include <chorus/server/history.hpp>

#include <memory>
#include <string>

namespace chorus::detail {

class room_log final : public resident {
public:
  // Part of `room`.
  room_log(room_core &room, const room_options &options, std::shared_ptr<history_budget> budget);

  history &messages() noexcept { return messages_; }

  // Somebody is about to become a member.
  void arriving();
  // Perhaps the last member has left, or did not come after all.
  void emptied();
  // What a publish has pushed out of other rooms, and that this one is not idle.
  void published(history_budget::victims gone);
  // Other rooms need the memory more, unless somebody is here.
  void make_way();
  // The server stops.
  void let_go() noexcept;

  void on_shard_gone() noexcept override { let_go(); }

private:
  struct linger_timer final : timer {
    explicit linger_timer(room_log &l) noexcept
        : timer([](timer &t) noexcept { static_cast<linger_timer &>(t).log.on_timer(); }), log(l) {}
    room_log &log;
  };
  void stay();
  void begin_idle();
  void on_timer() noexcept;
  static void tell(history_budget::victims gone);

  room_core &room_;
  const std::shared_ptr<history_budget> budget_;
  const duration linger_;
  history messages_;
  std::shared_ptr<room_core> self_; // while the room stays by itself
  linger_timer timer_{*this};
  time_point quiet_since_{};
};

} // namespace chorus::detail
