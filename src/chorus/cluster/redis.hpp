#pragma once
// `redis`: a broker on Redis 7, by which the rooms, users and presence of many servers are one.
//
//   chorus::server_options options;
//   options.broker = chorus::redis("redis://127.0.0.1:6379/0");
//
// A room's history stays in Redis until nothing has been published, and no server has listened, for
// room_options::history_linger and history_age together, an hour at least; who is present, as long as its
// server's lease. A connection to Redis that is lost loses what passes (what has no history), and no more.
//
// It runs on the first shard of the first server that uses it, with no thread of its own: one connection
// for commands, pipelined, and one for what is subscribed, to each Redis master. Both come back by
// themselves. docs/scaling.md says what Redis guarantees and what it does not.

#include <chorus/base/backoff.hpp>
#include <chorus/server/broker.hpp>
#include <chorus/transport/tls_options.hpp>

#include <chrono>
#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

namespace chorus {

// Members are only ever added at the end.
struct redis_options {
  tls_options tls{};              // for rediss: schemes
  std::string client_name{};      // as CLIENT LIST shows it; empty: "chorus-" and a number
  std::string prefix = "chorus:"; // of every key and channel; servers that share rooms share it
  std::chrono::milliseconds connect_timeout{5'000}; // look-up, connection, TLS and login, together
  // Without an answer to the oldest command, or to a PING, in this time the connection is given up.
  std::chrono::milliseconds answer_timeout{3'000};
  std::chrono::milliseconds ping_interval{5'000}; // of a connection on which nothing comes
  // Between attempts to connect, forever.
  backoff_options reconnect{std::chrono::milliseconds(50), 2.0, std::chrono::milliseconds(5'000)};
  // How long a message whose answer was lost with the connection may wait until its outcome is found out;
  // then it fails with `unconfirmed`.
  std::chrono::milliseconds look_up_timeout{30'000};
  // Calls without an answer, and their bytes; beyond either they fail with queue_full.
  std::size_t max_waiting = 20'000;
  std::size_t max_waiting_bytes = std::size_t{64} << 20;
  // Told in a sentence of what becomes of the connections: reached, lost and why, restarted, another
  // master. On the engine's thread; it must neither throw nor wait.
  std::function<void(std::string_view)> on_event{};
};

// Where Redis is:
//   redis://[[user]:password@]host[:6379][/database]    rediss:// with TLS
//   redis+unix:///path/of/socket[?database=0]           or unix:/path
//   redis+sentinel://[user:password@]host[:26379][,host…][/database]?master=name
//   redis+cluster://host[:6379][,host…]                 Redis Cluster, from any of its nodes
// and rediss+sentinel://, rediss+cluster://. What is wrong with it is answered by server::start, with bad_url.
std::shared_ptr<broker> redis(std::string_view url, redis_options options = {});

} // namespace chorus
