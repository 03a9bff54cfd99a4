#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <string>

namespace load {

struct settings {
  std::string mode; // echo, broadcast, slow, idle
  std::string url;
  std::uint32_t connections = 100; // in all; for broadcast and slow the members
  std::size_t size = 128;          // bytes of payload
  std::uint32_t in_flight = 16;    // per connection, or of the one sender
  double duration = 5;             // seconds that count
  double warmup = 1;               // seconds before them that do not
  std::uint64_t messages = 0;      // a fixed number instead of a duration; 0 for none
  double limit = 120;              // seconds that a fixed number may take
  double drain = 10;               // seconds for what is outstanding at the end
  double connect_timeout = 60;     // seconds for all connections together
  bool text = false;
  bool sender_window = false; // a broadcast is complete when its sender got it, not all members
  std::uint32_t stalled = 10;
  double rate = 2000; // broadcasts per second of `slow`
  bool touch = false; // idle connections exchange one message first
  pid_t pid = 0;      // of the server, for its CPU time and memory
  bool json = false;
};

// Throws failure "usage".
settings parse_settings(int argc, char **argv);
std::string usage();

} // namespace load
