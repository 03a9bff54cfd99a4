#pragma once
// A connected tcp or unix stream socket as a `stream`.

#include <chorus/transport/stream.hpp>

#include <memory>

namespace chorus::transport {

struct socket_options {
  bool keep_alive = false; // SO_KEEPALIVE; tcp only
};

// Takes `fd` over, whatever happens. Sets it non-blocking and close-on-exec, and TCP_NODELAY for tcp.
// The addresses are read here, so the socket must be connected by now.
//
// Watching begins at the first call of `set_interest`, whatever its value; before that no hang-up is
// told. When the kernel refuses to watch the descriptor the listener is told of a hang-up, and reads
// and writes fail with the kernel's reason.
std::unique_ptr<stream> make_socket_stream(detail::shard &home, int fd,
                                           socket_options options = {});

} // namespace chorus::transport
