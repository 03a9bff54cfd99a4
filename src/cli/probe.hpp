#pragma once
// `chorus probe`: one connection to a URL, stage by stage, as a doctor's report.

#include "exit_status.hpp"
#include "reach_options.hpp"
#include "screen_text.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <string>
#include <vector>

namespace cli {

struct probe_settings {
  std::string url;
  std::vector<std::string> header_lines;
  header_list headers; // the same, taken apart
  std::vector<std::string> subprotocols;
  chorus::tls_options tls;
  bool insecure = false;
  bool compression = false;
  reach_settings reach;
  unsigned pings = 5;
  std::chrono::milliseconds timeout{10'000}; // of each stage
  bool json = false;
  color_choice color = color_choice::automatic;
};

CLI::App *add_probe(CLI::App &app, probe_settings &settings);
status run_probe(const probe_settings &settings);

} // namespace cli
