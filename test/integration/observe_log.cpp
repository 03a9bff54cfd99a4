#include "observe_support.hpp"

#include <chorus/base/log.hpp>
#include <chorus/client/client.hpp>
#include <chorus/client/connect.hpp>

using namespace observe_test;
using chorus::log_level;
using chorus::log_room;

BOOST_AUTO_TEST_SUITE(observe_log)

namespace {

// Keeps what it is told, as lines of text and of JSON.
class kept final : public chorus::log_sink {
public:
  using log_sink::log_sink;
  void write(const chorus::log_record &record) noexcept override {
    std::lock_guard lock(mutex_);
    lines_.push_back(chorus::to_text_line(record));
    json_ += chorus::to_json_line(record, {}) + "\n";
  }
  std::vector<std::string> lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }
  std::string json() const {
    std::lock_guard lock(mutex_);
    return json_;
  }
  // The first line that begins like this; empty when there is none.
  std::string find(std::string_view beginning) const {
    for (const auto &line : lines())
      if (line.starts_with(beginning))
        return line;
    return {};
  }
  std::size_t count(std::string_view beginning) const {
    std::size_t n = 0;
    for (const auto &line : lines())
      n += line.starts_with(beginning) ? 1 : 0;
    return n;
  }

private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
  std::string json_;
};

std::string connection_of(const std::string &line) {
  const auto at = line.find("connection=");
  return at == line.npos ? std::string() : line.substr(at, line.find(' ', at) - at);
}

struct logged {
  std::shared_ptr<kept> sink;
  running loop;
  std::optional<chorus::server> server;
  explicit logged(chorus::log_levels levels, chorus::server_options options = {})
      : sink(std::make_shared<kept>(levels)) {
    options.log = sink;
    server.emplace(loop.rt(), std::move(options));
    server->route("/echo", echo);
    server->route("/rooms/{room}", echo);
    server->route("/broken", [](session, request) -> task<> {
      throw std::runtime_error("no database");
      co_return;
    });
    server->get("/page", [](request) -> task<chorus::response> {
      throw std::runtime_error("no template");
      co_return chorus::response();
    });
  }
  void start() {
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  void stop() { loop.wait(server->stop(5s)); }
};

} // namespace

BOOST_AUTO_TEST_CASE(a_connection_is_told_from_its_accept_to_its_end) {
  logged l{chorus::log_levels(log_level::trace)};
  l.start();
  BOOST_TEST(l.sink->find("server listening") ==
             "server listening address=" + l.server->address() + " tls=false shards=1");
  auto w = open_session(l.server->port(), "/rooms/blue");
  w.send(text_frame("x"));
  w.read_frame();
  w.send(close_frame(4001));
  w.read_all();
  BOOST_REQUIRE(comes_true([&] { return l.sink->count("session closed") == 1; }));
  const auto accepted = l.sink->find("server accepted");
  const auto upgraded = l.sink->find("session upgraded");
  const auto closed = l.sink->find("session closed");
  const auto id = connection_of(accepted);
  BOOST_TEST(!id.empty());
  BOOST_TEST(connection_of(upgraded) == id);
  BOOST_TEST(connection_of(closed) == id);
  BOOST_TEST(has(accepted, " remote=127.0.0.1:"));
  BOOST_TEST(has(upgraded, " route=\"/rooms/{room}\"") != has(upgraded, " route=/rooms/{room} "));
  BOOST_TEST(has(closed, " code=4001 by=peer how=closed "));
  BOOST_TEST(has(closed, " messages_received=1 messages_sent=1 "));

  auto other = open_session(l.server->port(), "/echo");
  BOOST_REQUIRE(comes_true([&] { return l.sink->count("session upgraded") == 2; }));
  BOOST_TEST(connection_of(l.sink->lines().back()) != id);
  other.close();
  BOOST_REQUIRE(comes_true([&] { return l.sink->count("session closed") == 2; }));
  BOOST_TEST(has(l.sink->lines().back(), " code=1006 by=server how=lost "));
  l.stop();
  BOOST_TEST(l.sink->find("server stopping") == "server stopping sessions=0");
  BOOST_TEST(l.sink->lines().back() == "server stopped sessions_aborted=0 handlers_cancelled=0");
}

