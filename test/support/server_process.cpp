#include "server_process.hpp"

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <fcntl.h>
#include <fstream>
#include <iterator>
#include <linux/close_range.h>
#include <netinet/in.h>
#include <stdexcept>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace test_support {

reserved_port::reserved_port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const int on = 1;
  ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (socket_ < 0 || ::bind(socket_, reinterpret_cast<sockaddr *>(&a), size) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr *>(&a), &size) != 0)
    throw std::runtime_error("no free port for a server");
  number_ = ntohs(a.sin_port);
}

reserved_port::~reserved_port() { ::close(socket_); }

server_process::server_process(std::string program) : program_(std::move(program)) {
  auto pattern =
      (std::filesystem::temp_directory_path() / ("chorus-" + program_ + "-XXXXXX")).string();
  if (::mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error("no temporary directory");
  folder_ = pattern;
}

server_process::~server_process() {
  kill();
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string server_process::log() const {
  std::ifstream in(log_file());
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string server_process::end_of_log() const {
  const auto text = log();
  return text.substr(text.size() > 2000 ? text.size() - 2000 : 0);
}

void server_process::start(std::vector<std::string> arguments,
                           const std::function<std::string()> &ask) {
  arguments.insert(arguments.begin(), program_);
  std::vector<char *> argv;
  for (auto &word : arguments)
    argv.push_back(word.data());
  argv.push_back(nullptr);
  const auto parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) // gone before that
      ::_exit(127);
    const int nowhere = ::open("/dev/null", O_RDWR);
    for (const int fd : {0, 1, 2})
      ::dup2(nowhere, fd);
    // Sockets of the test, of which some were opened without CLOEXEC, would stay open with the server.
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  if (pid_ < 0)
    throw std::runtime_error("can't fork");
  const auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
  for (;;) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        throw std::runtime_error(program_ + " is not installed; ./run test installs it");
      throw std::runtime_error(program_ + " has ended at its start:\n" + end_of_log());
    }
    const auto instead = ask();
    if (instead.empty())
      return;
    if (std::chrono::steady_clock::now() > limit)
      throw std::runtime_error(program_ + " does not answer: " + instead + "\n" + end_of_log());
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
}

void server_process::reap() {
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void server_process::kill() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGKILL);
  reap();
}

void server_process::terminate() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGCONT);
  ::kill(pid_, SIGTERM);
  reap();
}

void server_process::pause() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGSTOP);
  int status = 0; // it has stopped when this returns
  while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
}

void server_process::resume() {
  if (pid_ > 0)
    ::kill(pid_, SIGCONT);
}

} // namespace test_support
