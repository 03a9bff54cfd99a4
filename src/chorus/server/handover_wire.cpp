#include <chorus/server/handover_wire.hpp>

#include <chorus/transport/waiter.hpp>

#include <array>
#include <cerrno>
#include <cstring>

namespace chorus::detail::handover {

namespace {

class watching {
public:
  watching(shard &home, int fd, transport::waiter &w) noexcept
      : home_(home), entry_(home.poll().add(fd, w, ready_read)) {}
  ~watching() { home_.poll().remove(entry_); }
  watching(const watching &) = delete;
  watching &operator=(const watching &) = delete;
  bool refused() const noexcept { return entry_ == nullptr; }

private:
  shard &home_;
  poll_entry *entry_;
};

using control_buffer = std::array<char, CMSG_SPACE(most_per_packet * sizeof(int))>;

} // namespace

bool same_user(int fd) noexcept {
  ucred peer{};
  socklen_t size = sizeof peer;
  return ::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid == ::geteuid();
}

bool send(int fd, std::string_view text, const std::vector<int> &sockets) noexcept {
  const std::size_t count = sockets.size();
  alignas(cmsghdr) control_buffer control{};
  iovec piece{const_cast<char *>(text.data()), text.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (count != 0) {
    header.msg_control = control.data();
    header.msg_controllen = CMSG_SPACE(count * sizeof(int));
    auto *part = CMSG_FIRSTHDR(&header);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(count * sizeof(int));
    std::memcpy(CMSG_DATA(part), sockets.data(), count * sizeof(int));
  }
  return ::sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT) == static_cast<ssize_t>(text.size());
}

got receive(int fd, packet &into) noexcept {
  alignas(cmsghdr) control_buffer control{};
  std::array<char, 64> text{};
  iovec piece{text.data(), text.size()};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  header.msg_control = control.data();
  header.msg_controllen = control.size();
  const auto n = ::recvmsg(fd, &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR))
    return got::nothing_yet;
  if (n <= 0)
    return got::ended;
  into.sockets.clear();
  for (auto *part = CMSG_FIRSTHDR(&header); part; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS)
      continue;
    const auto count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (std::size_t i = 0; i < count; ++i) {
      int one = -1;
      std::memcpy(&one, CMSG_DATA(part) + i * sizeof(int), sizeof one);
      into.sockets.emplace_back(one);
    }
  }
  if ((header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0)
    return got::ended;
  into.text.assign(text.data(), static_cast<std::size_t>(n));
  return got::packet;
}

task<bool> readable(shard &home, int fd, time_point deadline) {
  transport::waiter parked(home);
  watching until_done(home, fd, parked);
  if (until_done.refused())
    co_return false;
  const bool told = co_await parked.wait(deadline);
  co_return told;
}

task<result<packet>> next_packet(shard &home, int fd, time_point deadline) {
  packet p;
  for (;;) {
    const auto what = receive(fd, p);
    if (what == got::packet)
      co_return std::move(p);
    if (what == got::ended)
      co_return failure(error::lost, stage::listen,
                        "the other process ended the handover; its log may tell why");
    const bool in_time = co_await readable(home, fd, deadline);
    if (!in_time)
      co_return failure(error::timed_out, stage::listen,
                        "the other process did not go on with the handover in time");
  }
}

} // namespace chorus::detail::handover
