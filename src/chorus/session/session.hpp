#pragma once
// `session`: one live message connection, in either role, over ws, wss, tcp, tls or a unix socket.
//
// A handle: cheap to copy, may be used from any thread, keeps the connection's state alive but not
// the connection open: that ends when a side closes it, or when its owner (a server's handler, a
// client, the last handle of a `connect`) lets go. Every verb on an ended session answers with a
// failure that says how it ended.
//
// Any number of coroutines may send at once. At most one may receive.
//
// Coroutines of other io_contexts may await the verbs, too; such a context must outlive the runtime's
// threads, which post the results to it.

#include <chorus/async/task.hpp>
#include <chorus/base/message.hpp>
#include <chorus/base/result.hpp>
#include <chorus/protocol/close_code.hpp>
#include <chorus/session/batch.hpp>
#include <chorus/session/options.hpp>

#include <chrono>
#include <cstdint>
#include <memory>
#include <stop_token>
#include <string>
#include <string_view>

namespace chorus {

namespace detail {
class session_core;
}

enum class session_state : std::uint8_t { connecting, open, closing, closed };
std::string_view to_string(session_state) noexcept;

// Unique within the process, never 0.
using session_id = std::uint64_t;

struct session_stats {
  std::uint64_t messages_received = 0;
  std::uint64_t messages_sent = 0;  // handed to the kernel whole
  std::uint64_t bytes_received = 0; // on the wire, TLS aside
  std::uint64_t bytes_sent = 0;
  std::uint64_t messages_dropped = 0; // by policy or time to live
  // Sent, and known to have reached the peer's protocol layer: it answered a later ping or close.
  std::uint64_t messages_confirmed = 0;
  std::uint64_t messages_unsent = 0; // accepted but never begun when the connection ended
  std::size_t queued_bytes = 0;
  std::size_t queued_messages = 0;
  std::chrono::nanoseconds last_round_trip{0}; // of the last answered ping; 0 before
  std::uint64_t messages_over_rate = 0;        // received, and dropped by over_rate::drop
};

// A message encoded once and sent to many: `send` of it neither copies nor encodes again where the
// connection allows (an uncompressed server side, no key, no time to live).
class prepared_message {
public:
  explicit prepared_message(message m);
  const message &content() const noexcept { return content_; }
  // The complete unmasked frame.
  const buffer &storage() const noexcept { return frame_; }
  std::span<const std::byte> frame() const noexcept { return {frame_.data(), frame_size_}; }

private:
  message content_;
  buffer frame_;
  std::size_t frame_size_ = 0;
};

class session {
public:
  session() noexcept = default; // no session: every verb answers not_open
  explicit session(std::shared_ptr<detail::session_core> core) noexcept : core_(std::move(core)) {}

  // The next message. Completes at once when one has arrived already. Overlaps with any verb but
  // another `receive` or `receive_some` (busy). Fails with how the session ended, after all messages
  // that arrived before. Cancelling takes nothing: no message is lost by it.
  task<result<message>> receive();
  // All messages that are there, at least one, as one owning batch; else like `receive`.
  task<result<message_batch>> receive_some();

  // Completes when the message is accepted: it has its place in the bounded queue, in the order of
  // the calls. Suspends only when the queue is full under overflow::wait, first come first served.
  // All or nothing. Cancelled while waiting it has queued nothing. A message larger than the whole
  // bound is taken when nothing else is queued. Fails with how the session ended, with queue_full
  // when overflow::drop_newest dropped it, or with evicted (overflow::close). Under `||` both may happen
  // in one turn: then the message was accepted although the other operation is what `||` reports.
  task<result<>> send(message m, send_options options = {});
  task<result<>> send(prepared_message m, send_options options = {});
  // The same without waiting: queue_full where `send` would wait. Off the session's own thread the
  // message is carried there: what is on its way counts against the bound of the queue, too, and a
  // message for which others have left no room by then is dropped and counted.
  result<> try_send(message m, send_options options = {});
  result<> try_send(prepared_message m, send_options options = {});
  // Copies: the quickest way to answer from a batch.
  result<> try_send(const message_view &m);
  // Completes when everything accepted before is with the kernel (or failed, or dropped).
  task<result<>> flush();

  // Sends a ping and completes with the round trip. Several may overlap: they share the ping that is
  // under way. Fails with timed_out after `timeout`. Only WebSocket has pings (not_open otherwise).
  task<result<std::chrono::nanoseconds>>
  ping(std::chrono::milliseconds timeout = std::chrono::seconds(10));

  // Closes in order: what is queued, the close frame, the peer's answer; aborts at the session's
  // close_timeout. Completes when the connection is gone; always ends. `reason`: UTF-8, cut to 123
  // bytes. Closing twice waits for the first. Cancelling stops waiting, not closing.
  // Fails when the peer did not answer in time (aborted) or had vanished (lost). What it answered is in
  // `end()`: answer_code and answer_reason of the detail (RFC 6455 section 7.1.5); a code other than ours
  // is no failure here, but may say that the peer could not use what was sent.
  task<result<>> close(close_code code = close_code::normal, std::string_view reason = {});
  // The same without waiting, from any thread.
  void start_close(close_code code = close_code::normal, std::string_view reason = {});
  // Drops the connection at once; what is queued is lost.
  void abort() noexcept;

  // From here on received messages are dropped unread, so that a handler that only sends needs no
  // receiving coroutine. Pings and closes are still answered.
  void ignore_input();
  // Completes with how the session ended.
  task<failure> wait_closed();
  // Requested when the session has ended, for handlers that wait for something else.
  std::stop_token stop_token() const;

  explicit operator bool() const noexcept { return core_ != nullptr; }
  session_id id() const noexcept;
  session_state state() const noexcept;
  bool is_open() const noexcept { return state() == session_state::open; }
  // How it ended; a default failure (no error) while it is not closed.
  failure end() const;
  // Of who is behind a trusted proxy: the client's own, as the proxy told it.
  std::string remote_address() const;
  std::string local_address() const;
  // Whom the server's authorisation hook has named; empty when nobody, and in clients.
  std::string user() const;
  bool is_websocket() const noexcept; // else messages are framed on plain TCP, TLS or a unix socket
  std::string subprotocol() const;    // empty when none was agreed
  bool compressed() const noexcept;   // permessage-deflate was agreed
  std::chrono::nanoseconds uptime() const noexcept;
  // From a foreign thread: a snapshot that may be one turn old.
  session_stats stats() const;

  friend bool operator==(const session &a, const session &b) noexcept { return a.core_ == b.core_; }
  const std::shared_ptr<detail::session_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::session_core> core_;
};

} // namespace chorus
