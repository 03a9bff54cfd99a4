#pragma once
// `stream`: the one narrow interface between a session and what carries its bytes (tcp, TLS, unix
// sockets, an in-memory pair). Readiness, not completion: the session is told that it may read or
// write and then does so without waiting, into and from memory of its own choosing.
//
// A stream belongs to one shard and everything here happens on that shard's thread.

#include <chorus/async/poller.hpp>
#include <chorus/async/shard.hpp>
#include <chorus/base/failure.hpp>

#include <chrono>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <sys/uio.h>

namespace chorus::transport {

using detail::ready_hangup;
using detail::ready_listener;
using detail::ready_read;
using detail::ready_write;

enum class io_status : unsigned char {
  ok,          // `bytes` were moved (for a write: perhaps fewer than offered)
  would_block, // nothing was moved; readiness will be told
  end,         // read only: the peer ended its side in order (FIN, or TLS close_notify)
  failed,      // `error()` tells why; nothing will work any more
};

struct io_result {
  io_status status;
  std::size_t bytes;
};

class stream {
public:
  virtual ~stream() = default;
  stream(const stream &) = delete;
  stream &operator=(const stream &) = delete;

  detail::shard &home() const noexcept { return home_; }

  // One attempt each, never waiting. A read gives as much as is there, up to the size of `into`.
  virtual io_result read_some(std::span<std::byte> into) noexcept = 0;
  virtual io_result write_some(std::span<const iovec> from) noexcept = 0;
  // After a `failed`. A TLS stream cut without close_notify fails with `error::lost`.
  virtual error_code error() const noexcept = 0;
  // The same, with the sentence where there is one.
  virtual failure why() const { return failure(error()); }

  // Who is told, and of what. As long as an interest stays and an attempt could make progress the
  // listener is told again (also of bytes that only TLS has buffered), never from within a call of
  // this class. A hang-up is told whatever the interest. The listener may destroy the stream while
  // it is being told. Null listens no more.
  virtual void listen(ready_listener *listener) noexcept = 0;
  virtual void set_interest(unsigned ready_flags) noexcept = 0;

  // Tells the peer that nothing more will be written (FIN, close_notify before it). Bytes that a
  // stream still holds (a TLS record half written) go first, or never if the kernel is full.
  virtual void shutdown_write() noexcept = 0;
  // Closes at once; `abortive` discards what the kernel still holds (a reset). Idempotent.
  virtual void close(bool abortive) noexcept = 0;

  // "127.0.0.1:8080", "[::1]:80", "unix:/run/x", "memory"; fixed at construction.
  virtual std::string local_address() const = 0;
  virtual std::string remote_address() const = 0;
  // Of TLS: the negotiated ALPN protocol; else empty.
  virtual std::string alpn() const { return {}; }
  virtual bool secure() const noexcept { return false; }

protected:
  explicit stream(detail::shard &home) noexcept : home_(home) {}

private:
  detail::shard &home_;
};

} // namespace chorus::transport
