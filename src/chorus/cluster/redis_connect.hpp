#pragma once
// Reaches a Redis: a connection that is logged in, or one question with its answers. Coroutines of the
// shard; a failure names the address.

#include <chorus/async/task.hpp>
#include <chorus/cluster/redis.hpp>
#include <chorus/cluster/redis_login.hpp>
#include <chorus/cluster/redis_protocol.hpp>
#include <chorus/cluster/redis_target.hpp>
#include <chorus/transport/stream.hpp>

#include <memory>
#include <span>
#include <vector>

namespace chorus::transport {
class tls_context;
}

namespace chorus::detail {

struct redis_dial {
  redis_address where{};
  std::shared_ptr<transport::tls_context> tls{}; // null: without
  std::chrono::milliseconds limit{};             // of all together
};

struct redis_connected {
  std::unique_ptr<transport::stream> stream{};
  redis_welcome welcome{};
};

task<result<redis_connected>> redis_connect(std::shared_ptr<shard> home, redis_dial to,
                                            redis_login_options login);

// Asks one thing on a connection of its own, logged in only where that is wanted.
task<result<redis_reply>> redis_ask_once(std::shared_ptr<shard> home, redis_dial to,
                                         std::string user, std::string password,
                                         std::vector<std::string> words);

// With the address in its detail.
failure at_address(const failure &why, const redis_address &where);

} // namespace chorus::detail