BOOST_AUTO_TEST_CASE(refusals_and_failures_are_told) {
  logged l{chorus::log_levels(log_level::info)};
  l.start();
  wire lost(l.server->port());
  lost.send(upgrade_request("/nowhere?a=b"));
  lost.read_response();
  BOOST_TEST(has(l.sink->find("server refused connection="), " reason=not_found status=404 "));
  BOOST_TEST(l.sink->lines().back().ends_with(" path=/nowhere"));

  auto w = open_session(l.server->port(), "/broken");
  BOOST_TEST(w.read_frame().close_code() == 1011u);
  const auto failed = l.sink->find("server handler_failed");
  BOOST_TEST(!connection_of(failed).empty());
  BOOST_TEST(has(failed, "no database"));
  BOOST_TEST(has(get(l.server->port(), "/page"), " 500 "));
  const auto page = l.sink->find("server page_failed");
  BOOST_TEST(!connection_of(page).empty());
  BOOST_TEST(has(page, "no template"));
  BOOST_TEST(l.sink->count("server accepted") == 0u); // debug
}

BOOST_AUTO_TEST_CASE(rooms_have_levels_of_their_own) {
  auto levels = chorus::parse_log_levels("off,session=debug");
  logged l{*levels};
  l.start();
  open_session(l.server->port(), "/echo").close();
  BOOST_REQUIRE(comes_true([&] { return l.sink->count("session closed") == 1; }));
  BOOST_TEST(l.sink->lines().size() == 2u);
  l.sink->set_levels(chorus::log_levels(log_level::off));
  open_session(l.server->port(), "/echo").close();
  BOOST_REQUIRE(comes_true([&] { return l.server->size() == 0; }));
  l.sink->set_levels(chorus::log_levels(log_level::info));
  l.stop();
  BOOST_TEST(l.sink->count("session") == 2u);
  BOOST_TEST(l.sink->count("server stopped") == 1u);
}

BOOST_AUTO_TEST_CASE(an_eviction_is_a_warning) {
  chorus::server_options options;
  options.session.queue_bytes = 64 * 1024;
  options.session.on_overflow = chorus::overflow::close;
  event evicted;
  logged l{chorus::log_levels(log_level::warn), options};
  l.server->route("/flood", [&](session s, request) -> task<> {
    const std::string text(4096, 'x');
    while (s.is_open() && co_await s.send(text)) {
    }
    evicted.set();
  });
  l.start();
  auto w = open_session(l.server->port(), "/flood");
  BOOST_REQUIRE(evicted.wait());
  w.close();
  BOOST_REQUIRE(comes_true([&] { return l.sink->count("session evicted") == 1; }));
  BOOST_TEST(has(l.sink->lines().front(), " code=1013 "));
}

BOOST_AUTO_TEST_CASE(a_client_tells_of_its_attempts) {
  logged l{chorus::log_levels(log_level::off)};
  std::atomic<int> opened = 0;
  l.server->route("/cut", [&](session s, request) -> task<> {
    if (++opened == 1)
      s.abort();
    else
      co_await s.wait_closed();
  });
  l.start();
  const auto sink = std::make_shared<kept>(chorus::log_levels(log_level::trace));
  chorus::client_options options;
  options.urls = {l.server->url() + "/cut?token=hush"};
  options.backoff = {.initial = 1ms, .cap = 1ms};
  options.log = sink;
  {
    chorus::client c{l.loop.rt(), options};
    BOOST_REQUIRE(comes_true([&] { return sink->count("client connected") == 2; }));
    BOOST_TEST(l.loop.wait(c.close()).has_value());
  }
  std::vector<std::string> events;
  for (const auto &line : sink->lines())
    events.push_back(line.substr(0, line.find(' ', 7)));
  const std::vector<std::string> expected{"client attempt", "client connected", "client lost",
                                          "client attempt", "client connected", "client closed"};
  BOOST_TEST(events == expected, boost::test_tools::per_element());
  const auto lines = sink->lines();
  BOOST_TEST(has(lines[0], " number=1 scheme=ws host=127.0.0.1 port="));
  for (std::size_t i : {std::size_t{1}, std::size_t{2}})
    BOOST_TEST(connection_of(lines[i]) == connection_of(lines[0]));
  BOOST_TEST(connection_of(lines[3]) != connection_of(lines[0]));
  BOOST_TEST(has(lines[4], " again=true "));

  // A refusal for good.
  options.urls = {l.server->url() + "/cut"};
  options.headers = {{"Origin", "https://evil.example"}};
  chorus::client refused{l.loop.rt(), options};
  BOOST_TEST(!l.loop.wait(refused.connected()));
  BOOST_TEST(has(sink->find("client attempt_failed"), " stage=upgrade "));
  BOOST_TEST(has(sink->find("client gave_up"), " status=403"));
  BOOST_TEST(has(sink->find("client gave_up"), " remedy=check_permission "));
}

