#include <chorus/redis.hpp>

#include <chorus/chorus.hpp>

#include <cstdio>

namespace {

chorus::task<> start(chorus::server &srv) {
  const auto up = co_await srv.start();
  std::printf("%s\n", up.has_error() ? up.error().message().c_str() : "started");
}

} // namespace

int main() {
  chorus::runtime rt;
  chorus::server_options options;
  options.broker = chorus::redis("redis://nobody:0");
  chorus::server srv{rt, options};
  rt.run(start(srv));
}
