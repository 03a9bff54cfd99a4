#pragma once
// JSON and JSON-RPC 2.0 over a reconnecting client. What json/json.hpp and json/rpc.hpp say of sessions
// holds here, with the client's own `send` and `receive`.

#include <chorus/client/client.hpp>
#include <chorus/json/json.hpp>
#include <chorus/json/rpc.hpp>

#include <type_traits>

namespace chorus {

task<result<>> send_json(client &c, const boost::json::value &value);
template <class T>
requires json_convertible<std::remove_cvref_t<T>> task<result<>> send_json(client &c, T &&value) {
  static_assert(json_safe_argument<T>,
                "name this value first: an aggregate that owns something must "
                "not be a temporary in a co_await expression");
  return c.send(to_message(value));
}

task<result<boost::json::value>> receive_json(client &c, json_limits limits = {});
template <class T> task<result<T>> receive_json(client &c, json_limits limits = {}) {
  return detail::converted<T>(receive_json(c, limits));
}

// An `rpc` that goes on across connections. It takes the client's messages, so nobody else may
// `receive`, and a client with on_message or ignore_input ends it with `busy`. It ends with the client;
// it does not keep the client alive.
//
// Requests and notifications go through the client's outbox: made without a connection they wait for
// one, and a request that is given up meanwhile is not sent any more. When a connection is lost,
//   - a request that had not begun to be sent is sent on the next connection;
//   - one that had fails with `unconfirmed`, or is sent again on the next connection if it was marked
//     idempotent;
//   - handlers of the peer's requests are cancelled, and answers that were not sent are dropped: the
//     peer that comes next did not ask.
rpc rpc_over(client &c, rpc_methods methods = {}, rpc_options options = {});

} // namespace chorus
