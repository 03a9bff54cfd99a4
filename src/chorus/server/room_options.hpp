#pragma once
// What a room is told when it is made: see server_options::rooms.

#include <chrono>
#include <cstddef>
#include <functional>
#include <string_view>

namespace chorus {

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

  bool keeps_history() const noexcept { return history_messages != 0 || history_age.count() != 0; }
};

namespace detail {

using make_room_options = std::function<room_options(std::string_view name)>;

// What is wrong with them, as a sentence; empty when they can be used.
std::string_view complaint_about(const room_options &) noexcept;

} // namespace detail

} // namespace chorus