BOOST_AUTO_TEST_CASE(secrets_and_payloads_stay_out) {
  const std::string secret = "c0rrect-h0rse";
  logged l{chorus::log_levels(log_level::trace)};
  l.start();
  const std::string more = "Authorization: Bearer " + secret + "\r\nCookie: id=" + secret +
                           "\r\nSec-WebSocket-Protocol: chat, " + secret +
                           "\r\nX-Token: " + secret + "\r\n";
  // Opened, with a token everywhere, a payload, and a reason of the close.
  auto w = open_session(l.server->port(), "/rooms/blue?token=" + secret, more);
  w.send(text_frame("{\"token\":\"" + secret + "\"}"));
  BOOST_TEST(has(w.read_frame().payload, secret));
  std::string reason("\x0f\xa1", 2); // 4001
  w.send(client_frame(8, reason + secret));
  w.read_all();
  // One that breaks the protocol in a message with a token.
  auto bad = open_session(l.server->port(), "/echo?token=" + secret);
  bad.send(client_frame(1, "\xff" + secret));
  bad.read_all();
  // Refused in each way: no path, an origin, a page, a request that is none.
  for (const auto &request :
       {upgrade_request("/nowhere?token=" + secret, more),
        upgrade_request("http://user:" + secret + "@host/nowhere?token=" + secret, more),
        upgrade_request("/echo?token=" + secret, "Origin: https://" + secret + ".example\r\n"),
        upgrade_request("/page?token=" + secret, more),
        "GET /page?token=" + secret + " HTTP/1.1\r\nHost: a\r\nConnection: close\r\n" + more +
            "\r\n",
        "NONSENSE " + secret + "\r\n\r\n"}) {
    wire refused(l.server->port());
    refused.send(request);
    refused.read_all();
  }
  // The library's own client.
  chorus::client_options options;
  options.urls = {l.server->url() + "/rooms/" + "blue?token=" + secret};
  options.headers = {{"Authorization", "Bearer " + secret}};
  options.subprotocols = {secret};
  options.log = l.sink;
  {
    chorus::client c{l.loop.rt(), options};
    BOOST_TEST(l.loop.wait(c.connected()).has_value());
    BOOST_TEST(l.loop.wait(c.send(secret)).has_value());
    BOOST_TEST(l.loop.wait(c.close(chorus::close_code::normal, secret)).has_value());
  }
  options.urls = {l.server->url() + "/nowhere/?token=" + secret};
  options.max_attempts = 1;
  chorus::client refused{l.loop.rt(), options};
  BOOST_TEST(!l.loop.wait(refused.connected()));
  l.stop();
  BOOST_TEST(l.sink->count("server refused") >= 4u);
  BOOST_TEST(l.sink->count("session closed") == 3u);
  BOOST_TEST(l.sink->count("client ") >= 4u);
  for (const auto &line : l.sink->lines())
    BOOST_TEST(!has(line, secret), line);
  BOOST_TEST(!has(l.sink->json(), secret));
}

BOOST_AUTO_TEST_SUITE_END()
