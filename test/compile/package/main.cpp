#include <chorus/chorus.hpp>

#include <cstdio>

namespace {

chorus::task<> hello() {
  auto s = co_await chorus::connect("nonsense://nowhere");
  std::printf("%s\n", s.has_error() ? s.error().message().c_str() : "connected");
}

} // namespace

int main() {
  chorus::runtime rt;
  rt.run(hello());
}
