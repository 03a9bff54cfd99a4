#include "redis_process.hpp"

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <stdexcept>
#include <string_view>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <thread>
#include <unistd.h>

namespace test_support {

namespace {

using namespace std::chrono_literals;

[[noreturn]] void give_up(const std::string &what) { throw std::runtime_error(what); }

// One blocking connection by a unix socket.
class asker {
public:
  explicit asker(const std::string &path)
      : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    const timeval limit{10, 0};
    ::setsockopt(socket_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    ::setsockopt(socket_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    if (path.size() >= sizeof a.sun_path)
      give_up("the path of a redis-server's socket is too long: " + path);
    std::memcpy(a.sun_path, path.c_str(), path.size() + 1);
    connected_ = ::connect(socket_, reinterpret_cast<sockaddr *>(&a), sizeof a) == 0;
  }
  ~asker() { ::close(socket_); }
  asker(const asker &) = delete;
  asker &operator=(const asker &) = delete;

  std::string ask(const std::vector<std::string> &words) {
    std::string out = "*" + std::to_string(words.size()) + "\r\n";
    for (const auto &word : words)
      out += "$" + std::to_string(word.size()) + "\r\n" + word + "\r\n";
    if (!connected_)
      return "(no answer)";
    for (std::size_t sent = 0; sent != out.size();) {
      const auto n = ::send(socket_, out.data() + sent, out.size() - sent, MSG_NOSIGNAL);
      if (n <= 0)
        return "(no answer)";
      sent += static_cast<std::size_t>(n);
    }
    try {
      return value();
    } catch (const std::runtime_error &) {
      connected_ = false;
      return "(no answer)";
    }
  }

private:
  char byte() {
    if (at_ == in_.size()) {
      char block[4096];
      const auto n = ::recv(socket_, block, sizeof block, 0);
      if (n <= 0)
        give_up("no answer");
      in_.assign(block, static_cast<std::size_t>(n));
      at_ = 0;
    }
    return in_[at_++];
  }
  std::string line() {
    std::string found;
    for (char c = byte(); c != '\n'; c = byte())
      found += c;
    if (!found.empty())
      found.pop_back();
    return found;
  }
  std::string value() {
    const auto head = line();
    const auto rest = head.substr(1);
    switch (head[0]) {
    case '+':
    case ':':
      return rest;
    case '-':
      return "(error) " + rest;
    case '$': {
      if (rest[0] == '-')
        return "(nil)";
      std::string text;
      for (auto n = std::stoul(rest); n != 0; --n)
        text += byte();
      line();
      return text;
    }
    case '*': {
      if (rest[0] == '-')
        return "(nil)";
      std::string all;
      for (auto n = std::stoul(rest); n != 0; --n) {
        all += value();
        if (n != 1)
          all += '\n';
      }
      return all;
    }
    default:
      give_up("not RESP2: " + head);
    }
  }

  int socket_;
  bool connected_ = false;
  std::string in_;
  std::size_t at_ = 0;
};

} // namespace

redis_process::redis_process(redis_process_options options)
    : server_process("redis-server"), options_(std::move(options)) {
  if (options_.cluster)
    bus_.emplace();
  start();
}

redis_process::redis_process(std::vector<std::string> lines)
    : redis_process(redis_process_options{std::move(lines), false, false, {}, {}, {}, false}) {}

std::string redis_process::url() const {
  return std::string(options_.certificate_file.empty() ? "redis" : "rediss") +
         "://127.0.0.1:" + std::to_string(port());
}

std::string redis_process::socket_path() const { return (folder() / "s").string(); }

std::string redis_process::unix_url() const { return "redis+unix://" + socket_path(); }

void redis_process::start() {
  const auto conf = folder() / (options_.sentinel ? "sentinel.conf" : "redis.conf");
  // Sentinel and a cluster's node write down there what they learn.
  if (!options_.sentinel || !std::filesystem::exists(conf)) {
    std::ofstream out(conf);
    const bool tls = !options_.certificate_file.empty();
    out << "bind 127.0.0.1\n"
        << "port " << (tls ? 0 : port()) << "\nunixsocket " << socket_path() << "\ndir "
        << folder().string() << "\nlogfile " << log_file().string() << "\n";
    if (tls)
      out << "tls-port " << port() << "\ntls-cert-file " << options_.certificate_file
          << "\ntls-key-file " << options_.key_file << "\ntls-ca-cert-file "
          << (options_.ca_file.empty() ? options_.certificate_file : options_.ca_file)
          << "\ntls-auth-clients " << (options_.client_certificate ? "yes" : "no") << "\n";
    if (!options_.sentinel)
      out << "save \"\"\nenable-debug-command local\n";
    if (options_.cluster)
      // One that gets no processor for a while has not failed; none of these tests waits for that.
      out << "cluster-enabled yes\ncluster-port " << bus_->number()
          << "\ncluster-node-timeout 15000\n";
    for (const auto &line : options_.lines)
      out << line << "\n";
  }
  std::error_code ignored;
  std::filesystem::remove(socket_path(), ignored);
  std::vector<std::string> arguments{conf.string()};
  if (options_.sentinel)
    arguments.push_back("--sentinel");
  server_process::start(std::move(arguments), [this]() -> std::string {
    auto said = asker(socket_path()).ask({"PING"});
    const bool answers =
        said == "PONG" || said.starts_with("(error) NOAUTH") || said.starts_with("(error) NOPERM");
    return answers ? "" : said;
  });
}

void redis_process::restart(bool with_its_data) {
  kill();
  if (!with_its_data)
    for (const auto &file : std::filesystem::directory_iterator(folder()))
      if (file.path().extension() != ".conf" && file.path().filename() != "log") {
        std::error_code ignored;
        std::filesystem::remove_all(file.path(), ignored);
      }
  start();
}

std::string redis_process::ask(const std::vector<std::string> &words) const {
  return ask_all({words});
}

std::string redis_process::ask_all(const std::vector<std::vector<std::string>> &commands) const {
  asker by(socket_path());
  for (const auto &line : options_.lines)
    if (constexpr std::string_view key = "requirepass "; line.starts_with(key))
      by.ask({"AUTH", line.substr(key.size())});
  std::string last;
  for (const auto &words : commands)
    last = by.ask(words);
  return last;
}

redis_cluster::redis_cluster(unsigned masters, std::vector<std::string> lines) {
  for (unsigned i = 0; i != masters; ++i) {
    redis_process_options o;
    o.cluster = true;
    o.lines = lines;
    nodes_.push_back(std::make_unique<redis_process>(std::move(o)));
    ids_.push_back(nodes_.back()->ask({"CLUSTER", "MYID"}));
  }
  const auto first_slot = [&](unsigned i) { return 16384U * i / masters; };
  for (unsigned i = 0; i != masters; ++i) {
    nodes_[i]->ask({"CLUSTER", "ADDSLOTSRANGE", std::to_string(first_slot(i)),
                    std::to_string(first_slot(i + 1) - 1)});
    nodes_[i]->ask({"CLUSTER", "SET-CONFIG-EPOCH", std::to_string(i + 1)});
  }
  for (unsigned i = 1; i != masters; ++i) {
    // The bus has a port of its own, which MEET is told as the last word.
    const auto info = nodes_[i]->ask({"CONFIG", "GET", "cluster-port"});
    // Each by each: with so long a node timeout they are slow to hear of one another.
    for (unsigned j = 0; j != i; ++j)
      nodes_[j]->ask({"CLUSTER", "MEET", "127.0.0.1", std::to_string(nodes_[i]->port()),
                      info.substr(info.find('\n') + 1)});
  }
  const auto limit = std::chrono::steady_clock::now() + 60s;
  for (auto &node : nodes_)
    while (node->ask({"CLUSTER", "INFO"}).find("cluster_state:ok") == std::string::npos ||
           node->ask({"CLUSTER", "INFO"}).find("cluster_slots_ok:16384") == std::string::npos) {
      if (std::chrono::steady_clock::now() > limit)
        give_up("the cluster does not come up:\n" + node->ask({"CLUSTER", "NODES"}));
      std::this_thread::sleep_for(10ms);
    }
}

std::string redis_cluster::url() const {
  return "redis+cluster://127.0.0.1:" + std::to_string(nodes_[0]->port());
}

std::size_t redis_cluster::owner(unsigned slot) const {
  for (std::size_t i = 0; i != nodes_.size(); ++i) {
    if (nodes_[i]->pid() < 0)
      continue;
    // Each of them knows best what is its own.
    const auto nodes = nodes_[i]->ask({"CLUSTER", "NODES"});
    const auto mine = nodes.find("myself");
    const auto end = nodes.find('\n', mine);
    std::string_view line(nodes.data() + mine, (end == nodes.npos ? nodes.size() : end) - mine);
    for (auto word = line.rfind("connected"); word < line.size();) {
      word = line.find(' ', word);
      if (word == line.npos)
        break;
      const auto from = static_cast<unsigned>(std::strtoul(line.data() + word + 1, nullptr, 10));
      const auto dash = line.find('-', word);
      const auto next = line.find(' ', word + 1);
      const auto to = dash != line.npos && (next == line.npos || dash < next)
                          ? static_cast<unsigned>(std::strtoul(line.data() + dash + 1, nullptr, 10))
                          : from;
      if (line[word + 1] != '[' && from <= slot && slot <= to)
        return i;
      ++word;
    }
  }
  return nodes_.size();
}

void redis_cluster::move_slot(unsigned slot, std::size_t from, std::size_t to,
                              const std::function<void()> &half) {
  const auto number = std::to_string(slot);
  nodes_[to]->ask({"CLUSTER", "SETSLOT", number, "IMPORTING", ids_[from]});
  nodes_[from]->ask({"CLUSTER", "SETSLOT", number, "MIGRATING", ids_[to]});
  const auto keys = [&] {
    const auto text = nodes_[from]->ask({"CLUSTER", "GETKEYSINSLOT", number, "1000"});
    std::vector<std::string> found;
    for (std::size_t at = 0; at < text.size();) {
      const auto end = std::min(text.find('\n', at), text.size());
      found.push_back(text.substr(at, end - at));
      at = end + 1;
    }
    return found;
  };
  const auto carry = [&] {
    for (const auto &key : keys())
      nodes_[from]->ask(
          {"MIGRATE", "127.0.0.1", std::to_string(nodes_[to]->port()), key, "0", "5000"});
  };
  carry();
  if (half)
    half();
  carry();
  for (const auto i : {to, from})
    nodes_[i]->ask({"CLUSTER", "SETSLOT", number, "NODE", ids_[to]});
  for (std::size_t i = 0; i != nodes_.size(); ++i)
    if (i != to && i != from)
      nodes_[i]->ask({"CLUSTER", "SETSLOT", number, "NODE", ids_[to]});
}

} // namespace test_support
