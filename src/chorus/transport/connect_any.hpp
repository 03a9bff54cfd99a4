#pragma once
// Connecting to the first of several addresses that answers.

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

// Tries the addresses in turn within `limit`. Each has a fair share of what is left of that,
// so that one that swallows packets does not cost the rest their chance. Fails with connect_timeout,
// or connect_failed about the last address tried. Cancelling throws, by Asio's own rule.
task<result<descriptor>> connect_any(detail::shard &home, std::vector<endpoint> addresses,
                                     std::chrono::milliseconds limit, bool keep_alive);

} // namespace chorus::transport
