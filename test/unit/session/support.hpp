#pragma once
// What the tests of this room share: a runtime per test with a watchdog, coroutines whose end can be
// awaited and which can be cancelled, and a peer that reads and writes frames by hand.

#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/async/shard.hpp>
#include <chorus/session/session_core.hpp>
#include <chorus/session/setup.hpp>
#include <chorus/transport/memory_stream.hpp>
#include <chorus/transport/socket_stream.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <array>
#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <ostream>
#include <stdexcept>
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
inline std::ostream &operator<<(std::ostream &out, const failure &f) {
  return out << f.code().message() << " [" << f.message() << "]";
}
inline std::ostream &operator<<(std::ostream &out, session_state s) { return out << to_string(s); }
inline std::ostream &operator<<(std::ostream &out, message_kind k) { return out << to_string(k); }
inline std::ostream &operator<<(std::ostream &out, close_code c) {
  return out << static_cast<unsigned>(c);
}
inline std::ostream &operator<<(std::ostream &out, const message &m) {
  return out << to_string(m.kind()) << ':' << m.text().substr(0, 80);
}
} // namespace chorus

namespace chorus::test {

namespace asio = boost::asio;
using namespace std::chrono_literals;
using detail::shard;
using protocol::role;
using transport::memory_stream;
using transport::stream;
using stream_ptr = std::unique_ptr<stream>;

// Runs `body` on a runtime of its own; a body that hangs fails its test instead of the whole run.
inline void run(task<> (*body)(shard &), unsigned threads = 1) {
  runtime rt{runtime_options{.threads = threads, .tick = 5ms}};
  auto &home = *rt.core()->shards.front();
  asio::steady_timer watchdog(home.context(), 90s);
  watchdog.async_wait([&](boost::system::error_code ec) {
    if (ec)
      return;
    BOOST_ERROR("the test still waits for something that should have happened");
    rt.stop();
  });
  rt.run(body(home));
}

// Lets the loop go round once.
inline task<> once_round() {
  co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}
inline task<> rounds(int n) {
  while (n-- > 0)
    co_await once_round();
}
// Goes round until `done` holds. Hanging is the watchdog's business.
template <class Done> task<> until(Done done) {
  while (!done())
    co_await once_round();
}

// A coroutine of the test's own that runs beside it.
template <class T> class running {
public:
  running(shard &home, task<T> work) : state_(std::make_shared<state>()) {
    asio::co_spawn(home.executor(), std::move(work),
                   asio::bind_cancellation_slot(state_->signal.slot(),
                                                [s = state_](std::exception_ptr e, T value) {
                                                  s->over = true;
                                                  s->thrown = e;
                                                  if (!e)
                                                    s->value = std::move(value);
                                                }));
  }
  bool over() const { return state_->over; }
  // It ended with Asio's own cancellation.
  bool aborted() const {
    if (!state_->thrown)
      return false;
    try {
      std::rethrow_exception(state_->thrown);
    } catch (const boost::system::system_error &x) {
      return x.code() == asio::error::operation_aborted;
    }
  }
  void cancel() { state_->signal.emit(asio::cancellation_type::terminal); }
  const T &value() const {
    if (state_->thrown)
      std::rethrow_exception(state_->thrown);
    if (!state_->value) // not checked: this may be any thread
      throw std::logic_error("the coroutine has not ended");
    return *state_->value;
  }
  // Until it has ended, in whatever way.
  task<> ended() { return wait(state_); }
  task<T> end() { return take(state_); }

private:
  struct state {
    asio::cancellation_signal signal;
    std::optional<T> value;
    std::exception_ptr thrown;
    bool over = false;
  };
  static task<> wait(std::shared_ptr<state> s) {
    while (!s->over)
      co_await once_round();
  }
  static task<T> take(std::shared_ptr<state> s) {
    while (!s->over)
      co_await once_round();
    if (s->thrown)
      std::rethrow_exception(s->thrown);
    co_return std::move(*s->value);
  }
  std::shared_ptr<state> state_;
};

inline std::pair<stream_ptr, stream_ptr> socket_streams(shard &home, int send_buffer = 0) {
  std::array<int, 2> fds{-1, -1};
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds.data()) != 0)
    throw std::runtime_error("no pair of sockets");
  if (send_buffer)
    for (const int fd : fds)
      ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &send_buffer, sizeof send_buffer);
  return {transport::make_socket_stream(home, fds[0]), transport::make_socket_stream(home, fds[1])};
}

