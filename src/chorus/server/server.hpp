#pragma once
// `server`: listens, upgrades, and runs one coroutine per session.
//
//   chorus::server srv{rt, {.listen = "127.0.0.1:8080"}};
//   srv.route("/chat/{room}", [&](chorus::session s, chorus::request r) -> chorus::task<> { … });
//   auto up = co_await srv.start();
//
// The handler's end decides how the session ends: returning flushes and closes with 1000, throwing
// closes with 1011 and is counted; the server lives on. Handler and request are kept alive while
// their coroutine runs.

#include <chorus/async/runtime.hpp>
#include <chorus/base/log.hpp>
#include <chorus/server/admission.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/server/drain.hpp>
#include <chorus/server/limits.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/response.hpp>
#include <chorus/server/room.hpp>
#include <chorus/server/room_options.hpp>
#include <chorus/server/routes.hpp>
#include <chorus/session/rate.hpp>
#include <chorus/transport/tls_options.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace chorus {

namespace detail {
class server_core;
}

enum class over_limit : std::uint8_t {
  refuse_upgrade, // 503 before the upgrade
  // Upgrade, then close with 1013, so that browsers learn why. So many at a time as an eighth of
  // max_connections, at least 16 and at most 1024; beyond that the upgrade is refused.
  close_try_later,
};

// Whether connections begin with a header of the PROXY protocol, version 1 or 2, that tells the
// client's address. Where one has to come and does not, the connection is closed without an answer.
enum class proxy_protocol : std::uint8_t {
  off,
  required, // from everybody: only proxies can reach this server
  trusted,  // from trusted_proxies; others connect without
};

