#pragma once
// The chat, its page and the dashboard, on the paths that docs/chat.md names.

#include <chorus/server/room_options.hpp>

#include <string_view>

namespace chorus {
class server;
}

namespace cli {

// For server_options::rooms.
chorus::room_options web_room_options(std::string_view name);

// Before `start`. The server must outlive its handlers.
void add_web_routes(chorus::server &srv);

} // namespace cli
