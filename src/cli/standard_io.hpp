#pragma once
// Standard input as lines and standard output as bytes, without blocking the loop that connections
// live on: files, pipes, terminals and /dev/null alike. The descriptors' own flags stay as they are,
// since they are shared with whoever started the program. For one thread.

#include <chorus/chorus.hpp>

#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/steady_timer.hpp>

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cli {

// Opens /dev/null in place of standard input, output and error where the program was started without
// them; otherwise the next descriptor opened, such as an epoll set, would be read and written as one of
// the three. Input then is at its end, writing output fails as it does on a closed pipe, and what goes
// to standard error is lost. To be called before anything else opens a descriptor.
void open_missing_standard_io() noexcept;

// Wakes who waits; a notification that nobody waits for is lost, so wait in a loop on a condition.
class event {
public:
  explicit event(const boost::asio::any_io_executor &ex)
      : timer_(ex, boost::asio::steady_timer::time_point::max()) {}
  chorus::task<> wait();
  void notify() noexcept;

private:
  boost::asio::steady_timer timer_;
};

// Waits for one descriptor through an epoll set of its own.
class readiness {
public:
  // `events`: EPOLLIN or EPOLLOUT. Throws boost::system::system_error.
  readiness(const boost::asio::any_io_executor &ex, int descriptor, unsigned events);
  // False when `cancel` was called. Completes at once on what is always ready, such as a file.
  chorus::task<bool> wait();
  void cancel() noexcept;

private:
  boost::asio::posix::stream_descriptor set_;
  bool always_ = false;
  bool cancelled_ = false;
};

class line_input {
public:
  // `longest`: bytes of a line, which bounds the memory of what was read and not taken.
  line_input(const boost::asio::any_io_executor &ex, int descriptor, std::size_t longest);
  // The next line without its line feed, the last one with or without; nothing at the end or after
  // `cancel`. Throws boost::system::system_error when reading fails, with EMSGSIZE when a line is
  // longer than `longest`.
  chorus::task<std::optional<std::string>> next();
  void cancel() noexcept { ready_.cancel(); }

private:
  std::optional<std::string> take_line();

  int descriptor_;
  std::size_t longest_;
  readiness ready_;
  std::string buffer_;
  std::size_t begin_ = 0;   // of what was not taken
  std::size_t scanned_ = 0; // no line feed before
  bool ended_ = false;
};

class byte_output {
public:
  byte_output(const boost::asio::any_io_executor &ex, int descriptor);
  void add(std::string_view bytes) { waiting_ += bytes; }
  std::string &buffer() noexcept { return waiting_; }
  void added() noexcept { filled_.notify(); }
  // Completes when little enough waits; false when nothing can be written any more.
  chorus::task<bool> room();
  // Completes when everything is written; false when it can't be.
  chorus::task<bool> finish();
  // Writes what is added, until `finish` has been called or writing fails. To be spawned once.
  chorus::task<> run();
  // errno of the failed write; 0 without.
  int error() const noexcept { return error_; }

private:
  static constexpr std::size_t bound = std::size_t{256} << 10;

  int descriptor_;
  std::size_t piece_;
  readiness ready_;
  event filled_;
  event drained_;
  std::string waiting_;
  std::string writing_;
  bool finishing_ = false;
  bool ended_ = false;
  int error_ = 0;
};

} // namespace cli
