// The same library with callbacks: a client that is told of connections, messages and losses. The
// server is in the same program, so that it can be run as it is; it ends after three messages.

#include <chorus/chorus.hpp>

#include <cstdio>
#include <string>

namespace {

using namespace std::chrono_literals;

chorus::task<> count_to_three(chorus::session s, chorus::request) {
  for (int i = 1; i <= 3; ++i)
    if (!co_await s.send(std::to_string(i)))
      co_return;
  co_await s.receive(); // ends when the client goes
}

chorus::task<> run(chorus::runtime &rt, chorus::server &srv) {
  (co_await srv.start()).value();

  // All callbacks run on the client's shard: what only they touch needs no lock.
  int seen = 0;
  chorus::client_options options;
  options.urls = {srv.url() + "/count"};
  options.shard = 0;
  options.on_connect = [](chorus::session &s) {
    std::printf("connected to %s\n", s.remote_address().c_str());
  };
  options.on_message = [&seen](const chorus::message &m) {
    std::printf("message %s\n", m.str().c_str());
    ++seen;
  };
  options.on_disconnect = [](const chorus::failure &why) {
    std::printf("disconnected: %s\n", why.message().c_str());
  };
  options.on_error = [](const chorus::failure &why) {
    std::printf("no connection: %s\n", why.message().c_str());
  };
  chorus::client c{rt, std::move(options)};
  while (seen < 3)
    co_await chorus::sleep(5ms);
  co_await c.close();
  co_await srv.stop(1s);
}

} // namespace

int main() {
  chorus::runtime rt;
  chorus::server srv{rt, {.listen = "127.0.0.1:0"}};
  srv.route("/count", count_to_three);
  try {
    rt.run(run(rt, srv));
  } catch (const std::exception &e) {
    std::fprintf(stderr, "%s\n", e.what());
    return 1;
  }
}
