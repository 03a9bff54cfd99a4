// Requests with bodies: their bounds, their framing, several on one connection.

#include "server_support.hpp"

#include <chorus/base/error.hpp>

using namespace server_test;
using chorus::request;
using chorus::response;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_bodies)

namespace {

task<response> repeat(request r) { co_return response("got " + std::string(r.body())); }
task<response> measure(request r) { co_return response(std::to_string(r.body().size())); }

struct fixture {
  running loop;
  chorus::server server;

  explicit fixture(chorus::server_options options = {}) : server(loop.rt(), std::move(options)) {
    server.post("/repeat", repeat);
    server.post("/measure", measure);
    server.get("/", measure);
    server.route("/echo", echo);
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server.stop(5s)); }
};

std::string post(std::string_view target, std::string_view more, std::string_view body = {}) {
  return "POST " + std::string(target) + " HTTP/1.1\r\nHost: a\r\n" + std::string(more) + "\r\n" +
         std::string(body);
}
std::string sized(std::string_view target, std::string_view body, std::string_view more = {}) {
  return post(target, "Content-Length: " + std::to_string(body.size()) + "\r\n" + std::string(more),
              body);
}
const std::string chunked = "Transfer-Encoding: chunked\r\n";
bool ends_connection(const std::string &answer) { return has(answer, "Connection: close\r\n"); }

} // namespace

BOOST_AUTO_TEST_CASE(both_framings_pipelined) {
  fixture f;
  wire w(f.server.port());
  w.send(sized("/repeat", "one") + post("/repeat", chunked, "3\r\ntwo\r\n0\r\n\r\n") +
         sized("/repeat", "") + post("/repeat", "") + sized("/none", "dropped") +
         sized("/", "dropped") + sized("/repeat", "last"));
  for (const char *expected : {"got one", "got two", "got ", "got "}) {
    const auto answer = w.read_response();
    BOOST_TEST(answer.starts_with("HTTP/1.1 200 "));
    BOOST_TEST(answer.ends_with("\r\n\r\n" + std::string(expected)), answer);
  }
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 404 "));
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 405 "));
  BOOST_TEST(w.read_response().ends_with("got last"));
  BOOST_TEST(f.server.stats().accepted == 1u);
}

BOOST_AUTO_TEST_CASE(a_body_may_be_cut_anywhere) {
  fixture f;
  for (const auto &text : {sized("/repeat", "hello"),
                           post("/repeat", chunked, "5;x=y\r\nhello\r\n0\r\nT: 1\r\n\r\n")}) {
    wire w(f.server.port());
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      w.send(std::string_view(text).substr(0, cut));
      w.send(std::string_view(text).substr(cut));
      BOOST_REQUIRE(w.read_response().ends_with("\r\n\r\ngot hello"));
    }
    // And may never go on.
    const auto before = f.server.stats();
    for (std::size_t cut = 1; cut < text.size(); ++cut) {
      wire broken(f.server.port());
      broken.send(std::string_view(text).substr(0, cut));
    }
    BOOST_TEST(comes_true([&] {
      return f.server.stats().handshakes_failed == before.handshakes_failed + text.size() - 1;
    }));
    wire after(f.server.port());
    after.send(sized("/repeat", "alive"));
    BOOST_TEST(after.read_response().ends_with("got alive"));
  }
}

BOOST_AUTO_TEST_CASE(a_large_body_arrives_whole) {
  fixture f;
  wire w(f.server.port());
  const std::string large(std::size_t{1} << 20, 'x');
  w.send(sized("/measure", large));
  BOOST_TEST(w.read_response().ends_with("\r\n\r\n1048576"));
  std::string text;
  for (std::size_t at = 0; at < large.size(); at += 4096)
    text += "1000\r\n" + large.substr(at, 4096) + "\r\n";
  w.send(post("/measure", chunked, text + "0\r\n\r\n"));
  BOOST_TEST(w.read_response().ends_with("\r\n\r\n1048576"));
}

BOOST_AUTO_TEST_CASE(a_body_past_the_bound_is_a_413) {
  chorus::server_options options;
  options.max_body_bytes = 10;
  fixture f(options);
  for (const auto &text :
       {sized("/repeat", "eleven byte"), post("/repeat", "Content-Length: 99999999999\r\n"),
        post("/repeat", chunked, "6\r\nfirst \r\n5\r\nsecon"), sized("/none", "eleven byte")}) {
    wire w(f.server.port());
    w.send(text);
    const auto answer = w.read_all();
    BOOST_TEST(answer.starts_with("HTTP/1.1 413 "), answer);
    BOOST_TEST(ends_connection(answer));
  }
  wire w(f.server.port());
  w.send(sized("/repeat", "ten bytes!"));
  BOOST_TEST(w.read_response().ends_with("got ten bytes!"));
}

