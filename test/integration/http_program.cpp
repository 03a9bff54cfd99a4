// Files, pages and the admin mount, for peers to ask: http_program DIRECTORY TOKEN. Prints its port, and
// ends with SIGTERM or with who started it.

#include <chorus/chorus.hpp>

#include <csignal>
#include <cstdio>
#include <string>
#include <sys/prctl.h>

namespace {

chorus::task<> echo(chorus::session s, chorus::request) {
  while (auto m = co_await s.receive())
    co_await s.send(*m);
}

chorus::task<chorus::response> repeat(chorus::request r) {
  co_return chorus::response(std::string(r.body()), "application/octet-stream");
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 3)
    return 2;
  chorus::runtime rt{{.threads = 2}};
  chorus::server_options options;
  options.max_body_bytes = 4 << 20;
  options.max_requests = 100;
  chorus::server srv{rt, std::move(options)};
  srv.files("/files", argv[1]);
  srv.assets("/", {{"index.html", "<!doctype html><title>peer</title>"}});
  srv.post("/repeat", repeat);
  srv.put("/repeat", repeat);
  srv.route("/echo", echo);
  srv.mount_admin("/admin", {.token = argv[2]});
  ::prctl(PR_SET_PDEATHSIG, SIGTERM);
  const auto serve = [&]() -> chorus::task<> {
    const auto up = co_await srv.start();
    if (!up)
      co_return;
    std::printf("%u\n", static_cast<unsigned>(srv.port()));
    std::fflush(stdout);
    co_await rt.signals();
    co_await srv.stop(std::chrono::seconds(5));
  };
  rt.run(serve());
}
