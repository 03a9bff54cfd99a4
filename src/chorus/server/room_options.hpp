#pragma once
// What a room is told when it is made: see server_options::rooms.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/server/presence.hpp>
#include <chorus/session/session.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace chorus {

// Who asks to become a member.
struct join_request {
  std::string room{};
  chorus::session session{};
  std::string user{}; // empty: anonymous
  std::string data{}; // JSON text; empty: none
};
// Lets it in, or refuses with a failure whose sentence the one that joins gets to see. A coroutine on
// the session's shard; by then the session may be over, or the room closed, which the join notices
// afterwards. One that throws refuses, and is told to on_error.
using join_hook = std::function<task<result<>>(join_request)>;

// What becomes of messages for a room with history while the broker's engine is away.
enum class away_policy : std::uint8_t {
  refuse, // they fail: counted, told to on_error, and in the report of a broadcast
  buffer, // they wait, within `away_messages` and `away_bytes`, and go to the engine in their order when
          // it is back; what finds no room fails
  degrade, // members on this server get them at once, nobody else does, and they are not kept; when the
  // engine is back the room begins a new epoch, so that whoever resumes is told "recovered": false
};

// Members are only ever added at the end.
struct room_options {
  // History: the last so many messages, and of them those that are not older than `history_age`; zero
  // sets no such bound. With both zero nothing is kept.
  std::size_t history_messages = 0;
  std::chrono::milliseconds history_age{0};
  // Bytes that the history may take, with its overhead; the oldest go first. A single message that is
  // larger is delivered, and then nothing is kept.
  std::size_t history_bytes = std::size_t{4} << 20;
  // How long a room that keeps history stays after its last member has left and its last message was
  // published, so that who reconnects finds what it missed. Zero: it vanishes like any other room.
  std::chrono::milliseconds history_linger{60'000};

  // In place of the members' own overflow policies, for what is published here. The bounds of their
  // queues stay their own. Empty: as each session's options say.
  std::optional<overflow> on_overflow{};
  // Of messages that name none.
  chorus::lane lane = chorus::lane::reliable;
  std::chrono::milliseconds time_to_live{0};

  join_hook on_join{};                // asked after the server's own; empty: everybody may join
  std::size_t max_member_data = 4096; // bytes of JSON text

  // Members are told who is there: see presence_event. A slow member under a policy that drops may
  // lose such a message like any other; `room.presence()` has the truth.
  bool presence = false;
  // A user that comes back within this time has not left: nobody is told of either. Zero: leaving is
  // told at once, as it is of anonymous members always.
  std::chrono::milliseconds presence_grace{0};
  // What is sent, on the room's home shard; an empty message sends nothing. Empty: presence_text.
  std::function<message(const presence_event &)> presence_message{};
  // Told of every change, but not of lists, on the room's home shard; with a broker on each server
  // where the room has had members, see presence_event::elsewhere.
  std::function<void(const presence_event &)> on_presence{};

  // Members that a list of who is present names at most, the newcomer among them; it says how many
  // there are. Zero: all. Each costs its name and data in every newcomer's list.
  std::size_t presence_list_most = 1000;

  // With a broker, while its engine is away.
  away_policy when_away = away_policy::refuse;
  std::size_t away_messages = 1000;
  std::size_t away_bytes = std::size_t{4} << 20; // with their overhead

  bool keeps_history() const noexcept { return history_messages != 0 || history_age.count() != 0; }
};

namespace detail {

using make_room_options = std::function<room_options(std::string_view name)>;

// What is wrong with them, as a sentence; empty when they can be used.
std::string_view complaint_about(const room_options &) noexcept;

} // namespace detail

} // namespace chorus
