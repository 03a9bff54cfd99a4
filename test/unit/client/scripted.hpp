#pragma once
// Servers that speak bytes: what they send is written out by the test, so that they can do what no
// decent server does.

#include <chorus/async/runtime.hpp>
#include <chorus/async/task.hpp>
#include <chorus/client/client.hpp>
#include <chorus/client/connect.hpp>
#include <chorus/protocol/handshake.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>
#include <boost/asio/co_spawn.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/read.hpp>
#include <boost/asio/read_until.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/asio/write.hpp>
#include <boost/test/unit_test.hpp>

#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace client_test {

namespace asio = boost::asio;
using asio::ip::tcp;
using chorus::error;
using chorus::failure;
using chorus::message;
using chorus::result;
using chorus::task;
using namespace std::chrono_literals;

// A runtime, and an end to every test: one that hangs is killed with its name told.
class world {
public:
  explicit world(unsigned threads = 1) : rt(options(threads)), watchdog_([this] { watch(); }) {}
  ~world() {
    {
      std::lock_guard lock(mutex_);
      done_ = true;
    }
    changed_.notify_one();
    watchdog_.join();
  }
  void run(task<> main) { rt.run(std::move(main)); }

  chorus::runtime rt;

private:
  static chorus::runtime_options options(unsigned threads) {
    chorus::runtime_options o;
    o.threads = threads;
    o.tick = 1ms;
    return o;
  }
  void watch() {
    std::unique_lock lock(mutex_);
    if (changed_.wait_for(lock, 240s, [this] { return done_; }))
      return;
    std::fprintf(stderr, "hangs: %s\n",
                 boost::unit_test::framework::current_test_case().full_name().c_str());
    std::abort();
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  bool done_ = false;
  std::thread watchdog_;
};

// One frame as it came, unmasked.
struct frame {
  unsigned opcode = 0;
  std::string payload;
};

// The server's end of one connection.
class peer {
public:
  peer() = default;
  explicit peer(tcp::socket s) : socket_(std::make_unique<tcp::socket>(std::move(s))) {}

  // The request's head; empty when the connection ended before.
  task<std::string> read_head() {
    boost::system::error_code ec;
    const auto n =
        co_await asio::async_read_until(*socket_, asio::dynamic_buffer(input_), "\r\n\r\n",
                                        asio::redirect_error(asio::use_awaitable, ec));
    if (ec)
      co_return std::string();
    auto head = input_.substr(0, n);
    input_.erase(0, n);
    co_return head;
  }
  static std::string field(const std::string &head, const std::string &name) {
    const auto at = head.find("\r\n" + name + ": ");
    if (at == std::string::npos)
      return {};
    const auto from = at + name.size() + 4;
    return head.substr(from, head.find("\r\n", from) - from);
  }
  static std::string agreement(const std::string &head, const std::string &extra = {}) {
    return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
           "Sec-WebSocket-Accept: " +
           chorus::protocol::accept_for(field(head, "Sec-WebSocket-Key")) + "\r\n" + extra + "\r\n";
  }
  // Errors are of no interest: the client may have gone.
  task<bool> write(std::string bytes) {
    boost::system::error_code ec;
    co_await asio::async_write(*socket_, asio::buffer(bytes),
                               asio::redirect_error(asio::use_awaitable, ec));
    co_return !ec;
  }
  // Reads the request and agrees; `after` follows in the same write.
  task<std::string> upgrade(std::string after = {}) {
    auto head = co_await read_head();
    auto answer = agreement(head) + after;
    co_await write(std::move(answer));
    co_return head;
  }

