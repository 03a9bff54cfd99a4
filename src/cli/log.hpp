#pragma once
// The program's log, and the library's with it, on standard error: lines of text, or of JSON.

#include <chorus/server/server.hpp>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include <memory>
#include <string>

namespace cli {

struct log_settings {
  std::string level = "info"; // as parse_log_levels takes it
  std::string format = "text";
};

// --log-level and --log-format.
void add_log_options(CLI::App &app, log_settings &settings);
void start_log(const log_settings &settings);
// The program's own messages.
spdlog::logger *log() noexcept;
// The library's, since `start_log`.
std::shared_ptr<chorus::log_sink> library_log();

} // namespace cli
