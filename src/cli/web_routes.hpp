#pragma once
// The chat, its page and the dashboard, on the paths that docs/chat.md names.

namespace chorus {
class server;
}

namespace cli {

struct chat_options;
struct shared_engine;

// Before `start`. The server must outlive its handlers, and its rooms must be made by
// chat::options_of_room with the same options.
void add_web_routes(chorus::server &srv, const chat_options &options, const shared_engine &engine);

} // namespace cli
