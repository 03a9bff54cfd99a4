// A client that stays connected: it comes back after every loss, tries the next URL when one does not
// answer, and sends in order what was queued meanwhile. Prints what it receives.
//
//   chorus_reconnecting_client ws://127.0.0.1:8080/chat/blue [ws://...]

#include <chorus/chorus.hpp>

#include <cstdio>
#include <string>

namespace {

using namespace std::chrono_literals;

chorus::task<> print_all(chorus::client &c) {
  // Goes on across connections; fails only when the client has ended for good.
  for (;;) {
    const auto m = co_await c.receive();
    if (!m) {
      std::fprintf(stderr, "ended: %s\n", m.error().message().c_str());
      co_return;
    }
    std::printf("%s\n", m->str().c_str());
    std::fflush(stdout);
  }
}

chorus::task<> talk(chorus::runtime &rt, chorus::client &c) {
  // Takes its place in the outbox at once, connected or not.
  co_await c.send("hello");
  co_await rt.signals();
  co_await c.close();
  const auto stats = c.stats();
  std::fprintf(stderr, "%llu connections, %llu messages received, %llu unconfirmed\n",
               static_cast<unsigned long long>(stats.connects),
               static_cast<unsigned long long>(stats.messages_received),
               static_cast<unsigned long long>(stats.messages_unconfirmed));
}

} // namespace

int main(int argc, char **argv) {
  if (argc < 2) {
    std::fprintf(stderr, "usage: chorus_reconnecting_client URL...\n");
    return 2;
  }
  chorus::runtime rt;
  chorus::client_options options;
  options.urls.assign(argv + 1, argv + argc);
  options.backoff = {.initial = 200ms, .cap = 10s};
  options.session.heartbeat = {.ping_interval = 10s, .pong_wait = 25s};
  options.on_disconnect = [](const chorus::failure &why) {
    std::fprintf(stderr, "disconnected: %s\n", why.message().c_str());
  };
  options.on_error = [](const chorus::failure &why) {
    std::fprintf(stderr, "no connection: %s\n", why.message().c_str());
  };
  chorus::client c{rt, std::move(options)};
  rt.spawn(print_all(c));
  rt.run(talk(rt, c));
}
