#pragma once
// What `chorus serve` tells monitoring systems: /metrics, /healthz and /readyz, where the program was
// built with chorus::observe.

#include <chorus/server/server.hpp>

#include <CLI/CLI.hpp>

#include <string>

namespace cli {

// --metrics-token, --admin-token
void add_observe_options(CLI::App &app, std::string &metrics_token, std::string &admin_token);
void mount_observe(chorus::server &srv, const std::string &metrics_token);

} // namespace cli
