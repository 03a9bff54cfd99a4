#include <chorus/async/poller.hpp>

#include <boost/system/system_error.hpp>

#include <array>
#include <cerrno>
#include <new>
#include <sys/epoll.h>
#include <unistd.h>

namespace chorus::detail {

namespace {

constexpr int batch = 512;

std::uint32_t to_epoll(unsigned interest) noexcept {
  std::uint32_t events = 0;
  if (interest & ready_read)
    events |= EPOLLIN;
  if (interest & ready_write)
    events |= EPOLLOUT;
  // With nothing wanted a hang-up would be told for ever; edge-triggered it is told once.
  return events == 0 ? static_cast<std::uint32_t>(EPOLLET) : events;
}

} // namespace

poller::poller() : set_(::epoll_create1(EPOLL_CLOEXEC)) {
  if (set_ < 0)
    throw boost::system::system_error(errno, boost::system::system_category(), "epoll_create1");
}

poller::~poller() {
  for (auto *e : removed_)
    delete e;
  ::close(set_);
}

poll_entry *poller::add(int descriptor, ready_listener &listener, unsigned interest) noexcept {
  auto *entry = new (std::nothrow) poll_entry{&listener, descriptor, interest};
  if (!entry) {
    errno = ENOMEM;
    return nullptr;
  }
  epoll_event event{};
  event.events = to_epoll(interest);
  event.data.ptr = entry;
  if (::epoll_ctl(set_, EPOLL_CTL_ADD, descriptor, &event) != 0) {
    delete entry;
    return nullptr;
  }
  ++live_;
  return entry;
}

void poller::modify(poll_entry &entry, unsigned interest) noexcept {
  if (entry.interest == interest)
    return;
  entry.interest = interest;
  epoll_event event{};
  event.events = to_epoll(interest);
  event.data.ptr = &entry;
  ::epoll_ctl(set_, EPOLL_CTL_MOD, entry.descriptor, &event);
}

void poller::remove(poll_entry *entry) noexcept {
  if (!entry || !entry->listener)
    return;
  epoll_event event{};
  ::epoll_ctl(set_, EPOLL_CTL_DEL, entry->descriptor, &event);
  entry->listener = nullptr;
  --live_;
  if (dispatching_)
    removed_.push_back(entry);
  else
    delete entry;
}

bool poller::dispatch() noexcept {
  std::array<epoll_event, batch> events;
  const int count = ::epoll_wait(set_, events.data(), batch, 0);
  dispatching_ = true;
  for (int i = 0; i < count; ++i) {
    const auto &event = events[static_cast<std::size_t>(i)];
    auto *entry = static_cast<poll_entry *>(event.data.ptr);
    if (!entry->listener)
      continue;
    unsigned what = 0;
    if (event.events & EPOLLIN)
      what |= ready_read;
    if (event.events & EPOLLOUT)
      what |= ready_write;
    if (event.events & (EPOLLHUP | EPOLLERR))
      what |= ready_hangup;
    entry->listener->on_ready(what);
  }
  dispatching_ = false;
  for (auto *e : removed_)
    delete e;
  removed_.clear();
  return count == batch;
}

} // namespace chorus::detail
