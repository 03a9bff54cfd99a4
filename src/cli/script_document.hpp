#pragma once
// A JSON text whose every value and member name knows its place, for complaints that name line and
// column.

#include <boost/json/value.hpp>

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cli::script {

struct place {
  std::shared_ptr<const std::string> file; // as the user knows it
  std::size_t line = 1;
  std::size_t column = 1; // in characters, from 1
};
std::string to_string(const place &at); // "file:line:column"

struct complaint {
  place at;
  std::string sentence;
};

struct node {
  struct member;
  place at;
  boost::json::value value; // all of it
  std::vector<node> elements;
  std::vector<member> members; // in the order of the text; names may repeat

  const member *find(std::string_view name) const noexcept;
};
struct node::member {
  std::string name;
  place at; // of the name
  node content;
};

// Up to 16 MiB, 64 levels deep. Nothing, and one complaint added, when it is no JSON.
std::optional<node> read_document(std::shared_ptr<const std::string> file, std::string_view text,
                                  std::vector<complaint> &complaints);

} // namespace cli::script
