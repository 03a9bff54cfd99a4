#pragma once
// What a server keeps on one shard: the listener, the connections that are still speaking HTTP, the
// sessions, and the handlers that run. Everything belongs to the shard's thread but what is marked.
//
// Ownership: the server, every connection's coroutine and every handler's coroutine hold it; it goes
// on its own shard, and tells what is left of its sessions to forget it.

#include <chorus/server/addresses.hpp>
#include <chorus/server/engine_watch.hpp>
#include <chorus/server/handshake_table.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/limits.hpp>
#include <chorus/server/measures.hpp>
#include <chorus/server/queue_budget.hpp>
#include <chorus/server/request.hpp>
#include <chorus/server/route_table.hpp>
#include <chorus/server/server.hpp>
#include <chorus/session/setup.hpp>
#include <chorus/transport/listener.hpp>
#include <chorus/transport/stream.hpp>

#include <boost/asio/cancellation_signal.hpp>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace chorus::transport {
class tls_context;
}

namespace chorus::detail {

class census_walk;
class server_shard;
class membership;

// What all shards of a server share; constant once it has started.
struct server_setup {
  server_options options;
  route_table routes;
  std::shared_ptr<hub> rooms;
  std::shared_ptr<transport::tls_context> tls; // null: plain
  std::atomic<std::size_t> admitted{0};        // sessions that count against max_connections
  std::atomic<std::size_t> farewells{0};       // sessions that are only told why there is no place
  handshake_table handshakes;                  // connections that count against max_handshakes
  address_tally addresses; // sessions by address, with max_connections_per_address
  user_table users;        // sessions by user, with max_connections_per_user
  proxy_list proxies;      // read from the options by `start`
  std::shared_ptr<rate_counters> rates = std::make_shared<rate_counters>();
  std::shared_ptr<queue_budget> budget; // null: none

  // Tells `on_error` and the log, and never throws.
  void report(std::string_view what, const session *s, std::string_view event = "failed",
              session_id id = 0) const noexcept;
  // The broker's engine has gone away or is back; one at a time.
  void log_engine(const engine_state &now) noexcept;
  std::array<std::uint64_t, 3> before_away{}; // what was counted when it went
  // The log if it wants such a record, else null.
  log_sink *log_for(log_room r, log_level l) const noexcept {
    return detail::log_for(options.log, r, l);
  }
};

struct server_setup;

// What a session holds besides: one of its address's and one of its user's places.
struct further_places {
  explicit further_places(server_setup &s) noexcept : setup(s) {}
  ~further_places();
  further_places(const further_places &) = delete;
  further_places &operator=(const further_places &) = delete;

  server_setup &setup;
  std::string address; // empty: none
  std::shared_ptr<user_table::place> user;
  std::shared_ptr<user_claims::claim> claim; // among all servers; null: none
  bool farewell = false;                     // counts among those instead
};

// One of max_connections, and of the limits per address and user.
class connection_permit {
public:
  connection_permit() noexcept = default;
  connection_permit(connection_permit &&other) noexcept
      : setup_(std::exchange(other.setup_, nullptr)), further_(std::move(other.further_)) {}
  connection_permit &operator=(connection_permit &&other) noexcept {
    std::swap(setup_, other.setup_);
    std::swap(further_, other.further_);
    return *this;
  }
  ~connection_permit() { release(); }
  explicit operator bool() const noexcept { return setup_ != nullptr; }
  // False when the limit is reached.
  bool take(server_setup &setup) noexcept;
  // The same for an address (as a stream gives it) and for a user, after `take`. No limit, no address
  // and no user always fit.
  bool take_address(std::string_view address);
  bool take_user(const std::string &user, session &ousted);
  // Then, with a broker: the place among all servers. Null claims hold nothing.
  void hold(std::shared_ptr<user_claims::claim> claim) { further().claim = std::move(claim); }
  // Instead of `take`: for a session that is only told why it can't be one. False when there are
  // `most_farewells` of them: an eighth of max_connections, at least 16, at most 1024.
  bool take_farewell(server_setup &setup);
  static std::size_t most_farewells(std::size_t max_connections) noexcept;
  // The session is open; false when it had to make room for another of its user before it was.
  bool open(const session &s);
  void release() noexcept;

private:
  further_places &further();

  server_setup *setup_ = nullptr;           // of the server_shard that outlives whoever holds this
  std::unique_ptr<further_places> further_; // null: none
};

struct list_hook {
  list_hook *next = nullptr;
  list_hook *prev = nullptr;
};

// A connection before its upgrade, or one that only asks for pages.
struct http_visit : list_hook, std::enable_shared_from_this<http_visit> {
  enum class phase : unsigned char {
    securing, // in its TLS handshake
    reading,  // in its first request
    asking,   // its authorisation hook runs
    between,  // after an answer
    working,  // a page is being made or an answer is being written
    stalled,  // the peer does not take its answer
  };
  http_visit() noexcept = default;
  ~http_visit();
  // Counts it; false when max_handshakes is reached and nobody else makes room.
  bool admit(const std::shared_ptr<server_setup> &setup, std::shared_ptr<shard> where,
             std::string_view address);
  // It is the peer's turn. Any thread.
  bool waits() const noexcept {
    const auto now = at.load(std::memory_order_relaxed);
    return now == phase::securing || now == phase::reading || now == phase::between ||
           now == phase::stalled;
  }
  // Another one needs the place. On its shard.
  void evict() noexcept;

