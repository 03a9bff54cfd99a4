#include "fake_redis.hpp"

#include <cstring>
#include <netinet/in.h>
#include <poll.h>
#include <stdexcept>
#include <sys/socket.h>
#include <unistd.h>

namespace pool_test {

namespace {

int listen_somewhere(std::uint16_t &port) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof a;
  if (s < 0 || ::bind(s, reinterpret_cast<sockaddr *>(&a), size) != 0 || ::listen(s, 100) != 0 ||
      ::getsockname(s, reinterpret_cast<sockaddr *>(&a), &size) != 0)
    throw std::runtime_error("no port");
  port = ntohs(a.sin_port);
  return s;
}

int connect_to(std::uint16_t port) {
  const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  a.sin_port = htons(port);
  if (::connect(s, reinterpret_cast<sockaddr *>(&a), sizeof a) != 0) {
    ::close(s);
    return -1;
  }
  return s;
}

bool send_all(int to, const std::string &bytes) {
  for (std::size_t sent = 0; sent != bytes.size();) {
    const auto n = ::send(to, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0)
      return false;
    sent += static_cast<std::size_t>(n);
  }
  return true;
}

// Takes one command off the front; false: it is not whole.
bool take_command(std::string &in, fake_redis::words &to) {
  std::size_t at = 0;
  const auto number = [&](char mark) -> long {
    const auto end = in.find("\r\n", at);
    if (end == in.npos || in[at] != mark)
      return -1;
    const long n = std::stol(in.substr(at + 1, end - at - 1));
    at = end + 2;
    return n;
  };
  const long count = number('*');
  if (count < 0)
    return false;
  to.clear();
  for (long i = 0; i != count; ++i) {
    const long size = number('$');
    if (size < 0 || in.size() < at + static_cast<std::size_t>(size) + 2)
      return false;
    to.push_back(in.substr(at, static_cast<std::size_t>(size)));
    at += static_cast<std::size_t>(size) + 2;
  }
  in.erase(0, at);
  return true;
}

} // namespace

std::string good_answer(const fake_redis::words &command, const std::string &run) {
  const auto &name = command[0];
  if (name == "INFO") {
    const auto text =
        "# Server\r\nredis_version:7.0.15\r\nredis_mode:standalone\r\nrun_id:" + run + "\r\n";
    return "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
  }
  if (name == "CLIENT" && command[1] == "ID")
    return ":7\r\n";
  if (name == "CLIENT" && command[1] == "KILL")
    return ":1\r\n";
  if (name == "ROLE")
    return "*3\r\n$6\r\nmaster\r\n:0\r\n*0\r\n";
  if (name == "SUBSCRIBE")
    return "*3\r\n$9\r\nsubscribe\r\n$" + std::to_string(command[1].size()) + "\r\n" + command[1] +
           "\r\n:1\r\n";
  return "+OK\r\n";
}

fake_redis::fake_redis(responder answer)
    : answer_(std::move(answer)), listener_(listen_somewhere(port_)), thread_([this] { run(); }) {}

fake_redis::~fake_redis() {
  stop_ = true;
  thread_.join();
  ::close(listener_);
}

void fake_redis::run() {
  struct client {
    int socket;
    unsigned number;
    std::string in;
  };
  std::vector<client> clients;
  while (!stop_) {
    std::vector<pollfd> set{{listener_, POLLIN, 0}};
    for (const auto &c : clients)
      set.push_back({c.socket, POLLIN, 0});
    if (::poll(set.data(), set.size(), 10) <= 0)
      continue;
    for (std::size_t i = clients.size(); i-- != 0;) {
      if (set[i + 1].revents == 0)
        continue;
      char block[4096];
      const auto n = ::recv(clients[i].socket, block, sizeof block, 0);
      bool alive = n > 0;
      if (alive)
        clients[i].in.append(block, static_cast<std::size_t>(n));
      for (words command; alive && take_command(clients[i].in, command);) {
        const auto said = answer_(clients[i].number, command);
        alive = said && send_all(clients[i].socket, *said);
      }
      if (!alive) {
        ::close(clients[i].socket);
        clients.erase(clients.begin() + static_cast<std::ptrdiff_t>(i));
      }
    }
    if ((set[0].revents & POLLIN) != 0)
      clients.push_back({::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC), connections_++, {}});
  }
  for (const auto &c : clients)
    ::close(c.socket);
}

relay::relay(std::uint16_t to)
    : listener_(listen_somewhere(port_)), to_(to), thread_([this] { run(); }) {}

relay::~relay() {
  stop_ = true;
  thread_.join();
  ::close(listener_);
}

void relay::hold() {
  std::lock_guard lock(mutex_);
  for (auto &p : pairs_)
    p.holding = true;
}

void relay::release() {
  std::lock_guard lock(mutex_);
  for (auto &p : pairs_)
    if (p.holding) {
      p.holding = false;
      passed_ += p.kept.size();
      if (!p.kept.empty() && !send_all(p.server, p.kept))
        ++broken_;
      p.kept.clear();
    }
}

void relay::run() {
  while (!stop_) {
    std::vector<pollfd> set{{listener_, POLLIN, 0}};
    std::vector<pair> seen;
    {
      std::lock_guard lock(mutex_);
      seen = pairs_;
    }
    for (const auto &p : seen) {
      set.push_back({p.client, POLLIN, 0});
      // Nothing comes back on a held one.
      set.push_back({p.holding ? -1 : p.server, POLLIN, 0});
    }
    if (::poll(set.data(), set.size(), 5) <= 0)
      continue;
    std::lock_guard lock(mutex_);
    for (std::size_t i = seen.size(); i-- != 0;) {
      auto &p = pairs_[i];
      char block[65536];
      const auto close_both = [&] {
        ::close(p.client);
        ::close(p.server);
        pairs_.erase(pairs_.begin() + static_cast<std::ptrdiff_t>(i));
      };
      if (set[2 * i + 1].revents != 0 && p.client >= 0) {
        const auto n = ::recv(p.client, block, sizeof block, MSG_DONTWAIT);
        if (n > 0 && p.holding) {
          p.kept.append(block, static_cast<std::size_t>(n));
          held_ += static_cast<std::size_t>(n);
        } else if (n > 0) {
          send_all(p.server, std::string(block, static_cast<std::size_t>(n)));
        } else if (p.holding) {
          ::close(p.client);
          p.client = -1;
        } else {
          close_both();
          continue;
        }
      }
      if (set[2 * i + 2].revents != 0 && !p.holding) {
        const auto n = ::recv(p.server, block, sizeof block, MSG_DONTWAIT);
        if (n <= 0)
          close_both();
        else if (p.client >= 0)
          send_all(p.client, std::string(block, static_cast<std::size_t>(n)));
      }
    }
    if ((set[0].revents & POLLIN) != 0) {
      const int client = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
      const int server = connect_to(to_);
      if (server < 0)
        ::close(client);
      else
        pairs_.push_back({client, server, false, {}});
    }
  }
  for (const auto &p : pairs_) {
    ::close(p.client);
    ::close(p.server);
  }
}

} // namespace pool_test
