#include <chorus/transport/dial.hpp>

#include <chorus/transport/address.hpp>
#include <chorus/transport/descriptor.hpp>
#include <chorus/transport/socket_stream.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/waiter.hpp>

#include <boost/asio/ip/tcp.hpp>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <vector>

namespace chorus::transport {

namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using std::chrono::milliseconds;

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

failure failed(chorus::error code, stage where, std::string address, std::string sentence) {
  failure_detail detail;
  detail.where = where;
  detail.address = std::move(address);
  detail.sentence = std::move(sentence);
  return failure(make_error_code(code), std::move(detail));
}

std::string in_ms(milliseconds d) { return std::to_string(d.count()) + " ms"; }

// A look-up in progress. The system's resolver can't be interrupted, so it may outlast the coroutine
// that asked.
struct lookup {
  waiter *waiting = nullptr;
  error_code error;
  std::vector<endpoint> found;
};

class asking {
public:
  asking(std::shared_ptr<lookup> l, waiter &w) : lookup_(std::move(l)) { lookup_->waiting = &w; }
  ~asking() { lookup_->waiting = nullptr; }
  asking(const asking &) = delete;
  asking &operator=(const asking &) = delete;

private:
  std::shared_ptr<lookup> lookup_;
};

task<result<std::vector<endpoint>>> resolve(detail::shard &home, const dial_target &target,
                                            milliseconds limit) {
  std::vector<endpoint> literal;
  error_code not_literal;
  unsigned short port = 0;
  const auto address = asio::ip::make_address(target.host, not_literal);
  const auto kind = parse_port(target.port, port);
  if (kind == port_kind::invalid)
    co_return failed(error::resolve_failed, stage::resolve, {},
                     "\"" + target.port + "\" is no port; ports are numbers from 0 to 65535");
  if (!not_literal && kind == port_kind::number) {
    const tcp::endpoint e(address, port);
    literal.emplace_back(e.data(), e.size());
    co_return literal;
  }
  waiter waiting(home);
  auto state = std::make_shared<lookup>();
  asking until_done(state, waiting);
  tcp::resolver resolver(home.context());
  resolver.async_resolve(target.host, target.port,
                         [state](error_code ec, const tcp::resolver::results_type &results) {
                           state->error = ec;
                           for (const auto &entry : results) {
                             const auto e = entry.endpoint();
                             state->found.emplace_back(e.data(), e.size());
                           }
                           if (state->waiting)
                             state->waiting->on_ready(0);
                         });
  const bool in_time = co_await waiting.wait(home.now() + limit);
  const auto where = target.host + ':' + target.port;
  if (!in_time)
    co_return failed(error::resolve_timeout, stage::resolve, {},
                     "looking up " + target.host + " took longer than " + in_ms(limit) +
                         "; is the DNS server reachable?");
  if (state->error == asio::error::service_not_found)
    co_return failed(error::resolve_failed, stage::resolve, {},
                     "the port \"" + target.port + "\" is neither a number nor a known service");
  if (state->error || state->found.empty())
    co_return failed(error::resolve_failed, stage::resolve, {},
                     "the host name " + target.host + " is not known (" + state->error.message() +
                         "); check its spelling and the DNS");
  co_return std::move(state->found);
}

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

task<result<descriptor>> connect_any(detail::shard &home, const std::vector<endpoint> &addresses,
                                     const dial_options &options) {
  const auto deadline = home.now() + options.connect_timeout;
  int why = ECONNREFUSED;
  std::string last;
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    const auto now = home.now();
    if (i != 0 && now >= deadline)
      break;
    // A fair share of what is left, so that one address that swallows packets does not cost the rest.
    const auto share = (deadline - now) / static_cast<int>(addresses.size() - i);
    last = addresses[i].text();
    auto connected = co_await connect_one(home, addresses[i], options.keep_alive, now + share);
    if (connected)
      co_return std::move(*connected);
    why = connected.error().code().value();
  }
  if (why == ETIMEDOUT && home.now() >= deadline)
    co_return failed(error::connect_timeout, stage::connect, last,
                     "no answer from " + last + " within " + in_ms(options.connect_timeout) +
                         "; is the host up, does a firewall drop the packets?");
  co_return failed(error::connect_failed, stage::connect, last, explain(why, last));
}

} // namespace

task<result<std::unique_ptr<stream>>> dial(detail::shard &home, dial_target target,
                                           dial_options options) {
  const auto keep = home.shared_from_this();
  auto context = options.ready_context;
  if (target.tls && !context) {
    auto made = make_client_context(options.tls);
    if (!made)
      co_return made.error();
    context = std::move(*made);
  }
  std::vector<endpoint> addresses;
  if (!target.path.empty()) {
    sockaddr_un name{};
    socklen_t size = 0;
    if (!make_unix_address(target.path, name, size))
      co_return failed(error::bad_url, stage::connect, "unix:" + target.path,
                       "the path of a socket file has 1 to 107 bytes");
    addresses.emplace_back(&name, size);
  } else {
    auto found = co_await resolve(home, target, options.resolve_timeout);
    if (!found)
      co_return found.error();
    addresses = std::move(*found);
  }
  auto connected = co_await connect_any(home, addresses, options);
  if (!connected)
    co_return connected.error();
  auto plain = make_socket_stream(home, connected->release());
  if (!target.tls)
    co_return std::move(plain);
  auto secure = make_tls_client_stream(std::move(plain), context, target.host);
  if (!secure)
    co_return secure.error();
  auto done = co_await tls_handshake(**secure, home.now() + options.tls_timeout);
  if (!done)
    co_return done.error();
  co_return std::move(*secure);
}

} // namespace chorus::transport
