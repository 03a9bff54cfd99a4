#pragma once
// What `connect` was asked for, checked and owned: made once, used for any number of attempts.

#include <chorus/async/shard.hpp>
#include <chorus/base/url.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/session/envelope.hpp>
#include <chorus/transport/dial.hpp>

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace chorus::detail {

// One of several protocols by which a host may be reached.
struct connect_way {
  url where;
  std::optional<transport::proxy_server> proxy;
};

struct connect_plan {
  // With several ways the most capable of them: with WebSocket if there is any, with TLS if possible.
  url where;
  // In the order in which they are tried; empty when there is but one.
  std::vector<connect_way> ways;
  bool race_ways = false;
  std::string extra_headers; // rendered, each line with its end
  std::string open_headers;  // of them those that are no secrets
  std::string authorization; // by the URL's credentials; rendered
  unsigned max_redirects = 0;
  std::string proxy; // as it was given
  bool proxy_from_environment = false;
  std::vector<std::string> subprotocols;
  session_options session;
  transport::dial_options dial;
  std::chrono::milliseconds upgrade_timeout{0};
  std::size_t max_response_bytes = 0;
  bool close_when_unowned = true; // see session_setup
  bool keep_unsent = false;       // see session_setup
  // For connections on which chorus.v1 was agreed; empty: it means nothing here.
  std::function<std::unique_ptr<session_envelope>()> make_envelope;
  bool needs_envelope = false; // a server that does not speak it is of no use
  session_id id = 0;           // of the next attempt's session; 0: a fresh one
};

failure bad_option(std::string sentence);

// Fails with bad_url or bad_option.
result<std::shared_ptr<connect_plan>> make_plan(std::string_view url,
                                                const connect_options &options);

// Fails with bad_option when `tls` pins keys and none of these URLs means a connection with TLS, where the
// pins would do nothing. Says nothing of URLs that can't be used.
result<> check_pins(const tls_options &tls, std::span<const std::string> urls,
                    const std::vector<url_scheme> &protocols);

// The plan with these headers, which take the place of those of the same name. Fails with bad_option.
result<std::shared_ptr<connect_plan>>
with_headers(const connect_plan &plan,
             const std::vector<std::pair<std::string, std::string>> &headers);

// Sets `dial.proxy` for `where`. Fails with bad_option.
result<> choose_proxy(connect_plan &plan);

// One attempt, on the shard's own thread. Completes with an open session or the failure of a stage.
// Cancelling throws, by Asio's own rule, and leaves nothing behind.
task<result<session>> open_session(std::shared_ptr<shard> home,
                                   std::shared_ptr<const connect_plan> plan);

} // namespace chorus::detail
