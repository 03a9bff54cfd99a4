#include "nats_process.hpp"

#include <fstream>
#include <netinet/in.h>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

namespace test_support {

namespace {

// One blocking connection, which fails by giving and taking nothing.
class talker {
public:
  talker(std::uint16_t port, int seconds)
      : socket_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{seconds, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
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

nats_process::nats_process(std::vector<std::string> lines)
    : server_process("nats-server"), lines_(std::move(lines)) {
  start();
}

std::string nats_process::url() const { return "nats://127.0.0.1:" + std::to_string(port()); }

std::string nats_process::ask(const std::string &subject, const std::string &body) const {
  const talker by(port(), 10);
  by.give(hello + ("SUB answer 1\r\nPUB " + subject) + " answer " + std::to_string(body.size()) +
          "\r\n" + body + "\r\n");
  const auto head = by.line("MSG");
  return head.empty() ? "(no answer)" : by.take(std::stoul(head.substr(head.rfind(' '))));
}

void nats_process::say(const std::string &subject, const std::string &body,
                       const std::string &headers) const {
  say(std::vector<words>{{subject, body, headers}});
}

void nats_process::say(const std::vector<words> &all) const {
  const talker by(port(), 10);
  std::string text = hello;
  for (const auto &one : all) {
    const auto top = one.headers.empty() ? one.headers : "NATS/1.0\r\n" + one.headers + "\r\n";
    text += (top.empty() ? "PUB " : "HPUB ") + one.subject + ' ' +
            (top.empty() ? "" : std::to_string(top.size()) + ' ') +
            std::to_string(top.size() + one.body.size()) + "\r\n" + top + one.body + "\r\n";
  }
  by.give(text + "PING\r\n");
  by.line("PONG");
}

void nats_process::start() {
  const auto conf = (folder() / "conf").string();
  {
    std::ofstream out(conf);
    out << "listen: \"127.0.0.1:" << port() << "\"\nlog_file: \"" << log_file().string()
        << "\"\njetstream { store_dir: \"" << data().string()
        << "\", max_mem: 256MB, max_file: 1GB }\n";
    for (const auto &line : lines_)
      out << line << "\n";
  }
  server_process::start({"-c", conf}, [this] {
    return std::string(talker(port(), 5).greeted() ? "" : "it does not greet who connects");
  });
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
