// Files over real sockets: whole, in part, not at all, and to peers that do not read.

#include "server_support.hpp"

#include <chorus/server/body_source.hpp>

#include <filesystem>
#include <fstream>

using namespace server_test;
using chorus::request;
using chorus::response;
using chorus::task;
namespace fs = std::filesystem;

BOOST_AUTO_TEST_SUITE(server_files)

namespace {

constexpr std::string_view style = "body { color: black }";

std::string pattern(std::size_t size) {
  std::string text(size, '\0');
  for (std::size_t i = 0; i < size; ++i)
    text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
  return text;
}

struct fixture {
  fs::path top;
  std::string large = pattern(5'000'000);
  running loop;
  chorus::server server;

  explicit fixture(chorus::server_options options = {}) : server(loop.rt(), std::move(options)) {
    auto name = (fs::temp_directory_path() / "chorus_files_XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(name.data()));
    top = name;
    fs::create_directories(top / "root" / "sub");
    write("secret", "secret");
    write("root/a.txt", "hello");
    write("root/.env", "secret");
    write("root/large.bin", large);
    write("root/empty.txt", "");
    write("root/sub/index.html", "<p>sub");
    fs::create_symlink("../secret", top / "root" / "link");
    server.files("/static", (top / "root").string());
    server.assets("/app", {{"index.html", "<p>app"}, {"app.css", style}},
                  {.cache_control = "max-age=60", .headers = {{"X-Mine", "1"}}});
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() {
    loop.wait(server.stop(5s));
    fs::remove_all(top);
  }

  void write(const std::string &where, std::string_view text) const {
    std::ofstream(top / where, std::ios::binary) << text;
  }
};

std::string ask_for(std::string_view target, std::string_view more = {},
                    std::string_view method = "GET") {
  return std::string(method) + " " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n" +
         std::string(more) + "\r\n";
}
std::string value_of(const std::string &answer, const std::string &name) {
  const auto at = answer.find("\r\n" + name + ": ");
  if (at == std::string::npos)
    return {};
  const auto begin = at + name.size() + 4;
  return answer.substr(begin, answer.find("\r\n", begin) - begin);
}

// Counts what the server reads of it, and says when it has let go.
class watched_source final : public chorus::detail::body_source {
public:
  watched_source(std::atomic<std::uint64_t> &reached, event &gone)
      : reached_(reached), gone_(gone) {}
  ~watched_source() override { gone_.set(); }
  std::uint64_t size() const noexcept override { return std::uint64_t{1} << 40; }
  std::string_view read(std::uint64_t offset, std::span<char> scratch) noexcept override {
    reached_ = offset + scratch.size();
    return {scratch.data(), scratch.size()};
  }

private:
  std::atomic<std::uint64_t> &reached_;
  event &gone_;
};

} // namespace

BOOST_AUTO_TEST_CASE(files_on_one_connection) {
  fixture f;
  wire w(f.server.port());
  w.send(ask_for("/static/a.txt") + ask_for("/static/large.bin") + ask_for("/static/sub/") +
         ask_for("/static/empty.txt"));
  const auto small = w.read_response();
  BOOST_TEST(small.starts_with("HTTP/1.1 200 OK\r\n"));
  BOOST_TEST(small.ends_with("\r\n\r\nhello"));
  BOOST_TEST(value_of(small, "Content-Type") == "text/plain; charset=utf-8");
  BOOST_TEST(!value_of(small, "Last-Modified").empty());
  BOOST_TEST(!value_of(small, "Date").empty());
  const auto large = w.read_response();
  BOOST_TEST(value_of(large, "Content-Length") == "5000000");
  BOOST_TEST((large.substr(large.find("\r\n\r\n") + 4) == f.large));
  BOOST_TEST(w.read_response().ends_with("\r\n\r\n<p>sub"));
  BOOST_TEST(w.read_response().ends_with("\r\nContent-Length: 0\r\n\r\n"));

  w.send(ask_for("/static/large.bin", {}, "HEAD") + ask_for("/static/sub") + ask_for("/static") +
         ask_for("/static/a.txt", {}, "POST"));
  const auto head = w.read_response(true);
  BOOST_TEST(value_of(head, "Content-Length") == "5000000");
  BOOST_TEST(value_of(w.read_response(), "Location") == "/static/sub/");
  BOOST_TEST(value_of(w.read_response(), "Location") == "/static/");
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 405 "));
  BOOST_TEST(f.server.stats().accepted == 1u);
}

BOOST_AUTO_TEST_CASE(parts_and_conditions) {
  fixture f;
  wire w(f.server.port());
  const auto ask = [&](std::string_view target, std::string_view more) {
    w.send(ask_for(target, more));
    return w.read_response();
  };
  const auto part = ask("/static/large.bin", "Range: bytes=100000-299999\r\n");
  BOOST_TEST(part.starts_with("HTTP/1.1 206 Partial Content\r\n"));
  BOOST_TEST(value_of(part, "Content-Range") == "bytes 100000-299999/5000000");
  BOOST_TEST((part.substr(part.find("\r\n\r\n") + 4) == f.large.substr(100'000, 200'000)));
  const auto tail = ask("/static/large.bin", "Range: bytes=-3\r\n");
  BOOST_TEST(tail.ends_with("\r\n\r\n" + f.large.substr(4'999'997)));
  const auto past = ask("/static/large.bin", "Range: bytes=5000000-\r\n");
  BOOST_TEST(past.starts_with("HTTP/1.1 416 "));
  BOOST_TEST(value_of(past, "Content-Range") == "bytes */5000000");

  for (const char *file : {"/static/a.txt", "/app/app.css"}) {
    const auto etag = value_of(ask(file, ""), "ETag");
    BOOST_TEST(!etag.empty());
    const auto same = ask(file, "If-None-Match: " + etag + "\r\n");
    BOOST_TEST(same.starts_with("HTTP/1.1 304 Not Modified\r\n"));
    BOOST_TEST(same.ends_with("\r\n\r\n"));
    BOOST_TEST(value_of(same, "Content-Length") == "");
    BOOST_TEST(
        ask(file, "Range: bytes=0-0\r\nIf-Range: " + etag + "\r\n").starts_with("HTTP/1.1 206 "));
    BOOST_TEST(ask(file, "Range: bytes=0-0\r\nIf-Range: \"x\"\r\n").starts_with("HTTP/1.1 200 "));
  }
  const auto date = value_of(ask("/static/a.txt", ""), "Last-Modified");
  BOOST_TEST(
      ask("/static/a.txt", "If-Modified-Since: " + date + "\r\n").starts_with("HTTP/1.1 304 "));
}

BOOST_AUTO_TEST_CASE(nothing_outside_is_served) {
  fixture f;
  wire w(f.server.port());
  for (const char *target : {"/static/../secret",
                             "/static/%2e%2e/secret",
                             "/static/..%2fsecret",
                             "/static/%2e%2e%2fsecret",
                             "/static/sub/../../secret",
                             "/static/sub/%2E%2E/%2E%2E/secret",
                             "/static//../secret",
                             "/static/./a.txt",
                             "/static/a.txt%00",
                             "/static/a.txt%00.css",
                             "/static/.env",
                             "/static/%2eenv",
                             "/static/link",
                             "/static//etc/passwd",
                             "/static/%2fetc/passwd",
                             "/static/..%5csecret",
                             "/static/..;/secret",
                             "/static/%252e%252e/secret",
                             "http://a/static/../secret",
                             "/app/../static/link",
                             "/app/%2e%2e/secret"}) {
    w.send(ask_for(target));
    const auto answer = w.read_response();
    BOOST_TEST_CONTEXT(target) {
      BOOST_TEST(answer.starts_with("HTTP/1.1 404 "));
      BOOST_TEST(!has(answer, "secret"));
    }
  }
}

BOOST_AUTO_TEST_CASE(files_from_memory) {
  fixture f;
  wire w(f.server.port());
  w.send(ask_for("/app/") + ask_for("/app/app.css") +
         ask_for("/app/app.css", "Range: bytes=5-9\r\n") + ask_for("/app/none"));
  const auto index = w.read_response();
  BOOST_TEST(index.ends_with("\r\n\r\n<p>app"));
  BOOST_TEST(value_of(index, "Content-Type") == "text/html; charset=utf-8");
  BOOST_TEST(value_of(index, "Cache-Control") == "max-age=60");
  BOOST_TEST(value_of(index, "X-Mine") == "1");
  BOOST_TEST(w.read_response().ends_with("\r\n\r\n" + std::string(style)));
  BOOST_TEST(w.read_response().ends_with("\r\n\r\n{ col"));
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 404 "));
}

// A peer that stops reading costs what its sockets hold and one piece, and then its connection.
BOOST_AUTO_TEST_CASE(who_does_not_read_is_cut_off) {
  running loop;
  chorus::server_options options;
  options.send_timeout = 100ms;
  chorus::server server(loop.rt(), options);
  std::atomic<std::uint64_t> reached{0};
  event gone;
  const auto endless = [&](request) -> task<response> {
    response page;
    page.source(std::make_shared<watched_source>(reached, gone));
    co_return page;
  };
  server.get("/endless", endless);
  BOOST_REQUIRE(loop.wait(server.start()));
  wire w(server.port());
  w.send(ask_for("/endless"));
  BOOST_TEST(gone.wait());
  BOOST_TEST(reached > 0u);
  BOOST_TEST(reached < std::uint64_t{64} << 20);
  BOOST_TEST(comes_true([&] { return server.stats().handshakes == 0; }));
  wire other(server.port());
  other.send(ask_for("/none"));
  BOOST_TEST(other.read_response().starts_with("HTTP/1.1 404 "));
  loop.wait(server.stop(5s));
}

// A stop lets an answer end within the deadline, and no longer.
BOOST_AUTO_TEST_CASE(a_stop_ends_a_long_answer) {
  running loop;
  chorus::server server(loop.rt(), {});
  std::atomic<std::uint64_t> reached{0};
  event gone;
  const auto endless = [&](request) -> task<response> {
    response page;
    page.source(std::make_shared<watched_source>(reached, gone));
    co_return page;
  };
  server.get("/endless", endless);
  BOOST_REQUIRE(loop.wait(server.start()));
  wire w(server.port());
  w.send(ask_for("/endless"));
  BOOST_TEST(comes_true([&] { return reached > 0; }));
  loop.wait(server.stop(50ms));
  BOOST_TEST(gone.wait());
}

BOOST_AUTO_TEST_SUITE_END()
