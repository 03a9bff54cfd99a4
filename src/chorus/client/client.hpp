#pragma once
// `client`: a connection that comes back by itself. It connects, fails over between URLs, backs off
// between attempts, queues what is sent while it is away, and goes on receiving across connections.
//
// A failed attempt moves on to the next URL; so does a connection lost before it had proven itself. A
// proven one that is lost starts again from the first URL (or as `url_order` says). What `is_fatal` says yes to ends the
// client.
//
// Verbs may be called from any thread, and mixed with callbacks. All callbacks run on the client's
// shard.

#include <chorus/async/runtime.hpp>
#include <chorus/base/backoff.hpp>
#include <chorus/base/log.hpp>
#include <chorus/client/connect.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace chorus {

enum class client_state : std::uint8_t {
  connecting,   // an attempt is under way
  open,         // connected
  disconnected, // waiting for the next attempt
  closing,      // `close` was called
  closed,       // ended: closed, refused for good, or out of attempts
};
std::string_view to_string(client_state) noexcept;

// Whether the client speaks the resume protocol (docs/protocol.md) with ws and wss URLs: after a
// reconnect, rooms with history then give exactly what was missed, or the client is told that they can't.
enum class resume_mode : std::uint8_t {
  off,
  offer,   // with servers that speak it; plain messages with others
  require, // a server that does not speak it is refused for good (upgrade_invalid)
};

// What became of a room that the client had a position in when it connected again.
struct recovery {
  std::string room;
  bool recovered = false;   // what was missed follows
  std::uint64_t missed = 0; // messages that follow: what was missed, or else a newcomer's start
  // Not recovered: "epoch", "trimmed", "ahead", "no_history", "other", or "unnamed": the client is in
  // more rooms than it can name the positions of (16 KiB).
  std::string why;
};

// A message and where it was published. `room` is empty without the resume protocol and for messages to
// this client alone; `epoch` is empty and `offset` 0 in rooms that keep no history.
struct placed_message {
  message content;
  std::string room;
  std::string epoch;
  std::uint64_t offset = 0;
};

struct client_stats {
  std::uint64_t attempts = 0;
  std::uint64_t connects = 0;   // attempts that succeeded
  std::uint64_t reconnects = 0; // connects after the first
  std::uint64_t messages_received = 0;
  std::uint64_t messages_sent = 0;    // handed to a connection; not those that came back unsent
  std::uint64_t messages_dropped = 0; // by the outbox's policy, or left over when the client ended
  // Begun on a connection that has ended, with nothing to show that the peer's protocol layer got
  // them: it answered neither a later ping nor a close frame of ours behind them. They may have
  // arrived or not; none is sent again. A close that the peer begins confirms nothing: its frame does
  // not say what it had read (RFC 6455 section 5.5.1). Framed connections (tcp, tls, unix) know
  // neither pings nor close frames, so nothing sent on them is ever confirmed. What was sent on a
  // session directly counts as well. Counted when the connection ends.
  std::uint64_t messages_unconfirmed = 0;
  std::size_t queued_messages = 0; // in the offline outbox
  std::size_t queued_bytes = 0;
  std::chrono::nanoseconds last_round_trip{0};
  std::chrono::nanoseconds downtime{0}; // in all, between connections
  // Under the resume protocol.
  std::uint64_t rooms_recovered = 0;
  std::uint64_t rooms_lost = 0;         // that could not be recovered
  std::uint64_t messages_recovered = 0; // that recovered rooms had missed
  std::uint64_t messages_doubled = 0;   // dropped: they had been received before
  std::uint64_t tls_resumed = 0;        // TLS handshakes that went on from an earlier connection's
};

// Which URL an attempt goes to. In each case a failed attempt, or a connection lost before it had proven
// itself, moves on to the next in the list, and from the last to the first.
enum class url_order : std::uint8_t {
  in_order, // a proven connection that is lost: from the first again
  shuffled, // each client has an order of its own, and a new one each time it begins again
  sticky,   // a proven connection that is lost: the same again
};

