#pragma once
// Looking up names with the system's resolver, which can't be interrupted: each look-up runs on a thread
// that nobody waits for. A coroutine that gives up, a shard and even the process may end meanwhile; an
// answer that comes too late goes nowhere. Names that hang hold up others only once `most_lookups` do.

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/connect_any.hpp>

#include <atomic>
#include <chrono>
#include <cstddef>
#include <netdb.h>
#include <string>
#include <vector>

namespace chorus::transport {

// At a time in a process; further ones wait in line.
constexpr std::size_t most_lookups = 8;

// The addresses of `host`, in the resolver's order. Literal addresses, and "localhost" and the names below
// it (RFC 6761 section 6.3: ::1 and 127.0.0.1), are answered at once unless `port` is the name of a
// service. Errors: resolve_failed, resolve_timeout after `limit` (time in line included), shut_down when
// the runtime around the user's io_context goes. Cancelling throws, by Asio's own rule. On `home`'s thread.
task<result<std::vector<endpoint>>> resolve(detail::shard &home, std::string host, std::string port,
                                            std::chrono::milliseconds limit);

// For tests: what is asked, from any thread; and how much it is asked now.
extern std::atomic<decltype(&::getaddrinfo)> system_resolver;
struct resolver_load {
  std::size_t running = 0; // threads
  std::size_t in_line = 0;
};
resolver_load current_resolver_load();

} // namespace chorus::transport
