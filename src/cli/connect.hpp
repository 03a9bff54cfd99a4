#pragma once
// `chorus connect`: lines of standard input become messages, messages become lines of standard output.

#include "exit_status.hpp"
#include "log.hpp"
#include "reach_options.hpp"
#include "screen_text.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace cli {

struct connect_settings {
  std::string url;
  std::vector<std::string> header_lines;
  std::vector<std::pair<std::string, std::string>> headers; // the same, taken apart
  std::vector<std::string> subprotocols;
  chorus::tls_options tls;
  bool insecure = false;
  bool reconnect = false;
  bool echo = false;
  bool binary = false;
  std::uint64_t count = 0; // 0: no limit
  std::chrono::milliseconds timeout{0};
  chorus::session_options session{};
  log_settings log{.level = "warn"};
  color_choice color = color_choice::automatic;
  std::string record;
  std::size_t record_limit = std::size_t{1} << 30; // 0: none
  std::string replay;
  double replay_speed = 1; // 0: without pauses
  reach_settings reach{};
};

CLI::App *add_connect(CLI::App &app, connect_settings &settings);
status run_connect(const connect_settings &settings);

} // namespace cli
