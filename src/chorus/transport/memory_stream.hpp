#pragma once
// An in-memory pair of streams, on one shard or on two: for tests, of the library and of its users.
// Behaves like a connected socket pair with a bounded buffer per direction, and fails on demand.

#include <chorus/transport/stream.hpp>

#include <cstdint>
#include <memory>
#include <utility>

namespace chorus::transport {

struct memory_options {
  std::size_t capacity = 64 * 1024; // bytes that either direction holds before writes would block
};

// One end. Everything belongs to the thread of its shard, the faults and counters, too.
class memory_stream : public stream {
public:
  // The n-th read (or write) from now on, counting from 1, fails with `why`, and so does everything
  // after it.
  virtual void fail_read(std::uint64_t n, error_code why) noexcept = 0;
  virtual void fail_write(std::uint64_t n, error_code why) noexcept = 0;
  // Every read and write moves at most this many bytes; 0: no limit.
  virtual void limit(std::size_t bytes) noexcept = 0;
  // While set, writes take nothing, as if the peer did not read.
  virtual void stall_writes(bool on) noexcept = 0;

  // Attempts made, those that moved nothing included.
  virtual std::uint64_t reads() const noexcept = 0;
  virtual std::uint64_t writes() const noexcept = 0;
  // Bytes that wait to be read at this end.
  virtual std::size_t unread() const noexcept = 0;

protected:
  using stream::stream;
};

// Whoever closes abortively makes the peer's reads fail with connection_reset; writing to an end
// that is closed fails with broken_pipe. May be called on any thread.
std::pair<std::unique_ptr<memory_stream>, std::unique_ptr<memory_stream>>
make_memory_pair(detail::shard &a, detail::shard &b, memory_options options = {});

} // namespace chorus::transport
