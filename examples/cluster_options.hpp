#pragma once
// What the cluster demo is asked to do.

#include "cluster_fleet.hpp"
#include "cluster_nodes.hpp"

#include <cstdint>

namespace cluster_demo {

struct settings {
  std::uint64_t clients = 1500;
  std::uint64_t rooms = 30;
  std::uint64_t seconds = 30;
  std::uint64_t rate = 150; // messages per second
  std::uint64_t seed = 1;
  std::uint64_t patience = 60; // seconds, for whatever everybody waits for
  bool calm = false;
  bool forget = false;
  fault wrong = fault::none;
  bool self_check = false;
  node_settings nodes{};
};

void usage();
// False when the words can't be understood.
bool parse_words(int argc, char **argv, settings &s);

} // namespace cluster_demo
