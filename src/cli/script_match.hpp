#pragma once
// The conditions of `expect` and what was got.

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace cli::script {

// What is wrong with a regular expression; empty when it is one.
std::string regex_complaint(std::string_view expression);

// A message, or a value; this has its own JSON.
struct subject {
  std::string_view text;
  bool is_text = true;
  const boost::json::value *value = nullptr; // null: of a message
};

// Why `got` is not as the fields equals, contains, matches, json, hex and type of `wanted` say, as far
// as they are there; empty when it is.
std::string mismatch(const boost::json::object &wanted, const subject &got);

// Why `got` lacks something of `wanted`; empty when it has all. Objects may have more members; arrays
// have as many elements; numbers are equal by value.
std::string missing_of(const boost::json::value &wanted, const boost::json::value &got,
                       const std::string &path = {});
bool same(const boost::json::value &a, const boost::json::value &b);

} // namespace cli::script
