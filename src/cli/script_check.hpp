#pragma once
// From the text of a script to steps that can be run, everything in it checked first: commands, fields,
// values, included files, and whether connections, variables and results are there that it names.

#include "script_document.hpp"
#include "script_table.hpp"

#include <boost/json/object.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cli::script {

struct step {
  const command *what = nullptr;
  place at;
  std::string comment;
  std::string save;
  boost::json::object arguments; // as written; without cmd, comment, save, steps and file
  std::vector<std::pair<std::string, place>> places; // of the arguments' values
  std::vector<step> steps;                           // of repeat, parallel and include
  std::size_t number =
      0; // in progress and reports, from 1; steps of a repeat have that of the repeat

  place place_of(std::string_view argument) const;
};

struct checked {
  std::vector<step> steps;
  std::size_t count = 0; // of those with a number of their own
  std::vector<complaint> complaints;
  std::vector<std::string> warnings; // of what does no harm: a variable that nothing reads
};

// At most 100 complaints, 100'000 steps and 16 files deep.
// `name`: of the file, or "standard input". `path`: where it is, for the files beside it; empty for
// standard input, whose files are relative to the working directory.
// `variables`: names set from the command line.
checked check_script(const std::string &name, const std::string &path, std::string_view text,
                     const std::vector<std::string> &variables);

// The whole file; nothing, and why, when it can't be read or is larger than 16 MiB.
std::optional<std::string> read_file(const std::string &path, std::string &why);

// What is wrong with a close code that is to be sent; empty when nothing is.
std::string close_complaint(std::int64_t code);
// What is wrong with the host of connect_gate and what stands beside it; empty when nothing is. The
// second is the field at fault.
std::pair<std::string, std::string> gate_complaint(const boost::json::object &arguments);
// The URL that it means.
std::string gate_url(const boost::json::object &arguments);

} // namespace cli::script
