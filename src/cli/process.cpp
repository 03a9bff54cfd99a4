#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <csignal>
#include <cstring>
#include <fstream>
#include <stdexcept>

namespace cli {

child_server::child_server(const std::vector<std::string> &arguments) {
  int pipe[2];
  if (::pipe2(pipe, O_CLOEXEC) < 0)
    throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
  std::vector<char *> argv;
  std::string name = "chorus";
  std::string verb = "serve";
  argv.push_back(name.data());
  argv.push_back(verb.data());
  for (const auto &a : arguments)
    argv.push_back(const_cast<char *>(a.c_str()));
  argv.push_back(nullptr);

  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    // An interrupt from the terminal is this process's alone: the server is needed to the end.
    ::setpgid(0, 0);
    // Not to be left behind, however this process ends.
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent)
      ::_exit(1);
    ::dup2(pipe[1], STDOUT_FILENO);
    ::execv("/proc/self/exe", argv.data());
    ::_exit(127);
  }
  ::close(pipe[1]);
  output_ = pipe[0];
  if (pid_ < 0) {
    ::close(output_);
    throw std::runtime_error(std::string("fork: ") + std::strerror(errno));
  }

  std::string line;
  char c = 0;
  while (line.size() < 4096 && ::read(output_, &c, 1) == 1 && c != '\n')
    line += c;
  constexpr std::string_view ready = "listening on ";
  if (!line.starts_with(ready)) {
    ::close(output_);
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    throw std::runtime_error("the server did not start");
  }
  url_ = line.substr(ready.size());
}

child_server::~child_server() {
  ::kill(pid_, SIGTERM);
  // Its end closes the pipe.
  pollfd end{output_, POLLIN, 0};
  if (::poll(&end, 1, 10'000) == 0)
    ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  ::close(output_);
}

std::optional<double> cpu_seconds(pid_t pid) {
  clockid_t clock{};
  timespec t{};
  if (::clock_getcpuclockid(pid, &clock) != 0 || ::clock_gettime(clock, &t) != 0)
    return {};
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

std::optional<std::uint64_t> private_memory(pid_t pid) {
  std::ifstream in("/proc/" + std::to_string(pid) + "/smaps_rollup");
  std::uint64_t kilobytes = 0;
  bool found = false;
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("Private_")) {
      kilobytes += std::stoull(line.substr(line.find(':') + 1));
      found = true;
    }
  if (!found)
    return {};
  return kilobytes * 1024;
}

} // namespace cli
