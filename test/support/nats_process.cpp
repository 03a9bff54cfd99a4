#include "nats_process.hpp"

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
#include <string_view>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

namespace test_support {

namespace {

using namespace std::chrono_literals;

sockaddr_in loopback(std::uint16_t port) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  a.sin_port = htons(port);
  return a;
}

// One blocking connection, which fails by giving and taking nothing.
class talker {
public:
  talker(std::uint16_t port, int seconds)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{seconds, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    const auto a = loopback(port);
    if (::connect(socket_, reinterpret_cast<const sockaddr *>(&a), sizeof a) == 0)
      info_ = line();
  }
  ~talker() { ::close(socket_); }
  talker(const talker &) = delete;
  talker &operator=(const talker &) = delete;

  // What it says first to whoever connects.
  bool greeted() const { return info_.starts_with("INFO"); }
  void give(std::string_view all) const {
    while (!all.empty()) {
      const auto n = ::send(socket_, all.data(), all.size(), MSG_NOSIGNAL);
      if (n <= 0)
        return;
      all.remove_prefix(static_cast<std::size_t>(n));
    }
  }
  std::string take(std::size_t bytes) const {
    std::string all(bytes, ' ');
    const auto n = ::recv(socket_, all.data(), bytes, MSG_WAITALL);
    all.resize(n > 0 ? static_cast<std::size_t>(n) : 0);
    return all;
  }
  std::string line() const {
    std::string all;
    for (char c = 0; ::recv(socket_, &c, 1, 0) == 1 && c != '\n';)
      all += c;
    if (!all.empty() && all.back() == '\r')
      all.pop_back();
    return all;
  }
  // The first line that begins so.
  std::string line(std::string_view beginning) const {
    for (;;)
      if (auto one = line(); one.empty() || one.starts_with(beginning))
        return one;
  }

private:
  const int socket_;
  std::string info_;
};

constexpr const char *hello = "CONNECT {\"verbose\":false,\"headers\":true}\r\n";

} // namespace

nats_process::nats_process(std::vector<std::string> lines) : lines_(std::move(lines)) {
  auto pattern = (std::filesystem::temp_directory_path() / "chorus-nats-XXXXXX").string();
  if (::mkdtemp(pattern.data()) == nullptr)
    throw std::runtime_error("no temporary directory");
  folder_ = pattern;
  reserved_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int on = 1;
  ::setsockopt(reserved_, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  auto a = loopback(0);
  socklen_t size = sizeof a;
  if (::bind(reserved_, reinterpret_cast<const sockaddr *>(&a), size) != 0 ||
      ::getsockname(reserved_, reinterpret_cast<sockaddr *>(&a), &size) != 0)
    throw std::runtime_error("no free port for a nats-server");
  port_ = ntohs(a.sin_port);
  start();
}

nats_process::~nats_process() {
  kill();
  ::close(reserved_);
  std::error_code ignored;
  std::filesystem::remove_all(folder_, ignored);
}

std::string nats_process::url() const { return "nats://127.0.0.1:" + std::to_string(port_); }

std::string nats_process::log() const {
  std::ifstream in(folder_ / "log");
  return {std::istreambuf_iterator<char>(in), {}};
}

std::string nats_process::ask(const std::string &subject, const std::string &body) const {
  const talker by(port_, 10);
  by.give(hello + ("SUB answer 1\r\nPUB " + subject) + " answer " + std::to_string(body.size()) +
          "\r\n" + body + "\r\n");
  const auto head = by.line("MSG");
  return head.empty() ? "(no answer)" : by.take(std::stoul(head.substr(head.rfind(' '))));
}

void nats_process::say(const std::string &subject, const std::string &body,
                       const std::string &headers) const {
  const talker by(port_, 10);
  const auto top = headers.empty() ? headers : "NATS/1.0\r\n" + headers + "\r\n";
  by.give(hello + std::string(top.empty() ? "PUB " : "HPUB ") + subject + ' ' +
          (top.empty() ? "" : std::to_string(top.size()) + ' ') +
          std::to_string(top.size() + body.size()) + "\r\n" + top + body + "\r\nPING\r\n");
  by.line("PONG");
}

void nats_process::start() {
  const auto conf = (folder_ / "conf").string();
  {
    std::ofstream out(conf);
    out << "listen: \"127.0.0.1:" << port_ << "\"\nlog_file: \"" << (folder_ / "log").string()
        << "\"\njetstream { store_dir: \"" << data().string()
        << "\", max_mem: 256MB, max_file: 1GB }\n";
    for (const auto &line : lines_)
      out << line << "\n";
  }
  const char *const argv[] = {"nats-server", "-c", conf.c_str(), nullptr};
  const auto parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != parent) // gone before that
      ::_exit(127);
    const int nowhere = ::open("/dev/null", O_RDWR);
    for (const int fd : {0, 1, 2})
      ::dup2(nowhere, fd);
    // Sockets of Asio's are inherited else, and stay open with it.
    ::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC);
    ::execvp(argv[0], const_cast<char *const *>(argv));
    ::_exit(127);
  }
  if (pid_ < 0)
    throw std::runtime_error("can't fork");
  await_answers();
}

void nats_process::await_answers() {
  const auto limit = std::chrono::steady_clock::now() + 60s;
  while (!talker(port_, 5).greeted()) {
    int status = 0;
    if (::waitpid(pid_, &status, WNOHANG) == pid_) {
      pid_ = -1;
      if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
        throw std::runtime_error("nats-server is not installed; ./run test installs it");
      throw std::runtime_error("nats-server has ended at its start:\n" + log());
    }
    if (std::chrono::steady_clock::now() > limit)
      throw std::runtime_error("nats-server does not answer:\n" + log());
    std::this_thread::sleep_for(5ms);
  }
}

void nats_process::reap() {
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

void nats_process::kill() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGKILL);
  reap();
}

void nats_process::pause() {
  if (pid_ <= 0)
    return;
  ::kill(pid_, SIGSTOP);
  int status = 0; // it has stopped when this returns
  while (::waitpid(pid_, &status, WUNTRACED) < 0 && errno == EINTR) {
  }
}

void nats_process::resume() {
  if (pid_ > 0)
    ::kill(pid_, SIGCONT);
}

void nats_process::restart(bool with_its_data) {
  kill();
  if (!with_its_data) {
    std::error_code ignored;
    std::filesystem::remove_all(data(), ignored);
  }
  start();
}

} // namespace test_support