  std::shared_ptr<server_setup> counted_in; // null: not admitted
  std::shared_ptr<shard> home;
  boost::asio::cancellation_signal cancel;
  std::atomic<phase> at = phase::securing;
  const session_id id = next_session_id(); // of the session that this may become
  bool interrupted = false;                // the server stops
  bool evicted = false;
  // The table's.
  std::string key;
  time_point arrived{};
  bool listed = false;
};

// An open session and the request that began it.
struct open_connection {
  session handle;
  request asked;
};

// An upgraded connection, until it is closed and its handler has ended.
struct live_session final : list_hook, session_observer {
  void on_session_closed(const session &s) noexcept override;
  void on_round_trip(std::chrono::nanoseconds took) noexcept override;

  server_shard *owner = nullptr; // null once forgotten
  session handle;
  request asked; // empty: it has no handler
  connection_permit permit;
  std::uint64_t number = 0; // ascending in the order of their coming; 0: not in the list yet
  boost::asio::cancellation_signal cancel; // of the handler
  std::shared_ptr<membership> user_seat;   // while it is open; null: it has no user
  std::shared_ptr<live_session> self;      // while the session is open or the handler runs
  // While the handler runs: its closure, and this shard's part of the server.
  std::shared_ptr<const chorus::detail::route> target;
  std::shared_ptr<server_shard> runner;
  bool open = true;
  bool counted = false; // in open_
  bool running = false;
  bool cancelled = false;
};

// A listening socket for another process.
struct socket_copy {
  transport::descriptor socket;
  bool with_file = false; // its socket file goes with it
};

// Accepts at one address on one shard; server_doors.cpp.
class server_door final : public transport::accept_handler {
public:
  server_door(server_shard &owner, std::unique_ptr<transport::listener> l,
              std::vector<std::weak_ptr<server_shard>> deal_to) noexcept
      : owner_(owner), listener_(std::move(l)), deal_to_(std::move(deal_to)) {}

  transport::listener &listener() noexcept { return *listener_; }
  // Whose the connection is that has just been accepted; null: the owner's.
  std::shared_ptr<server_shard> next_in_turn() noexcept;
  // Accept errors since the last call.
  std::uint64_t new_errors() noexcept;

private:
  void on_accept(int fd) noexcept override;
  void on_refused(int fd) noexcept override;

  server_shard &owner_;
  std::unique_ptr<transport::listener> listener_;
  std::vector<std::weak_ptr<server_shard>> deal_to_; // empty: the owner serves all
  std::size_t next_deal_ = 0;
  std::uint64_t told_errors_ = 0;
};

class server_shard final : public std::enable_shared_from_this<server_shard> {
public:
  static std::shared_ptr<server_shard> make(std::shared_ptr<shard> home,
                                            std::shared_ptr<server_setup> setup);
  server_shard(std::shared_ptr<shard> home, std::shared_ptr<server_setup> setup) noexcept;
  ~server_shard();
  server_shard(const server_shard &) = delete;
  server_shard &operator=(const server_shard &) = delete;

  shard &home() const noexcept { return *home_; }
  const std::shared_ptr<server_setup> &setup() const noexcept { return setup_; }
  bool stopping() const noexcept { return stopping_; }
  bool draining() const noexcept { return draining_; }
  // For new handshakes; null: plain.
  const std::shared_ptr<transport::tls_context> &tls() const noexcept {
    return tls_ ? tls_ : setup_->tls;
  }
  void use_tls(std::shared_ptr<transport::tls_context> tls) noexcept { tls_ = std::move(tls); }
  void count_tls(const tls_info *done) noexcept; // null: failed
  // While draining: seconds, for the header of a refusal.
  std::string_view retry_after() const noexcept { return retry_after_; }
  // Null without a budget.
  const std::shared_ptr<shard_queues> &queues() const noexcept { return queues_; }

  // Accepts; with `deal_to`, for these in turn. Fails with not_open when the server stops.
  result<> listen(std::unique_ptr<transport::listener> l,
                  std::vector<std::weak_ptr<server_shard>> deal_to = {});
  void unlisten() noexcept { close_listeners(); }
  // A connected socket; taken over.
  void serve(transport::descriptor socket) noexcept;

  // A session that has just been made under `live`, and the handler for it (null: it is only to be
  // closed). Called by the connection.
  void begin_session(const std::shared_ptr<live_session> &live, session s);
  void begin_handler(const std::shared_ptr<live_session> &live,
                     std::shared_ptr<const chorus::detail::route> target, request r);

