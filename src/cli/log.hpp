#pragma once
// The program's log, and the library's with it, on standard error: lines of text, or of JSON.

#include <chorus/server/server.hpp>

#include <CLI/CLI.hpp>
#include <spdlog/spdlog.h>

#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace cli {

struct log_settings {
  std::string level = "info"; // as parse_log_levels takes it
  std::string format = "text";
};

// --log-level and --log-format. `help` of the former ends with what is logged.
void add_log_options(CLI::App &app, log_settings &settings, const std::string &help);
void start_log(const log_settings &settings);
// The program's own messages.
spdlog::logger *log() noexcept;
// While it lives the log goes to `show`, a line each, instead of standard error.
class log_redirection {
public:
  explicit log_redirection(std::function<void(std::string_view)> show);
  ~log_redirection();
  log_redirection(const log_redirection &) = delete;
  log_redirection &operator=(const log_redirection &) = delete;

private:
  std::vector<spdlog::sink_ptr> usual_;
  std::vector<spdlog::sink_ptr> usual_of_library_;
};
// The library's, since `start_log`.
std::shared_ptr<chorus::log_sink> library_log();

} // namespace cli