struct client_options {
  std::vector<std::string> urls{};                            // see `order`
  std::vector<std::pair<std::string, std::string>> headers{}; // sent to ws and wss URLs
  std::vector<std::string> subprotocols{};                    // offered to ws and wss URLs
  // `on_overflow` is not used: `outbox_overflow` decides. The inbox bounds hold for the client's own
  // inbox as well, which outlives connections.
  session_options session{};
  tls_options tls{};
  backoff_options backoff{};
  unsigned max_attempts = 0; // in a row without success; 0 for no limit
  // A connection has proven itself, and the backoff starts over, after it was open for this long.
  std::chrono::milliseconds proven_after{5'000};
  // The outbox: what `send` takes while there is no connection, or while the connection's own queue
  // is full. Sent in order. A message larger than the bound is taken when nothing else waits. What a
  // lost connection had accepted and not begun comes back to the front, beyond the bound if need be.
  std::size_t outbox_bytes = std::size_t{1} << 20; // of payload; 1 or more
  std::size_t outbox_messages = 10'000;            // 0 for no such bound
  overflow outbox_overflow = overflow::wait;       // of wait, drop_newest, drop_oldest
  std::chrono::milliseconds resolve_timeout{5'000};
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds tls_timeout{10'000};
  std::chrono::milliseconds upgrade_timeout{10'000};
  // Events. An exception that leaves a callback ends the program (std::terminate). No callback
  // begins after `close` has completed or the client was destroyed on its own shard; destroying it
  // on another thread can't stop one that is running.
  // Before anything queued is sent: what it sends on the session itself goes first, and is not sent
  // again on another connection.
  std::function<void(chorus::session &)> on_connect{};
  std::function<void(const message &)> on_message{}; // instead of `receive`
  std::function<void(const failure &)> on_disconnect{};
  std::function<void(const failure &)> on_error{}; // a failed attempt
  std::function<void(client_state)> on_state{};
  unsigned shard = ~0U; // which shard to live on; by default they are dealt out in turn
  // For clients that only send: what arrives is dropped unread. Otherwise a client whose messages
  // nobody takes reads no more, and does not reconnect, once its inbox is full.
  bool ignore_input = false;
  // The files that `tls` names are read at the first attempt that needs them and kept. True: read
  // again at every attempt, for certificates that are renewed in place.
  bool reread_tls_files = false;
  // A server may ask the client to come back after a time of its choosing: by the reason
  // "retry-after=1.25" of a close with 1001, 1012 or 1013, or by the header Retry-After (in seconds) of
  // an answer with 429 or 503. That time is waited instead of the backoff, never less, and up to a
  // tenth or a second more unless the backoff has no jitter; at most so long. What it asks beyond the
  // first time in a row without a proven connection and is below a second does not shorten the
  // backoff. Zero: never.
  std::chrono::milliseconds max_retry_after{300'000};
  // A message counts as received once it is in the client's inbox, which outlives connections. At most
  // 256 rooms are remembered, those that were quiet longest are forgotten first.
  resume_mode resume = resume_mode::off;
  // Before the first message that follows. To be looked at when not `recovered`: the state that the
  // room's messages build up has to be fetched by other means.
  std::function<void(const recovery &)> on_recovery{};
  // Told of attempts, connections and their loss; null: nobody.
  std::shared_ptr<log_sink> log{};
  std::chrono::milliseconds connect_stagger{250}; // see connect_options
  url_order order = url_order::in_order;
  unsigned max_redirects = 5; // of one attempt; see connect_options, as for what follows
  std::string proxy{};
  bool proxy_from_environment = false; // read when the client is made
  std::string user_agent{};
  // Asked for more headers before every attempt at a ws or wss URL, on the client's shard: for tokens that
  // expire. A header of the same name among `headers`, or credentials in the URL, give way to them. Its
  // failure is the attempt's: `is_fatal` decides whether the client goes on. `close` cancels it; it sets
  // its own deadline. It must not throw.
  std::function<task<result<std::vector<std::pair<std::string, std::string>>>>()> fresh_headers{};
};

// Trying again the same way can't succeed, so a client stops: an unusable URL or option; a
// certificate that can't be trusted, or a peer that speaks no TLS; an answer that is no WebSocket
// handshake; a refused upgrade with a status of 2xx, 3xx or 4xx but 404, 408, 421, 423, 425 and 429;
// a proxy that answers 401, 403 or 407, or is none;
// a close by the peer with 1002, 1003, 1007, 1008, 1009 or 1010. Everything else passes: addresses
// that can't be resolved or reached, timeouts, 404, 5xx, lost connections, other close codes.
bool is_fatal(const failure &why) noexcept;

namespace detail {
class client_core;
}

class client {
public:
  // Starts to connect at once, or when the runtime runs. An empty list of URLs, or an option that
  // can't be used, throws std::invalid_argument with a sentence that names it.
  client(runtime &rt, client_options options);
  // Aborts the connection without blocking; what is queued is lost, and verbs that still wait fail
  // with `aborted`. `close` is the orderly way. From any thread.
  ~client();
  client(client &&) noexcept;
  client &operator=(client &&) noexcept;

  // Completes when the client is open (at once if it is), or has ended for good: then with why. Any
  // number may wait. Cancelling only stops waiting.
  task<result<>> connected();
  // The next message, whichever connection it comes on: all of one connection before any of the
  // next. Overlaps with any verb but another `receive` (busy). Fails only when the client has ended
  // and everything that arrived was taken, then with why. Not to be mixed with `on_message` or
  // `ignore_input` (busy). Cancelling takes nothing: no message is lost by it.
  task<result<message>> receive();
  // The same with the message's place. Its content is to be moved or copied out of the result.
  task<result<placed_message>> receive_placed();
  // Completes when the message has its place in the client's queue; it is sent on this connection or
  // on the next. Suspends when the outbox is full under overflow::wait, first come first served.
  // Order is that of the calls. All or nothing; cancelled while waiting it has queued nothing. Fails
  // with queue_full when overflow::drop_newest dropped it, with not_open after `close`, or with why
  // the client has ended.
  task<result<>> send(message m);
  // The same without waiting: queue_full where `send` would wait.
  result<> try_send(message m);
  // Completes when nothing is queued any more and all is with the kernel; while there is no
  // connection it waits for one. Fails with why the client ended. Cancelling only stops waiting.
  task<result<>> flush();
  // Sends what is queued if connected, closes in order, and ends; always completes, within the
  // session's close_timeout. What is queued without a connection is dropped and counted. Fails when
  // the peer did not answer in time (aborted) or had vanished (lost); the client has ended anyway.
  // Closing twice waits for the first. Cancelling stops waiting, not closing.
  task<result<>> close(close_code code = close_code::normal, std::string_view reason = {});
  // Does not wait for the backoff: attempts at once when disconnected. Nothing otherwise.
  void reconnect_now();

  client_state state() const noexcept;
  client_stats stats() const;
  // The present session; without one a session that answers not_open. What is sent on it directly
  // may be sent again by the client when it had not begun at a disconnect.
  session current() const;
  // Why the client ended, or else why the last attempt failed or the last connection ended.
  failure last_failure() const;

  const std::shared_ptr<detail::client_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::client_core> core_;
};

} // namespace chorus
