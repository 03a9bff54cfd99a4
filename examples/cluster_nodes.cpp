#include "cluster_nodes.hpp"

#include <sys/wait.h>

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
constexpr auto to_leave = 15s;

std::string end_of(const process &one) {
  const int status = one.status();
  return WIFSIGNALED(status) ? "signal " + std::to_string(WTERMSIG(status))
                             : "status " + std::to_string(WEXITSTATUS(status));
}

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

cluster::cluster(node_settings s) : settings_(std::move(s)) {
  engine_.name = engine_name();
  for (std::size_t n = 0; n < nodes_.size(); ++n)
    nodes_[n].name = "node " + std::to_string(n + 1);
}

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
    if (auto &one = nodes_[n].it)
      text += " " + (one->running() ? std::to_string(n + 1) : "-");
  if (!settings_.alone)
    text += engine_.it && engine_.it->running() ? ", Redis up" : ", Redis down";
  return text;
}

task<> cluster::comes_up(member &one, const port &at) {
  one.told = false;
  const auto give_up = steady_clock::now() + to_come_up;
  while (!accepts(at.number())) {
    check(one);
    if (steady_clock::now() > give_up)
      throw std::runtime_error(one.name + " does not listen after 30 s");
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
  engine_.it.emplace(command, folder_.path() + "/redis.log");
  co_await comes_up(engine_, engine_port_);
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
  nodes_[n].it.emplace(command, folder_.path() + "/node" + std::to_string(n + 1) + ".log");
  co_await comes_up(nodes_[n], ports_[n]);
}

void cluster::check(member &one) {
  if (one.it && !one.told && !one.it->running())
    throw std::runtime_error(one.name + " has ended by itself (" + end_of(*one.it) + ")");
}

void cluster::check() {
  check(engine_);
  for (auto &one : nodes_)
    check(one);
}

void cluster::kill_engine() {
  check(engine_);
  engine_.told = true;
  if (engine_.it)
    engine_.it->kill();
}

void cluster::forget() {
  std::error_code ignored;
  std::filesystem::remove_all(folder_.path() + "/appendonlydir", ignored);
}

void cluster::kill(std::size_t n) {
  check(nodes_[n]);
  nodes_[n].told = true;
  nodes_[n].it->kill();
}

void cluster::stop(std::size_t n) {
  check(nodes_[n]);
  nodes_[n].told = true;
  nodes_[n].in_order = true;
  nodes_[n].it->signal(SIGTERM);
}

void cluster::crash(std::size_t n) noexcept { nodes_[n].it->kill(); }

task<std::vector<std::string>> cluster::leave() {
  std::vector<std::string> wrong;
  for (std::size_t n = 0; n < nodes_.size(); ++n) {
    if (!nodes_[n].it || nodes_[n].told)
      continue;
    try {
      stop(n);
    } catch (const std::runtime_error &e) {
      wrong.emplace_back(e.what());
    }
  }
  for (auto &one : nodes_) {
    if (!one.in_order)
      continue;
    const bool gone = co_await one.it->ended(to_leave);
    if (!gone) {
      one.it->kill();
      wrong.push_back(one.name + " was still there 15 s after SIGTERM");
    } else if (one.it->status() != 0) {
      wrong.push_back(one.name + " was told to leave and ended with " + end_of(*one.it));
    }
  }
  try {
    kill_engine();
  } catch (const std::runtime_error &e) {
    wrong.emplace_back(e.what());
  }
  co_return wrong;
}

void cluster::end() noexcept {
  for (auto &one : nodes_)
    one.it.reset();
  engine_.it.reset();
}

std::string cluster::last_words() const {
  std::string all;
  const auto add = [&](const member &one) {
    if (!one.it)
      return;
    if (const auto words = one.it->last_words(); !words.empty())
      all += "--- " + one.name + "\n" + words;
  };
  add(engine_);
  for (const auto &one : nodes_)
    add(one);
  return all;
}

} // namespace cluster_demo