  // Draining (server_drain.cpp). From here on upgrades are refused; how many sessions there are to close.
  std::size_t begin_drain(std::chrono::milliseconds retry_after, bool release);
  // Closes as many sessions as there are delays, each to come back after one; how many were still
  // there.
  std::size_t drain_some(const std::vector<duration> &delays);
  // `told` is called once, when no session is open here, perhaps at once.
  void when_empty(std::function<void()> told);
  // Stops accepting on sockets that somebody else listens on, too.
  void release_listeners() noexcept;
  std::vector<socket_copy> duplicate_listeners() const;
  void add_to(drain_report &report) const noexcept; // from any thread

  // Stops in order; `idle` is called once, when nothing is left here, perhaps at once.
  void begin_stop(std::function<void()> idle);
  // Aborts the sessions and cancels what runs. Before that, and so before this shard can be idle,
  // `told` gets what is still there.
  void cut(const std::function<void(stop_report)> &told);

  // From any thread.
  void add_to(server_stats &stats) const;
  void add_counters(server_stats &stats) const noexcept; // what needs no look at the sessions
  void add_to(std::vector<session> &sessions) const;
  session find(session_id id) const;
  void add_to(std::vector<open_connection> &connections) const;
  std::size_t open_sessions() const noexcept { return open_.load(std::memory_order_relaxed); }
  std::size_t handlers() const noexcept { return handlers_.load(std::memory_order_relaxed); }
  struct counters {
    std::atomic<std::uint64_t> accepted{0}, upgraded{0}, refused_limit{0}, refused_other{0},
        handshakes_failed{0}, accept_errors{0}, handler_failures{0}, evicted{0},
        refused_unauthorised{0}, refused_origin{0}, refused_address{0}, refused_user{0},
        refused_proxy{0}, handshakes_evicted{0}, users_ousted{0};
    std::atomic<std::uint64_t> drain_sessions{0}, drain_closed{0}, drain_left{0}, drain_refused{0};
    std::atomic<std::uint64_t> tls_handshakes{0}, tls_failed{0}, tls_resumed{0};
  } count;
  shard_measures measures; // on the shard

  // server_log.cpp. Counts and logs that a connection was turned away; status 0: without a word.
  // `carrier` (null: gone) tells its address, `target` is what it asked for, if that is known.
  void refused(refusal why, unsigned status, session_id id, const transport::stream *carrier,
               std::string_view target) noexcept;
  void log_failed_handshake(session_id id, const transport::stream *carrier,
                            std::string_view why) const noexcept;
  void log_tls(session_id id, const transport::stream &carrier, const result<> &done,
               std::chrono::nanoseconds took) const noexcept;
  void log_upgraded(const session &s, const chorus::detail::route &target) const noexcept;

private:
  friend struct live_session;
  friend class census_walk;
  friend class server_door;
  friend class visit_end;
  friend class handler_end;

  void on_accept(server_door &door, int fd) noexcept;
  void on_refused(server_door &door, int fd) noexcept;
  void turn_away(transport::descriptor socket, refusal reason, std::string_view why) noexcept;
  void log_accepted(session_id id, const transport::stream &carrier) const noexcept;
  void log_end(const session &s) const noexcept;
  void count_refusal(refusal why) noexcept;
  void note_accept_errors(server_door &door) noexcept;
  void visit_ended(http_visit &v) noexcept;
  void handler_ended(live_session &live, std::exception_ptr e, bool dropped) noexcept;
  void session_ended(live_session &live, const session &s) noexcept;
  void drop_if_over(live_session &live) noexcept;
  void check_idle() noexcept;
  void check_empty() noexcept;
  void note_drained(const session &s) noexcept;
  void keep(const std::shared_ptr<live_session> &live);
  void close_listeners() noexcept;
  std::vector<std::shared_ptr<live_session>> sessions_now() const;
  std::vector<std::shared_ptr<http_visit>> visits_now() const;

  std::shared_ptr<shard> home_;
  std::shared_ptr<server_setup> setup_;
  std::vector<std::unique_ptr<server_door>> doors_;
  list_hook visits_;
  list_hook sessions_; // the newest first
  std::uint64_t last_number_ = 0;
  census_walk *walks_ = nullptr; // those under way
  bool stopping_ = false;
  std::function<void()> idle_;
  std::shared_ptr<transport::tls_context> tls_; // null: that of the start
  bool draining_ = false;
  std::string retry_after_;
  std::vector<std::shared_ptr<live_session>> to_close_; // the oldest last
  std::function<void()> empty_;
  std::shared_ptr<shard_queues> queues_;

  std::atomic<std::size_t> open_{0};
  std::atomic<std::size_t> handlers_{0};
  // The list of sessions, and what they asked, is written here and read from anywhere.
  mutable std::mutex sessions_mutex_;
  std::unordered_map<session_id, live_session *> by_id_; // of that list
  session_stats ended_;                                  // sums over ended sessions
};

// The life of a connection up to its upgrade (connection.cpp).
task<> serve_connection(std::shared_ptr<server_shard> owner, std::shared_ptr<http_visit> visit,
                        std::unique_ptr<transport::stream> carrier);

} // namespace chorus::detail