BOOST_AUTO_TEST_CASE(an_answer_to_head_has_no_body_whatever_it_is) {
  chorus::server_options options;
  options.body_timeout = 20ms;
  fixture f(options);
  const std::string too_large = "Host: a\r\nContent-Length: 99999999\r\n";
  const std::string never_comes = "Host: a\r\nContent-Length: 1\r\n";
  const std::string no_get = "Host: a\r\nUpgrade: websocket\r\n";
  for (const auto &fields : {std::string(), too_large, never_comes, no_get}) {
    wire w(f.server.port());
    w.send("HEAD / HTTP/1.1\r\n" + fields + "\r\n");
    const auto answer = w.read_all();
    BOOST_TEST(answer.starts_with("HTTP/1.1 4"), answer);
    BOOST_TEST(has(answer, "\r\nContent-Length: "));
    BOOST_TEST(answer.ends_with("\r\n\r\n"), answer);
  }
}

BOOST_AUTO_TEST_CASE(continue_is_said_only_to_what_is_wanted) {
  fixture f;
  wire w(f.server.port());
  const std::string expect = "Expect: 100-continue\r\n";
  w.send(post("/repeat", expect + "Content-Length: 2\r\n"));
  BOOST_TEST(w.read_response() == "HTTP/1.1 100 Continue\r\n\r\n");
  w.send("ab");
  BOOST_TEST(w.read_response().ends_with("got ab"));
  w.send(post("/repeat", expect + chunked));
  BOOST_TEST(w.read_response() == "HTTP/1.1 100 Continue\r\n\r\n");
  w.send("2\r\ncd\r\n0\r\n\r\n");
  BOOST_TEST(w.read_response().ends_with("got cd"));
  w.send(post("/repeat", expect + "Content-Length: 2\r\n", "ef")); // does not wait
  BOOST_TEST(w.read_response().ends_with("got ef"));
  w.send(post("/repeat", expect)); // nothing to go on with
  BOOST_TEST(w.read_response().ends_with("got "));
  // A refusal comes at once, and ends the connection: the body may follow or not.
  w.send(post("/none", expect + "Content-Length: 2\r\n"));
  const auto refused = w.read_all();
  BOOST_TEST(refused.starts_with("HTTP/1.1 404 "));
  BOOST_TEST(ends_connection(refused));
  wire large(f.server.port());
  large.send(post("/repeat", expect + "Content-Length: 2000000\r\n"));
  BOOST_TEST(large.read_all().starts_with("HTTP/1.1 413 "));
}

BOOST_AUTO_TEST_CASE(a_body_has_a_deadline) {
  chorus::server_options options;
  options.body_timeout = 50ms;
  fixture f(options);
  wire silent(f.server.port());
  silent.send(post("/repeat", "Content-Length: 5\r\n", "he"));
  BOOST_TEST(silent.read_all().starts_with("HTTP/1.1 408 "));
  // Bytes that keep coming don't buy time.
  wire slow(f.server.port());
  slow.send(post("/repeat", "Content-Length: 1000000\r\n"));
  const auto end = std::chrono::steady_clock::now() + patience;
  bool cut = false;
  while (!cut && std::chrono::steady_clock::now() < end) {
    cut = !slow.send("x") || slow.readable();
    std::this_thread::sleep_for(1ms); // the pace
  }
  BOOST_TEST(cut);
  BOOST_TEST(comes_true([&] { return f.server.stats().handshakes_failed == 2; }));
}

BOOST_AUTO_TEST_CASE(a_body_that_is_still_coming_at_the_stop) {
  fixture f;
  wire w(f.server.port());
  w.send(sized("/repeat", "one")); // so that the connection is known to be served
  w.read_response();
  w.send(post("/repeat", "Content-Length: 5\r\nExpect: 100-continue\r\n"));
  w.read_response();
  const auto report = f.loop.wait(f.server.stop(10s));
  BOOST_TEST(report.handlers_cancelled == 0u);
  BOOST_TEST(w.read_all().starts_with("HTTP/1.1 503 "));
}

