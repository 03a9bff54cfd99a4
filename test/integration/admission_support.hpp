#pragma once
// A server whose sessions tell who they are, and peers with addresses of their own.

#include "server_support.hpp"

#include <vector>

namespace server_test {

// A peer whose address is `source`, one of 127.0.0.0/8.
inline wire wire_from(const char *source, std::uint16_t port) {
  wire w;
  w.open(AF_INET);
  sockaddr_in from{};
  from.sin_family = AF_INET;
  ::inet_pton(AF_INET, source, &from.sin_addr);
  BOOST_REQUIRE(::bind(w.fd(), reinterpret_cast<sockaddr *>(&from), sizeof from) == 0);
  w.connect(port);
  return w;
}

// Its first line, or nothing when the server just closes.
inline std::string ask(wire &w, std::string_view target, std::string_view more = {},
                       std::string_view before = {}) {
  w.send(std::string(before) + upgrade_request(target, more));
  return w.read_response();
}
inline bool upgraded(const std::string &answer) { return answer.starts_with("HTTP/1.1 101 "); }

// Answers each message with what the request and the session take the peer's address for.
inline chorus::task<> where(chorus::session s, chorus::request r) {
  while (auto m = co_await s.receive()) {
    const auto answer = std::string(r.remote_address()) + " " + s.remote_address();
    co_await s.send(answer);
  }
}

inline std::string said_by(wire &w) {
  w.send(text_frame("?"));
  return w.read_frame().payload;
}

struct admitting {
  running loop;
  std::mutex mutex;
  std::vector<std::string> complaints;
  std::optional<chorus::server> server;

  explicit admitting(chorus::server_options options, unsigned threads = 1) : loop(threads) {
    options.on_error = [this](std::string_view what, const chorus::session *) {
      std::lock_guard lock(mutex);
      complaints.emplace_back(what);
    };
    server.emplace(loop.rt(), std::move(options));
    server->route("/where", where);
    server->route("/echo", echo);
    server->get("/where/page", [](chorus::request r) -> chorus::task<chorus::response> {
      co_return chorus::response(std::string(r.remote_address()));
    });
    const auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~admitting() { loop.wait(server->stop(10ms)); }
  std::uint16_t port() { return server->port(); }
  chorus::server_stats stats() { return server->stats(); }
  bool come_to_sessions(std::size_t n) {
    return comes_true([&] { return server->stats().connections == n; });
  }
};

// The name in the query is the user's.
inline chorus::task<chorus::admission> name_in_query(chorus::request r) {
  co_return chorus::admission::accept(std::string(r.query_param("user")));
}

} // namespace server_test
