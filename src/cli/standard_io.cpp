#include "standard_io.hpp"

#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>

namespace cli {

namespace {

using chorus::task;

[[noreturn]] void throw_errno(const char *what, int number = errno) {
  throw boost::system::system_error(
      boost::system::error_code(number, boost::system::system_category()), what);
}

} // namespace

void open_missing_standard_io() noexcept {
  // A new descriptor is the lowest free one, so in this order each lands in its place.
  constexpr int modes[] = {O_RDONLY, O_RDONLY, O_WRONLY};
  for (int descriptor = STDIN_FILENO; descriptor <= STDERR_FILENO; ++descriptor)
    if (::fcntl(descriptor, F_GETFD) < 0 && errno == EBADF &&
        ::open("/dev/null", modes[descriptor]) != descriptor)
      ::_exit(1);
}

task<> event::wait() {
  boost::system::error_code ignored;
  co_await timer_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ignored));
}

void event::notify() noexcept {
  try {
    timer_.cancel();
  } catch (...) {
    // Cancelling a timer that exists does not fail.
  }
}

readiness::readiness(const boost::asio::any_io_executor &ex, int descriptor, unsigned events)
    : set_(ex) {
  const int set = ::epoll_create1(EPOLL_CLOEXEC);
  if (set < 0)
    throw_errno("epoll_create1");
  set_.assign(set);
  epoll_event wanted{};
  wanted.events = events;
  if (::epoll_ctl(set, EPOLL_CTL_ADD, descriptor, &wanted) < 0) {
    if (errno != EPERM)
      throw_errno("epoll_ctl");
    always_ = true;
  }
}

task<bool> readiness::wait() {
  if (cancelled_)
    co_return false;
  if (always_)
    co_return true;
  boost::system::error_code ec;
  co_await set_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                           boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  co_return !cancelled_ && !ec;
}

void readiness::cancel() noexcept {
  cancelled_ = true;
  boost::system::error_code ignored;
  set_.cancel(ignored);
}

line_input::line_input(const boost::asio::any_io_executor &ex, int descriptor, std::size_t longest)
    : descriptor_(descriptor), longest_(longest), ready_(ex, descriptor, EPOLLIN) {}

std::optional<std::string> line_input::take_line() {
  const auto end = buffer_.find('\n', scanned_);
  if (end == buffer_.npos) {
    buffer_.erase(0, begin_);
    begin_ = 0;
    scanned_ = buffer_.size();
    return {};
  }
  auto line = buffer_.substr(begin_, end - begin_);
  begin_ = scanned_ = end + 1;
  return line;
}

task<std::optional<std::string>> line_input::next() {
  for (;;) {
    if (auto line = take_line()) {
      if (line->size() > longest_)
        throw_errno("read", EMSGSIZE);
      co_return line;
    }
    if (buffer_.size() > longest_)
      throw_errno("read", EMSGSIZE);
    if (ended_) {
      if (buffer_.empty())
        co_return std::nullopt;
      scanned_ = 0;
      co_return std::exchange(buffer_, {});
    }
    if (!co_await ready_.wait())
      co_return std::nullopt;
    constexpr std::size_t piece = 64 * 1024;
    const auto old = buffer_.size();
    buffer_.resize(old + piece);
    const auto n = ::read(descriptor_, buffer_.data() + old, piece);
    const int why = errno;
    buffer_.resize(old + static_cast<std::size_t>(n > 0 ? n : 0));
    if (n == 0)
      ended_ = true;
    if (n < 0 && why != EINTR && why != EAGAIN)
      throw_errno("read", why);
  }
}

// A pipe that polls as writable has room for PIPE_BUF bytes, more could block.
byte_output::byte_output(const boost::asio::any_io_executor &ex, int descriptor)
    : descriptor_(descriptor), piece_(PIPE_BUF), ready_(ex, descriptor, EPOLLOUT), filled_(ex),
      drained_(ex) {
  struct stat about {};
  if (::fstat(descriptor, &about) == 0 && S_ISREG(about.st_mode))
    piece_ = std::size_t{64} << 10;
}

task<bool> byte_output::room() {
  while (waiting_.size() > bound && !ended_)
    co_await drained_.wait();
  co_return error_ == 0;
}

task<bool> byte_output::finish() {
  finishing_ = true;
  filled_.notify();
  while (!ended_)
    co_await drained_.wait();
  co_return error_ == 0;
}

task<> byte_output::run() {
  while (error_ == 0 && !(finishing_ && waiting_.empty())) {
    if (waiting_.empty()) {
      co_await filled_.wait();
      continue;
    }
    writing_.clear();
    writing_.swap(waiting_);
    drained_.notify();
    std::size_t done = 0;
    while (done < writing_.size() && error_ == 0) {
      pollfd state{descriptor_, POLLOUT, 0};
      if (::poll(&state, 1, 0) == 0) {
        co_await ready_.wait();
        continue;
      }
      const auto n =
          ::write(descriptor_, writing_.data() + done, std::min(piece_, writing_.size() - done));
      if (n >= 0)
        done += static_cast<std::size_t>(n);
      else if (errno != EINTR && errno != EAGAIN)
        error_ = errno;
    }
  }
  ended_ = true;
  drained_.notify();
}

} // namespace cli
