#include "usage.hpp"

#include <algorithm>
#include <string>

namespace cli {

status end_parsing(const CLI::App &app, const CLI::ParseError &e) {
  if (e.get_exit_code() == 0) { // help was asked for, and is printed by this
    app.exit(e);
    return status::ok;
  }
  const auto commands = app.get_subcommands();
  std::string sentence = e.what();
  std::string help = "chorus ";
  if (commands.empty()) {
    const auto strangers = app.remaining();
    sentence =
        strangers.empty() ? "a command is missing" : "no command '" + strangers.front() + "'";
    sentence += "; say serve, connect, probe, script or bench";
  } else {
    const auto strangers = commands.front()->remaining();
    const auto option = std::find_if(strangers.begin(), strangers.end(),
                                     [](const auto &one) { return one.starts_with("--"); });
    if (option != strangers.end()) // what came with it is not worth mentioning
      sentence = "no option '" + *option + "'";
    help += commands.front()->get_name() + ' ';
  }
  complain(commands.empty() ? "" : commands.front()->get_name(),
           sentence + "; " + help + "--help lists what there is");
  return status::usage;
}

} // namespace cli
