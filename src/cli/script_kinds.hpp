#pragma once
// Whether a value is of the kind that a field takes, and how it is read.

#include "script_table.hpp"

#include <boost/json/value.hpp>

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cli::script {

struct fault {
  std::string sentence;
  std::string member; // of the value, where it is an object that has something wrong in it
  std::optional<std::size_t> element{};
};
// Nothing when it is. `written`: the value stands so in a file, and may hold references.
std::optional<fault> check_value(const field &f, const boost::json::value &v, bool written);

// Of checked values.
std::chrono::milliseconds duration_of(const boost::json::value &v);
std::size_t size_of(const boost::json::value &v);
std::int64_t integer_of(const boost::json::value &v);
bool boolean_of(const boost::json::value &v);
std::string text_of(const boost::json::value &v); // of no string: JSON
std::optional<std::string> bytes_of_hex(std::string_view text);
std::string hex_of(std::string_view bytes);
// A header that can be sent: a name of token characters, a value without control characters.
bool valid_header(std::string_view name, std::string_view value) noexcept;

inline std::string_view view(const boost::json::string &s) noexcept { return {s.data(), s.size()}; }
inline boost::json::string_view view(std::string_view s) noexcept { return {s.data(), s.size()}; }

// In quotes, on one line, at most 200 bytes and whole characters of it; what is no valid UTF-8 as \x..
std::string shown(std::string_view text);
std::string shown(const boost::json::value &v);

} // namespace cli::script
