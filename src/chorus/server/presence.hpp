#pragma once
// Who is present in a room, as its members are told: see room_options::presence.

#include <chorus/session/session.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace chorus {

// One user, however many connections; an anonymous connection stands for itself.
struct presence_entry {
  std::string user{}; // empty: anonymous
  session_id id = 0;  // of the connection that made it present
  std::string data{}; // JSON text, of the connection that joined or changed last; empty when none
  std::chrono::system_clock::time_point since{};
  // On this server, and one for each other server where it has any. 0: gone, but expected back within
  // the grace period.
  std::size_t connections = 0;
  // The server that `id` is of; empty without a broker. `server::send_to` takes "node:id".
  std::string node{};
};

enum class presence_change : std::uint8_t {
  // To a newcomer, before any of the others: who is present, up to presence_list_most, the newcomer
  // always.
  list,
  joined,  // to all but the newcomer
  left,    // to all who stay
  changed, // the data of one; to all, that one too
};
std::string_view to_string(presence_change) noexcept;

// Valid during the call.
struct presence_event {
  presence_change what = presence_change::list;
  std::string_view room{};
  presence_entry who{};                        // of a list: the newcomer
  std::span<const presence_entry> everybody{}; // of list; cut to room_options::presence_list_most
  bool elsewhere = false;  // it came about on another server, whose on_presence is told so, too
  std::size_t present = 0; // of list: how many are; more than `everybody` has when it is cut
};

// What members are sent unless room_options::presence_message says otherwise: a text message with a
// JSON object,
//   {"type":"presence","event":"list","room":"lobby","members":[{"user":"ann","id":7,"data":null}]}
//   {"type":"presence","event":"list","room":"lobby","members":[…],"cut":true,"present":10000}
//   {"type":"presence","event":"joined","room":"lobby","member":{"user":"bob","id":8,"data":{…}}}
// the second where there are more than the list may have, and "left" and "changed" like "joined". Of an anonymous member `user` is null. With a broker a
// member has its "node", too.
message presence_text(const presence_event &event);

} // namespace chorus
