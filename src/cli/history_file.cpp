#include "history_file.hpp"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string_view>

namespace cli {

namespace {

// Beyond this only the end of the file is looked at.
constexpr off_t most_read = off_t{8} << 20;

class file {
public:
  explicit file(int fd) : fd_(fd) {}
  ~file() {
    if (fd_ >= 0)
      ::close(fd_);
  }
  file(const file &) = delete;
  file &operator=(const file &) = delete;
  int get() const noexcept { return fd_; }

private:
  int fd_;
};

bool write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const auto n = ::write(fd, text.data(), text.size());
    if (n < 0 && errno != EINTR)
      return false;
    text.remove_prefix(n > 0 ? static_cast<std::size_t>(n) : 0);
  }
  return true;
}

void make_folders(const std::string &path) {
  for (auto at = path.find('/', 1); at != path.npos; at = path.find('/', at + 1))
    ::mkdir(path.substr(0, at).c_str(), 0700);
}

} // namespace

std::string history_file::usual_path() {
  const char *state = std::getenv("XDG_STATE_HOME");
  const char *home = std::getenv("HOME");
  if (state && *state == '/')
    return std::string(state) + "/chorus/history";
  if (home && *home == '/')
    return std::string(home) + "/.local/state/chorus/history";
  return {};
}

void history_file::fail(const char *what) {
  if (error_.empty())
    error_ = std::string(what) + ' ' + path_ + ": " + std::strerror(errno);
}

std::vector<std::string> history_file::load() {
  std::vector<std::string> lines;
  if (path_.empty())
    return lines;
  make_folders(path_);
  // O_NONBLOCK: what stands there could be a named pipe.
  const file in(::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NONBLOCK, 0600));
  struct stat about {};
  if (in.get() < 0 || ::fstat(in.get(), &about) < 0) {
    fail("opening");
    return lines;
  }
  if (!S_ISREG(about.st_mode)) {
    error_ = path_ + " is no file";
    return lines;
  }
  if ((about.st_mode & 0777) != 0600)
    ::fchmod(in.get(), 0600);
  ::flock(in.get(), LOCK_EX);
  const bool shortened = about.st_size > most_read;
  std::string text(static_cast<std::size_t>(shortened ? most_read : about.st_size), '\0');
  const auto n =
      ::pread(in.get(), text.data(), text.size(), shortened ? about.st_size - most_read : 0);
  if (n < 0) {
    fail("reading");
    return lines;
  }
  text.resize(static_cast<std::size_t>(n));
  std::size_t at = shortened ? text.find('\n') : 0;
  for (at = at == text.npos ? text.size() : at; at < text.size();) {
    auto end = text.find('\n', at);
    end = end == text.npos ? text.size() : end;
    if (end > at && end - at <= longest_line)
      lines.push_back(text.substr(at, end - at));
    at = end + 1;
  }
  const bool grown = shortened || lines.size() > 2 * most_lines;
  if (lines.size() > most_lines)
    lines.erase(lines.begin(), lines.end() - static_cast<std::ptrdiff_t>(most_lines));
  if (grown) {
    std::string kept;
    for (const auto &l : lines)
      kept += l + '\n';
    if (::ftruncate(in.get(), 0) < 0 || ::lseek(in.get(), 0, SEEK_SET) < 0 ||
        !write_all(in.get(), kept))
      fail("shortening");
  }
  if (!lines.empty())
    last_ = lines.back();
  return lines;
}

bool history_file::worth_keeping(const std::string &line) const {
  return !line.empty() && line.front() != ' ' && line.size() <= longest_line && line != last_;
}

void history_file::append(const std::string &line) {
  if (path_.empty() || !error_.empty())
    return;
  const file out(
      ::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0600));
  if (out.get() < 0)
    return fail("opening");
  ::flock(out.get(), LOCK_EX);
  if (!write_all(out.get(), line + '\n'))
    return fail("writing");
  last_ = line;
}

} // namespace cli
