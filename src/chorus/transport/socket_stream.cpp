#include <chorus/transport/socket_stream.hpp>

#include <chorus/transport/address.hpp>
#include <chorus/transport/descriptor.hpp>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

namespace chorus::transport {

namespace {

void add_flag(int fd, int get, int set, int flag) noexcept {
  const int flags = ::fcntl(fd, get);
  if (flags >= 0 && !(flags & flag))
    ::fcntl(fd, set, flags | flag);
}

// Both ends of a connection. IPv4 fits in twelve bytes, so that an idle connection allocates nothing
// for it; everything else is kept as text.
class endpoints {
public:
  explicit endpoints(int fd) {
    sockaddr_storage local{};
    sockaddr_storage remote{};
    const bool known = name(fd, local, ::getsockname) && name(fd, remote, ::getpeername);
    if (known && local.ss_family == AF_INET && remote.ss_family == AF_INET) {
      compact_.local = reinterpret_cast<const sockaddr_in &>(local).sin_addr.s_addr;
      compact_.local_port = reinterpret_cast<const sockaddr_in &>(local).sin_port;
      compact_.remote = reinterpret_cast<const sockaddr_in &>(remote).sin_addr.s_addr;
      compact_.remote_port = reinterpret_cast<const sockaddr_in &>(remote).sin_port;
    } else {
      text_ = std::make_unique<text>(text{local_address_of(fd), remote_address_of(fd)});
    }
    tcp_ = local.ss_family == AF_INET || local.ss_family == AF_INET6;
  }

  bool tcp() const noexcept { return tcp_; }
  std::string local() const {
    return text_ ? text_->local : to_text(compact_.local, compact_.local_port);
  }
  std::string remote() const {
    return text_ ? text_->remote : to_text(compact_.remote, compact_.remote_port);
  }

private:
  struct text {
    std::string local;
    std::string remote;
  };
  struct ipv4 {
    in_addr_t local = 0;
    in_addr_t remote = 0;
    in_port_t local_port = 0;
    in_port_t remote_port = 0;
  };

  template <class Call> static bool name(int fd, sockaddr_storage &out, Call call) noexcept {
    socklen_t size = sizeof out;
    return call(fd, reinterpret_cast<sockaddr *>(&out), &size) == 0;
  }
  static std::string to_text(in_addr_t address, in_port_t port) {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    v4.sin_addr.s_addr = address;
    v4.sin_port = port;
    return address_text(reinterpret_cast<const sockaddr *>(&v4), sizeof v4);
  }

  std::unique_ptr<text> text_;
  ipv4 compact_;
  bool tcp_ = false;
};

class socket_stream final : public stream {
public:
  socket_stream(detail::shard &home, int fd, const socket_options &options)
      : stream(home), ends_(fd), fd_(fd) {
    add_flag(fd, F_GETFL, F_SETFL, O_NONBLOCK);
    add_flag(fd, F_GETFD, F_SETFD, FD_CLOEXEC);
    if (ends_.tcp()) {
      const int on = 1;
      ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
      if (options.keep_alive)
        ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    }
  }
  ~socket_stream() override { socket_stream::close(false); }

  io_result read_some(std::span<std::byte> into) noexcept override {
    if (into.empty())
      return {io_status::ok, 0};
    if (fd_ < 0)
      return {io_status::failed, 0};
    for (;;) {
      const auto n = ::recv(fd_, into.data(), into.size(), 0);
      if (n > 0)
        return {io_status::ok, static_cast<std::size_t>(n)};
      // A failed write does not end the reading: what the peer said last, before it reset the
      // connection, is still there. The kernel reports a reset once, here it stays one.
      if (n == 0)
        return {error_ == 0 ? io_status::end : io_status::failed, 0};
      if (errno != EINTR)
        return refused();
    }
  }

  io_result write_some(std::span<const iovec> from) noexcept override {
    if (error_ != 0)
      return {io_status::failed, 0};
    for (;;) {
      const auto n = send(from);
      if (n >= 0)
        return {io_status::ok, static_cast<std::size_t>(n)};
      if (errno != EINTR)
        return refused();
    }
  }

  error_code error() const noexcept override {
    if (error_ == 0)
      return {};
    if (error_ == closed_here)
      return chorus::error::aborted;
    return {error_, boost::system::system_category()};
  }

  void listen(ready_listener *listener) noexcept override {
    listener_ = listener;
    if (!listener) {
      home().poll().remove(std::exchange(entry_, nullptr));
      notice_.reset();
    } else if (entry_) {
      entry_->listener = listener;
    } else if (interest_ != 0) {
      watch();
    }
  }

  void set_interest(unsigned ready_flags) noexcept override {
    interest_ = static_cast<unsigned char>(ready_flags & (ready_read | ready_write));
    if (entry_)
      home().poll().modify(*entry_, interest_);
    else if (listener_)
      watch();
  }

  void shutdown_write() noexcept override {
    if (fd_ >= 0)
      ::shutdown(fd_, SHUT_WR);
  }

  void close(bool abortive) noexcept override {
    if (fd_ < 0)
      return;
    listen(nullptr);
    if (abortive) {
      const linger discard{1, 0};
      ::setsockopt(fd_, SOL_SOCKET, SO_LINGER, &discard, sizeof discard);
    }
    ::close(fd_);
    fd_ = -1;
    if (error_ == 0)
      error_ = closed_here;
  }

  std::string local_address() const override { return ends_.local(); }
  std::string remote_address() const override { return ends_.remote(); }

private:
  static constexpr int closed_here = -1;

  // Tells of a descriptor that the kernel would not watch. Rare, hence not part of every stream.
  class refusal_notice final : public detail::flushable {
  public:
    explicit refusal_notice(socket_stream &owner) noexcept : owner_(owner) {
      owner_.home().flush_later(*this);
    }
    ~refusal_notice() { owner_.home().withdraw(*this); }
    void flush_turn() noexcept override {
      if (owner_.listener_)
        owner_.listener_->on_ready(ready_hangup);
    }

  private:
    socket_stream &owner_;
  };

  void watch() noexcept {
    if (fd_ < 0 || notice_)
      return;
    entry_ = home().poll().add(fd_, *listener_, interest_);
    if (entry_)
      return;
    error_ = errno;
    notice_ = std::make_unique<refusal_notice>(*this);
  }

  ssize_t send(std::span<const iovec> from) noexcept {
    if (from.size() == 1)
      return ::send(fd_, from[0].iov_base, from[0].iov_len, MSG_NOSIGNAL);
    if (from.empty())
      return 0;
    msghdr header{};
    header.msg_iov = const_cast<iovec *>(from.data());
    header.msg_iovlen = std::min<std::size_t>(from.size(), IOV_MAX);
    return ::sendmsg(fd_, &header, MSG_NOSIGNAL);
  }

  io_result refused() noexcept {
    if (errno == EAGAIN || errno == EWOULDBLOCK)
      return {io_status::would_block, 0};
    error_ = errno;
    return {io_status::failed, 0};
  }

  ready_listener *listener_ = nullptr;
  detail::poll_entry *entry_ = nullptr; // null until the first interest
  std::unique_ptr<refusal_notice> notice_;
  endpoints ends_;
  int fd_;
  int error_ = 0; // an errno, or closed_here
  unsigned char interest_ = 0;
};

} // namespace

std::unique_ptr<stream> make_socket_stream(detail::shard &home, int fd, socket_options options) {
  descriptor owned(fd);
  auto made = std::make_unique<socket_stream>(home, fd, options);
  owned.release();
  return made;
}

} // namespace chorus::transport
