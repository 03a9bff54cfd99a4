#pragma once
// The program's log, on standard error.

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include <string>

namespace cli {

void add_log_level(CLI::App &app, std::string &level);
void start_log(const std::string &level);
spdlog::logger *log() noexcept;

} // namespace cli
