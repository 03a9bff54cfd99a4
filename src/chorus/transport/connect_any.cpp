#include <chorus/transport/connect_any.hpp>

#include <chorus/base/text.hpp>
#include <chorus/transport/waiter.hpp>

#include <algorithm>
#include <cerrno>
#include <memory>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <utility>

namespace chorus::transport {

namespace {

using std::chrono::milliseconds;

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

class race;

// One address: its socket, from the first step to an outcome.
class attempt final : public detail::ready_listener {
public:
  attempt(race &all, const endpoint &to) : all_(all), to_(to) {}
  ~attempt() { unwatch(); }
  attempt(const attempt &) = delete;
  attempt &operator=(const attempt &) = delete;

  void start(bool keep_alive);
  // Looks at what has come of it.
  void proceed();

  const endpoint &to() const noexcept { return to_; }
  bool connected() const noexcept { return state_ == state::connected; }
  bool in_flight() const noexcept { return state_ == state::waiting || state_ == state::full; }
  // The listener's backlog is full, of which poll tells nothing: to be asked again.
  bool wants_another_try() const noexcept { return state_ == state::full; }
  bool ready() const noexcept { return ready_; }
  int why() const noexcept { return why_; } // of one that has failed
  descriptor take() { return std::move(socket_); }

private:
  enum class state : unsigned char { waiting, full, connected, failed };
  void on_ready(unsigned) noexcept override;
  void unwatch() noexcept;
  void connect();
  void settle(int why);

  race &all_;
  const endpoint to_;
  descriptor socket_;
  detail::poll_entry *entry_ = nullptr;
  state state_ = state::failed;
  bool ready_ = false;
  int why_ = 0;
};

class race {
public:
  explicit race(detail::shard &home) : home_(home) {}
  race(const race &) = delete;
  race &operator=(const race &) = delete;

  detail::shard &home() noexcept { return home_; }
  void wake() noexcept {
    if (waiting_)
      waiting_->on_ready(0);
  }
  void start(const endpoint &to, bool keep_alive) {
    runners_.push_back(std::make_unique<attempt>(*this, to));
    runners_.back()->start(keep_alive);
  }
  // The first that is connected; null while there is none. Notes those that have failed.
  attempt *look() {
    for (auto &one : runners_)
      if (one->ready() || one->wants_another_try())
        one->proceed();
    for (auto &one : runners_)
      if (one->connected())
        return one.get();
    for (const auto &one : runners_)
      if (!one->in_flight())
        failed_.push_back({one->to(), one->why()});
    std::erase_if(runners_, [](const auto &one) { return !one->in_flight(); });
    return nullptr;
  }
  bool idle() const noexcept { return runners_.empty(); }
  bool wants_another_try() const noexcept {
    return std::any_of(runners_.begin(), runners_.end(),
                       [](const auto &one) { return one->wants_another_try(); });
  }
  // Time is up.
  void give_up() {
    for (const auto &one : runners_)
      failed_.push_back({one->to(), ETIMEDOUT});
    runners_.clear();
  }

  struct loser {
    endpoint to;
    int why;
  };
  const std::vector<loser> &failed() const noexcept { return failed_; }

  // Until one of them is ready, or `when`.
  task<> wait(detail::time_point when) {
    waiter parked(home_);
    const told until_done(*this, parked);
    co_await parked.wait(when);
  }

private:
  class told {
  public:
    told(race &r, waiter &w) noexcept : race_(r) { r.waiting_ = &w; }
    ~told() { race_.waiting_ = nullptr; }
    told(const told &) = delete;
    told &operator=(const told &) = delete;

  private:
    race &race_;
  };

