#pragma once
// `chorus script`: runs the steps of a JSON file against servers. docs/script.md has the format.

#include "exit_status.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <string>
#include <utility>
#include <vector>

namespace cli {

struct script_settings {
  std::string file; // "-": standard input
  std::vector<std::string> assignments;
  std::vector<std::pair<std::string, std::string>> variables; // the same, taken apart
  bool keep_going = false;
  bool check = false;
  bool schema = false;
  bool json = false;
  bool quiet = false;
  std::string junit;
  std::chrono::milliseconds timeout{0};
};

CLI::App *add_script(CLI::App &app, script_settings &settings);
status run_script(const script_settings &settings);

} // namespace cli
