#pragma once
// The chat, its page and the dashboard, on the paths that docs/chat.md names.

namespace chorus {
class server;
}

namespace cli {

// Before `start`. The server must outlive its handlers.
void add_web_routes(chorus::server &srv);

} // namespace cli
