#pragma once
// `rpc`: JSON-RPC 2.0 over a session, in both directions and either role. It owns the reading of its
// session: what arrives is an answer to a request of this side, or a request or notification that a
// handler takes, or goes to `on_other`. Everything happens on the session's shard; a handle may be
// used from any thread.
//
//   chorus::rpc_methods methods;
//   methods.add("subtract", [](int a, int b) -> chorus::task<chorus::result<int>> { co_return a - b; });
//   chorus::rpc peer(session, methods);
//   auto nineteen = co_await peer.request<int>("subtract", chorus::json_array(42, 23), {.timeout = 2s});
//   auto why = co_await peer.ended();
//
// Bounds: requests of this side in flight, handlers at once, entries of a batch, depth and size of a
// document. A peer whose requests outnumber the handlers is told so (-32000); one that in addition
// does not read its answers is closed (1013).

#include <chorus/json/json.hpp>
#include <chorus/json/rpc_methods.hpp>

#include <chrono>
#include <concepts>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace chorus {

namespace detail {
class rpc_channel;
// The object that it holds; an empty one, which is no request, where it holds none.
const boost::json::object &call_of(const boost::json::value &call) noexcept;
} // namespace detail

struct rpc_options {
  std::chrono::milliseconds timeout{30'000}; // of requests that name none; zero for never
  std::size_t max_requests = 1024;           // of this side, unanswered; then limit_reached
  // Of the peer's requests and notifications, running at once. Further requests are answered with
  // rpc_code::busy, further notifications are dropped and counted.
  std::size_t max_handlers = 1024;
  std::size_t max_batch = 256; // entries; a longer batch is refused as a whole (-32600)
  json_limits limits{};        // of each document
  // Gets what is no JSON-RPC: no JSON, or neither an object with a member `jsonrpc` nor an array that
  // begins with one. Without it such messages are answered with -32700 or -32600. On the shard, while
  // the session is read: it must not wait. An exception that leaves it ends the program. Over a client
  // under the resume protocol it also gets what was published to rooms, JSON-RPC or not: any member may
  // publish there, and must call nothing here. Without it that is counted and dropped.
  std::function<void(const message &)> on_other{};
  // A handler threw: its method and the exception's text, which the peer does not get to see.
  std::function<void(std::string_view method, std::string_view what)> on_error{};
};

struct rpc_request_options {
  std::chrono::milliseconds timeout{0}; // zero: the one of rpc_options; max() for never
  // Over a reconnecting client: sent again on the next connection when the one it was sent on was lost
  // before the answer, instead of failing with `unconfirmed`. It may then be carried out twice.
  bool idempotent = false;
};
static_assert(std::is_trivially_destructible_v<rpc_request_options>);

struct rpc_stats {
  std::uint64_t requests_sent = 0; // batches count each of theirs
  std::uint64_t answers = 0;       // that a request was waiting for
  std::uint64_t answers_late = 0;  // to a request that was given up, or was answered before
  std::uint64_t answers_stray = 0; // with an id that this side never used, or none
  std::uint64_t timeouts = 0;
  std::uint64_t requests_received = 0;
  std::uint64_t notifications_received = 0;
  std::uint64_t refused = 0;         // beyond max_handlers
  std::uint64_t malformed = 0;       // messages or entries that are no JSON-RPC
  std::uint64_t others = 0;          // messages for on_other
  std::uint64_t handlers_failed = 0; // threw
  std::size_t in_flight = 0;         // requests of this side
  std::size_t running = 0;           // handlers
};

// Requests and notifications that travel in one message.
class rpc_batch {
public:
  rpc_batch() = default;
  // The index of its answer.
  std::size_t request(std::string_view method, const boost::json::value &params = nullptr);
  void notify(std::string_view method, const boost::json::value &params = nullptr);
  bool empty() const noexcept { return entries_.empty(); }
  std::size_t requests() const noexcept { return requests_; }

private:
  friend class rpc;
  struct entry {
    std::string method;
    boost::json::value params;
    bool wants_answer = false;
  };
  std::vector<entry> entries_;
  std::size_t requests_ = 0;
};

class rpc {
public:
  rpc() noexcept = default; // every verb answers not_open
  // Starts to read. Nobody else may receive on the session meanwhile: then it ends with `busy`. When
  // the last handle has gone it stops as by `stop`; a request that waits counts as a handle.
  explicit rpc(session s, rpc_methods methods = {}, rpc_options options = {});

  // Sends a request and completes with its answer. `params`: an array, an object, or null for none
  // (bad_option otherwise); they are serialised when this is called. Any number may overlap, up to
  // max_requests (limit_reached). Fails with what the peer answered (`rpc_error_of`), with timed_out,
  // or with how the session ended. Cancelling frees the request's id; it is not sent any more if it
  // still waited for room, and a late answer is counted and ignored.
  task<result<boost::json::value>> request(std::string_view method,
                                           const boost::json::value &params = nullptr,
                                           rpc_request_options options = {});
  // The same with the answer converted (`from_json<T>`), and with params that are.
  template <class T>
  task<result<T>> request(std::string_view method, const boost::json::value &params = nullptr,
                          rpc_request_options options = {}) {
    return detail::converted<T>(request(method, params, options));
  }
  template <class T = boost::json::value, class P>
  requires json_convertible<std::remove_cvref_t<P>> task<result<T>>
  request(std::string_view method, P &&params, rpc_request_options options = {}) {
    static_assert(json_safe_argument<P>,
                  "name these params first: an aggregate that owns something "
                  "must not be a temporary in a co_await expression");
    return detail::converted<T>(request(method, boost::json::value_from(params), options));
  }
  // The same from one JSON object, {"method": "subtract", "params": [42, 23]}: `params` may be left out,
  // "jsonrpc" may be there. Any other member is bad_option, an "id" too: ids are given here.
  task<result<boost::json::value>> request(const boost::json::object &call,
                                           rpc_request_options options = {});
  template <class Json>
  requires std::same_as<std::remove_cvref_t<Json>, boost::json::value>
      task<result<boost::json::value>> request(Json &&call, rpc_request_options options = {}) {
    return request(detail::call_of(call), options);
  }
  // All in one message; completes when all requests are answered, or the timeout has passed: those
  // without an answer then have failed. Fails as a whole when nothing was sent.
  task<result<std::vector<result<boost::json::value>>>> request(rpc_batch batch,
                                                                rpc_request_options options = {});
  // Completes when the notification is accepted like a message by `session::send`. What becomes of it
  // the peer does not tell.
  task<result<>> notify(std::string_view method, const boost::json::value &params = nullptr);

  // Completes with how the session ended, or why this stopped reading it.
  task<failure> ended();
  // Stops reading; the session stays as it is. Requests that wait fail with not_open, handlers are
  // cancelled. From any thread.
  void stop();

  explicit operator bool() const noexcept { return core_ != nullptr; }
  rpc_stats stats() const; // from a foreign thread a snapshot

  // For `rpc_over` and handlers.
  explicit rpc(std::shared_ptr<detail::rpc_core> core) noexcept : core_(std::move(core)) {}
  static rpc over(std::unique_ptr<detail::rpc_channel> channel, rpc_methods methods,
                  rpc_options options);

private:
  std::shared_ptr<detail::rpc_core> core_;
};

} // namespace chorus
