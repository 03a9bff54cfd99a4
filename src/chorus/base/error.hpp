#pragma once
// Error codes of the library. Every expected failure is one of these (or a code of the operating
// system, of the resolver, or a `protocol::violation`), carried by a `failure`.
//
// Compare against an enumerator (`f.code() == chorus::error::closed`) or against a condition that
// groups several (`f.code() == chorus::condition::timeout`).

#include <boost/system/error_code.hpp>
#include <boost/system/error_condition.hpp>

#include <type_traits>

namespace chorus {

using error_code = boost::system::error_code;

enum class error {
  // The life of a session.
  closed = 1,    // closed in an orderly way, by either side; the detail holds code and reason
  lost,          // the peer vanished without a close frame (1006)
  timed_out,     // no sign of life within pong wait, or idle limit reached
  write_timeout, // the peer took nothing within write wait
  aborted,       // this side aborted the connection (deadline of a close, destruction, shutdown)
  protocol,      // the peer broke the protocol; the detail names the rule
  message_too_big,
  queue_full, // the outbox is full and the message was not taken
  evicted,    // closed because this peer did not keep up (1013)
  cancelled,  // the waiting operation was cancelled; nothing was taken or queued
  busy,       // a second concurrent `receive` on one session
  not_open,   // the session, server or client is not open (never started, closing, closed)
  shut_down,  // the runtime is gone or stopping

  // Reaching a peer.
  no_runtime, // `connect` outside a runtime
  bad_url,
  bad_option,
  resolve_failed,
  resolve_timeout,
  connect_failed,
  connect_timeout,
  tls_failed, // handshake broke off for a reason of its own (alert, versions)
  tls_timeout,
  tls_not_tls, // the peer does not speak TLS
  tls_expired,
  tls_wrong_host,
  tls_unknown_issuer,
  tls_bad_certificate,   // any other reason not to trust the certificate
  tls_bad_configuration, // own certificate, key or CA file unusable
  upgrade_refused,       // the server answered the upgrade with another status
  upgrade_invalid,       // the answer was no valid WebSocket handshake
  upgrade_timeout,
  attempts_exhausted, // a reconnecting client used up its attempts
  unconfirmed,        // written to a connection that was lost before it ended in order

  // Serving.
  listen_failed,
  room_closed,
  limit_reached, // a connection or membership limit
  join_refused,  // a hook of the server or of the room said no

  // Reaching a peer, continued.
  tls_wrong_key, // the peer's key is none of the pinned ones
  proxy_refused, // the proxy did not connect to the server, or wants (other) credentials
  proxy_invalid, // what answers there is no such proxy
  proxy_timeout,
  no_protocol, // the peer speaks none of the protocols that were tried

  // Living with it.
  auth_refused,   // authenticating after the connection: no, and not later either
  auth_failed,    // the same: not now
  auth_timeout,   // the same: no outcome in time
  handler_failed, // a handler of the program's own threw; the sentence has what
};

// What a program usually decides on.
enum class condition {
  ended = 1, // the session is over, in whatever way
  timeout,   // some deadline passed
  refused,   // the peer was reached and said no
  tls,       // anything about TLS or certificates
  fatal,     // trying again the same way can't succeed
};

const boost::system::error_category &error_category() noexcept;
const boost::system::error_category &condition_category() noexcept;

inline error_code make_error_code(error e) noexcept {
  return {static_cast<int>(e), error_category()};
}
inline boost::system::error_condition make_error_condition(condition c) noexcept {
  return {static_cast<int>(c), condition_category()};
}

} // namespace chorus

template <> struct boost::system::is_error_code_enum<chorus::error> : std::true_type {};
template <> struct boost::system::is_error_condition_enum<chorus::condition> : std::true_type {};