struct server_options {
  std::string listen = "127.0.0.1:0"; // "host:port", "[::1]:0", "unix:/path", "fd:3"
  tls_options tls{};                  // with a certificate_file: wss
  session_options session{};
  std::vector<std::string> subprotocols{}; // in order of preference
  std::size_t max_connections = 100'000;   // sessions; 0 for no limit
  over_limit on_limit = over_limit::refuse_upgrade;
  std::chrono::milliseconds handshake_timeout{10'000}; // TLS and HTTP head together
  std::size_t max_header_bytes = 16 * 1024;            // beyond it 431
  // Origins besides the server's own from which browsers may connect: "https://example.org", or "*".
  // A request without an Origin header is not a browser's and is let in.
  std::vector<std::string> allowed_origins{};
  // Told of every handler, page and `only` filter that failed and of connections that could not be set
  // up, on the thread of the shard where it happened; with several shards, from several threads at
  // once.
  std::function<void(std::string_view what, const chorus::session *)> on_error{};
  // Connections at a time that are no sessions: in their TLS or HTTP handshake, or asking for pages.
  // For one more another goes that says nothing, or does not take its answer: the oldest of the address
  // that has the most, if that has more than the newcomer's, or the oldest of all that is older than an
  // eighth of handshake_timeout. When there is none, it is answered 503, or closed under TLS. 0 for no limit.
  std::size_t max_handshakes = 1024;
  // Further addresses, each like `listen`; when one can't be listened on, `start` fails and none is.
  // An inherited descriptor is named "fd:3" (inherited_sockets() knows their numbers): it must be a
  // listening stream socket, `start` takes it over whatever comes of it, and one acceptor deals its
  // connections out to the shards, as for unix sockets. An IPv6 address means IPv6 alone.
  // "fd:3:file" is what a handover gives: the socket's file is removed when nobody listens there any more.
  std::vector<std::string> also_listen{};
  bool reuse_port = false; // other processes of this user may listen there, too, if they say so
  unsigned unix_socket_mode = 0; // of socket files, like 0660; 0: what the umask leaves
  // Asked when a room is made, on the thread that wants the room, what that room is to be like; empty:
  // every room is as room_options{} says. Options that make no sense, and an exception, are told to
  // on_error, and the room gets room_options{}. When two threads make one room at the same time both
  // may ask; one answer counts.
  std::function<room_options(std::string_view name)> rooms{};
  // Asked before every upgrade whose route has no hook of its own; see admission.hpp. Empty: all are
  // accepted.
  authorize_hook authorize{};
  // Of a request for a page: beyond it 413. 0: no bodies.
  std::size_t max_body_bytes = std::size_t{1} << 20;
  std::chrono::milliseconds body_timeout{30'000}; // for all of a body; beyond it 408
  // For each 64 KiB of an answer; a peer that takes less by then is cut off.
  std::chrono::milliseconds send_timeout{60'000};
  std::size_t max_requests = 1000; // on one connection, which then ends; 0 for no limit
  // Peers that offer the subprotocol chorus.v1 (docs/protocol.md) get it: handlers see no difference,
  // and what is published to a room with history reaches them across a reconnect.
  bool resume = true;
  // Bounds over all rooms: bytes of history, and rooms that stay without members. Beyond either the
  // rooms that have been empty longest forget theirs first. As many rooms go on without a broker's engine
  // that is away (away_policy::degrade); more are refused. 0 for no limit.
  std::size_t max_history_bytes = std::size_t{256} << 20;
  std::size_t max_lingering_rooms = 10'000;
  // Asked of every join, before the room's own hook; see room_options::on_join.
  chorus::join_hook join_hook{};
  // Asked for an origin that is neither the server's own nor in allowed_origins; true lets it in. On
  // any shard's thread; one that throws refuses and is told to `on_error`.
  std::function<bool(std::string_view origin)> allow_origin{};
  // Sessions of one address, the /64 network of an IPv6 one, over all shards; beyond it 429, or
  // what on_limit says. 0 for no limit. Peers on unix sockets are not counted.
  std::size_t max_connections_per_address = 0;
  // Sessions of one user, as the authorisation hook names it; with a broker over all its servers, but
  // each counts alone while it does not answer. 0 for no limit.
  std::size_t max_connections_per_user = 0;
  over_user_limit on_user_limit = over_user_limit::refuse_new;
  // Whose X-Forwarded-For is believed: "10.0.0.0/8", "2001:db8::7", "unix:" for peers on unix sockets.
  // The client is the right-most address there that is no trusted proxy. Of all others the header is
  // only a header.
  std::vector<std::string> trusted_proxies{};
  proxy_protocol proxy = proxy_protocol::off;
  // What one peer may send; see session/rate.hpp. Off by default.
  rate_options rate{};
  // Bytes of frames in the outgoing queues of all sessions together whose peers do not keep up; a frame
  // that several wait for counts for each. Beyond it the sessions with the largest queues are closed
  // (1013, evicted). 0 for no limit.
  std::size_t queue_budget_bytes = 0;
  // What the rooms of this server share with those of others, everyone() aside. Null: nothing.
  std::shared_ptr<chorus::broker> broker{};
  // Told of the server's life and of its connections'; null: nobody.
  std::shared_ptr<log_sink> log{};
  // How long the broker takes this server's members for present without a word of it. It renews that
  // three times as often.
  std::chrono::milliseconds broker_lease{15'000};
};

struct server_stats {
  std::uint64_t accepted = 0;          // connections
  std::uint64_t upgraded = 0;          // sessions opened
  std::uint64_t refused_limit = 0;     // by max_connections or max_handshakes
  std::uint64_t refused_other = 0;     // any 4xx or 5xx answer to an upgrade not counted below
  std::uint64_t handshakes_failed = 0; // gone, late, or not speaking HTTP
  std::uint64_t accept_errors = 0;
  std::uint64_t handler_failures = 0;  // handlers that threw
  std::uint64_t messages_received = 0; // of ended and live sessions
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_dropped = 0;
  std::uint64_t evicted = 0;   // sessions that ended with error::evicted, by a room or a send
  std::size_t connections = 0; // sessions open now
  std::size_t handlers = 0;    // running now
  std::size_t handshakes = 0;  // connections that are no sessions now
  std::uint64_t refused_unauthorised = 0; // by an authorisation hook, closing answers included
  resume_stats resume{};
  std::uint64_t refused_origin = 0;
  std::uint64_t refused_address = 0; // by max_connections_per_address
  std::uint64_t refused_user = 0;    // by max_connections_per_user
  std::uint64_t users_ousted = 0;    // sessions closed by over_user_limit::close_oldest
  // Connections without the PROXY header they need, or with a bad one.
  std::uint64_t refused_proxy = 0;
  std::uint64_t rate_closed = 0;    // sessions, by over_rate::close
  std::uint64_t rate_dropped = 0;   // messages and pings, by over_rate::drop
  std::uint64_t evicted_budget = 0; // by queue_budget_bytes; counted in `evicted`, too
  // What counts against queue_budget_bytes now.
  std::size_t queued_bytes_waiting = 0;
  std::uint64_t handshakes_evicted = 0; // to make room among max_handshakes
  std::uint64_t tls_handshakes = 0;     // done
  std::uint64_t tls_failed = 0;         // also counted in handshakes_failed
  std::uint64_t tls_resumed = 0;        // of those done, by a ticket
};

struct stop_report {
  std::size_t handlers_cancelled = 0; // still running at the deadline
  std::size_t sessions_aborted = 0;   // not closed in order by then
};

struct admin_options {
  // Every request needs it: "Authorization: Bearer TOKEN". Visible ASCII; an empty one throws
  // std::invalid_argument.
  std::string token{};
};

class server {
public:
  using handler = routes::handler;
  using page = routes::page;

  // A heartbeat that would give up good peers (heartbeat_options) throws std::invalid_argument.
  server(runtime &rt, server_options options);
  // Aborts everything without blocking. `stop` is the orderly way.
  ~server();
  server(const server &) = delete;
  server &operator=(const server &) = delete;

  // A handler takes session and request by value: they are its coroutine's own then. Patterns and
  // methods are those of `routes`, and so is what is thrown. Before `start` only (std::logic_error).
  void route(std::string_view pattern, handler h, route_options options = {});
  void get(std::string_view pattern, page p);
  void post(std::string_view pattern, page p);
  void put(std::string_view pattern, page p);
  void patch(std::string_view pattern, page p);
  void del(std::string_view pattern, page p);
  void files(std::string_view prefix, const std::string &directory, file_options options = {});
  void assets(std::string_view prefix, const std::vector<asset> &assets, file_options options = {});
  // All of `part`, behind `prefix`; "" or "/" for none.
  void mount(std::string_view prefix, routes &&part, const mount_options &options = {});

  // JSON pages behind `prefix` that look into the server and act on it; docs/http.md lists them.
  void mount_admin(std::string_view prefix, admin_options options, const mount_options &where = {});

  // Listens. Completes when connections are accepted; fails with listen_failed (address in use, no
  // permission, unknown address) or tls_bad_configuration.
  task<result<>> start();
  // Stops in order: closes the listeners, answers unfinished handshakes with 503, flushes and closes
  // every session with 1001, and at the deadline aborts what is left and cancels handlers, which get
  // up to a second more to end. What was published to a room before the call is queued at every
  // member, on whatever shard, before its close is. Always ends, at the latest then; who has not
  // ended by then is counted in the report and in stats(). Further calls wait for the first and may
  // bring the deadline nearer. Cancelling stops waiting, not stopping. A handler of this server that
  // calls it is itself waited for until the deadline, then cancelled; it still gets its report.
  // Afterwards the server can't be started again.
  task<stop_report> stop(std::chrono::milliseconds deadline = std::chrono::seconds(10));

  // Leaves so that clients find another server in good order: not ready from here on; upgrades are
  // refused with 503 and Retry-After, while plain HTTP goes on being answered; sessions are closed
  // with 1012 at a pace, each after what it has queued and within its close_timeout, the reason
  // telling when to come back ("retry-after=1.25"); then `stop`. Completes when the server has
  // stopped. Further calls wait for the first and get the same report; `stop` meanwhile cuts it
  // short. Cancelling stops waiting, not draining. A handler may call it and is treated as in `stop`.
  // Before `start` it is a stop. Fails with bad_option.
  task<result<drain_report>> drain(drain_options options = {});
  // Reads the files of server_options::tls again: new handshakes get the new certificate, on all
  // shards, once this completes; open sessions go on, and tickets stay good unless who verifies
  // clients has changed. Fails with tls_bad_configuration and a sentence when the new files can't be
  // used (the old ones stay in force), with bad_option without TLS, with not_open unless started.
  task<result<>> reload_tls();
  // Started, and neither draining nor stopping: what a readiness probe asks. From any thread.
  bool ready() const noexcept;

  // Of a started server: the real port (0 for unix sockets), "127.0.0.1:8080" and "ws://127.0.0.1:8080".
  std::uint16_t port() const noexcept;
  std::string address() const;
  std::string url() const;
  // The same of all that it listens on, that of `listen` first, none twice.
  std::vector<std::string> addresses() const;
  std::vector<std::string> urls() const;

  // Gets or creates.
  chorus::room room(std::string_view name);
  // Every session of the server; implicit, without joining.
  chorus::room everyone();

  std::size_t size() const noexcept; // sessions open
  task<std::vector<session>> sessions();

  // The connections of a user, on whatever shard: an implicit room, without joining, of all sessions
  // that the authorisation hook gave this name. It vanishes with the last of them.
  chorus::room user(std::string_view name);
  // Publishes to them; returns how many are known, 0 when the user is not connected. Never waits;
  // `co_await srv.user(name).broadcast(m)` tells what became of each copy. With a broker it goes to
  // those on other servers, too, which are not counted: unless it has an `only` or an `except_user`.
  std::size_t send_to_user(std::string_view name, message m, publish_options options = {});
  // The open session of this id; an empty handle when there is none.
  session find(session_id id) const;
  // `send` on that session; fails with not_open when there is none.
  task<result<>> send_to(session_id id, message m, send_options options = {});
  // The name of this server among those that share its broker, drawn at random; empty without one.
  std::string node() const;
  // What names a session of this server on all of them: "node:id", or "id" without a broker.
  std::string id_of(const session &s) const;
  // `send` on a session of whatever server, by what `id_of` gave there. Fails with not_open when there
  // is no such server or session, with what `send` there or the broker says, with timed_out when the
  // other server has not answered after ten seconds: then nobody knows, with bad_option for a text of
  // another form. Cancelling stops waiting; the message may be sent.
  task<result<>> send_to(std::string_view id, message m, send_options options = {});
  // Closes every connection of a user. Completes with how many this server knew, when the broker, if
  // there is one, has taken the word for the others; fails with what it says, those here being closed
  // all the same, and with bad_option for a code that can't be sent. Cancelling stops waiting.
  task<result<std::size_t>> disconnect_user(std::string_view name,
                                            close_code code = close_code::policy_violation,
                                            std::string_view reason = {});
  server_stats stats() const;

  const std::shared_ptr<detail::server_core> &core() const noexcept { return core_; }

private:
  std::shared_ptr<detail::server_core> core_;
};

} // namespace chorus
