#pragma once
// A server of the bench's own in a process of its own, so that processor time and memory are the
// server's alone; and what the kernel tells about a process.

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace cli {

class child_server {
public:
  // Runs this program's `serve` with these arguments and waits for its ready line. Throws
  // std::runtime_error when it ends before. To be called before there are threads.
  explicit child_server(const std::vector<std::string> &arguments);
  // SIGTERM, and waits for the end; SIGKILL when that takes more than ten seconds.
  ~child_server();
  child_server(const child_server &) = delete;
  child_server &operator=(const child_server &) = delete;

  const std::string &url() const noexcept { return url_; }
  pid_t pid() const noexcept { return pid_; }

private:
  pid_t pid_ = -1;
  int output_ = -1;
  std::string url_;
};

// User and system time of a process, in seconds; nothing when it is gone or foreign.
std::optional<double> cpu_seconds(pid_t pid);
// Memory that no other process shares, in bytes; nothing when it can't be read.
std::optional<std::uint64_t> private_memory(pid_t pid);

} // namespace cli
