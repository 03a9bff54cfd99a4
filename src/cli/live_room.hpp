#pragma once
// Rooms with history for clients that join by path: what one sends all get, the sender too, and who comes
// back under the resume protocol gets what it missed. docs/program.md has the paths.

#include <chorus/chorus.hpp>

#include <string_view>

namespace cli {

// For server_options::rooms.
bool is_live_room(std::string_view name) noexcept;
chorus::room_options options_of_live_room(chorus::away_policy when_away);

// /ws/room/{room}. The server must outlive the handlers.
void add_live_rooms(chorus::server &srv);

} // namespace cli
