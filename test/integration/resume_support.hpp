#pragma once
// A peer of the resume protocol made from docs/protocol.md alone: a blocking socket, a JSON parser, and
// the rules for clients. It knows nothing of the library's own reading and writing of headers.

#include "integration/server_support.hpp"

#include <boost/json.hpp>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace resume_test {

using namespace server_test;

inline constexpr std::string_view offer = "Sec-WebSocket-Protocol: chorus.v1\r\n";

// One message of the server.
struct heard {
  std::string t; // empty: the connection has ended, or a close came
  std::string room, epoch, why, payload;
  std::int64_t offset = -1;
  std::int64_t missed = -1;
  int recovered = -1; // 0, 1; -1: not said
  bool binary = false;
  unsigned closed = 0; // the close code
};

inline std::string masked(unsigned opcode, std::string_view payload) {
  std::string text;
  text.push_back(static_cast<char>(0x80U | opcode));
  if (payload.size() < 126) {
    text.push_back(static_cast<char>(0x80U | payload.size()));
  } else {
    text.push_back(static_cast<char>(0xfe));
    text.push_back(static_cast<char>(payload.size() >> 8));
    text.push_back(static_cast<char>(payload.size() & 0xff));
  }
  text.append(4, '\0');
  return text.append(payload);
}

// Splits a message and looks into its header.
inline heard understood(std::string_view message) {
  heard h;
  const auto end = message.find('\n');
  const auto header = boost::json::parse(message.substr(0, end)).as_object();
  if (end != message.npos)
    h.payload = message.substr(end + 1);
  const auto text = [&](std::string_view name) {
    const auto *v = header.if_contains(name);
    return v ? std::string(v->as_string()) : std::string();
  };
  const auto number = [&](std::string_view name) {
    const auto *v = header.if_contains(name);
    return v ? v->as_int64() : -1;
  };
  h.t = text("t");
  h.room = text("room");
  h.epoch = text("epoch");
  h.why = text("why");
  h.offset = number("offset");
  h.missed = number("missed");
  if (const auto *v = header.if_contains("recovered"))
    h.recovered = v->as_bool() ? 1 : 0;
  return h;
}

struct place {
  std::string epoch;
  std::int64_t offset = 0;
};

// A client across its connections.
class client {
public:
  explicit client(std::string id = {}) : id_(std::move(id)) {}

  void open(std::uint16_t port, std::string_view target) {
    w_.emplace(port);
    w_->send(upgrade_request(target, offer));
    const auto answer = w_->read_response();
    BOOST_REQUIRE_MESSAGE(answer.starts_with("HTTP/1.1 101 "), answer);
    BOOST_REQUIRE(has(answer, "Sec-WebSocket-Protocol: chorus.v1\r\n"));
  }
  void hello() {
    boost::json::object rooms;
    for (const auto &[room, at] : positions)
      rooms[room] = {{"epoch", at.epoch}, {"offset", at.offset}};
    boost::json::object header{{"t", "hello"}, {"rooms", rooms}};
    if (!id_.empty())
      header["client"] = id_;
    say(boost::json::serialize(header));
  }
  void connect(std::uint16_t port, std::string_view target) {
    open(port, target);
    hello();
  }
  void say(std::string_view text) { w_->send(masked(1, text)); }
  void send(std::string_view payload) { say("{\"t\":\"msg\"}\n" + std::string(payload)); }
  void ack(std::string_view room, std::int64_t offset) {
    say(boost::json::serialize(
        boost::json::object{{"t", "ack"}, {"room", room}, {"offset", offset}}));
  }
  // Cuts the connection without a word.
  void vanish() { w_.reset(); }
  wire &raw() { return *w_; }

  // The next message as it came.
  heard next() {
    for (;;) {
      const auto f = w_->read_frame();
      heard h;
      if (f.opcode == 9 || f.opcode == 10)
        continue;
      if (f.opcode == 8)
        h.closed = f.close_code();
      if (f.opcode != 1 && f.opcode != 2)
        return h;
      h = understood(f.payload);
      h.binary = f.opcode == 2;
      return h;
    }
  }
  // The same, with what the page asks of a client done about it.
  heard take() {
    for (;;) {
      auto h = next();
      if (h.t == "joined" && !h.epoch.empty())
        positions[h.room] = {h.epoch, h.offset};
      else if (h.t == "joined" || h.t == "left")
        positions.erase(h.room);
      if (h.t == "msg" && h.offset >= 0) {
        auto &at = positions[h.room];
        BOOST_CHECK_GT(h.offset, 0);
        if (h.epoch == at.epoch && h.offset <= at.offset) {
          ++doubled;
          continue;
        }
        at = {h.epoch, h.offset};
        seen[h.room].push_back(h.payload);
      }
      return h;
    }
  }
  heard joined() {
    auto h = take();
    BOOST_REQUIRE_EQUAL(h.t, "joined");
    return h;
  }

  std::map<std::string, place> positions;
  std::map<std::string, std::vector<std::string>> seen; // of messages with an offset
  int doubled = 0;

private:
  std::string id_;
  std::optional<wire> w_;
};

// A server whose path names a room; what comes in is published to all but the sender.
struct rooms_server {
  running loop;
  chorus::server server;
  explicit rooms_server(chorus::server_options options = {}, unsigned threads = 2,
                        std::size_t newcomer = 0)
      : loop(threads), server(loop.rt(), std::move(options)) {
    server.route("/r/{room}",
                 [this, newcomer](chorus::session s, chorus::request r) -> chorus::task<> {
                   auto held = co_await server.room(r.param("room")).join(s, {.history = newcomer});
                   if (!held)
                     co_return;
                   while (auto m = co_await s.receive())
                     held->publish(*m, {.except = s});
                 });
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~rooms_server() { loop.wait(server.stop(5s)); }
  std::uint16_t port() const { return server.port(); }
};

inline chorus::server_options keeping(std::size_t messages) {
  chorus::server_options options;
  options.rooms = [messages](std::string_view) {
    chorus::room_options r;
    r.history_messages = messages;
    return r;
  };
  return options;
}

inline std::vector<std::string> numbers(int from, int to) {
  std::vector<std::string> all;
  for (int i = from; i < to; ++i)
    all.push_back(std::to_string(i));
  return all;
}

inline void same(const std::vector<std::string> &got, const std::vector<std::string> &want) {
  BOOST_CHECK_EQUAL_COLLECTIONS(got.begin(), got.end(), want.begin(), want.end());
}

} // namespace resume_test
