// A WebSocket server that sends every message back, until SIGINT or SIGTERM.
//
//   chorus_echo_server 127.0.0.1:8080

#include <chorus/chorus.hpp>

#include <cstdio>
#include <string>

namespace {

using namespace std::chrono_literals;

chorus::task<> echo(chorus::session s, chorus::request) {
  while (auto m = co_await s.receive())
    if (!co_await s.send(std::move(*m)))
      break; // the connection has ended; `s.end()` would say how
}

chorus::task<> serve(chorus::runtime &rt, chorus::server &srv, int &status) {
  if (const auto up = co_await srv.start(); !up) {
    std::fprintf(stderr, "%s\n", up.error().message().c_str());
    status = 1;
    co_return;
  }
  std::printf("listening on %s/echo\n", srv.url().c_str());
  std::fflush(stdout);
  co_await rt.signals();
  co_await srv.stop(5s);
}

} // namespace

int main(int argc, char **argv) {
  chorus::runtime rt{{.threads = 2}};
  chorus::server srv{rt, {.listen = argc > 1 ? argv[1] : "127.0.0.1:8080"}};
  srv.route("/echo", echo);
  int status = 0;
  rt.run(serve(rt, srv, status));
  return status;
}
