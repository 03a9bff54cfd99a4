#pragma once
// `chorus serve`: a server with an echo, a broadcast and a page, to try clients and loads against.

#include "exit_status.hpp"
#include "log.hpp"
#include "serve_admission.hpp"
#include "serve_broker.hpp"

#include <CLI/CLI.hpp>

#include <chrono>
#include <cstddef>
#include <string>
#include <vector>

namespace cli {

struct serve_settings {
  std::vector<std::string> listen{"127.0.0.1:8080"};
  unsigned threads = 1;
  std::string tls_cert;
  std::string tls_key;
  admission_settings admission;
  chorus::session_options session{};
  log_settings log{};
  bool reuse_port = false;
  unsigned unix_mode = 0;
  std::string tls_client_ca;
  std::string client_certificates = "ask";
  std::chrono::milliseconds drain_window{2'000};
  std::size_t drain_rate = 0;
  std::chrono::milliseconds retry_after{1'000};
  std::string handover;
  std::string metrics_token;
  std::chrono::milliseconds presence_grace{5'000};
  std::string admin_token;
  broker_settings broker;
};

CLI::App *add_serve(CLI::App &app, serve_settings &settings);
status run_serve(const serve_settings &settings);

} // namespace cli
