#include <chorus/server/beneath.hpp>
#include <chorus/server/body_source.hpp>
#include <chorus/server/content_type.hpp>
#include <chorus/server/request_data.hpp>
#include <chorus/server/static_files.hpp>

#include <boost/test/unit_test.hpp>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <string>
#include <sys/stat.h>

using namespace chorus;
using namespace chorus::detail;
namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(server_static_files)

namespace {

// secret and, beside it, the directory that is served.
struct tree {
  fs::path top = fs::temp_directory_path();
  fs::path root;

  tree() {
    auto pattern = (top / "chorus_files_XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()));
    top = pattern;
    root = top / "root";
    fs::create_directories(root / "sub" / "deep");
    fs::create_directories(root / "empty");
    fs::create_directories(top / "outside");
    write(top / "secret", "secret");
    write(top / "outside" / "x.txt", "secret");
    write(root / "a.txt", "hello");
    write(root / ".hidden", "hidden");
    write(root / "sub" / "index.html", "index");
    write(root / "sub" / "deep" / "b.css", "css");
    write(root / "sub" / ".env", "hidden");
    write(root / "odd name%.txt", "odd");
    fs::create_symlink("a.txt", root / "inner_link");
    fs::create_directory_symlink("sub", root / "inner_directory");
    fs::create_symlink("../secret", root / "link");
    fs::create_symlink(top / "secret", root / "absolute_link");
    fs::create_symlink(root / "a.txt", root / "absolute_inner_link");
    fs::create_directory_symlink("../outside", root / "directory_link");
    fs::create_directory_symlink("..", root / "sub" / "up_within");
    fs::create_symlink("loop", root / "loop");
    BOOST_REQUIRE(::mkfifo((root / "pipe").c_str(), 0600) == 0);
  }
  ~tree() { fs::remove_all(top); }

  static void write(const fs::path &where, std::string_view text) {
    std::ofstream(where, std::ios::binary) << text;
  }
};

std::string read_all(const response &page) {
  if (!page.source())
    return page.body();
  std::string text, scratch(3, '\0');
  while (text.size() < page.source()->size()) {
    const auto piece = page.source()->read(text.size(), {scratch.data(), scratch.size()});
    if (piece.empty())
      return text + "<cut>";
    text.append(piece.substr(0, page.source()->size() - text.size()));
  }
  return text;
}

request ask(const std::string &target,
            std::vector<std::pair<std::string, std::string>> fields = {}) {
  http_head head;
  head.start("GET", target, 11);
  for (const auto &[name, value] : fields)
    head.add(name, value);
  return make_request(std::move(head), {}, "");
}

response answer(const tree &t, std::string_view relative, const file_options &options = {}) {
  return answer_file(t.root.string(), options, ask("/f/" + std::string(relative)), relative);
}
std::string shown(const tree &t, std::string_view relative, const file_options &options = {}) {
  const auto page = answer(t, relative, options);
  return std::to_string(page.status()) + " " + (page.status() == 200 ? read_all(page) : "");
}

} // namespace

BOOST_AUTO_TEST_CASE(what_is_below_is_served) {
  tree t;
  BOOST_TEST(shown(t, "a.txt") == "200 hello");
  BOOST_TEST(shown(t, "sub/") == "200 index");
  BOOST_TEST(shown(t, "sub/deep/b.css") == "200 css");
  BOOST_TEST(shown(t, "odd name%.txt") == "200 odd");
  BOOST_TEST(shown(t, "sub") == "301 ");
  for (const char *absent : {"none", "sub/none", "a.txt/", "a.txt/x", "empty/", "", "pipe", "loop"})
    BOOST_TEST(shown(t, absent) == "404 ", absent);
  const auto page = answer(t, "sub/deep/b.css");
  BOOST_TEST(page.header("Content-Type") == "text/css; charset=utf-8");
  BOOST_TEST(page.header("Cache-Control") == "no-cache");
  BOOST_TEST(page.header("X-Content-Type-Options") == "nosniff");
  const auto moved = answer_file(t.root.string(), {}, ask("/f/sub?x=1"), "sub");
  BOOST_TEST(moved.header("Location") == "/f/sub/?x=1");
  file_options bare;
  bare.index.clear();
  BOOST_TEST(shown(t, "sub/", bare) == "404 ");
}

// Each of these would get out of the directory, or at what is hidden in it.
BOOST_AUTO_TEST_CASE(what_is_not_below_is_not_served) {
  tree t;
  for (const char *traversal :
       {"..", "../secret", "sub/../../secret", "sub/../a.txt", "./a.txt", ".", "sub/./index.html",
        "/a.txt", "//a.txt", "sub//index.html", "../root/a.txt", "/etc/passwd", "sub/..", "../"})
    BOOST_TEST(shown(t, traversal) == "404 ", traversal);
  BOOST_TEST(shown(t, std::string_view("a.txt\0.css", 10)) == "404 ");
  BOOST_TEST(shown(t, std::string_view("../secret\0", 10)) == "404 ");
  BOOST_TEST(shown(t, (t.top / "secret").string()) == "404 ");
  for (const char *link : {"link", "absolute_link", "directory_link/x.txt", "sub/up_within/link"})
    BOOST_TEST(shown(t, link) == "404 ", link);
  for (const char *hidden : {".hidden", "sub/.env", ".", ".git/config"})
    BOOST_TEST(shown(t, hidden) == "404 ", hidden);
  file_options open;
  open.hidden = true;
  BOOST_TEST(shown(t, ".hidden", open) == "200 hidden");
  for (const char *traversal : {"..", "../secret", "sub/../a.txt", "."})
    BOOST_TEST(shown(t, traversal, open) == "404 ", traversal);
  file_options sly;
  sly.index = "../secret";
  BOOST_TEST(shown(t, "", sly) == "404 ");
}

// The names alone are no protection: whatever opens must hold against them, too.
BOOST_AUTO_TEST_CASE(nothing_outside_can_be_opened) {
  tree t;
  for (const auto how : {beneath::best, beneath::kernel, beneath::walk}) {
    const auto opens = [&](const std::string &relative) {
      return static_cast<bool>(open_beneath(t.root.string(), relative, how));
    };
    if (how == beneath::kernel && !opens("a.txt") && (errno == ENOSYS || errno == EPERM)) {
      BOOST_TEST_MESSAGE("openat2 is not to be had here");
      continue;
    }
    BOOST_TEST_CONTEXT("way " << static_cast<int>(how)) {
      BOOST_TEST(opens("a.txt"));
      BOOST_TEST(opens("sub/deep/b.css"));
      for (const char *outside :
           {"../secret", "sub/../../secret", "link", "absolute_link", "directory_link/x.txt",
            "sub/up_within/link", "loop", "/etc/passwd"})
        BOOST_TEST(!opens(outside), outside);
      BOOST_TEST(!opens(std::string(300, 'x')));
      BOOST_TEST(!opens("absolute_inner_link"));
      // Links that stay below are followed where the kernel sees to it.
      BOOST_TEST(opens("inner_link") == (how != beneath::walk));
      BOOST_TEST(opens("inner_directory/index.html") == (how != beneath::walk));
    }
  }
  BOOST_TEST(!open_beneath((t.top / "none").string(), "a.txt"));
}

BOOST_AUTO_TEST_CASE(parts_and_conditions) {
  tree t;
  const auto with = [&](std::vector<std::pair<std::string, std::string>> fields) {
    return answer_file(t.root.string(), {}, ask("/f/a.txt", std::move(fields)), "a.txt");
  };
  const auto whole = with({});
  BOOST_TEST(whole.header("Accept-Ranges") == "bytes");
  const std::string etag(whole.header("ETag")), date(whole.header("Last-Modified"));
  const auto part = with({{"Range", "bytes=1-3"}});
  BOOST_TEST(part.status() == 206u);
  BOOST_TEST(part.header("Content-Range") == "bytes 1-3/5");
  BOOST_TEST(read_all(part) == "ell");
  BOOST_TEST(read_all(with({{"Range", "bytes=-2"}})) == "lo");
  const auto past = with({{"Range", "bytes=5-"}});
  BOOST_TEST(past.status() == 416u);
  BOOST_TEST(past.header("Content-Range") == "bytes */5");
  BOOST_TEST(with({{"Range", "bytes=1-3"}, {"If-Range", etag}}).status() == 206u);
  BOOST_TEST(with({{"Range", "bytes=1-3"}, {"If-Range", "\"other\""}}).status() == 200u);
  for (const auto &fields : {std::pair{"If-None-Match", etag}, {"If-Modified-Since", date}}) {
    const auto same = with({{fields.first, fields.second}});
    BOOST_TEST(same.status() == 304u);
    BOOST_TEST(!same.source());
    BOOST_TEST(same.header("ETag") == etag);
    BOOST_TEST(same.header("Cache-Control") == "no-cache");
  }
  BOOST_TEST(with({{"If-Match", "\"other\""}}).status() == 412u);
  tree::write(t.root / "a.txt", "changed!");
  BOOST_TEST(with({{"If-None-Match", etag}}).status() == 200u);
  BOOST_TEST(read_all(whole) == "chang"); // the length that was promised, and no more
  fs::resize_file(t.root / "a.txt", 2);
  BOOST_TEST(read_all(whole) == "ch<cut>");
}

BOOST_AUTO_TEST_CASE(assets_are_routed) {
  router r;
  file_options options;
  options.cache_control = "max-age=60";
  add_assets(r, "/app/",
             {{"index.html", "<p>"}, {"js/main.mjs", "let"}, {"blob", "x", "text/x-mine"}},
             options);
  for (const char *path : {"/app/", "/app/index.html", "/app/js/main.mjs", "/app/blob"})
    BOOST_TEST((r.find(path, route_kind::page).what == route_match::verdict::found), path);
  for (const char *path : {"/app", "/app/js/", "/app/none", "/index.html"})
    BOOST_TEST((r.find(path, route_kind::page).what == route_match::verdict::not_found), path);
  for (const char *bad : {"", "/x", "../x", "a//b", "a/"})
    BOOST_CHECK_THROW(add_assets(r, "/b", {{bad, "x"}}, {}), std::invalid_argument);
  BOOST_CHECK_THROW(add_assets(r, "/app", {{"blob", "x"}}, {}), std::invalid_argument);
  BOOST_CHECK_THROW(add_files(r, "/f", "/no/such/directory", {}), std::invalid_argument);
}

BOOST_AUTO_TEST_CASE(content_types) {
  file_options options;
  options.types = {{"html", "text/x-own"}, {"zzz", "application/zzz"}};
  BOOST_TEST(content_type_of("a/B.JS", options) == "text/javascript; charset=utf-8");
  BOOST_TEST(content_type_of("a.html", options) == "text/x-own");
  BOOST_TEST(content_type_of("a.zzz", options) == "application/zzz");
  for (const char *unknown : {"a", "a.b/c", "a.", "a.unknown", "html"})
    BOOST_TEST(content_type_of(unknown, options) == "application/octet-stream", unknown);
}

BOOST_AUTO_TEST_SUITE_END()
