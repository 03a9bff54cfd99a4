// The `chorus` program. Its contract (options, lines, exit statuses) is in docs/program.md.

#include "bench.hpp"
#include "connect.hpp"
#include "probe.hpp"
#include "script.hpp"
#include "serve.hpp"
#include "standard_io.hpp"
#include "usage.hpp"

#include <cstdio>
#include <exception>

int main(int argc, char **argv) {
  using cli::status;
  cli::open_missing_standard_io();
  CLI::App app("WebSocket connections from the command line", "chorus");
  app.require_subcommand(1);
  app.set_help_all_flag("--help-all", "The help of every command");
  app.set_version_flag("--version", "chorus " CHORUS_VERSION, "Print the version");
  app.footer(
      "Exit status: 0 closed in order, 1 failed, 2 wrong usage, 3 refused, 4 TLS, 5 timed out,\n"
      "6 protocol error or closed with an error code.");
  app.get_formatter()->column_width(34);

  cli::serve_settings serve;
  cli::connect_settings connect;
  cli::probe_settings probe;
  cli::script_settings script;
  cli::bench_settings bench;
  const auto *serve_command = cli::add_serve(app, serve);
  const auto *connect_command = cli::add_connect(app, connect);
  const auto *probe_command = cli::add_probe(app, probe);
  const auto *script_command = cli::add_script(app, script);
  cli::add_bench(app, bench);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError &e) {
    return static_cast<int>(cli::end_parsing(app, e));
  }
  const char *command = "bench";
  try {
    if (serve_command->parsed()) {
      command = "serve";
      return static_cast<int>(cli::run_serve(serve));
    }
    if (connect_command->parsed()) {
      command = "connect";
      return static_cast<int>(cli::run_connect(connect));
    }
    if (probe_command->parsed()) {
      command = "probe";
      return static_cast<int>(cli::run_probe(probe));
    }
    if (script_command->parsed()) {
      command = "script";
      return static_cast<int>(cli::run_script(script));
    }
    return static_cast<int>(cli::run_bench(bench));
  } catch (const std::exception &e) {
    cli::complain(command, e.what());
    return static_cast<int>(status::failed);
  }
}
