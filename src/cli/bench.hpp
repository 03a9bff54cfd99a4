#pragma once
// `chorus bench`: load through the library's own client sessions, and what it cost the server.

#include "exit_status.hpp"
#include "reach_options.hpp"

#include <CLI/CLI.hpp>

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace cli {

struct bench_settings {
  std::string mode; // echo, broadcast or idle
  std::string url;  // empty: a server of our own, as a child process
  std::size_t connections = 100;
  std::size_t size = 128;
  std::size_t in_flight = 16;
  std::chrono::milliseconds duration{5'000};
  std::chrono::milliseconds warmup{1'000};
  unsigned threads = 1;
  unsigned server_threads = 1;
  pid_t server_pid = 0; // of the server behind `url`, to measure it too; 0: unknown
  chorus::tls_options tls;
  bool insecure = false;
  bool compression = false;
  bool json = false;
  std::vector<std::string> header_lines;
  std::vector<std::pair<std::string, std::string>> headers; // the same, taken apart
  reach_settings reach{};
};

CLI::App *add_bench(CLI::App &app, bench_settings &settings);
status run_bench(const bench_settings &settings);

// From this size on a message carries the time it was sent and its number.
inline constexpr std::size_t stamped_size = 16;

} // namespace cli
