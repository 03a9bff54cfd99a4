#pragma once
// The chat of `chorus serve`, as a service that any server can mount: JSON messages over WebSocket, as
// docs/chat.md specifies them.
//
//   server_options.rooms = [](std::string_view name) { return cli::chat::options_of_room(name); };
//   …
//   auto chat = std::make_shared<cli::chat>(srv);
//   srv.route("/ws/chat/{room}", [chat](chorus::session s, chorus::request r) {
//     return chat->serve(std::move(s), std::move(r));
//   });
//
// Every verb may be called on any thread. What peers can make grow is bounded by chat_options and by
// the server's own limits on connections.

#include <chorus/chorus.hpp>
#include <chorus/json.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

struct chat_options {
  std::size_t max_message = 4000;     // characters (Unicode code points)
  std::size_t max_text = 64 * 1024;   // bytes of one JSON message from a peer
  std::size_t max_user_id = 64;       // bytes
  std::size_t max_username = 40;      // characters
  std::size_t max_room = 64;          // bytes of a room's name
  std::size_t max_ref = 64;           // bytes of a sender's own reference to a message
  std::size_t history_messages = 100; // of a room, sent to who comes later
  std::size_t users_listed = 500;     // of a room, in `joined`
  // Who comes back within this time has not left. Zero: leaving is told at once.
  std::chrono::milliseconds presence_grace{5'000};
  // The server's own, if it has one: who says something while it is away and messages are refused then
  // is told so.
  std::shared_ptr<chorus::broker> broker{};
  chorus::away_policy when_away = chorus::away_policy::refuse;
};

struct chat_room_summary {
  std::string name;
  std::size_t users = 0; // with those who are expected back
  chorus::room_stats stats{};
};

namespace detail {
struct chat_room;
}

class chat {
public:
  // The server must outlive every handler that runs `serve`.
  explicit chat(chorus::server &srv, chat_options options = {});
  ~chat();
  chat(const chat &) = delete;
  chat &operator=(const chat &) = delete;

  // For server_options::rooms: the chat's rooms, whose names begin with "chat/", keep a history and
  // presence; what any other room is to be like is up to the caller.
  static chorus::room_options options_of_room(std::string_view name,
                                              const chat_options &options = {});

  // For the route's authorize hook: the session's user is the `user_id` of the query, so that what is
  // counted by user knows it. Refuses nobody.
  static chorus::task<chorus::admission> name_user(chorus::request r);

  // One connection's whole talk; the room is the route's parameter `room`, who it is the query's
  // `user_id` and `username`. Completes when the peer has gone. A peer that can't be let in is told
  // why by an `error` and closed with 1008: a browser's script sees neither status nor body of a
  // refused upgrade. This object must live as long as the coroutine runs.
  chorus::task<> serve(chorus::session s, chorus::request r);

  // Rooms with connections, at most `limit`, those with the most users first. Never fails; this object
  // must live until it completes.
  chorus::task<std::vector<chat_room_summary>> rooms(std::size_t limit = 100) const;

private:
  std::shared_ptr<detail::chat_room> enter(const std::string &name);
  void left(const std::shared_ptr<detail::chat_room> &room) noexcept;
  friend class chat_visit;

  chorus::server &server_;
  const chat_options options_;
  mutable std::mutex guard_;
  std::map<std::string, std::shared_ptr<detail::chat_room>, std::less<>> rooms_; // with visits
};

} // namespace cli
