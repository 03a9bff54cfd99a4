#include <chorus/server/static_files.hpp>

#include <chorus/server/beneath.hpp>
#include <chorus/server/body_source.hpp>
#include <chorus/server/content_type.hpp>
#include <chorus/server/http_date.hpp>

#include <cerrno>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace chorus::detail {

namespace {

class file_source final : public body_source {
public:
  file_source(transport::descriptor file, byte_range part) noexcept
      : file_(std::move(file)), part_(part) {}
  std::uint64_t size() const noexcept override { return part_.size; }
  // Blocks for as long as the file system does. A file that has become shorter ends early.
  std::string_view read(std::uint64_t offset, std::span<char> scratch) noexcept override {
    ssize_t n;
    do
      n = ::pread(file_.get(), scratch.data(), scratch.size(),
                  static_cast<off_t>(part_.first + offset));
    while (n < 0 && errno == EINTR);
    return {scratch.data(), n > 0 ? static_cast<std::size_t>(n) : 0};
  }

private:
  transport::descriptor file_;
  byte_range part_;
};

class memory_source final : public body_source {
public:
  explicit memory_source(std::string_view bytes) noexcept : bytes_(bytes) {}
  std::uint64_t size() const noexcept override { return bytes_.size(); }
  std::string_view read(std::uint64_t offset, std::span<char> scratch) noexcept override {
    return bytes_.substr(static_cast<std::size_t>(offset), scratch.size());
  }

private:
  std::string_view bytes_;
};

struct entity {
  validators current;
  std::string_view type;
  std::uint64_t size = 0;
};
using make_source = std::function<std::shared_ptr<body_source>(byte_range)>;

response nothing_here() { return {404, "There is nothing on this path.\n"}; }

response plain(unsigned status, std::string sentence, const file_options &options) {
  response page(status, std::move(sentence));
  for (const auto &[name, value] : options.headers)
    page.set(name, value);
  return page;
}

response answer_entity(const entity &e, const file_options &options, const request &r,
                       const make_source &source_of) {
  const auto now = seconds_now();
  byte_range part{0, e.size};
  response page;
  switch (check_preconditions(r, e.current, now)) {
  case precondition::failed:
    return plain(412, "The file is not the one that the request's conditions name.\n", options);
  case precondition::not_modified:
    page.status(304);
    break;
  case precondition::holds:
    switch (choose_range(r, e.current, e.size, now, part)) {
    case range_verdict::unsatisfiable:
      page = plain(416, "The file ends before the range begins.\n", options);
      page.set("Content-Range", "bytes */" + std::to_string(e.size));
      return page;
    case range_verdict::part:
      page.status(206);
      page.set("Content-Range", "bytes " + std::to_string(part.first) + "-" +
                                    std::to_string(part.first + part.size - 1) + "/" +
                                    std::to_string(e.size));
      break;
    case range_verdict::whole:
      break;
    }
    page.set("Content-Type", std::string(e.type));
    page.set("Accept-Ranges", "bytes");
    page.set("X-Content-Type-Options", "nosniff");
    page.source(source_of(part));
  }
  page.set("ETag", e.current.etag);
  if (e.current.modified)
    page.set("Last-Modified", format_http_date(*e.current.modified));
  if (!options.cache_control.empty())
    page.set("Cache-Control", options.cache_control);
  for (const auto &[name, value] : options.headers)
    page.set(name, value);
  return page;
}

response redirect(const std::string &target, const file_options &options) {
  auto page = plain(301, "This is a directory: " + target + "\n", options);
  page.set("Location", target);
  return page;
}

// The path of the request with a final slash, and its query.
std::string with_slash(const request &r) {
  const auto parts = split_target(r.target());
  std::string target = std::string(parts.path) + "/";
  if (!parts.query.empty())
    target.append(1, '?').append(parts.query);
  return target;
}

std::string_view without_slash(std::string_view prefix) noexcept {
  return prefix.ends_with('/') ? prefix.substr(0, prefix.size() - 1) : prefix;
}

struct directory_setup {
  std::string directory;
  file_options options;
};

task<response> serve_file(std::shared_ptr<const directory_setup> setup, request r) {
  co_return answer_file(setup->directory, setup->options, r, r.param("path"));
}

task<response> serve_redirect(std::shared_ptr<const directory_setup> setup, request r) {
  co_return redirect(with_slash(r), setup->options);
}

struct asset_setup {
  std::string_view content;
  entity what;
  std::shared_ptr<const file_options> options;
};

task<response> serve_asset(std::shared_ptr<const asset_setup> a, request r) {
  co_return answer_entity(a->what, *a->options, r, [&](byte_range part) {
    return std::make_shared<memory_source>(a->content.substr(static_cast<std::size_t>(part.first),
                                                             static_cast<std::size_t>(part.size)));
  });
}

// FNV-1a: content of the program's own needs no more than to be told from other content of its own.
std::string etag_of(std::string_view content) {
  std::uint64_t hash = 0xcbf29ce484222325u;
  for (const char c : content)
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  char text[48];
  const int n = std::snprintf(text, sizeof text, "\"%016" PRIx64 "-%zx\"", hash, content.size());
  return {text, static_cast<std::size_t>(n)};
}

std::string etag_of(const struct ::stat &file) {
  char text[64];
  const int n = std::snprintf(text, sizeof text, "\"%" PRIx64 "-%" PRIx64 "-%" PRIx64 "\"",
                              static_cast<std::uint64_t>(file.st_mtim.tv_sec),
                              static_cast<std::uint64_t>(file.st_mtim.tv_nsec),
                              static_cast<std::uint64_t>(file.st_size));
  return {text, static_cast<std::size_t>(n)};
}

} // namespace

