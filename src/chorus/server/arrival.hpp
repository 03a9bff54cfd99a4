#pragma once
// Somebody on the way into a room: from the member's shard to the room's home shard, which says what of
// the history it gets, and back. The way back is a post in the same order as those of the publishes, so
// that the history ends where the new messages begin.

#include <chorus/async/parked.hpp>
#include <chorus/server/history.hpp>
#include <chorus/server/member.hpp>
#include <chorus/session/session_core.hpp>

#include <memory>
#include <optional>
#include <string>

namespace chorus::detail {

class room_part;

struct arrival final : resident {
  std::shared_ptr<session_core> core;
  std::shared_ptr<room_part> part;
  std::string client; // empty: none, or a plain peer
  std::optional<protocol::resume_position> position;
  std::size_t newcomer = 0; // messages
  member_info info;         // what the room is to know of it
  bool caught_up = false;   // the engine was asked whether the room is as far as `position`

  // On the member's shard.
  bool settled = false;
  bool abandoned = false; // who asked was cancelled
  failure refused{};      // no error: it is a member
  parked sleeper;

  void settle(failure why = {}) noexcept {
    settled = true;
    refused = std::move(why);
    sleeper.wake_later();
  }
  // Enrolled while somebody waits.
  void on_shard_gone() noexcept override { sleeper.wake_later(); }
};

} // namespace chorus::detail
