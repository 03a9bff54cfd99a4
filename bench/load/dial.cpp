#include "link.hpp"
#include "measure.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

namespace load {

namespace {

// RFC 6455's own example: a load needs no fresh key, and the answer to this one is known.
constexpr const char *key = "dGhlIHNhbXBsZSBub25jZQ==";
constexpr const char *accept_value = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

class owned_descriptor {
public:
  explicit owned_descriptor(int fd) : fd_{fd} {}
  ~owned_descriptor() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  owned_descriptor(const owned_descriptor &) = delete;
  owned_descriptor &operator=(const owned_descriptor &) = delete;
  int get() const { return fd_; }
  int release() { return std::exchange(fd_, -1); }

private:
  int fd_;
};

std::string error_text() { return std::strerror(errno); }

// False when the deadline passed.
bool wait_for(int fd, short events, std::uint64_t deadline_ns) {
  for (;;) {
    const std::uint64_t now = now_ns();
    if (now >= deadline_ns)
      return false;
    pollfd p{fd, events, 0};
    const int n = ::poll(&p, 1, static_cast<int>((deadline_ns - now) / 1'000'000) + 1);
    if (n > 0)
      return true;
  }
}

std::string header_value(const std::string &response, const std::string &name) {
  std::size_t at = 0;
  while ((at = response.find("\r\n", at)) != std::string::npos) {
    at += 2;
    if (strncasecmp(response.c_str() + at, name.c_str(), name.size()) != 0 ||
        response[at + name.size()] != ':')
      continue;
    std::size_t from = at + name.size() + 1;
    const std::size_t to = response.find("\r\n", from);
    while (from < to && response[from] == ' ')
      ++from;
    return response.substr(from, to - from);
  }
  return {};
}

void check_response(const std::string &response) {
  const std::string line = response.substr(0, response.find("\r\n"));
  if (line.rfind("HTTP/1.1 ", 0) != 0)
    throw failure{"upgrade_invalid", "the answer is not HTTP/1.1: " + line.substr(0, 80)};
  if (line.compare(9, 3, "101") != 0)
    throw failure{"upgrade_refused", "the server answered " + line};
  if (header_value(response, "Sec-WebSocket-Accept") != accept_value)
    throw failure{"upgrade_invalid", "Sec-WebSocket-Accept is missing or wrong"};
  if (strcasecmp(header_value(response, "Upgrade").c_str(), "websocket") != 0)
    throw failure{"upgrade_invalid", "the answer lacks Upgrade: websocket"};
  if (!header_value(response, "Sec-WebSocket-Extensions").empty())
    throw failure{"upgrade_invalid", "the server chose an extension that was not offered"};
}

void upgrade(int fd, const target &to, std::uint64_t deadline_ns) {
  const std::string request = "GET " + to.path + " HTTP/1.1\r\nHost: " + to.host + ":" +
                              std::to_string(to.port) +
                              "\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " +
                              key + "\r\n\r\n";
  if (::send(fd, request.data(), request.size(), MSG_NOSIGNAL) !=
      static_cast<ssize_t>(request.size()))
    throw failure{"upgrade_closed", "the request could not be sent: " + error_text()};
  std::string response;
  for (;;) {
    if (!wait_for(fd, POLLIN, deadline_ns))
      throw failure{"upgrade_timeout", "no whole answer to the upgrade within the deadline"};
    char chunk[2048];
    const ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
      continue;
    if (n < 0)
      throw failure{"upgrade_closed", "during the upgrade: " + error_text()};
    if (n == 0)
      throw failure{"upgrade_closed", "the server closed the connection during the upgrade"};
    response.append(chunk, static_cast<std::size_t>(n));
    const auto end = response.find("\r\n\r\n");
    if (end == std::string::npos) {
      if (response.size() > 64 * 1024)
        throw failure{"upgrade_invalid", "a header without an end"};
      continue;
    }
    check_response(response);
    if (response.size() > end + 4)
      throw failure{"upgrade_invalid", "the server sent frames before any message was sent to it"};
    return;
  }
}

} // namespace

target parse_url(const std::string &url) {
  const std::string scheme = "ws://";
  if (url.rfind(scheme, 0) != 0)
    throw failure{"usage", "--url wants ws://HOST:PORT/PATH, not '" + url + "'"};
  target t;
  const std::string rest = url.substr(scheme.size());
  const auto slash = rest.find('/');
  if (slash != std::string::npos)
    t.path = rest.substr(slash);
  const std::string authority = rest.substr(0, slash);
  const auto colon = authority.find(':');
  t.host = authority.substr(0, colon);
  const std::string port = colon == std::string::npos ? "80" : authority.substr(colon + 1);
  if (port.empty() || port.size() > 5 ||
      port.find_first_not_of("0123456789") != std::string::npos || std::stoul(port) > 65535 ||
      std::stoul(port) == 0)
    throw failure{"usage", "no port in '" + url + "'"};
  t.port = static_cast<std::uint16_t>(std::stoul(port));
  if (t.host == "localhost")
    t.host = "127.0.0.1";
  in_addr parsed{};
  if (inet_pton(AF_INET, t.host.c_str(), &parsed) != 1)
    throw failure{"usage", "the host has to be an IPv4 address or localhost: '" + t.host + "'"};
  return t;
}

int dial(const target &to, const dial_options &options) {
  owned_descriptor fd{::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0)};
  if (fd.get() < 0)
    throw failure{errno == EMFILE || errno == ENFILE ? "no_descriptors" : "connect_failed",
                  "socket: " + error_text()};
  const int on = 1;
  setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  // Before connecting: the window that is announced depends on it.
  if (options.receive_buffer > 0)
    setsockopt(fd.get(), SOL_SOCKET, SO_RCVBUF, &options.receive_buffer, sizeof(int));
  if (options.source != 0) {
    setsockopt(fd.get(), IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_in from{};
    from.sin_family = AF_INET;
    from.sin_addr.s_addr = htonl(options.source);
    if (::bind(fd.get(), reinterpret_cast<const sockaddr *>(&from), sizeof from) != 0)
      throw failure{"connect_failed", "bind to a further loopback address: " + error_text()};
  }
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(to.port);
  inet_pton(AF_INET, to.host.c_str(), &address.sin_addr);
  int error = 0;
  if (::connect(fd.get(), reinterpret_cast<const sockaddr *>(&address), sizeof address) != 0)
    error = errno;
  if (error == EINPROGRESS) {
    if (!wait_for(fd.get(), POLLOUT, options.deadline_ns))
      throw failure{"connect_timeout", "no connection within the deadline"};
    socklen_t size = sizeof error;
    getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &size);
  }
  if (error != 0)
    throw failure{error == ECONNREFUSED ? "connect_refused" : "connect_failed",
                  "connect to " + to.host + ":" + std::to_string(to.port) + ": " +
                      std::strerror(error)};
  upgrade(fd.get(), to, options.deadline_ns);
  return fd.release();
}

} // namespace load
