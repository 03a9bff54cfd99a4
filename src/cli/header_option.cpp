#include "header_option.hpp"

#include <algorithm>
#include <string_view>

namespace cli {

namespace {

// What may be shown of a line that is none: its rest can be a token.
std::string begin_of(const std::string &line) {
  const auto end = line.find_first_of(" \t:");
  return end == line.npos || end == 0 ? "this" : "'" + line.substr(0, end) + "...'";
}

// "K: V", with a name of token characters and a value without control characters.
bool split_header(std::string_view line, std::pair<std::string, std::string> &out) {
  const auto colon = line.find(':');
  if (colon == line.npos || colon == 0)
    return false;
  const auto name = line.substr(0, colon);
  auto value = line.substr(colon + 1);
  const auto token = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  };
  const auto control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  if (!std::all_of(name.begin(), name.end(), token) ||
      std::any_of(value.begin(), value.end(), control))
    return false;
  const auto first = value.find_first_not_of(" \t");
  value = first == value.npos ? std::string_view{} : value.substr(first);
  value = value.substr(0, value.find_last_not_of(" \t") + 1);
  out = {std::string(name), std::string(value)};
  return true;
}

} // namespace

void add_header_option(CLI::App &app, std::vector<std::string> &lines,
                       std::vector<std::pair<std::string, std::string>> &headers) {
  app.add_option("--header", lines, "A header of the request, 'Name: value'; repeatable")
      ->allow_extra_args(false)
      ->type_name("HEADER")
      ->each([&headers](const std::string &line) {
        std::pair<std::string, std::string> parts;
        if (!split_header(line, parts))
          throw CLI::ValidationError(begin_of(line) + " is no header; say 'Name: value'");
        headers.push_back(std::move(parts));
      });
}

} // namespace cli
