#pragma once
// The files of src/cli/web, compiled into the program, and how they are served.

#include <chorus/chorus.hpp>

#include <span>
#include <string_view>

namespace cli {

struct web_asset {
  std::string_view name;   // as in src/cli/web: "chat.html"
  std::string_view digest; // of the contents, in hexadecimal: makes the ETag
  std::string_view contents;
};

// All of them; made at build time by cmake/embed_files.cmake.
std::span<const web_asset> web_assets() noexcept;

// Answers GET and HEAD of `path` with that file: its type, an ETag that is revalidated each time
// (304 to who has it), and headers that keep a page to its own origin. A name that is not there
// throws std::invalid_argument.
void serve_asset(chorus::server &srv, std::string_view path, std::string_view name);

} // namespace cli