  static std::string encode(unsigned opcode, std::string_view payload) {
    std::string out(1, static_cast<char>(0x80U | opcode));
    if (payload.size() < 126) {
      out += static_cast<char>(payload.size());
    } else if (payload.size() < 65536) {
      out += static_cast<char>(126);
      out += static_cast<char>(payload.size() >> 8);
      out += static_cast<char>(payload.size() & 0xff);
    } else {
      out += static_cast<char>(127);
      for (int shift = 56; shift >= 0; shift -= 8)
        out += static_cast<char>((payload.size() >> shift) & 0xff);
    }
    return out.append(payload);
  }
  static std::string text(std::string_view payload) { return encode(1, payload); }
  static std::string close_frame(unsigned code) {
    const char bytes[] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
    return encode(8, std::string_view(bytes, 2));
  }

  // The next frame; nothing when the connection ended.
  task<std::optional<frame>> read_frame() {
    if (!co_await need(2))
      co_return std::nullopt;
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(input_[i]); };
    const unsigned opcode = byte(0) & 15U;
    std::size_t size = byte(1) & 127U;
    std::size_t at = 2;
    if (size >= 126) {
      const std::size_t width = size == 126 ? 2 : 8;
      if (!co_await need(2 + width))
        co_return std::nullopt;
      size = 0;
      for (std::size_t i = 0; i < width; ++i)
        size = size << 8 | byte(2 + i);
      at += width;
    }
    if (!co_await need(at + 4 + size))
      co_return std::nullopt;
    frame f;
    f.opcode = opcode;
    f.payload = input_.substr(at + 4, size);
    for (std::size_t i = 0; i < size; ++i)
      f.payload[i] = static_cast<char>(f.payload[i] ^ input_[at + i % 4]);
    input_.erase(0, at + 4 + size);
    co_return f;
  }
  // The first two bytes of the next frame, which stays unread; empty when the connection ended.
  task<std::string> read_frame_head() {
    const bool there = co_await need(2);
    co_return there ? input_.substr(0, 2) : std::string();
  }
  // The next text message; pings are answered. Nothing when the connection ended or closes.
  task<std::optional<std::string>> read_text() {
    for (;;) {
      auto f = co_await read_frame();
      if (!f || f->opcode == 8) {
        if (f)
          co_await write(encode(8, f->payload));
        co_return std::nullopt;
      }
      if (f->opcode == 9) {
        auto pong = encode(10, f->payload);
        co_await write(std::move(pong));
      } else if (f->opcode == 1) {
        co_return std::move(f->payload);
      }
    }
  }
  // Closes in order from this side.
  task<> close_with(unsigned code) {
    co_await write(close_frame(code));
    for (;;) {
      auto f = co_await read_frame();
      if (!f || f->opcode == 8)
        break;
    }
    close();
  }
  // Waits until the client has gone.
  task<> wait_gone() {
    // g++ 12 crashes on `while (co_await …) {}`, and on `for (;;) if (!co_await …) break;`.
    bool more = true;
    while (more)
      more = co_await need(input_.size() + 1);
  }
  void close() {
    boost::system::error_code ignored;
    socket_->close(ignored);
  }
  void reset() {
    boost::system::error_code ignored;
    socket_->set_option(asio::socket_base::linger(true, 0), ignored);
    socket_->close(ignored);
  }

private:
  task<bool> need(std::size_t n) {
    while (input_.size() < n) {
      char chunk[16384];
      boost::system::error_code ec;
      const auto got = co_await socket_->async_read_some(
          asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, ec));
      if (ec)
        co_return false;
      input_.append(chunk, got);
    }
    co_return true;
  }

  std::unique_ptr<tcp::socket> socket_;
  std::string input_;
};

class listener {
public:
  explicit listener(world &w, unsigned short port = 0) : acceptor_(w.rt.executor()) {
    acceptor_.open(tcp::v4());
    acceptor_.set_option(tcp::acceptor::reuse_address(true));
    acceptor_.bind({asio::ip::address_v4::loopback(), port});
    acceptor_.listen();
  }
  unsigned short port() const { return acceptor_.local_endpoint().port(); }
  std::string url(const std::string &target = "/") const {
    return "ws://127.0.0.1:" + std::to_string(port()) + target;
  }
  task<tcp::socket> accept_socket() {
    co_return co_await acceptor_.async_accept(asio::use_awaitable);
  }
  task<peer> accept() {
    auto socket = co_await accept_socket();
    co_return peer(std::move(socket));
  }
  task<peer> accept_open(std::string after = {}) {
    auto p = co_await accept();
    co_await p.upgrade(std::move(after));
    co_return p;
  }
  void close() { acceptor_.close(); }

private:
  tcp::acceptor acceptor_;
};

