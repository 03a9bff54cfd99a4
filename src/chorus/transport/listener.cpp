#include <chorus/transport/listener.hpp>

#include <chorus/transport/address.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <vector>

namespace chorus::transport {

namespace {

constexpr int accepts_per_turn = 64;
constexpr std::chrono::milliseconds first_pause{100};
constexpr std::chrono::milliseconds longest_pause{1000};

failure cannot_listen(std::string_view address, const std::string &why) {
  failure_detail detail;
  detail.where = stage::listen;
  detail.address = std::string(address);
  detail.sentence = "can't listen on " + detail.address + ": " + why;
  return failure(make_error_code(error::listen_failed), std::move(detail));
}

failure bad_address(std::string_view address, const std::string &why) {
  return failure(error::bad_option, stage::listen,
                 "can't listen on \"" + std::string(address) + "\": " + why);
}

std::string explain(int number) {
  switch (number) {
  case EADDRINUSE:
    return "the address is already in use; stop the program that listens there or choose another";
  case EACCES:
  case EPERM:
    return "permission denied; ports below 1024 need privileges, a socket file a writable "
           "directory";
  case EADDRNOTAVAIL:
    return "this machine has no such address; listen on one of its own, or on \":port\" for all";
  case EAFNOSUPPORT:
    return "this machine does not support that kind of address";
  case ENOENT:
  case ENOTDIR:
    return "the directory of the socket file does not exist";
  case EMFILE:
  case ENFILE:
    return "no file descriptor is left; raise the limit (ulimit -n)";
  default:
    return std::strerror(number);
  }
}

struct candidate {
  sockaddr_storage address{};
  socklen_t size = 0;
  bool both_families = false; // an IPv6 one that takes IPv4 connections, too
};

void set(int fd, int level, int name, int value) noexcept {
  ::setsockopt(fd, level, name, &value, sizeof value);
}

// The addresses that `host` and `port` name. An empty host is every address: both families through
// one IPv6 socket, or IPv4 alone where there is no IPv6. A getaddrinfo code other than 0 on failure.
int look_up(const host_and_port &where, std::vector<candidate> &out) {
  const bool any = where.host.empty() || where.host == "*";
  const std::string port(where.port);
  unsigned short number = 0;
  if (parse_port(port, number) == port_kind::invalid)
    return EAI_SERVICE;
  for (const char *any_host : {"::", "0.0.0.0"}) {
    const std::string host = any ? std::string(any_host) : std::string(where.host);
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_PASSIVE | (any ? AI_NUMERICHOST : 0);
    addrinfo *list = nullptr;
    if (const int code = ::getaddrinfo(host.c_str(), port.c_str(), &hints, &list); code != 0)
      return code;
    for (auto *entry = list; entry; entry = entry->ai_next) {
      candidate c;
      c.size = entry->ai_addrlen;
      c.both_families = any;
      std::memcpy(&c.address, entry->ai_addr, entry->ai_addrlen);
      out.push_back(c);
    }
    ::freeaddrinfo(list);
    if (!any)
      break;
  }
  return 0;
}

// 0 or an errno.
int bind_tcp(const candidate &where, const listen_options &options, descriptor &out) noexcept {
  descriptor socket(
      ::socket(where.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket)
    return errno;
  // A restarted server binds at once, whatever connections of its predecessor still linger.
  set(socket.get(), SOL_SOCKET, SO_REUSEADDR, 1);
  if (where.address.ss_family == AF_INET6)
    set(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, where.both_families ? 0 : 1);
  if (options.join || options.reuse_port)
    set(socket.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr *>(&where.address), where.size) != 0)
    return errno;
  if (options.share)
    set(socket.get(), SOL_SOCKET, SO_REUSEPORT, 1);
  if (::listen(socket.get(), options.backlog) != 0)
    return errno;
  out = std::move(socket);
  return 0;
}

// True when the file is a socket on which nobody listens any more.
bool is_stale(const char *path, const sockaddr_un &address, socklen_t size) noexcept {
  struct stat file {};
  if (::lstat(path, &file) != 0 || !S_ISSOCK(file.st_mode))
    return false;
  descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  return probe && ::connect(probe.get(), reinterpret_cast<const sockaddr *>(&address), size) != 0 &&
         errno == ECONNREFUSED;
}

int bind_unix(const std::string &path, const sockaddr_un &address, socklen_t size,
              const listen_options &options, descriptor &out) noexcept {
  descriptor socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket)
    return errno;
  const auto bind = [&] {
    return ::bind(socket.get(), reinterpret_cast<const sockaddr *>(&address), size) == 0;
  };
  if (!bind()) {
    const int why = errno;
    if (why != EADDRINUSE || path.front() == '@' || !is_stale(path.c_str(), address, size))
      return why;
    ::unlink(path.c_str());
    if (!bind())
      return errno;
  }
  // Before it listens: nobody gets in by the wider mode that the file is made with.
  if (options.file_mode != 0 && path.front() != '@' &&
      ::chmod(path.c_str(), static_cast<mode_t>(options.file_mode)) != 0) {
    const int why = errno;
    ::unlink(path.c_str());
    return why;
  }
  if (::listen(socket.get(), options.backlog) != 0)
    return errno;
  out = std::move(socket);
  return 0;
}

// Why `fd` can't be listened on; empty when it can.
std::string unfit(int fd) {
  int type = 0;
  socklen_t size = sizeof type;
  if (::getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0)
    return errno == ENOTSOCK ? "it is no socket; hand a listening one over to this process"
                             : "this process has no such descriptor; does its parent, or the unit "
                               "file, hand one over?";
  if (type != SOCK_STREAM)
    return "it is no stream socket (a datagram one, perhaps); listen on tcp or a unix stream";
  int listening = 0;
  size = sizeof listening;
  if (::getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &size) != 0 || !listening)
    return "it is no listening socket; bind it and call listen first";
  if (local_address_of(fd) == "unknown")
    return "it is neither a tcp nor a unix socket";
  return {};
}

