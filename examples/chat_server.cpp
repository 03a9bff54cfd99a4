// A chat: who connects to /chat/ROOM?name=NAME talks to everybody in that room.
//
//   chorus_chat_server 127.0.0.1:8080
//   chorus connect 'ws://127.0.0.1:8080/chat/blue?name=ann'

#include <chorus/chorus.hpp>

#include <cstdio>
#include <string>

namespace {

using namespace std::chrono_literals;

chorus::task<> chat(chorus::room room, chorus::session s, std::string name) {
  // Leaving the room is the seat's destructor, whichever way this coroutine ends.
  auto seat = co_await room.join(s);
  if (!seat)
    co_return;
  seat->publish(name + " is here", {.except = s});
  while (const auto m = co_await s.receive())
    if (m->is_text())
      seat->publish(name + ": " + m->str(), {.except = s}); // never waits, whoever reads slowly
  seat->publish(name + " has left", {.except = s});
}

chorus::task<> serve(chorus::runtime &rt, chorus::server &srv) {
  (co_await srv.start()).value(); // throws with a sentence when the port is taken
  std::printf("listening on %s/chat/ROOM?name=NAME\n", srv.url().c_str());
  std::fflush(stdout);
  co_await rt.signals();
  co_await srv.stop(5s);
}

} // namespace

int main(int argc, char **argv) {
  chorus::runtime rt{{.threads = 2}};
  chorus::server_options options;
  options.listen = argc > 1 ? argv[1] : "127.0.0.1:8080";
  options.session.max_message = 4096;
  // Who does not keep up loses the oldest lines, not the connection.
  options.session.on_overflow = chorus::overflow::drop_oldest;
  options.session.queue_bytes = 64 * 1024;

  chorus::server srv{rt, options};
  srv.route("/chat/{room}", [&srv](chorus::session s, chorus::request r) {
    const auto name = r.query_param("name");
    return chat(srv.room(r.param("room")), std::move(s),
                std::string(name.empty() ? "somebody" : name));
  });
  srv.get("/", [](chorus::request) -> chorus::task<chorus::response> {
    co_return chorus::response("a chat server; connect to /chat/ROOM?name=NAME\n");
  });
  try {
    rt.run(serve(rt, srv));
  } catch (const chorus::failure_exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
