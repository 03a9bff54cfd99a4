#include "cluster_nodes.hpp"

#include <csignal>
#include <filesystem>
#include <stdexcept>
#include <system_error>
#include <utility>

namespace cluster_demo {

namespace {

using chorus::task;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto to_come_up = 30s;

} // namespace

std::string complete(node_settings &s) {
  if (s.chorus.empty()) {
    std::error_code ignored;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", ignored);
    s.chorus = (self.parent_path() / "chorus").string();
  }
  const auto chorus = find_program(s.chorus, "chorus");
  if (chorus.empty())
    return s.chorus +
           " is no program; build it (target chorus_cli) or say where it is with --chorus";
  if (s.alone)
    return {};
  const auto redis = find_program(s.redis_server, "redis-server");
  if (redis.empty())
    return s.redis_server.empty()
               ? "redis-server is missing; install it (Debian: apt-get install redis-server) or "
                 "say "
                 "where it is with --redis-server"
               : s.redis_server + " is no program; --redis-server takes the path of redis-server";
  s.redis_server = redis;
  return {};
}

cluster::cluster(node_settings s) : settings_(std::move(s)) {}

std::vector<std::string> cluster::urls() const {
  std::vector<std::string> all;
  for (std::size_t n = 0; n < (settings_.alone ? 1 : most); ++n)
    all.push_back("ws://" + ports_[n].address());
  return all;
}

std::string cluster::description() const {
  return settings_.alone ? "one node at " + ports_[0].address()
                         : "Redis at " + engine_port_.address() + ", 3 nodes";
}

std::string cluster::state() {
  std::string text = "nodes";
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    if (nodes_[n])
      text += " " + (nodes_[n]->running() ? std::to_string(n + 1) : "-");
  if (!settings_.alone)
    text += engine_ && engine_->running() ? ", Redis up" : ", Redis down";
  return text;
}

task<> cluster::comes_up(process &one, const port &at, const char *what) {
  const auto give_up = steady_clock::now() + to_come_up;
  while (!accepts(at.number())) {
    if (!one.running())
      throw std::runtime_error(std::string(what) + " has ended: " + one.last_words());
    if (steady_clock::now() > give_up)
      throw std::runtime_error(std::string(what) +
                               " does not listen after 30 s: " + one.last_words());
    co_await chorus::sleep(20ms);
  }
}

task<> cluster::start_engine() {
  if (settings_.alone)
    co_return;
  const std::vector<std::string> command = {settings_.redis_server,
                                            "--port",
                                            std::to_string(engine_port_.number()),
                                            "--bind",
                                            "127.0.0.1",
                                            "--dir",
                                            folder_.path(),
                                            "--appendonly",
                                            "yes",
                                            "--appendfsync",
                                            "always",
                                            "--save",
                                            "",
                                            "--maxmemory-policy",
                                            "noeviction"};
  engine_.emplace(command, folder_.path() + "/redis.log");
  co_await comes_up(*engine_, engine_port_, "redis-server");
}

task<> cluster::start(std::size_t n) {
  std::vector<std::string> command = {
      settings_.chorus, "serve", "--listen",         ports_[n].address(),
      "--log-level",    "warn",  "--ping-interval",  "5s",
      "--pong-wait",    "15s",   "--drain-window",   "1s",
      "--retry-after",  "100ms", "--max-handshakes", "10000"};
  if (!settings_.alone) {
    const std::string more[] = {"--broker", "redis://" + engine_port_.address(), "--when-away",
                                settings_.when_away};
    command.insert(command.end(), std::begin(more), std::end(more));
  }
  const auto name = "node " + std::to_string(n + 1);
  nodes_[n].emplace(command, folder_.path() + "/node" + std::to_string(n + 1) + ".log");
  co_await comes_up(*nodes_[n], ports_[n], name.c_str());
}

void cluster::kill_engine() noexcept {
  if (engine_)
    engine_->kill();
}

void cluster::forget() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_.path() + "/appendonlydir", ignored);
}

void cluster::kill(std::size_t n) noexcept {
  if (nodes_[n])
    nodes_[n]->kill();
}

void cluster::stop(std::size_t n) noexcept {
  if (nodes_[n])
    nodes_[n]->signal(SIGTERM);
}

task<> cluster::leave() {
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    stop(n);
  for (auto &one : nodes_) {
    if (!one)
      continue;
    const bool gone = co_await one->ended(15s);
    if (!gone)
      one->kill();
  }
  kill_engine();
}

void cluster::end() noexcept {
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    kill(n);
  kill_engine();
}

std::string cluster::last_words() const {
  std::string all;
  const auto add = [&](const std::string &name, const std::optional<process> &one) {
    if (!one)
      return;
    if (const auto words = one->last_words(); !words.empty())
      all += "--- " + name + "\n" + words;
  };
  add("Redis", engine_);
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    add("node " + std::to_string(n + 1), nodes_[n]);
  return all;
}

} // namespace cluster_demo
