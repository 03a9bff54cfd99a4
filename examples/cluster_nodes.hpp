#pragma once
// The nodes of the cluster demo and the Redis that they share.

#include "cluster_processes.hpp"

#include <chorus/chorus.hpp>

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

namespace cluster_demo {

struct node_settings {
  std::string chorus{};       // the program; empty: beside this one
  std::string redis_server{}; // empty: on the PATH
  std::string when_away = "refuse";
  bool alone = false; // one node, and no Redis
};

// Finds the programs; a sentence that says what to do when one is missing.
std::string complete(node_settings &s);

class cluster {
public:
  static constexpr std::size_t most = 4;

  explicit cluster(node_settings s);

  std::size_t at_first() const noexcept { return settings_.alone ? 1 : 3; }
  // Of all nodes that there will be.
  std::vector<std::string> urls() const;
  std::string address(std::size_t node) const { return ports_[node].address(); }
  std::string description() const;
  const char *engine_name() const noexcept { return "Redis"; }
  std::string state(); // in a few words, for a line

  // Complete when it answers; throw std::runtime_error when it does not.
  chorus::task<> start_engine();
  chorus::task<> start(std::size_t node);
  // Throws std::runtime_error when one has ended that nobody has told to; so do the next three.
  void check();
  void kill_engine();
  void kill(std::size_t node);
  void stop(std::size_t node);           // in order, by SIGTERM
  void crash(std::size_t node) noexcept; // ends it as if it had ended by itself
  void forget();                         // what Redis has written, while it is down
  // All nodes in order, and then Redis: what each did wrong, one sentence each.
  chorus::task<std::vector<std::string>> leave();
  // All at once.
  void end() noexcept;
  // What each process said last.
  std::string last_words() const;

private:
  struct member {
    std::optional<process> it{};
    std::string name{};
    bool told = false;     // to end
    bool in_order = false; // by SIGTERM
  };
  static void check(member &one);
  chorus::task<> comes_up(member &one, const port &at);

  node_settings settings_;
  directory folder_;
  port engine_port_;
  std::array<port, most> ports_{};
  // Ended in this order's reverse: before the folder goes.
  member engine_{};
  std::array<member, most> nodes_{};
};

} // namespace cluster_demo
