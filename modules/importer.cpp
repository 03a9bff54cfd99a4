// A program that knows Chorus by `import` alone: a server and its clients on loopback that connect,
// send, receive and broadcast. Exit status 0 when all of it worked.
#include <chrono>
#include <coroutine>
#include <cstdio>
#include <exception>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

import chorus;

using namespace std::chrono_literals;

namespace {

void expect(bool holds, const char *what) {
  if (!holds)
    throw std::runtime_error(what);
  std::printf("%s\n", what);
}

chorus::task<> echo(chorus::session s, chorus::request) {
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

chorus::task<> talk(chorus::runtime &rt, chorus::server &srv) {
  auto up = co_await srv.start();
  up.value();

  const std::string echo_url = srv.url() + "/echo";
  auto s = co_await chorus::connect(echo_url);
  s.value();
  (co_await s->send("hello")).value();
  auto reply = co_await s->receive();
  expect(reply.value().text() == "hello", "a message comes back");
  (co_await s->send(chorus::binary("\x01\x02"))).value();
  auto raw = co_await s->receive();
  expect(raw.value().is_binary() && raw->size() == 2, "a binary message comes back");
  chorus::json::value order;
  order.emplace_object()["count"] = 3;
  (co_await chorus::send_json(*s, order)).value();
  auto json = co_await chorus::receive_json(*s);
  expect(json.value().at("count").as_int64() == 3, "JSON comes back");
  (co_await s->close()).value();
  auto ended = co_await s->receive();
  expect(ended.has_error() && ended.error().code() == chorus::error::closed, "closed is closed");

  constexpr std::size_t members = 3;
  const std::string room_url = srv.url() + "/room/blue";
  std::vector<chorus::session> sessions;
  for (std::size_t i = 0; i < members; ++i) {
    auto member = co_await chorus::connect(room_url);
    sessions.push_back(member.value());
    // The handler speaks once it has its seat.
    auto seated = co_await sessions.back().receive();
    seated.value();
  }
  chorus::room blue = srv.room("blue");
  auto report = co_await blue.broadcast("to all", {.deadline = 5s});
  expect(report.delivered == members, "a broadcast reports every member");
  for (auto &member : sessions) {
    auto got = co_await member.receive();
    expect(got.value().text() == "to all", "a member has the broadcast");
  }

  using namespace chorus::operators;
  auto first = co_await (chorus::sleep(1ms) || sessions.front().receive());
  expect(first.index() == 0, "tasks compose");
  auto executor = co_await chorus::asio::this_coro::executor;
  chorus::asio::steady_timer timer(executor, 1ms);
  co_await timer.async_wait(chorus::asio::use_awaitable);

  chorus::client_options options{.urls = {echo_url}};
  chorus::client c{rt, std::move(options)};
  (co_await c.send("again")).value();
  auto again = co_await c.receive();
  expect(again.value().text() == "again", "a reconnecting client echoes");
  (co_await c.close()).value();

  for (auto &member : sessions)
    (co_await member.close()).value();
  auto stopped = co_await srv.stop(5s);
  expect(stopped.handlers_cancelled == 0, "the server stops in order");
}

} // namespace

int main() try {
  chorus::runtime rt{{.threads = 2}};
  chorus::server srv{rt, {.listen = "127.0.0.1:0"}};
  srv.route("/echo", echo);
  srv.route("/room/{name}", [&srv](chorus::session s, chorus::request r) -> chorus::task<> {
    chorus::room room = srv.room(r.param("name"));
    auto seat = co_await room.join(s);
    seat.value();
    co_await s.send("seated");
    auto end = co_await s.wait_closed();
  });
  rt.run(talk(rt, srv));
  std::printf("import chorus works\n");
  return 0;
} catch (const std::exception &e) {
  std::fprintf(stderr, "importer: %s\n", e.what());
  return 1;
}
