#pragma once
// What the tests of this room share: running a coroutine on a runtime of its own, socket pairs and a
// listener that keeps what it accepts.

#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/transport/descriptor.hpp>
#include <chorus/transport/listener.hpp>
#include <chorus/transport/socket_stream.hpp>
#include <chorus/transport/stream.hpp>
#include <chorus/transport/waiter.hpp>
#include <chorus/transport/waiting.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <functional>
#include <ostream>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <utility>
#include <vector>

namespace chorus {
// For the log of a failed check.
inline std::ostream &operator<<(std::ostream &out, error e) {
  return out << make_error_code(e).message();
}
inline std::ostream &operator<<(std::ostream &out, const failure &f) { return out << f.message(); }
} // namespace chorus

namespace chorus::transport {
inline std::ostream &operator<<(std::ostream &out, io_status s) {
  static constexpr std::array names{"ok", "would_block", "end", "failed"};
  return out << names[static_cast<std::size_t>(s)];
}
} // namespace chorus::transport

namespace chorus::test {

using namespace std::chrono_literals;
using transport::io_status;
using transport::stream;
using stream_ptr = std::unique_ptr<stream>;

// Nothing here takes longer unless it is broken.
inline detail::time_point patience() { return detail::clock::now() + 2min; }

inline void run(task<> (*body)(detail::shard &)) {
  runtime rt{runtime_options{.tick = 5ms}};
  rt.run(body(*rt.core()->shards.front()));
}

// With something of the test's own, which must outlive the call.
template <class T> void run(task<> (*body)(detail::shard &, T &), T &with) {
  runtime rt{runtime_options{.tick = 5ms}};
  rt.run(body(*rt.core()->shards.front(), with));
}

inline std::pair<int, int> socket_pair(int buffer_bytes = 0) {
  std::array<int, 2> fds{-1, -1};
  BOOST_REQUIRE_EQUAL(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()), 0);
  if (buffer_bytes)
    for (const int fd : fds)
      ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &buffer_bytes, sizeof buffer_bytes);
  return {fds[0], fds[1]};
}

inline std::pair<stream_ptr, stream_ptr> stream_pair(detail::shard &home, int buffer_bytes = 0) {
  const auto [a, b] = socket_pair(buffer_bytes);
  return {transport::make_socket_stream(home, a), transport::make_socket_stream(home, b)};
}

inline iovec piece(std::string_view bytes) {
  return {const_cast<char *>(bytes.data()), bytes.size()};
}
inline transport::io_result put(stream &s, std::string_view bytes) {
  const auto one = piece(bytes);
  return s.write_some({&one, 1});
}

// One attempt; what it gave.
inline std::string get(stream &s, std::size_t most = 4096) {
  std::string into(most, '\0');
  const auto got = s.read_some(std::as_writable_bytes(std::span(into)));
  into.resize(got.status == io_status::ok ? got.bytes : 0);
  return into;
}

// Exactly `count` bytes, or fewer when the stream ends or fails before.
inline task<std::string> read_exactly(stream &s, std::size_t count) {
  std::string out(count, '\0');
  std::size_t have = 0;
  while (have < count) {
    auto rest = std::as_writable_bytes(std::span(out)).subspan(have);
    auto got = co_await transport::read_some(s, rest, patience(), error::timed_out);
    if (!got || *got == 0)
      break;
    have += *got;
  }
  out.resize(have);
  co_return out;
}

// Reads until something other than bytes comes: `end`, or `failed`.
inline task<io_status> read_to_end(stream &s) {
  std::array<std::byte, 4096> into;
  for (;;) {
    auto got = co_await transport::read_some(s, into, patience(), error::timed_out);
    if (!got)
      co_return io_status::failed;
    if (*got == 0)
      co_return io_status::end;
  }
}

// Lets one coroutine wait for what callbacks do: it looks again after each `poke`.
class condition_point {
public:
  explicit condition_point(detail::shard &home) : home_(home) {}
  void poke() noexcept {
    if (waiting_)
      waiting_->on_ready(0);
  }
  // False when it took longer than anything here should.
  task<bool> until(std::function<bool()> done) {
    while (!done()) {
      transport::waiter w(home_);
      waiting_ = &w;
      const bool told = co_await w.wait(home_.now() + 2min);
      waiting_ = nullptr;
      if (!told)
        co_return false;
    }
    co_return true;
  }

private:
  detail::shard &home_;
  transport::waiter *waiting_ = nullptr;
};

class acceptor : public transport::accept_handler {
public:
  explicit acceptor(detail::shard &home) : changed(home), home_(home) {}
  ~acceptor() { drop_waiting(); }
  void drop_waiting() noexcept {
    for (const int fd : waiting)
      ::close(fd);
    waiting.clear();
  }
  void on_accept(int fd) noexcept override {
    waiting.push_back(fd);
    changed.poke();
  }
  void on_refused(int fd) noexcept override {
    ++refused;
    ::close(fd);
    changed.poke();
  }
  task<stream_ptr> next() {
    std::function<bool()> some = [this] { return !waiting.empty(); };
    const bool came = co_await changed.until(std::move(some));
    BOOST_REQUIRE(came);
    const int fd = waiting.front();
    waiting.erase(waiting.begin());
    co_return transport::make_socket_stream(home_, fd);
  }

  std::vector<int> waiting;
  std::size_t refused = 0;
  condition_point changed;

private:
  detail::shard &home_;
};

} // namespace chorus::test