// A port of 127.0.0.1 on which nothing listens, kept from others while it lives.
class dead_port {
public:
  explicit dead_port(world &w) : socket_(w.rt.executor()) {
    socket_.open(tcp::v4());
    socket_.set_option(tcp::socket::reuse_address(true)); // by a listener of the test's own
    socket_.bind({asio::ip::address_v4::loopback(), 0});
  }
  unsigned short port() const { return socket_.local_endpoint().port(); }
  std::string url() const { return "ws://127.0.0.1:" + std::to_string(port()) + "/"; }

private:
  tcp::socket socket_;
};

// A task that runs beside the test, and can be cancelled.
template <class T> class background {
public:
  background(const asio::any_io_executor &executor, task<T> work)
      : state_(std::make_shared<state>(executor)) {
    auto done = [s = state_](std::exception_ptr e, T value) {
      s->failed = e;
      s->value.emplace(std::move(value));
      s->over.cancel();
    };
    asio::co_spawn(executor, std::move(work),
                   asio::bind_cancellation_slot(state_->signal.slot(), std::move(done)));
  }
  bool done() const { return state_->value.has_value(); }
  void cancel() { state_->signal.emit(asio::cancellation_type::terminal); }
  // True when the task ended with operation_aborted.
  task<bool> aborted() {
    co_await wait();
    try {
      if (state_->failed)
        std::rethrow_exception(state_->failed);
    } catch (const boost::system::system_error &e) {
      co_return e.code() == asio::error::operation_aborted;
    }
    co_return false;
  }
  task<T> get() {
    co_await wait();
    if (state_->failed)
      std::rethrow_exception(state_->failed);
    co_return *state_->value;
  }

private:
  struct state {
    explicit state(const asio::any_io_executor &executor)
        : over(executor, asio::steady_timer::time_point::max()) {}
    asio::steady_timer over;
    asio::cancellation_signal signal;
    std::exception_ptr failed;
    std::optional<T> value;
  };
  task<> wait() {
    boost::system::error_code ec;
    if (!state_->value)
      co_await state_->over.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  }
  std::shared_ptr<state> state_;
};

// Lets everything else that is ready have its turn.
inline task<> turns(int n = 3) {
  for (int i = 0; i < n; ++i)
    co_await asio::post(co_await asio::this_coro::executor, asio::use_awaitable);
}

// Waits for what a callback records.
class event_log {
public:
  explicit event_log(const asio::any_io_executor &executor)
      : changed_(executor, asio::steady_timer::time_point::max()) {}
  void add(std::string what) {
    seen_.push_back(std::move(what));
    changed_.cancel();
  }
  const std::vector<std::string> &all() const { return seen_; }
  std::string joined() const {
    std::string out;
    for (const auto &s : seen_)
      out += (out.empty() ? "" : " ") + s;
    return out;
  }
  // Until `what` has been seen `count` times.
  task<> wait(std::string what, std::size_t count = 1) {
    for (;;) {
      std::size_t n = 0;
      for (const auto &s : seen_)
        n += s == what;
      if (n >= count)
        co_return;
      boost::system::error_code ec;
      co_await changed_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    }
  }

private:
  asio::steady_timer changed_;
  std::vector<std::string> seen_;
};

// Attempts follow each other at once.
inline chorus::client_options eager(std::vector<std::string> urls) {
  chorus::client_options o;
  o.urls = std::move(urls);
  o.backoff.initial = 1ms;
  o.backoff.cap = 5ms;
  o.backoff.spread = chorus::jitter::none;
  return o;
}

} // namespace client_test
