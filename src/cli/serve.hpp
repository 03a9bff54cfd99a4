#pragma once
// `chorus serve`: a server with an echo, a broadcast and a page, to try clients and loads against.

#include "exit_status.hpp"

#include <CLI/CLI.hpp>

#include <cstddef>
#include <string>

namespace cli {

struct serve_settings {
  std::string listen = "127.0.0.1:8080";
  unsigned threads = 1;
  std::string tls_cert;
  std::string tls_key;
  std::size_t max_connections = 100'000;
  chorus::session_options session{};
  std::string log_level = "info";
};

CLI::App *add_serve(CLI::App &app, serve_settings &settings);
status run_serve(const serve_settings &settings);

} // namespace cli
