// What a user writes: one file with a reconnecting client in it. That it compiles without a warning
// is checked in every build; how long it takes is printed by `./run bench compile`.
#include <chorus/chorus.hpp>

#include <cstdio>
#include <string>

namespace {

chorus::task<> follow(chorus::runtime &rt, std::string url) {
  chorus::client_options options{.urls = {std::move(url)}};
  options.backoff.initial = std::chrono::milliseconds(200);
  options.on_disconnect = [](const chorus::failure &why) {
    std::fprintf(stderr, "away: %s\n", why.message().c_str());
  };
  chorus::client c{rt, std::move(options)};
  co_await c.send("hello");
  while (auto m = co_await c.receive())
    std::printf("%.*s\n", static_cast<int>(m->size()), m->text().data());
  auto stats = c.stats();
  std::printf("%llu reconnects\n", static_cast<unsigned long long>(stats.reconnects));
}

} // namespace

int client_user(std::string url) {
  chorus::runtime rt;
  rt.run(follow(rt, std::move(url)));
  return 0;
}
