#pragma once
// What happens to a client, and a base class for those who like to override: `client_listener`.

#include <chorus/base/failure.hpp>
#include <chorus/base/message.hpp>
#include <chorus/session/session.hpp>

#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace chorus {

namespace detail {
class client_core;
}

enum class client_state : std::uint8_t {
  connecting,   // an attempt is under way
  open,         // connected
  disconnected, // waiting for the next attempt
  closing,      // `close` was called
  closed,       // ended: closed, refused for good, or out of attempts
};
// "CONNECTING", "OPEN", "DISCONNECTED", "CLOSING" or "CLOSED".
std::string_view to_string(client_state) noexcept;

// What became of a room that the client had a position in when it connected again.
struct recovery {
  std::string room;
  bool recovered = false;   // what was missed follows
  std::uint64_t missed = 0; // messages that follow: what was missed, or else a newcomer's start
  // Not recovered: "epoch", "trimmed", "ahead", "no_history", "other", or "unnamed": the client is in
  // more rooms than it can name the positions of (16 KiB).
  std::string why;
};

enum class unsent_reason : std::uint8_t {
  expired,   // its time to live was over before there was a connection to take it
  replaced,  // a newer message of the same key took its place
  overflow,  // the outbox was full: dropped for a newer one
  refused,   // no connection takes it: it is too big
  left_over, // the client ended before
};
std::string_view to_string(unsent_reason) noexcept;

// A message that the client had accepted and will not send.
struct unsent_message {
  message content;
  std::string key; // see client_send_options
  unsent_reason reason = unsent_reason::left_over;
  failure why; // of `refused`, and why the client ended; no error otherwise
};

// Told what the `on_…` handlers of client_options are told, each time right after them, on the client's
// shard. What it overrides may throw, as they may. One that overrides on_message counts as one of them;
// one that doesn't leaves the messages to `receive`.
class client_listener {
public:
  client_listener() = default;
  client_listener(const client_listener &) = delete;
  client_listener &operator=(const client_listener &) = delete;
  virtual ~client_listener() = default;
  virtual void on_connect(session &) {}
  virtual void on_message(const message &) { hears_.store(false, std::memory_order_relaxed); }
  virtual void on_disconnect(const failure &) {}
  virtual void on_error(const failure &) {}
  virtual void on_state(client_state) {}
  virtual void on_recovery(const recovery &) {}
  virtual void on_unsent(const unsent_message &) {}

private:
  friend class detail::client_core;
  std::atomic<bool> hears_{true}; // until it turns out that on_message is this class's own
};

} // namespace chorus
