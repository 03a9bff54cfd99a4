#include "cluster_processes.hpp"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace cluster_demo {

namespace {

using namespace std::chrono_literals;

[[noreturn]] void fail(const std::string &what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

sockaddr_in loopback(std::uint16_t number) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(number);
  return address;
}

} // namespace

directory::directory() {
  const char *parent = std::getenv("TMPDIR");
  path_ = std::string(parent && *parent ? parent : "/tmp") + "/chorus-cluster-XXXXXX";
  if (!::mkdtemp(path_.data()))
    fail("no temporary directory " + path_);
}

directory::~directory() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

port::port() : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  const int on = 1;
  auto address = loopback(0);
  socklen_t size = sizeof address;
  if (socket_ < 0 || ::setsockopt(socket_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) != 0 ||
      ::bind(socket_, reinterpret_cast<sockaddr *>(&address), size) != 0 ||
      ::getsockname(socket_, reinterpret_cast<sockaddr *>(&address), &size) != 0)
    fail("no free port on 127.0.0.1");
  number_ = ntohs(address.sin_port);
}

port::~port() { ::close(socket_); }

process::process(const std::vector<std::string> &command, std::string log) : log_(std::move(log)) {
  // Everything that allocates comes before the fork: there are other threads.
  std::vector<char *> words;
  for (const auto &word : command)
    words.push_back(const_cast<char *>(word.c_str()));
  words.push_back(nullptr);
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ < 0)
    fail("fork");
  if (pid_ != 0)
    return;
  // An interrupt from the terminal is for the demo, which ends the others.
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent)
    ::_exit(1);
  const int out = ::open(log_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
  const int in = ::open("/dev/null", O_RDONLY);
  ::dup2(in, STDIN_FILENO);
  ::dup2(out, STDOUT_FILENO);
  ::dup2(out, STDERR_FILENO);
  ::execv(words[0], words.data());
  ::_exit(127);
}

process::~process() { kill(); }

process::process(process &&other) noexcept
    : pid_(std::exchange(other.pid_, -1)), status_(other.status_), log_(std::move(other.log_)) {}

process &process::operator=(process &&other) noexcept {
  if (this != &other) {
    kill();
    pid_ = std::exchange(other.pid_, -1);
    status_ = other.status_;
    log_ = std::move(other.log_);
  }
  return *this;
}

bool process::running() noexcept {
  if (pid_ > 0 && ::waitpid(pid_, &status_, WNOHANG) == pid_)
    pid_ = -1;
  return pid_ > 0;
}

void process::signal(int number) noexcept {
  if (running())
    ::kill(pid_, number);
}

void process::kill() noexcept {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, &status_, 0);
  pid_ = -1;
}

chorus::task<bool> process::ended(std::chrono::steady_clock::duration within) {
  const auto end = std::chrono::steady_clock::now() + within;
  while (running()) {
    if (std::chrono::steady_clock::now() > end)
      co_return false;
    co_await chorus::sleep(20ms);
  }
  co_return true;
}

std::string process::last_words() const {
  std::ifstream in(log_, std::ios::ate);
  if (!in)
    return {};
  constexpr std::streamoff most = 1500;
  const auto size = static_cast<std::streamoff>(in.tellg());
  in.seekg(size > most ? size - most : 0);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

std::string find_program(const std::string &given, const std::string &name) {
  const auto usable = [](const std::string &path) {
    std::error_code ignored;
    return ::access(path.c_str(), X_OK) == 0 && std::filesystem::is_regular_file(path, ignored);
  };
  if (!given.empty())
    return usable(given) ? given : std::string();
  const char *path = std::getenv("PATH");
  std::stringstream folders(std::string(path ? path : "") + ":/usr/bin:/usr/local/bin");
  for (std::string folder; std::getline(folders, folder, ':');)
    if (const auto full = folder + "/" + name; !folder.empty() && usable(full))
      return full;
  return {};
}

bool accepts(std::uint16_t number) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (s < 0)
    return false;
  // On loopback the answer, yes or no, is there at once.
  const auto address = loopback(number);
  const bool open = ::connect(s, reinterpret_cast<const sockaddr *>(&address), sizeof address) == 0;
  ::close(s);
  return open;
}

} // namespace cluster_demo
