#pragma once
// How a client or server turns an established stream into a session.

#include <chorus/protocol/frame.hpp>
#include <chorus/session/envelope.hpp>
#include <chorus/session/session.hpp>
#include <chorus/session/terms.hpp>
#include <chorus/transport/stream.hpp>

#include <memory>
#include <optional>
#include <span>
#include <string>

namespace chorus::detail {

// Told once when a session is over, on its shard, after its waiting verbs were completed.
class session_observer {
public:
  virtual void on_session_closed(const session &s) noexcept = 0;
  // A ping of this side was answered.
  virtual void on_round_trip(std::chrono::nanoseconds) noexcept {}

protected:
  ~session_observer() = default;
};

struct session_setup {
  std::unique_ptr<transport::stream> carrier;
  protocol::role side = protocol::role::server;
  bool websocket = true; // else `options.frame` says how messages are framed
  std::shared_ptr<const session_options> options;      // shared by many sessions
  std::optional<protocol::deflate_params> compression; // what was agreed
  std::string subprotocol;
  std::span<const std::byte> received;  // bytes read past the handshake; copied
  session_observer *observer = nullptr; // outlives the session or withdraws itself
  // The session closes (1000) when the last handle of it has gone.
  bool close_when_unowned = false;
  bool keep_unsent = false;                   // for take_unsent
  std::unique_ptr<session_envelope> envelope; // null: messages go as they are; WebSocket only
  std::string remote; // shown as the peer's address instead of the carrier's; empty: that one
  std::unique_ptr<session_terms> terms; // null: none
  std::shared_ptr<const void> origin;   // what the owner wants to find again by the session
  session_id id = 0;                    // from next_session_id; 0: a fresh one
};

// For a connection that is to be known by the same number before it is a session. From any thread.
session_id next_session_id() noexcept;
// On the carrier's shard. The session is open, reads, and keeps itself alive until it is closed.
session make_session(session_setup setup);
// From now on tells `observer` instead (null: nobody). On the session's shard.
void set_observer(session &s, session_observer *observer) noexcept;
// With keep_unsent: the messages that were accepted but not begun when the session ended, in order;
// empties it. On the session's shard, after it has closed.
std::vector<message> take_unsent(session &s);
// Closes the way a handler's end does: flush, then `code`. Shared by server and client.
shard &shard_of(const session &s) noexcept;

} // namespace chorus::detail
