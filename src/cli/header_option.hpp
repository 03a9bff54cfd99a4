#pragma once
// `--header 'Name: value'`, of the commands that open a WebSocket.

#include <CLI/CLI.hpp>

#include <string>
#include <utility>
#include <vector>

namespace cli {

// `lines` as they were given, `headers` the same taken apart. What is no header is a usage error.
void add_header_option(CLI::App &app, std::vector<std::string> &lines,
                       std::vector<std::pair<std::string, std::string>> &headers);

} // namespace cli
