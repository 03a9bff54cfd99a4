#include "log.hpp"

#include <spdlog/sinks/stdout_color_sinks.h>

namespace cli {

void add_log_level(CLI::App &app, std::string &level) {
  app.add_option("--log-level", level, "What goes to standard error")
      ->check(CLI::IsMember({"trace", "debug", "info", "warn", "error", "off"}))
      ->type_name("LEVEL")
      ->capture_default_str();
}

void start_log(const std::string &level) {
  auto logger = spdlog::stderr_color_mt("chorus");
  logger->set_pattern("%Y-%m-%d %H:%M:%S.%e %^%l%$ %v");
  logger->set_level(spdlog::level::from_str(level));
  spdlog::set_default_logger(std::move(logger));
}

spdlog::logger *log() noexcept { return spdlog::default_logger_raw(); }

} // namespace cli
