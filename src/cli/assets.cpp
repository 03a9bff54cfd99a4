#include "assets.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace cli {

namespace {

using chorus::task;

std::string_view type_of(std::string_view name) noexcept {
  if (name.ends_with(".html"))
    return "text/html; charset=utf-8";
  if (name.ends_with(".js"))
    return "text/javascript; charset=utf-8";
  if (name.ends_with(".css"))
    return "text/css; charset=utf-8";
  if (name.ends_with(".svg"))
    return "image/svg+xml";
  return "application/octet-stream";
}

// Scripts, styles and connections of the page's own origin, and nothing else: what users write can
// load and run nothing even if a page should take it for markup.
constexpr std::string_view policy =
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

// One of a list of tags, weak or strong, or "*" (RFC 9110 section 13.1.2).
bool names_tag(std::string_view list, std::string_view tag) noexcept {
  return list == "*" || list.find(tag) != list.npos;
}

task<chorus::response> answer(const web_asset &file, chorus::request r) {
  const std::string tag = '"' + std::string(file.digest) + '"';
  chorus::response out;
  if (names_tag(r.header("If-None-Match"), tag)) {
    out.status(304);
  } else {
    out.body(std::string(file.contents));
    out.set("Content-Type", std::string(type_of(file.name)));
  }
  out.set("ETag", tag);
  out.set("Cache-Control", "no-cache");
  out.set("Content-Security-Policy", std::string(policy));
  out.set("X-Content-Type-Options", "nosniff");
  out.set("Referrer-Policy", "no-referrer");
  out.set("Cross-Origin-Opener-Policy", "same-origin");
  co_return out;
}

} // namespace

void serve_asset(chorus::server &srv, std::string_view path, std::string_view name) {
  const auto all = web_assets();
  const auto at =
      std::find_if(all.begin(), all.end(), [&](const auto &f) { return f.name == name; });
  if (at == all.end())
    throw std::invalid_argument("no such file in the program: " + std::string(name));
  srv.get(path, [file = &*at](chorus::request r) { return answer(*file, std::move(r)); });
}

} // namespace cli
