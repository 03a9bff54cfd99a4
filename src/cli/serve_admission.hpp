#pragma once
// Who may connect to `chorus serve`, and how much each may do: docs/admission.md's options as the
// program's.

#include <chorus/server/server.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace cli {

struct admission_settings {
  std::size_t max_connections = 100'000;
  std::size_t max_connections_per_address = 0;
  std::size_t max_connections_per_user = 0;
  std::string on_limit = "refuse";
  std::string on_user_limit = "refuse";
  std::size_t max_handshakes = 1024;
  std::chrono::milliseconds handshake_timeout{10'000};
  std::size_t max_header = 16 * 1024;
  std::vector<std::string> allowed_origins;
  std::vector<std::string> trusted_proxies;
  std::string proxy_protocol = "off";
  std::uint32_t messages_per_second = 0;
  std::size_t bytes_per_second = 0;
  std::uint32_t burst_messages = 0;
  std::size_t burst_bytes = 0;
  std::string over_rate = "delay";
  std::size_t queue_budget = 0;
};

// The options for all that.
void add_admission(CLI::App &command, admission_settings &settings);
// False, and said why, when they do not go together.
bool use_admission(const admission_settings &settings, chorus::server_options &options);

} // namespace cli
