#include <chorus/transport/connect_any.hpp>

#include <chorus/transport/waiter.hpp>

#include <algorithm>
#include <cerrno>
#include <netinet/in.h>
#include <netinet/tcp.h>

namespace chorus::transport {

namespace {

using std::chrono::milliseconds;

failure failed(chorus::error code, stage where, std::string address, std::string sentence) {
  failure_detail detail;
  detail.where = where;
  detail.address = std::move(address);
  detail.sentence = std::move(sentence);
  return failure(make_error_code(code), std::move(detail));
}

std::string in_ms(milliseconds d) { return std::to_string(d.count()) + " ms"; }

class watching {
public:
  watching(detail::shard &home, int fd, waiter &w) noexcept
      : home_(home), entry_(home.poll().add(fd, w, detail::ready_write)) {}
  ~watching() { home_.poll().remove(entry_); }
  watching(const watching &) = delete;
  watching &operator=(const watching &) = delete;
  bool refused() const noexcept { return entry_ == nullptr; }

private:
  detail::shard &home_;
  detail::poll_entry *entry_;
};

// On loopback a port nobody listens on can be the one the kernel chose for this side: then the socket
// connects to itself, and keeps the real server from binding its port.
bool connected_to_itself(int fd, const endpoint &to) noexcept {
  if (to.address.ss_family == AF_UNIX)
    return false;
  endpoint local;
  endpoint remote;
  local.size = remote.size = sizeof(sockaddr_storage);
  return ::getsockname(fd, reinterpret_cast<sockaddr *>(&local.address), &local.size) == 0 &&
         ::getpeername(fd, reinterpret_cast<sockaddr *>(&remote.address), &remote.size) == 0 &&
         local.size == remote.size && std::memcmp(&local.address, &remote.address, local.size) == 0;
}

// The connected descriptor, or an error of the system; ETIMEDOUT at the deadline.
task<result<descriptor>> connect_one(detail::shard &home, const endpoint &to, bool keep_alive,
                                     detail::time_point deadline) {
  const auto system = [](int number) {
    return failure(error_code(number, boost::system::system_category()));
  };
  descriptor socket(::socket(to.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket)
    co_return system(errno);
  if (to.address.ss_family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (keep_alive)
      ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  int why = ::connect(socket.get(), to.get(), to.size) == 0 ? 0 : errno;
  while (to.address.ss_family == AF_UNIX && why == EAGAIN) {
    // The listener's backlog is full, of which poll tells nothing.
    if (home.now() >= deadline)
      co_return system(ETIMEDOUT);
    waiter pause(home);
    co_await pause.wait(std::min(deadline, home.now() + home.tick()));
    why = ::connect(socket.get(), to.get(), to.size) == 0 ? 0 : errno;
  }
  if (why == EINPROGRESS || why == EINTR) {
    waiter waiting(home);
    watching until_done(home, socket.get(), waiting);
    if (until_done.refused())
      co_return system(errno);
    if (!co_await waiting.wait(deadline))
      co_return system(ETIMEDOUT);
    socklen_t size = sizeof why;
    if (::getsockopt(socket.get(), SOL_SOCKET, SO_ERROR, &why, &size) != 0)
      why = errno;
  }
  if (why != 0)
    co_return system(why);
  if (connected_to_itself(socket.get(), to)) {
    const linger discard{1, 0};
    ::setsockopt(socket.get(), SOL_SOCKET, SO_LINGER, &discard, sizeof discard);
    co_return system(ECONNREFUSED);
  }
  co_return std::move(socket);
}

std::string explain(int number, const std::string &address) {
  switch (number) {
  case ECONNREFUSED:
    return "nothing accepts connections on " + address +
           "; is the server running, is the port right?";
  case ENOENT:
    return "there is no socket file " + address + "; is the server running, is the path right?";
  case EACCES:
  case EPERM:
    return "connecting to " + address + " is not permitted; check access rights and firewall";
  case ENETUNREACH:
  case EHOSTUNREACH:
  case EADDRNOTAVAIL:
    return address + " can't be reached from here; check the network and the address";
  case EMFILE:
  case ENFILE:
    return "no file descriptor is left to connect to " + address +
           "; close connections or raise the limit (ulimit -n)";
  default:
    return "connecting to " + address + " failed: " + std::strerror(number);
  }
}

} // namespace

task<result<descriptor>> connect_any(detail::shard &home, std::vector<endpoint> addresses,
                                     milliseconds limit, bool keep_alive) {
  const auto deadline = home.now() + limit;
  int why = ECONNREFUSED;
  std::string last;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto now = home.now();
    if (i != 0 && now >= deadline)
      break;
    const auto share = (deadline - now) / static_cast<int>(addresses.size() - i);
    last = addresses[i].text();
    auto connected = co_await connect_one(home, addresses[i], keep_alive, now + share);
    if (connected)
      co_return std::move(*connected);
    why = connected.error().code().value();
  }
  if (why == ETIMEDOUT && home.now() >= deadline)
    co_return failed(error::connect_timeout, stage::connect, last,
                     "no answer from " + last + " within " + in_ms(limit) +
                         "; is the host up, does a firewall drop the packets?");
  co_return failed(error::connect_failed, stage::connect, last, explain(why, last));
}

} // namespace chorus::transport