response answer_file(const std::string &directory, const file_options &options, const request &r,
                     std::string_view relative) {
  std::string path(relative);
  const bool of_directory = path.empty() || path.ends_with('/');
  if (of_directory)
    path += options.index;
  if (path.ends_with('/') || !is_plain_path(path, options.hidden))
    return nothing_here();

  auto file = open_beneath(directory, path);
  struct ::stat about {};
  if (file.get() < 0 || ::fstat(file.get(), &about) != 0) {
    if (errno != EMFILE && errno != ENFILE && errno != ENOMEM)
      return nothing_here();
    return plain(503, "This server has run out of file descriptors; try again later.\n", options);
  }
  if (S_ISDIR(about.st_mode) && !of_directory)
    return redirect(with_slash(r), options);
  if (!S_ISREG(about.st_mode))
    return nothing_here();

  entity e;
  e.current = {etag_of(about), about.st_mtim.tv_sec};
  e.type = content_type_of(path, options);
  e.size = static_cast<std::uint64_t>(about.st_size);
  return answer_entity(e, options, r, [&](byte_range part) {
    return std::make_shared<file_source>(std::move(file), part);
  });
}

void add_files(router &into, std::string_view prefix, const std::string &directory,
               file_options options) {
  namespace fs = std::filesystem;
  std::error_code ec;
  const auto where = fs::absolute(directory, ec);
  if (ec || !fs::is_directory(where, ec))
    throw std::invalid_argument("chorus: files are to be served from \"" + directory +
                                "\", which is no directory");
  const auto setup =
      std::make_shared<const directory_setup>(directory_setup{where.string(), std::move(options)});
  const std::string base(without_slash(prefix));
  into.add(base + "/{path...}", [setup](request r) { return serve_file(setup, std::move(r)); });
  if (!base.empty())
    into.add(base, [setup](request r) { return serve_redirect(setup, std::move(r)); });
}

void add_assets(router &into, std::string_view prefix, const std::vector<asset> &assets,
                file_options options) {
  const auto shared = std::make_shared<const file_options>(std::move(options));
  const std::string base(without_slash(prefix));
  for (const auto &one : assets) {
    if (!is_plain_path(one.path, true))
      throw std::invalid_argument("chorus: the asset path \"" + std::string(one.path) +
                                  "\" is not a relative path of plain segments");
    auto setup = std::make_shared<asset_setup>();
    setup->content = one.content;
    setup->options = shared;
    setup->what.current.etag = etag_of(one.content);
    setup->what.type = one.type.empty() ? content_type_of(one.path, *shared) : one.type;
    setup->what.size = one.content.size();
    const page_handler page = [setup](request r) { return serve_asset(setup, std::move(r)); };
    const std::string path = base + "/" + std::string(one.path);
    into.add(path, page);
    const bool is_index = !shared->index.empty() && path.ends_with("/" + shared->index);
    if (is_index)
      into.add(path.substr(0, path.size() - shared->index.size()), page);
  }
}

} // namespace chorus::detail
