#pragma once
// Connecting to the first of several addresses that answers (RFC 8305 sections 4 and 5).

#include <chorus/async/shard.hpp>
#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/address.hpp>
#include <chorus/transport/descriptor.hpp>

#include <chrono>
#include <cstring>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace chorus::transport {

struct endpoint {
  sockaddr_storage address{};
  socklen_t size = 0;

  endpoint() = default;
  endpoint(const void *from, std::size_t length) : size(static_cast<socklen_t>(length)) {
    std::memcpy(&address, from, length);
  }
  const sockaddr *get() const noexcept { return reinterpret_cast<const sockaddr *>(&address); }
  std::string text() const { return address_text(get(), size); }
};

// The families in turn, beginning with that of the first; within a family the order stays.
std::vector<endpoint> interleave(std::vector<endpoint> addresses);

struct race_options {
  std::chrono::milliseconds limit{10'000}; // for all addresses together
  std::chrono::milliseconds stagger{250};  // between one start and the next
  bool keep_alive = true;                  // SO_KEEPALIVE
};

// Of a name with more addresses than this only the first are tried.
constexpr std::size_t most_addresses = 32;

// Starts one address after the other, the next when `stagger` has passed or one in flight has failed;
// sooner, if `limit` would leave some without a start. The first that connects wins; the others are given
// up at once. Fails with connect_failed, about the last address that said no, or with connect_timeout
// when all were silent; the detail's `tried` tells of each. Cancelling throws, by
// Asio's own rule, and leaves no socket behind.
task<result<descriptor>> connect_any(detail::shard &home, std::vector<endpoint> addresses,
                                     race_options options);

} // namespace chorus::transport
