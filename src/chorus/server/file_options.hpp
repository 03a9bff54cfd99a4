#pragma once
// How files are served, from a directory or from memory.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus {

struct file_options {
  // Of every answer; empty: none. "no-cache" has browsers ask each time whether what they have is
  // current, which costs a 304. For names that change with their content: "public, max-age=31536000,
  // immutable".
  std::string cache_control = "no-cache";
  std::string index = "index.html"; // for a path that ends in a slash; empty: 404
  bool hidden = false;              // also names that begin with a dot
  // Content types by extension, in lower case and without its dot; before the built-in ones.
  std::vector<std::pair<std::string, std::string>> types{};
  std::vector<std::pair<std::string, std::string>> headers{}; // of every answer, besides
};

// A file that is part of the program; what the views show must outlive the server.
struct asset {
  std::string_view path; // "app/main.js", below where it is mounted
  std::string_view content;
  std::string_view type{}; // empty: by extension
};

} // namespace chorus
