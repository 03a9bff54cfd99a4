#pragma once

#include <chorus/chorus.hpp>

#include <cstdio>
#include <memory>
#include <utility>

inline chorus::task<> start(chorus::server &srv) {
  const auto up = co_await srv.start();
  std::printf("%s\n", up.has_error() ? up.error().message().c_str() : "started");
}

// A server that shares rooms by `broker`, for as long as it takes to start it.
inline void serve(std::shared_ptr<chorus::broker> broker) {
  chorus::runtime rt;
  chorus::server_options options;
  options.broker = std::move(broker);
  chorus::server srv{rt, options};
  rt.run(start(srv));
}
