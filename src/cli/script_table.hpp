#pragma once
// The commands of a script and their fields: the one place that the checker, the runner and the JSON
// Schema take them from.

#include <boost/json/object.hpp>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace cli::script {

enum class verb : std::uint8_t {
  connect_gate,
  send,
  receive,
  expect,
  ping,
  close,
  wait_closed,
  reconnect,
  print,
  set,
  sleep,
  repeat,
  parallel,
  include,
};

// What a field takes. But for `name`, `file` and `steps` a string may hold references to results and
// variables (script_values.hpp); where a field takes no string, one that is nothing else.
enum class kind : std::uint8_t {
  text,
  any,      // any JSON value
  integer,  // between `lowest` and `highest`
  boolean,  // true or false
  duration, // "500ms", "30s", "2m", "1h", or a number of seconds
  size,     // "64k", "1M", or a number of bytes
  hex,      // an even number of hexadecimal digits, white space between them
  regex,    // a regular expression, Perl syntax
  choice,   // one of `choices`
  texts,    // a string, or an array of strings
  headers,  // an object of strings
  name,     // letters, digits, '_', '-' and '.'
  file,     // beside the file that names it
  steps,    // an array of steps
};

struct field {
  std::string_view name;
  kind type = kind::text;
  std::string_view help;
  bool required = false;
  std::int64_t lowest = 0;
  std::int64_t highest = 0;
  std::vector<std::string_view> choices{};
};

struct command {
  script::verb verb;
  std::string_view name;
  std::string_view help;
  std::vector<field> fields;
  // One of each group must be there.
  std::vector<std::vector<std::string_view>> exactly_one{};
  std::vector<std::vector<std::string_view>> at_least_one{};
  // What can't stand beside each other.
  std::vector<std::pair<std::string_view, std::string_view>> never_both{};

  const field *find(std::string_view name) const noexcept; // common fields, too
  std::vector<std::string_view> field_names() const;       // common fields, too
};

const std::vector<command> &commands();
// cmd, comment and save: of every step.
const std::vector<field> &common_fields();
const command *find_command(std::string_view name) noexcept;
std::vector<std::string_view> command_names();

// The table as a JSON Schema (2020-12), and its text as docs/script.schema.json has it.
boost::json::object schema();
std::string schema_text();

} // namespace cli::script
