#pragma once
// A command line that can't be used.

#include "exit_status.hpp"

#include <CLI/CLI.hpp>

namespace cli {

// Prints the help that was asked for, or one sentence on standard error, in the name of the command
// that was given. What the program ends with.
status end_parsing(const CLI::App &app, const CLI::ParseError &e);

} // namespace cli