  detail::shard &home_;
  waiter *waiting_ = nullptr;
  std::vector<std::unique_ptr<attempt>> runners_;
  std::vector<loser> failed_;
};

void attempt::start(bool keep_alive) {
  socket_ =
      descriptor(::socket(to_.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_)
    return settle(errno);
  if (to_.address.ss_family != AF_UNIX) {
    const int on = 1;
    ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (keep_alive)
      ::setsockopt(socket_.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  }
  connect();
}

void attempt::connect() {
  const int why = ::connect(socket_.get(), to_.get(), to_.size) == 0 ? 0 : errno;
  if (to_.address.ss_family == AF_UNIX && why == EAGAIN) {
    state_ = state::full;
    return;
  }
  if (why != EINPROGRESS && why != EINTR)
    return settle(why);
  entry_ = all_.home().poll().add(socket_.get(), *this, detail::ready_write);
  if (!entry_)
    return settle(errno);
  state_ = state::waiting;
}

void attempt::proceed() {
  if (state_ == state::full)
    return connect();
  ready_ = false;
  int why = 0;
  socklen_t size = sizeof why;
  if (::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &why, &size) != 0)
    why = errno;
  settle(why);
}

void attempt::settle(int why) {
  if (why == 0 && connected_to_itself(socket_.get(), to_)) {
    const linger discard{1, 0};
    ::setsockopt(socket_.get(), SOL_SOCKET, SO_LINGER, &discard, sizeof discard);
    why = ECONNREFUSED;
  }
  why_ = why;
  state_ = why == 0 ? state::connected : state::failed;
}

void attempt::on_ready(unsigned) noexcept {
  unwatch();
  ready_ = true;
  all_.wake();
}

void attempt::unwatch() noexcept {
  if (entry_)
    all_.home().poll().remove(std::exchange(entry_, nullptr));
}

struct told_failure {
  std::string what;
  std::string hint;
};

told_failure tell(int number, const std::string &address) {
  switch (number) {
  case ECONNREFUSED:
    return {"nothing accepts connections on " + address,
            "is the server running, is the port right?"};
  case ENOENT:
    return {"there is no socket file " + address, "is the server running, is the path right?"};
  case EACCES:
  case EPERM:
    return {"connecting to " + address + " is not permitted", "check access rights and firewall"};
  case ENETDOWN:
  case ENETUNREACH:
  case EHOSTUNREACH:
  case EADDRNOTAVAIL:
    return {address + " can't be reached from here", "check the network and the address"};
  case EMFILE:
  case ENFILE:
    return {"no file descriptor is left to connect to " + address,
            "close connections or raise the limit (ulimit -n)"};
  default:
    return {"connecting to " + address + " failed: " + std::strerror(number), {}};
  }
}

failure nobody(const race &r, milliseconds limit) {
  const auto &all = r.failed();
  const auto said_no =
      std::find_if(all.rbegin(), all.rend(), [](const auto &one) { return one.why != ETIMEDOUT; });
  const bool silent = said_no == all.rend();
  failure_detail detail;
  detail.where = stage::connect;
  detail.address = silent ? all.back().to.text() : said_no->to.text();
  if (silent) {
    detail.sentence = "no answer from " + detail.address + " within " + detail::in_ms(limit);
    detail.hint = "is the host up, does a firewall drop the packets?";
  } else {
    auto told = tell(said_no->why, detail.address);
    detail.sentence = std::move(told.what);
    detail.hint = std::move(told.hint);
  }
  std::string others;
  for (const auto &one : all) {
    const error_code why(one.why, boost::system::system_category());
    detail.tried.push_back({one.to.text(), why});
    if (detail.tried.size() <= 4)
      others += (others.empty() ? "" : ", ") + one.to.text() + ": " +
                (one.why == ETIMEDOUT ? std::string("no answer") : why.message());
  }
  if (all.size() > 4)
    others += " and " + std::to_string(all.size() - 4) + " more";
  if (all.size() > 1)
    detail.sentence += " (tried " + others + ")";
  return failure(make_error_code(silent ? error::connect_timeout : error::connect_failed),
                 std::move(detail));
}

} // namespace

std::vector<endpoint> interleave(std::vector<endpoint> addresses) {
  if (addresses.empty())
    return addresses;
  const auto family = addresses.front().address.ss_family;
  std::vector<endpoint> others;
  std::vector<endpoint> out;
  std::size_t next = 0;
  for (const auto &a : addresses)
    if (a.address.ss_family != family)
      others.push_back(a);
  for (const auto &a : addresses) {
    if (a.address.ss_family != family)
      continue;
    out.push_back(a);
    if (next < others.size())
      out.push_back(others[next++]);
  }
  out.insert(out.end(), others.begin() + static_cast<std::ptrdiff_t>(next), others.end());
  return out;
}

task<result<descriptor>> connect_any(detail::shard &home, std::vector<endpoint> addresses,
                                     race_options options) {
  if (addresses.empty())
    co_return failure(error::resolve_failed, stage::resolve, "the host has no address");
  if (addresses.size() > most_addresses)
    addresses.resize(most_addresses);
  const auto deadline = home.now() + options.limit;
  auto next_at = home.now();
  std::size_t started = 0;
  std::size_t lost = 0;
  race all(home);
  for (;;) {
    if (auto *winner = all.look())
      co_return winner->take();
    const auto now = home.now();
    const bool one_failed = all.failed().size() > std::exchange(lost, all.failed().size());
    if (started == addresses.size() && all.idle())
      break;
    if (started != 0 && now >= deadline) {
      all.give_up();
      break;
    }
    if (started < addresses.size() && (one_failed || now >= next_at)) {
      const auto share = (deadline - now) / static_cast<int>(addresses.size() - started + 1);
      next_at = now + std::min<detail::duration>(options.stagger, share);
      all.start(addresses[started++], options.keep_alive);
      continue;
    }
    auto until = deadline;
    if (started < addresses.size())
      until = std::min(until, next_at);
    if (all.wants_another_try())
      until = std::min(until, now + home.tick());
    auto waiting = all.wait(until);
    co_await std::move(waiting);
  }
  co_return nobody(all, options.limit);
}

} // namespace chorus::transport