descriptor open_reserve() noexcept { return descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC)); }

// What the peer or the network did to one waiting connection; the next one may be fine.
bool concerns_one_connection(int number) noexcept {
  switch (number) {
  case EINTR:
  case ECONNABORTED:
  case EPROTO:
  case EPERM:
  case ENETDOWN:
  case ENOPROTOOPT:
  case EHOSTDOWN:
  case ENONET:
  case EHOSTUNREACH:
  case EOPNOTSUPP:
  case ENETUNREACH:
    return true;
  default:
    return false;
  }
}

} // namespace

listener::retry::retry(listener &l) noexcept
    : detail::timer([](detail::timer &t) noexcept { static_cast<retry &>(t).owner.resume(); }),
      owner(l) {}

listener::listener(detail::shard &home, descriptor socket)
    : home_(home), socket_(std::move(socket)), reserve_(open_reserve()),
      address_(local_address_of(socket_.get())), retry_(*this) {}

listener::~listener() {
  close();
  *destroyed_ = true;
}

result<std::unique_ptr<listener>> listener::open(detail::shard &home, std::string_view address,
                                                 listen_options options) {
  descriptor socket;
  if (address.starts_with("fd:")) {
    constexpr std::string_view file = ":file";
    auto digits = address.substr(3);
    const bool with_file = digits.ends_with(file);
    if (with_file)
      digits.remove_suffix(file.size());
    int fd = -1;
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), fd);
    if (parsed.ec != std::errc() || parsed.ptr != digits.data() + digits.size() || fd < 0)
      return bad_address(address, "give an inherited descriptor as its number, like fd:3");
    return adopt(home, fd, with_file);
  }
  if (address.starts_with("unix:")) {
    const std::string path(address.substr(5));
    sockaddr_un name{};
    socklen_t size = 0;
    if (!make_unix_address(path, name, size))
      return bad_address(address, "the path of a socket file has 1 to 107 bytes");
    if (const int why = bind_unix(path, name, size, options, socket); why != 0)
      return cannot_listen(address, explain(why));
    std::unique_ptr<listener> made(new listener(home, std::move(socket)));
    made->own_file(path);
    return made;
  }
  host_and_port where;
  if (!split_host_port(address, where))
    return bad_address(address,
                       "give it as host:port, [IPv6]:port, :port, unix:/path or fd:number");
  std::vector<candidate> candidates;
  if (const int code = look_up(where, candidates); code == EAI_SERVICE)
    return bad_address(address, "the port is a number from 0 to 65535, or a service name");
  else if (code != 0)
    return cannot_listen(address, "the host name is not known (" +
                                      std::string(::gai_strerror(code)) + "); check its spelling");
  int why = EADDRNOTAVAIL;
  for (const auto &c : candidates) {
    why = bind_tcp(c, options, socket);
    if (why == 0)
      return std::unique_ptr<listener>(new listener(home, std::move(socket)));
    if (why == EADDRINUSE)
      break; // the other family alone would be half a server
  }
  return cannot_listen(address, explain(why));
}

