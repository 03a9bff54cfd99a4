#pragma once
// References in strings: ret["connect_gate"]["type"], var["name"], env["HOME"]. Keys stand in double or
// single quotes, array indexes are numbers, negative ones count from the end. A backslash before it
// takes a reference as it is written.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

namespace cli::script {

enum class root : std::uint8_t { ret, var, env };
using key = std::variant<std::string, std::int64_t>;

struct reference {
  script::root root = root::ret;
  std::vector<key> path; // at least one, the first a string
  std::size_t begin = 0; // in the text
  std::size_t end = 0;
};

struct references {
  std::vector<reference> found;
  // The first one that is begun and can't be read, as a sentence; empty when there is none.
  std::string complaint;
};
references find_references(std::string_view text);
// The text is one reference and nothing else.
bool is_reference(std::string_view text);

// What the references stand for.
struct scope {
  boost::json::object ret; // results so far, by command and by "save"
  boost::json::object var;
  // What is known besides, unless its name is taken here; does not change meanwhile.
  const scope *outer = nullptr;

  // Null for what is not known.
  const boost::json::value *result(std::string_view name) const;
  const boost::json::value *variable(std::string_view name) const;
};

struct resolved {
  boost::json::value value;
  std::string complaint; // empty, or which reference stands for nothing, and why
};
// All strings in a value, at any depth, but no names of members. A string that is one reference becomes
// the value that this stands for, of any type; in longer ones it becomes text, JSON unless it is a
// string.
resolved substitute(const boost::json::value &v, const scope &values);

} // namespace cli::script
