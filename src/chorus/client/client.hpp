#pragma once
// `client`: a connection that comes back by itself. It connects, fails over between URLs, backs off
// between attempts, queues what is sent while it is away, and goes on receiving across connections.
//
// A failed attempt moves on to the next URL; so does a connection lost before it had proven itself. A
// proven one that is lost starts again from the first URL (or as `url_order` says). What `is_fatal` says
// yes to ends the client.
//
// Verbs may be called from any thread, and mixed with handlers of events. All handlers run on the client's
// shard.

#include <chorus/async/runtime.hpp>
#include <chorus/base/backoff.hpp>
#include <chorus/base/log.hpp>
#include <chorus/client/client_events.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/client/event_handler.hpp>
#include <chorus/client/reconnect_policy.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace chorus {

// Whether the client speaks the resume protocol (docs/protocol.md) with ws and wss URLs: after a
// reconnect, rooms with history then give exactly what was missed, or the client is told that they can't.
enum class resume_mode : std::uint8_t {
  off,
  offer,   // with servers that speak it; plain messages with others
  require, // a server that does not speak it is refused for good (upgrade_invalid)
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
  std::uint64_t messages_sent = 0; // handed to a connection; not those that came back unsent
  // Will not be sent: by the outbox's policy, expired, replaced, refused, or left over at the end.
  std::uint64_t messages_dropped = 0;
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
  std::uint64_t bytes_received = 0;     // of connections that opened, on the wire, TLS aside
  std::uint64_t bytes_sent = 0;
  std::uint64_t messages_expired = 0;  // of those dropped
  std::uint64_t messages_replaced = 0; // of those dropped
  std::uint64_t messages_left = 0;     // of those dropped: when the client ended
  std::uint64_t unsent_unreported = 0; // of those dropped: on_unsent was too slow to be told
  std::uint64_t handlers_failed = 0;   // that threw
  error_code last_error{}; // of the last failed attempt or lost connection; see last_failure
};
static_assert(std::is_trivially_destructible_v<client_stats>);

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
  // Of wait, drop_newest, drop_oldest, and latest: the same as drop_oldest. See client_send_options::key.
  overflow outbox_overflow = overflow::wait;
  std::chrono::milliseconds resolve_timeout{5'000};
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds tls_timeout{10'000};
  std::chrono::milliseconds upgrade_timeout{10'000};
  // Events: plain functions or coroutines. One handler runs at a time, in the order of what happened; a
  // coroutine's events wait for it, and so does the client: it takes no further message, and goes no
  // step further, until it has ended. One that throws is reported (handler_failed) to the log and by
  // on_error, and nothing else becomes of it. `close` cancels a coroutine that still runs after the
  // session's close_timeout, and waits for it: so does a handler that itself awaits `close`; it had
  // better spawn that. No handler begins after `close` has completed or the client was destroyed on its
  // own shard; destroying it cancels a coroutine, but can't stop what is running on another thread.
  // Before anything queued is sent: what it sends on the session itself goes first, and is not sent
  // again on another connection. `close` cancels it at once.
  event_handler<chorus::session &> on_connect{};
  // Hears every message. `receive` may be there as well: from its first call on it gets every message,
  // too, right after on_message has had it; and from then on messages have to be received, or else the
  // client reads no more once its inbox is full. What came before that call went to on_message alone.
  event_handler<const message &> on_message{};
  event_handler<const failure &> on_disconnect{};
  event_handler<const failure &> on_error{}; // a failed attempt, or a handler that threw
  event_handler<client_state> on_state{};
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
  event_handler<const recovery &> on_recovery{};
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
  // A message that was accepted and will not be sent: see client_stats::messages_dropped. Not told of: what
  // a `send` itself failed with (drop_newest), and what is lost with a client that is destroyed. Reports
  // that wait for a slow handler hold at most outbox_bytes and 1024 messages; the rest is only counted.
  event_handler<const unsent_message &> on_unsent{};
  std::shared_ptr<client_listener> listener{}; // told as well; null: nobody
  // Runs on each new connection, on the client's shard, before on_connect and before anything that is
  // queued. It may send and receive on the session; what it receives nobody else gets, what it sends is
  // not sent again on another connection. When it fails, or is not done in time (auth_timeout), the
  // connection is closed, and it counts as a failed attempt: `is_fatal` decides whether the client goes
  // on, so auth_refused ends it and auth_failed does not. `close` cancels it. When it throws, that is
  // handler_failed, which is not fatal.
  std::function<task<result<>>(chorus::session)> authenticate{};
  std::chrono::milliseconds authenticate_timeout{10'000};
  reconnect_policy reconnect{}; // by default as `backoff` says
  // How long `reconnect_now` waits for an answer to its ping.
  std::chrono::milliseconds check_timeout{5'000};
  std::vector<url_scheme> protocols{}; // of URLs without a scheme; see connect_options
  bool race_protocols = false;         // not with `resume`, which tries them in order
  // Told of each stage of every attempt, on the client's shard; null: nobody. See connect_options.
  std::shared_ptr<connect_observer> observer{};
};

// Of one message.
struct client_send_options {
  // Takes the place of a message of the same key that waits in the outbox, in the queue as well.
  std::string_view key{};
  // One that is still in the outbox after this long is dropped; zero keeps it. What a connection has
  // been handed counts as sent: beyond what the kernel took that is at most 64 KiB while such messages wait.
  std::chrono::milliseconds time_to_live{0};
};
static_assert(std::is_trivially_destructible_v<client_send_options>);

// Trying again the same way can't succeed, so a client stops: an unusable URL or option; a
// certificate that can't be trusted, a peer that does not take this side's or wants one, or that
// speaks no TLS; an answer that is no WebSocket
// handshake; a refused upgrade with a status of 2xx, 3xx or 4xx but 404, 408, 421, 423, 425 and 429;
// a proxy that answers 401, 403 or 407, or wants another login by SOCKS5, or is none;
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
  // and everything that arrived was taken, then with why. Not to be mixed with `ignore_input` (busy);
  // beside `on_message` see there. Cancelling takes nothing: no message is lost by it.
  task<result<message>> receive();
  // The same with the message's place. Its content is to be moved or copied out of the result.
  task<result<placed_message>> receive_placed();
  // Completes when the message has its place in the client's queue; it is sent on this connection or
  // on the next. Suspends when the outbox is full under overflow::wait, first come first served.
  // Order is that of the calls. All or nothing; cancelled while waiting it has queued nothing. Fails
  // with queue_full when overflow::drop_newest dropped it, with not_open after `close`, or with why
  // the client has ended. The time to live counts from the call.
  task<result<>> send(message m, client_send_options options = {});
  // The same without waiting: queue_full where `send` would wait.
  result<> try_send(message m, client_send_options options = {});
  // Completes when nothing is queued any more and all is with the kernel; while there is no
  // connection it waits for one. What was dropped meanwhile is no failure of it: see on_unsent. Fails
  // with why the client ended. Cancelling only stops waiting.
  task<result<>> flush();
  // Sends what is queued if connected, closes in order, and ends; always completes, within the
  // session's close_timeout. What is queued without a connection is dropped and counted. Fails when
  // the peer did not answer in time (aborted) or had vanished (lost); the client has ended anyway.
  // Closing twice waits for the first. Cancelling stops waiting, not closing.
  task<result<>> close(close_code code = close_code::normal, std::string_view reason = {});
  // For when the network has changed. Disconnected: attempts at once. Connected: sends a ping, and drops
  // the connection (timed_out) when no answer comes within check_timeout, to connect again at once; a
  // connection without pings (framed) is left alone. Nothing otherwise.
  void reconnect_now();

  client_state state() const noexcept;
  client_stats stats() const;
  // The present session; without one a session that answers not_open. What is sent on it directly
  // may be sent again by the client when it had not begun at a disconnect. Not to be received on: that
  // is the client's, which drops the connection (busy) when it finds somebody else at it.
  session current() const;
  // Why the client ended, or else why the last attempt failed or the last connection ended.
  failure last_failure() const;

  explicit client(std::shared_ptr<detail::client_core> core) noexcept : core_(std::move(core)) {}
  const std::shared_ptr<detail::client_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::client_core> core_;
};

// A client that is connected: to `url`, or else to one of `options.urls`. Lives on the shard that
// `connect` would use; options.shard is not looked at. Completes when it is open. Fails when each URL
// was tried once in vain (or `max_attempts` in a row, when that is not 0) or refused for good, with the last
// failure; with no_runtime, or with bad_option for what the constructor would throw. From then on it
// reconnects as any client. Cancelling throws, by Asio's own rule, and leaves nothing behind.
//
// g++ 12 destroys an owning temporary in a co_await expression twice, so options are to be named.
task<result<client>> create_client(std::string_view url, const client_options &options);
task<result<client>> create_client(std::string_view url, client_options &&options) = delete;
task<result<client>> create_client(std::string_view url);

} // namespace chorus