void listener::own_file(const std::string &path) {
  struct stat file {};
  if (path.empty() || path.front() == '@' || ::lstat(path.c_str(), &file) != 0)
    return;
  file_ = path;
  file_device_ = file.st_dev;
  file_inode_ = file.st_ino;
}

result<std::unique_ptr<listener>> listener::adopt(detail::shard &home, int fd, bool with_file) {
  const std::string why = unfit(fd);
  // What is no socket may well be this process's own, its log or its loop: a wrong number shall not
  // close that.
  struct stat what {};
  descriptor socket(::fstat(fd, &what) == 0 && S_ISSOCK(what.st_mode) ? fd : -1);
  if (!why.empty())
    return cannot_listen("fd:" + std::to_string(fd), why);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  std::unique_ptr<listener> made(new listener(home, std::move(socket)));
  made->adopted_ = true;
  if (constexpr std::string_view scheme = "unix:"; with_file && made->address_.starts_with(scheme))
    made->own_file(made->address_.substr(scheme.size()));
  return made;
}

result<> listener::start(accept_handler &handler) {
  if (!socket_)
    return failure(error::not_open, stage::listen, "this listener is closed");
  handler_ = &handler;
  if (entry_)
    return {};
  entry_ = home_.poll().add(socket_.get(), *this, detail::ready_read);
  if (!entry_)
    return cannot_listen(address_, explain(errno));
  return {};
}

void listener::close() noexcept {
  retry_.cancel();
  home_.poll().remove(std::exchange(entry_, nullptr));
  socket_.reset();
  reserve_.reset();
  if (file_.empty())
    return;
  // Another server may have put its own file there meanwhile.
  struct stat file {};
  if (::lstat(file_.c_str(), &file) == 0 && file.st_dev == file_device_ &&
      file.st_ino == file_inode_) {
    sockaddr_un name{};
    socklen_t size = 0;
    const bool last =
        !adopted_ || (make_unix_address(file_, name, size) && is_stale(file_.c_str(), name, size));
    if (last)
      ::unlink(file_.c_str());
  }
  file_.clear();
}

descriptor listener::duplicate() const noexcept {
  return descriptor(socket_ ? ::fcntl(socket_.get(), F_DUPFD_CLOEXEC, 3) : -1);
}

void listener::on_ready(unsigned) noexcept {
  if (retry_.active())
    return;
  const auto destroyed = destroyed_;
  for (int i = 0; i < accepts_per_turn; ++i) {
    const int fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      delay_ = {};
      ++stats_.accepted;
      handler_->on_accept(fd);
    } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
      break;
    } else if (!concerns_one_connection(errno) && !refuse_one()) {
      break;
    }
    if (*destroyed || !entry_)
      break;
  }
}

// False when there is nothing more to do in this turn: nobody waits, accepting pauses, or the
// handler destroyed the listener.
bool listener::refuse_one() noexcept {
  const auto destroyed = destroyed_;
  const bool want_descriptor = errno == EMFILE || errno == ENFILE;
  if (!want_descriptor || !reserve_) {
    pause();
    return false;
  }
  reserve_.reset();
  const int fd = ::accept4(socket_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
  // The kernel wants a free descriptor even where nobody waits.
  const bool nobody = fd < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
  if (fd >= 0) {
    ++stats_.errors;
    ++stats_.refused;
    handler_->on_refused(fd);
    if (*destroyed || !entry_)
      return false;
  }
  reserve_ = open_reserve();
  if (reserve_)
    return !nobody;
  pause();
  return false;
}

void listener::pause() noexcept {
  ++stats_.errors;
  ++stats_.pauses;
  delay_ = std::clamp<detail::duration>(delay_ * 2, first_pause, longest_pause);
  home_.poll().modify(*entry_, 0);
  home_.start_after(retry_, delay_);
}

void listener::resume() noexcept {
  // Before anything is accepted: the next peer too many is to be refused, not left waiting.
  if (!reserve_)
    reserve_ = open_reserve();
  if (entry_)
    home_.poll().modify(*entry_, detail::ready_read);
}

} // namespace chorus::transport
