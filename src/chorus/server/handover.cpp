#include <chorus/server/handover.hpp>

#include <chorus/async/remote.hpp>
#include <chorus/server/handover_wire.hpp>
#include <chorus/server/server.hpp>
#include <chorus/server/server_core.hpp>
#include <chorus/transport/address.hpp>
#include <chorus/transport/waiter.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <sys/stat.h>
#include <utility>

namespace chorus {

namespace detail {

using handover::descriptor;

namespace {

constexpr int waiting_successors = 8;
// A successor says at once that it has the sockets. Who does not is none, and others wait behind it.
constexpr std::chrono::seconds until_taken{3};

failure handover_failure(error code, const std::string &path, const std::string &why) {
  failure_detail d;
  d.where = stage::listen;
  d.address = "unix:" + path;
  d.sentence = "handover at " + path + ": " + why;
  return failure(make_error_code(code), std::move(d));
}

bool make_address(const std::string &path, sockaddr_un &name, socklen_t &size) noexcept {
  return !path.starts_with('@') && transport::make_unix_address(path, name, size);
}

// In as many packets as it takes, in their order.
bool send_all(int fd, const std::vector<socket_copy> &sockets) {
  const auto head = std::string(handover::magic) + std::to_string(sockets.size());
  std::vector<int> packet;
  for (std::size_t i = 0; i < sockets.size(); ++i) {
    packet.push_back(sockets[i].socket.get());
    const bool file = sockets[i].with_file;
    const bool last = i + 1 == sockets.size() || packet.size() == handover::most_per_packet ||
                      sockets[i + 1].with_file != file;
    if (last && !handover::send(
                    fd, head + std::string(file ? handover::with_file : handover::plain), packet))
      return false;
    if (last)
      packet.clear();
  }
  return true;
}

descriptor make_socket() noexcept {
  return descriptor(::socket(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
}

} // namespace

// On the server's conductor.
struct handover_state {
  std::shared_ptr<server_core> core;
  std::string path;
  std::chrono::milliseconds patience{0};
  descriptor socket;
  struct stat file {};
  bool withdrawn = false;
  int successor = -1; // while it has the sockets and has not said that it is ready
  transport::waiter *waiting = nullptr;

  ~handover_state() { close(); }
  void close() noexcept {
    if (!socket)
      return;
    socket.reset();
    struct stat now {};
    if (::lstat(path.c_str(), &now) == 0 && now.st_dev == file.st_dev && now.st_ino == file.st_ino)
      ::unlink(path.c_str());
  }
  shard &home() const noexcept { return *core->conductor(); }

  result<> open();
  static task<result<>> open_there(std::shared_ptr<handover_state> self);
  static task<result<>> serve(std::shared_ptr<handover_state> self);
  static task<bool> offer_to(std::shared_ptr<handover_state> self, descriptor successor);
};

result<> handover_state::open() {
  sockaddr_un name{};
  socklen_t size = 0;
  if (!make_address(path, name, size))
    return handover_failure(error::bad_option, path, "give the path of a file, 1 to 107 bytes");
  auto made = make_socket();
  const auto *address = reinterpret_cast<const sockaddr *>(&name);
  const auto complain = [&](int number) {
    return handover_failure(error::listen_failed, path,
                            number == EADDRINUSE
                                ? "another process offers its sockets there; start as its "
                                  "successor or choose another path"
                                : std::strerror(number));
  };
  if (!made)
    return complain(errno);
  if (::bind(made.get(), address, size) != 0) {
    if (errno != EADDRINUSE)
      return complain(errno);
    struct stat old {};
    const auto probe = make_socket();
    const bool stale = ::lstat(path.c_str(), &old) == 0 && S_ISSOCK(old.st_mode) && probe &&
                       ::connect(probe.get(), address, size) != 0 && errno == ECONNREFUSED;
    if (!stale)
      return complain(EADDRINUSE);
    ::unlink(path.c_str());
    if (::bind(made.get(), address, size) != 0)
      return complain(errno);
  }
  // Before it listens, so that nobody gets in by a wider mode.
  if (::chmod(path.c_str(), 0600) != 0 || ::lstat(path.c_str(), &file) != 0 ||
      ::listen(made.get(), waiting_successors) != 0) {
    const int why = errno;
    ::unlink(path.c_str());
    return complain(why);
  }
  socket = std::move(made);
  return {};
}

task<result<>> handover_state::open_there(std::shared_ptr<handover_state> self) {
  co_return self->open();
}

// True when the successor has the listeners for itself.
task<bool> handover_state::offer_to(std::shared_ptr<handover_state> self, descriptor successor) {
  auto &home = self->home();
  const int fd = successor.get();
  if (!handover::same_user(fd) || !self->core->ready())
    co_return false;
  const auto until = home.now() + self->patience;
  {
    auto listed = server_core::duplicate_listeners(self->core);
    const auto sockets = co_await std::move(listed);
    if (!sockets || sockets->empty() || sockets->size() > handover::most_sockets)
      co_return false;
    if (!send_all(fd, *sockets))
      co_return false;
  }
  if (self->withdrawn)
    co_return false;
  self->successor = fd;
  struct no_longer {
    int &successor;
    ~no_longer() { successor = -1; }
  } while_waiting{self->successor};
  const auto soon = std::min(until, home.now() + until_taken);
  auto answer = co_await handover::next_packet(home, fd, soon);
  if (answer && answer->text == handover::taken)
    answer = co_await handover::next_packet(home, fd, until);
  if (!answer || answer->text != handover::ready || self->withdrawn)
    co_return false;
  auto releasing = server_core::release_listeners(self->core);
  co_await std::move(releasing);
  self->close(); // the path is the successor's from here on
  handover::send(fd, handover::yours);
  co_return true;
}

task<result<>> handover_state::serve(std::shared_ptr<handover_state> self) {
  auto &home = self->home();
  bool done = false;
  while (!done && !self->withdrawn && self->socket) {
    descriptor successor(
        ::accept4(self->socket.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (successor) {
      done = co_await offer_to(self, std::move(successor));
      continue;
    }
    // Woken by a successor, or by the withdrawal; else it looks again, for want of descriptors say.
    transport::waiter parked(home);
    auto *entry = home.poll().add(self->socket.get(), parked, ready_read);
    struct unwatch {
      shard &home;
      poll_entry *entry;
      transport::waiter *&slot;
      ~unwatch() {
        slot = nullptr;
        home.poll().remove(entry);
      }
    } until_told{home, entry, self->waiting};
    self->waiting = &parked;
    co_await parked.wait(home.now() + std::chrono::seconds(1));
  }
  if (done)
    co_return result<>();
  co_return handover_failure(error::not_open, self->path, "the offer was withdrawn, or not opened");
}

// The new process's side.
struct inheritance_state {
  descriptor link;
  std::vector<socket_copy> sockets;
};

namespace {

task<result<inheritance>> take_over_here(std::string path, std::chrono::milliseconds patience) {
  auto *found = shard::current();
  if (!found)
    co_return failure(error::no_runtime, stage::listen,
                      "take_over is to be awaited on a thread of a chorus::runtime");
  const auto home = found->shared_from_this();
  sockaddr_un name{};
  socklen_t size = 0;
  if (!make_address(path, name, size))
    co_return handover_failure(error::bad_option, path, "give the path of a file, 1 to 107 bytes");
  auto state = std::make_shared<inheritance_state>();
  state->link = make_socket();
  if (::connect(state->link.get(), reinterpret_cast<const sockaddr *>(&name), size) != 0)
    co_return handover_failure(error::connect_failed, path,
                               errno == ENOENT || errno == ECONNREFUSED
                                   ? "nobody offers one there"
                                   : std::string(std::strerror(errno)));
  if (!handover::same_user(state->link.get()))
    co_return handover_failure(error::lost, path,
                               "the process that offers it belongs to another user");
  const auto deadline = home->now() + patience;
  std::size_t total = 1;
  bool announced = false;
  while (state->sockets.size() < total) {
    auto part = co_await handover::next_packet(*home, state->link.get(), deadline);
    if (!part)
      co_return handover_failure(static_cast<error>(part.error().code().value()), path,
                                 part.error().message());
    const std::string_view text = part->text;
    const auto digits = text.substr(std::min(text.size(), handover::magic.size()));
    const auto parsed = std::from_chars(digits.data(), digits.data() + digits.size(), total);
    if (!text.starts_with(handover::magic) || parsed.ec != std::errc() || total == 0 ||
        total > handover::most_sockets || part->sockets.empty())
      co_return handover_failure(error::lost, path,
                                 "the process there speaks another handover protocol");
    const bool file = text.ends_with(handover::with_file);
    for (auto &one : part->sockets)
      state->sockets.push_back({std::move(one), file});
    announced = file || text.ends_with(handover::plain);
  }
  // One that does not tell the kinds waits for nothing but "ready".
  if (announced && !handover::send(state->link.get(), handover::taken))
    co_return handover_failure(error::lost, path, "the process there has ended the handover");
  co_return inheritance(std::move(state));
}

task<result<>> say_ready(std::shared_ptr<inheritance_state> state) {
  auto *home = shard::current();
  if (!home)
    co_return failure(error::no_runtime, stage::listen,
                      "inheritance::ready is to be awaited on a thread of a chorus::runtime");
  const auto keep = home->shared_from_this();
  if (!state || !state->link || !handover::send(state->link.get(), handover::ready))
    co_return failure(
        error::lost, stage::listen,
        "the process that handed its sockets over has gone before this one was ready");
  const auto deadline = keep->now() + std::chrono::seconds(10);
  const auto answer = co_await handover::next_packet(*keep, state->link.get(), deadline);
  state->link.reset();
  if (!answer)
    co_return answer.error();
  co_return result<>();
}

} // namespace

} // namespace detail

handover_offer::handover_offer(server &srv, std::string path, std::chrono::milliseconds patience)
    : state_(std::make_shared<detail::handover_state>()) {
  state_->core = srv.core();
  state_->path = std::move(path);
  state_->patience = patience;
}

handover_offer::~handover_offer() {
  state_->core->conductor()->run([s = state_] {
    s->withdrawn = true;
    if (s->successor >= 0)
      ::shutdown(s->successor, SHUT_RDWR); // ends the waiting for its answer
    if (s->waiting)
      s->waiting->on_ready(detail::ready_read);
    else
      s->close();
  });
}

task<result<>> handover_offer::open() {
  return detail::on_shard(state_->core->conductor(), detail::handover_state::open_there(state_));
}

task<result<>> handover_offer::handed_over() {
  return detail::on_shard(state_->core->conductor(), detail::handover_state::serve(state_));
}

std::vector<std::string> inheritance::listen() {
  std::vector<std::string> all;
  if (!state_)
    return all;
  for (auto &one : state_->sockets)
    all.push_back("fd:" + std::to_string(one.socket.release()) + (one.with_file ? ":file" : ""));
  state_->sockets.clear();
  return all;
}

task<result<>> inheritance::ready() { return detail::say_ready(state_); }

task<result<inheritance>> take_over(std::string_view path, std::chrono::milliseconds patience) {
  return detail::take_over_here(std::string(path), patience);
}

} // namespace chorus