// The same over loopback tcp.
inline std::pair<stream_ptr, stream_ptr> tcp_streams(shard &home) {
  asio::ip::tcp::acceptor acceptor(home.context(),
                                   {asio::ip::address_v4::loopback(), asio::ip::port_type{0}});
  asio::ip::tcp::socket one(home.context());
  one.connect(acceptor.local_endpoint());
  auto other = acceptor.accept();
  return {transport::make_socket_stream(home, one.release()),
          transport::make_socket_stream(home, other.release())};
}

inline session open(stream_ptr carrier, role side, const session_options &options = {},
                    std::optional<protocol::deflate_params> compression = {}) {
  detail::session_setup setup;
  setup.carrier = std::move(carrier);
  setup.side = side;
  setup.options = std::make_shared<const session_options>(options);
  setup.compression = compression;
  setup.keep_unsent = true;
  return detail::make_session(std::move(setup));
}

inline session open_framed(stream_ptr carrier, const session_options &options) {
  detail::session_setup setup;
  setup.carrier = std::move(carrier);
  setup.websocket = false;
  setup.options = std::make_shared<const session_options>(options);
  setup.keep_unsent = true;
  return detail::make_session(std::move(setup));
}

// No heartbeat, so that only what a test asks for is on the wire.
inline session_options quiet() {
  session_options options;
  options.heartbeat = {
      .ping_interval = 0ms, .pong_wait = 0ms, .write_wait = 0ms, .idle_limit = 0ms};
  return options;
}

// For closes that end by what the peer does, however slowly this is run.
inline session_options unhurried() {
  auto options = quiet();
  options.close_timeout = 10min;
  return options;
}

struct sessions {
  session server;
  session client;
};
inline sessions session_pair(shard &home, const session_options &options = quiet(),
                             std::optional<protocol::deflate_params> compression = {}) {
  auto [a, b] = socket_streams(home);
  return {open(std::move(a), role::server, options, compression),
          open(std::move(b), role::client, options, compression)};
}

// A frame by hand.
struct frame {
  unsigned op = 0;
  std::string payload;
  bool fin = true;
  bool masked = false;
  bool rsv1 = false;

  unsigned close_code() const {
    if (op != 8 || payload.size() < 2)
      return 0;
    return static_cast<unsigned>(static_cast<unsigned char>(payload[0])) << 8 |
           static_cast<unsigned char>(payload[1]);
  }
};

inline std::string wire(const frame &f) {
  std::string out;
  out += static_cast<char>((f.fin ? 0x80U : 0U) | (f.rsv1 ? 0x40U : 0U) | f.op);
  const unsigned mask_bit = f.masked ? 0x80U : 0U;
  const auto size = f.payload.size();
  if (size < 126) {
    out += static_cast<char>(mask_bit | size);
  } else if (size < 65536) {
    out += static_cast<char>(mask_bit | 126U);
    out += static_cast<char>(size >> 8);
    out += static_cast<char>(size);
  } else {
    out += static_cast<char>(mask_bit | 127U);
    for (unsigned i = 0; i < 8; ++i)
      out += static_cast<char>(static_cast<std::uint64_t>(size) >> (56 - 8 * i));
  }
  if (!f.masked)
    return out + f.payload;
  constexpr std::array<char, 4> key{'\x11', '\x22', '\x33', '\x44'};
  out.append(key.data(), key.size());
  for (std::size_t i = 0; i < size; ++i)
    out += static_cast<char>(f.payload[i] ^ key[i % 4]);
  return out;
}

inline std::string close_payload(unsigned code, std::string_view reason = {}) {
  std::string out;
  out += static_cast<char>(code >> 8);
  out += static_cast<char>(code);
  out += reason;
  return out;
}

// The other end of a connection, driven by hand. It plays the client (masks) or the server.
class raw_peer {
public:
  raw_peer(stream_ptr carrier, role side) : carrier_(std::move(carrier)), side_(side) {}

