#include "fleet.hpp"

#include "measure.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

namespace load {

namespace {

constexpr std::uint32_t links_per_source = 20000; // below the usual range of ephemeral ports
constexpr int stalled_receive_buffer = 4096;      // bytes

void raise_descriptor_limit() {
  rlimit limit{};
  if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
  }
}

} // namespace

fleet::fleet(const settings &s)
    : incoming(512 * 1024), target_{parse_url(s.url)},
      deadline_ns_{now_ns() + static_cast<std::uint64_t>(s.connect_timeout * 1e9)},
      epoll_{epoll_create1(EPOLL_CLOEXEC)}, events_(1024) {
  raise_descriptor_limit();
}

fleet::~fleet() {
  for (const auto &l : links_)
    l->say_goodbye();
  for (const auto &l : stalled_)
    l->say_goodbye();
  ::close(epoll_);
}

void fleet::add(std::vector<std::unique_ptr<link>> &to, int receive_buffer, std::uint32_t sender) {
  const auto opened = static_cast<std::uint32_t>(links_.size() + stalled_.size());
  dial_options options;
  options.receive_buffer = receive_buffer;
  options.deadline_ns = deadline_ns_;
  // Another loopback address brings another set of ports.
  if (opened >= links_per_source)
    options.source = 0x7f000001u + opened / links_per_source;
  try {
    to.push_back(std::make_unique<link>(dial(target_, options), opened, sender));
  } catch (const failure &f) {
    throw failure{f.kind(), "connection " + std::to_string(opened) + ": " + f.what()};
  }
}

void fleet::open(std::uint32_t count, bool own_messages) {
  links_.reserve(links_.size() + count);
  for (std::uint32_t i = 0; i < count; ++i) {
    const auto opened = static_cast<std::uint32_t>(links_.size() + stalled_.size());
    add(links_, 0, own_messages ? opened : 0);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.ptr = links_.back().get();
    epoll_ctl(epoll_, EPOLL_CTL_ADD, links_.back()->fd(), &e);
    wants_output_.resize(opened + 1);
  }
}

void fleet::open_stalled(std::uint32_t count) {
  for (std::uint32_t i = 0; i < count; ++i)
    add(stalled_, stalled_receive_buffer, 0);
}

std::span<const epoll_event> fleet::wait(int milliseconds) {
  const int n = epoll_wait(epoll_, events_.data(), static_cast<int>(events_.size()), milliseconds);
  return {events_.data(), n < 0 ? 0 : static_cast<std::size_t>(n)};
}

void fleet::watch(link &l) {
  if (wants_output_[l.index()] == l.blocked())
    return;
  wants_output_[l.index()] = l.blocked();
  epoll_event e{};
  e.events = EPOLLIN | (l.blocked() ? std::uint32_t{EPOLLOUT} : 0);
  e.data.ptr = &l;
  epoll_ctl(epoll_, EPOLL_CTL_MOD, l.fd(), &e);
}

void fleet::forget(link &l) { epoll_ctl(epoll_, EPOLL_CTL_DEL, l.fd(), nullptr); }

void demand_open(const link &l) {
  if (l.state() != link_state::open)
    throw failure{"connection_lost", "connection " + std::to_string(l.index()) + ": " + l.why()};
}

} // namespace load
