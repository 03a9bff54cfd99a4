#include <chorus/observe.hpp>

#include <cstdio>

namespace {

chorus::task<> scrape(chorus::observe::metrics metrics) {
  const auto text = co_await metrics.scrape();
  std::printf("%zu bytes\n", text ? text->size() : 0);
}

} // namespace

int main() {
  chorus::runtime rt;
  chorus::server srv{rt, {}};
  rt.run(scrape(chorus::observe::mount_metrics(srv)));
}