BOOST_AUTO_TEST_CASE(requests_on_one_connection_are_limited) {
  chorus::server_options options;
  options.max_requests = 3;
  fixture f(options);
  wire w(f.server.port());
  w.send(sized("/repeat", "1") + sized("/none", "2") + sized("/repeat", "3") +
         sized("/repeat", "4"));
  const auto first = w.read_response();
  BOOST_TEST(first.ends_with("got 1"));
  BOOST_TEST(!ends_connection(first));
  BOOST_TEST(!ends_connection(w.read_response()));
  const auto last = w.read_all();
  BOOST_TEST(last.ends_with("got 3"));
  BOOST_TEST(ends_connection(last));
}

BOOST_AUTO_TEST_CASE(older_clients) {
  fixture f;
  wire w(f.server.port());
  w.send("POST /repeat HTTP/1.0\r\nContent-Length: 3\r\n\r\noldGET / HTTP/1.0\r\n\r\n");
  const auto answer = w.read_all();
  BOOST_TEST(answer.ends_with("\r\n\r\ngot old"));
  BOOST_TEST(ends_connection(answer));
}

// A server in front of this one might see two requests, or another one, in these; so they are refused and
// nothing behind them is read.
BOOST_AUTO_TEST_CASE(nothing_is_smuggled) {
  fixture f;
  const std::string hidden = "POST /repeat HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nhidden";
  const struct {
    std::string text;
    const char *status;
  } cases[] = {
      {post("/repeat", "Content-Length: 4\r\n" + chunked, "0\r\n\r\n"), "400"},
      {post("/repeat", chunked + "Content-Length: 4\r\n", "0\r\n\r\n"), "400"},
      {post("/repeat", "Content-Length: 0\r\nContent-Length: 4\r\n"), "400"},
      {post("/repeat", "Content-Length: 4\r\nContent-Length: 4\r\n", "abcd"), "400"},
      {post("/repeat", "Content-Length: 4, 4\r\n", "abcd"), "400"},
      {post("/repeat", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n"), "501"},
      {post("/repeat", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n"), "501"},
      {post("/repeat", chunked + "Transfer-Encoding: identity\r\n", "0\r\n\r\n"), "400"},
      {post("/repeat", "Transfer-Encoding:\r\n chunked\r\n", "0\r\n\r\n"), "400"},
      {post("/repeat", "X: 1\r\n Content-Length: 4\r\n"), "400"},
      {post("/repeat", "X: 1\nContent-Length: 4\r\n"), "400"},
      {post("/repeat", "Content-Length : 4\r\n", "abcd"), "400"},
      {post("/repeat", chunked, "0\n\n"), "400"},
      {post("/repeat", chunked, "1\r\nab\r\n0\r\n\r\n"), "400"},
      {"POST /repeat HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400"},
      {"POST /repeat HTTP/1.1\r\n\r\n", "400"},
      {"POST /repeat HTTP/1.0\r\n" + chunked + "\r\n0\r\n\r\n", "400"},
  };
  for (const auto &c : cases) {
    wire w(f.server.port());
    w.send(c.text + hidden);
    const auto answer = w.read_all();
    BOOST_TEST_CONTEXT(c.text << "\n" << answer) {
      BOOST_TEST(answer.starts_with("HTTP/1.1 " + std::string(c.status) + " "));
      BOOST_TEST(ends_connection(answer));
      BOOST_TEST(!has(answer, "hidden"));
      BOOST_TEST(answer.find("HTTP/1.1 ", 1) == std::string::npos);
    }
  }
  // What a trailer says is no header of the request.
  wire w(f.server.port());
  w.send(post("/repeat", chunked, "0\r\nContent-Type: x\r\nExpect: 100-continue\r\n\r\n") + hidden);
  BOOST_TEST(w.read_response().ends_with("got "));
  BOOST_TEST(w.read_response().ends_with("got hidden"));
}

BOOST_AUTO_TEST_CASE(bodies_before_an_upgrade) {
  fixture f;
  wire w(f.server.port());
  w.send(sized("/repeat", "x") + upgrade_request("/echo") + text_frame("on"));
  w.read_response();
  BOOST_TEST(w.read_response().starts_with("HTTP/1.1 101 "));
  BOOST_TEST(w.read_frame().payload == "on");
  wire odd(f.server.port());
  odd.send(upgrade_request("/echo", "Content-Length: 3\r\n") + "abc" + text_frame("on"));
  BOOST_TEST(odd.read_response().starts_with("HTTP/1.1 101 "));
  BOOST_TEST(odd.read_frame().payload == "on");
}

BOOST_AUTO_TEST_SUITE_END()
