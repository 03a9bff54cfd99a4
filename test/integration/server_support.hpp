#pragma once
// A server on threads of its own, and a peer that is nothing but a blocking socket.

#include <chorus/async/runtime.hpp>
#include <chorus/server/server.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/use_future.hpp>
#include <boost/test/unit_test.hpp>

#include <arpa/inet.h>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <future>
#include <memory>
#include <mutex>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <optional>
#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>
#include <system_error>
#include <thread>
#include <unistd.h>

namespace server_test {

using namespace std::chrono_literals;

// How long an event may take before the test calls it missing.
constexpr auto patience = 30s;

// A runtime that runs on threads of its own.
class running {
public:
  explicit running(unsigned threads = 1)
      : rt_(std::in_place, chorus::runtime_options{threads, 5ms}) {
    thread_ = std::thread([this] { rt_->run(); });
  }
  ~running() { end(); }

  chorus::runtime &rt() { return *rt_; }
  // Runs `t` on a shard and gives its result.
  template <class T> T wait(chorus::task<T> t, unsigned shard = 0) {
    auto done = boost::asio::co_spawn(rt_->executor(shard), std::move(t), boost::asio::use_future);
    if (done.wait_for(patience) != std::future_status::ready) {
      std::fprintf(stderr, "a task did not end\n");
      std::abort(); // nothing here can be destroyed safely any more
    }
    return done.get();
  }
  // Stops the loops and destroys the runtime.
  void end() {
    if (!rt_)
      return;
    rt_->stop();
    thread_.join();
    rt_.reset();
  }

private:
  std::optional<chorus::runtime> rt_;
  std::thread thread_;
};

// Waits until `f` holds; true when it does.
template <class F> bool comes_true(F f) {
  for (const auto end = std::chrono::steady_clock::now() + patience;
       std::chrono::steady_clock::now() < end; std::this_thread::yield())
    if (f())
      return true;
  return f();
}

// Something that happens once.
class event {
public:
  void set() {
    std::lock_guard lock(mutex_);
    happened_ = true;
    changed_.notify_all();
  }
  bool wait() {
    std::unique_lock lock(mutex_);
    return changed_.wait_for(lock, patience, [this] { return happened_; });
  }

private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool happened_ = false;
};

// Calls `f` while the first shard does nothing: what peers send meanwhile is there before the server
// takes their connections, and so before any of its deadlines begins.
template <class F> void while_held(running &loop, F f) {
  const auto held = std::make_shared<event>(), release = std::make_shared<event>();
  boost::asio::post(loop.rt().executor(), [held, release] {
    held->set();
    release->wait();
  });
  BOOST_REQUIRE(held->wait());
  f();
  release->set();
}

struct frame {
  unsigned opcode = 0; // 0xff: the connection ended
  std::string payload;
  unsigned close_code() const {
    return opcode == 8 && payload.size() >= 2
               ? static_cast<unsigned>(static_cast<unsigned char>(payload[0])) * 256 +
                     static_cast<unsigned char>(payload[1])
               : 0;
  }
};

class wire {
public:
  wire() = default;
  explicit wire(std::uint16_t port) {
    open(AF_INET);
    connect(port);
  }
  explicit wire(const std::string &unix_path) {
    open(AF_UNIX);
    sockaddr_un to{};
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, unix_path.c_str(), unix_path.size() + 1);
    if (::connect(fd_, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0)
      throw std::system_error(errno, std::generic_category(), "connect"); // on any thread
  }
  wire(wire &&other) noexcept
      : fd_(std::exchange(other.fd_, -1)), unread_(std::move(other.unread_)) {}
  ~wire() { close(); }

  void open(int family) {
    fd_ = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const timeval limit{std::chrono::seconds(patience).count(), 0};
    ::setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(fd_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
  }
  void connect(std::uint16_t port) {
    const int on = 1;
    ::setsockopt(fd_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0)
      throw std::system_error(errno, std::generic_category(), "connect"); // on any thread
  }
  void close() {
    if (fd_ >= 0)
      ::close(fd_);
    fd_ = -1;
  }

  // False once the peer has gone.
  bool send(std::string_view bytes) {
    while (!bytes.empty()) {
      const auto n = ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return false;
      bytes.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
  }
  int fd() const { return fd_; }
  void end_output() { ::shutdown(fd_, SHUT_WR); }

  // Whether there is something to read, now.
  bool readable() {
    char c;
    return !unread_.empty() || ::recv(fd_, &c, 1, MSG_PEEK | MSG_DONTWAIT) >= 0;
  }
  // Everything up to the end of the connection.
  std::string read_all() {
    while (fill()) {
    }
    return std::exchange(unread_, {});
  }
  // One response, by its Content-Length; `bodiless` for the answer to HEAD.
  std::string read_response(bool bodiless = false) {
    std::size_t end;
    while ((end = unread_.find("\r\n\r\n")) == std::string::npos)
      if (!fill())
        return std::exchange(unread_, {});
    end += 4;
    const auto at = unread_.find("Content-Length: ");
    if (at < end && !bodiless)
      end += static_cast<std::size_t>(std::stoul(unread_.substr(at + 16)));
    while (unread_.size() < end && fill()) {
    }
    auto response = unread_.substr(0, end);
    unread_.erase(0, response.size());
    return response;
  }
  frame read_frame() {
    frame f;
    f.opcode = 0xff;
    if (!need(2))
      return f;
    std::size_t size = static_cast<unsigned char>(unread_[1]) & 0x7fU;
    std::size_t header = 2;
    if (size == 126) {
      if (!need(4))
        return f;
      size = static_cast<unsigned char>(unread_[2]) * std::size_t{256} +
             static_cast<unsigned char>(unread_[3]);
      header = 4;
    }
    if (!need(header + size))
      return f;
    f.opcode = static_cast<unsigned char>(unread_[0]) & 0x0fU;
    f.payload = unread_.substr(header, size);
    unread_.erase(0, header + size);
    return f;
  }

private:
  bool fill() {
    char bytes[4096];
    const auto n = ::recv(fd_, bytes, sizeof bytes, 0);
    if (n <= 0)
      return false;
    unread_.append(bytes, static_cast<std::size_t>(n));
    return true;
  }
  bool need(std::size_t n) {
    while (unread_.size() < n)
      if (!fill())
        return false;
    return true;
  }

  int fd_ = -1;
  std::string unread_;
};

inline std::string upgrade_request(std::string_view target, std::string_view more = {}) {
  return "GET " + std::string(target) +
         " HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n" +
         std::string(more) + "\r\n";
}

// A frame as a client sends it, masked with zeroes; at most 125 bytes.
inline std::string client_frame(unsigned opcode, std::string_view payload) {
  std::string text;
  text.push_back(static_cast<char>(0x80U | opcode));
  text.push_back(static_cast<char>(0x80U | payload.size()));
  text.append(4, '\0');
  return text.append(payload);
}
inline std::string text_frame(std::string_view payload) { return client_frame(1, payload); }
inline std::string close_frame(unsigned code) {
  const char bytes[] = {static_cast<char>(code >> 8), static_cast<char>(code & 0xff)};
  return client_frame(8, {bytes, 2});
}

// A connection that has been upgraded.
inline wire open_session(std::uint16_t port, std::string_view target, std::string_view more = {}) {
  wire w(port);
  w.send(upgrade_request(target, more));
  const auto answer = w.read_response();
  BOOST_REQUIRE_MESSAGE(answer.starts_with("HTTP/1.1 101 "), answer);
  return w;
}

inline bool has(const std::string &text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

inline chorus::task<> echo(chorus::session s, chorus::request) {
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

} // namespace server_test
