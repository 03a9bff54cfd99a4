#pragma once
// `connect`: one connection to one URL.
//
//   ws://host[:port]/path   wss://…            WebSocket, over TLS
//   ws+unix://path:/target                     WebSocket over a unix socket
//   tcp://host:port         tls://host:port    framed messages (session_options::frame)
//   unix://path                                framed messages over a unix socket
//   host:port                                  framed messages, unless `protocols` says otherwise

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/base/url.hpp>
#include <chorus/session/session.hpp>
#include <chorus/transport/connect_observer.hpp>
#include <chorus/transport/tls_options.hpp>

#include <chrono>
#include <span>
#include <string_view>
#include <type_traits>

namespace chorus {

struct header {
  std::string_view name;
  std::string_view value;
};

// Everything it points at is copied when `connect` is called.
struct connect_options {
  std::span<const header> headers{};
  std::span<const std::string_view> subprotocols{}; // in order of preference
  session_options session{};
  const tls_options *tls = nullptr; // null: the safe defaults
  // Names (not literal addresses, nor "localhost" and what is below it) are looked up by the system's
  // resolver, on threads beside the shards: 8 at a time in a process, further ones wait in line while their
  // time runs. A look-up that is given up goes on there, and holds up neither the runtime nor the process.
  std::chrono::milliseconds resolve_timeout{5'000};
  std::chrono::milliseconds connect_timeout{10'000};
  std::chrono::milliseconds tls_timeout{10'000};
  std::chrono::milliseconds upgrade_timeout{10'000};
  std::size_t max_response_bytes = 16 * 1024; // of the answer's head; beyond it upgrade_invalid
  bool keep_alive = true;                     // SO_KEEPALIVE
  // A name's addresses are tried in a race, IPv6 and IPv4 in turn: so long after one the next is started,
  // the first that connects wins (RFC 8305). 10 ms or more.
  std::chrono::milliseconds connect_stagger{250};
  // Redirects of the upgrade that are followed one after the other; 0: none. Never from wss to ws, nor away
  // from a unix socket, be it to another. Another host gets neither the URL's credentials nor headers whose
  // names are those of secrets (Authorization, Cookie, X-Api-Key and the like).
  unsigned max_redirects = 5;
  // "http://[user:password@]host:port" (CONNECT) or "socks5://[user:password@]host:port"; empty: none. The
  // proxy looks the host's name up. What it takes is within another connect_timeout. Not for unix sockets.
  std::string_view proxy{};
  // Without a `proxy`: as the environment says when `connect` is called, by http_proxy (for ws), https_proxy
  // (for wss), all_proxy (for the rest) and no_proxy; never for loopback addresses and "localhost".
  bool proxy_from_environment = false;
  std::string_view user_agent{};        // of the upgrade; a header of that name wins. Empty: none
  connect_observer *observer = nullptr; // told of each stage; must outlive the connecting
  // What a URL without a scheme, like "example.org:8443/chat", is tried as, each of ws, wss, tcp and tls at
  // most once; empty: tcp. The first that works is taken. One that does not speak as it should makes room for
  // the next; one that says no in its own language does not: a certificate that can't be trusted, a refused
  // upgrade (but for 400 and 426, on which WebSocket with or without TLS is tried). A server that can't
  // be reached is not tried twice on the same port. Behind TLS that works nothing follows in the clear.
  // Framed messages have no handshake: tcp works with whoever
  // accepts the connection, so it belongs at the end. A path and credentials are for ws and wss.
  std::span<const url_scheme> protocols{};
  // They are tried side by side, the next one started `connect_stagger` after the one before, or once one
  // has failed; tcp still not before all others have failed. With ws beside wss the request, tokens and all,
  // goes out in the clear as well.
  bool race_protocols = false;
};
static_assert(std::is_trivially_destructible_v<connect_options>);

// Completes when the session is open. Lives on the calling coroutine's shard, or on the one that is
// registered with the awaiting executor's io_context; without one it fails with no_runtime.
// Fails with bad_url, bad_option, or the error of the stage that failed (resolve_*, connect_*, proxy_*,
// tls_*, upgrade_*), the detail naming stage, address and what the peer answered; with `protocols` also
// with no_protocol, or with what one of them has failed with, the detail's `tried` naming each. Cancelling
// throws, by Asio's own rule, and leaves nothing behind.
task<result<session>> connect(std::string_view url, connect_options options = {});

} // namespace chorus
