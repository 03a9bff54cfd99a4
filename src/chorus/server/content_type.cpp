#include <chorus/server/content_type.hpp>

#include <chorus/protocol/header_text.hpp>

namespace chorus::detail {

namespace {

constexpr std::pair<std::string_view, std::string_view> known[] = {
    {"html", "text/html; charset=utf-8"},
    {"htm", "text/html; charset=utf-8"},
    {"css", "text/css; charset=utf-8"},
    {"js", "text/javascript; charset=utf-8"},
    {"mjs", "text/javascript; charset=utf-8"},
    {"json", "application/json"},
    {"map", "application/json"},
    {"webmanifest", "application/manifest+json"},
    {"txt", "text/plain; charset=utf-8"},
    {"md", "text/markdown; charset=utf-8"},
    {"csv", "text/csv; charset=utf-8"},
    {"xml", "application/xml"},
    {"svg", "image/svg+xml"},
    {"png", "image/png"},
    {"jpg", "image/jpeg"},
    {"jpeg", "image/jpeg"},
    {"gif", "image/gif"},
    {"webp", "image/webp"},
    {"avif", "image/avif"},
    {"ico", "image/x-icon"},
    {"woff", "font/woff"},
    {"woff2", "font/woff2"},
    {"ttf", "font/ttf"},
    {"otf", "font/otf"},
    {"wasm", "application/wasm"},
    {"pdf", "application/pdf"},
    {"zip", "application/zip"},
    {"gz", "application/gzip"},
    {"mp3", "audio/mpeg"},
    {"ogg", "audio/ogg"},
    {"wav", "audio/wav"},
    {"mp4", "video/mp4"},
    {"webm", "video/webm"},
};

} // namespace

std::string_view content_type_of(std::string_view path, const file_options &options) noexcept {
  path = path.substr(path.rfind('/') + 1);
  if (const auto dot = path.rfind('.'); dot != path.npos) {
    const auto extension = path.substr(dot + 1);
    for (const auto &[name, type] : options.types)
      if (protocol::detail::equal_ignoring_case(name, extension))
        return type;
    for (const auto &[name, type] : known)
      if (protocol::detail::equal_ignoring_case(name, extension))
        return type;
  }
  return "application/octet-stream";
}

} // namespace chorus::detail