  bool masks() const noexcept { return side_ == role::client; }
  std::string encoded(unsigned op, std::string_view payload, bool fin = true) const {
    return wire(frame{.op = op, .payload = std::string(payload), .fin = fin, .masked = masks()});
  }
  // All of it, while the other side reads.
  task<> write(std::string bytes) {
    std::size_t at = 0;
    while (at < bytes.size()) {
      const auto n = try_write(std::string_view(bytes).substr(at));
      at += n;
      if (n == 0) {
        if (failed_)
          co_return;
        co_await once_round();
      }
    }
  }
  task<> send(unsigned op, std::string_view payload, bool fin = true) {
    return write(encoded(op, payload, fin));
  }
  // One attempt: how much went.
  std::size_t try_write(std::string_view bytes) {
    iovec one{const_cast<char *>(bytes.data()), bytes.size()};
    const auto r = carrier_->write_some({&one, 1});
    failed_ = failed_ || r.status == transport::io_status::failed;
    return r.status == transport::io_status::ok ? r.bytes : 0;
  }
  bool write_failed() const noexcept { return failed_; }

  // One attempt: takes what is there into `buffered`.
  std::size_t pump(std::size_t most = 256 * 1024) {
    std::string into(most, '\0');
    const auto r = carrier_->read_some(std::as_writable_bytes(std::span(into)));
    if (r.status == transport::io_status::ok) {
      buffered.append(into, 0, r.bytes);
      return r.bytes;
    }
    if (r.status != transport::io_status::would_block) {
      ended = true;
      reset = r.status == transport::io_status::failed;
    }
    return 0;
  }
  task<std::string> read(std::size_t count) {
    while (buffered.size() < count && !ended)
      if (pump() == 0 && !ended)
        co_await once_round();
    auto out = buffered.substr(0, count);
    buffered.erase(0, out.size());
    co_return out;
  }
  // The next frame, unmasked; op 255 when the connection ended before.
  task<frame> next() {
    for (;;) {
      if (auto f = parse())
        co_return std::move(*f);
      if (ended)
        co_return frame{.op = 255, .payload = {}};
      if (pump() == 0 && !ended)
        co_await once_round();
    }
  }
  task<> read_to_end() {
    while (!ended)
      if (pump() == 0 && !ended)
        co_await once_round();
  }
  void close() { carrier_.reset(); }
  void shutdown() { carrier_->shutdown_write(); }
  stream &carrier() { return *carrier_; }

  std::string buffered;
  bool ended = false;
  bool reset = false; // it ended with a failure

private:
  std::optional<frame> parse() {
    if (buffered.size() < 2)
      return {};
    const auto at = [&](std::size_t i) { return static_cast<unsigned char>(buffered[i]); };
    frame f;
    f.op = at(0) & 0x0fU;
    f.fin = (at(0) & 0x80U) != 0;
    f.rsv1 = (at(0) & 0x40U) != 0;
    f.masked = (at(1) & 0x80U) != 0;
    std::size_t size = at(1) & 0x7fU;
    std::size_t head = 2;
    if (size == 126) {
      if (buffered.size() < 4)
        return {};
      size = static_cast<std::size_t>(at(2)) << 8 | at(3);
      head = 4;
    } else if (size == 127) {
      if (buffered.size() < 10)
        return {};
      size = 0;
      for (std::size_t i = 2; i < 10; ++i)
        size = size << 8 | at(i);
      head = 10;
    }
    const std::size_t key = head;
    if (f.masked)
      head += 4;
    if (buffered.size() < head + size)
      return {};
    f.payload = buffered.substr(head, size);
    if (f.masked)
      for (std::size_t i = 0; i < size; ++i)
        f.payload[i] = static_cast<char>(f.payload[i] ^ buffered[key + i % 4]);
    buffered.erase(0, head + size);
    return f;
  }

  stream_ptr carrier_;
  role side_;
  bool failed_ = false;
};

// A session over an in-memory connection that holds `capacity` bytes a direction, and its peer.
struct by_hand {
  session s;
  raw_peer peer;
  memory_stream *own; // the session's end, while it is open
};
inline by_hand session_and_peer(shard &home, role side, const session_options &options = quiet(),
                                std::size_t capacity = 64 * 1024,
                                std::optional<protocol::deflate_params> compression = {}) {
  auto [a, b] = transport::make_memory_pair(home, home, {.capacity = capacity});
  auto *own = a.get();
  return {open(std::move(a), side, options, compression),
          raw_peer(std::move(b), side == role::server ? role::client : role::server), own};
}

// Bytes that depend on `seed`, so that a message that lands in the wrong place shows.
inline std::string pattern(std::size_t size, unsigned seed = 1) {
  std::string out(size, '\0');
  std::uint32_t x = seed * 2654435761U + 1;
  for (auto &c : out) {
    x = x * 1664525U + 1013904223U;
    c = static_cast<char>('a' + (x >> 24) % 26);
  }
  return out;
}

} // namespace chorus::test
