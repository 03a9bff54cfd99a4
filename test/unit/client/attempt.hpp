#pragma once
// `connect` under way against a scripted server.

#include "scripted.hpp"

#include <chorus/async/shard.hpp>

namespace client_test {

using chorus::connect;
using chorus::connect_options;
using chorus::session;
using attempt = background<result<session>>;

inline attempt dial(world &w, const listener &l, connect_options o = {}) {
  return attempt(w.rt.executor(), connect(l.url("/chat"), o));
}

inline bool says(const failure &f, std::string_view part) {
  return f.message().find(part) != std::string::npos;
}

// Time by hand, until `done`.
template <class F> task<> pass_time(chorus::detail::shard &home, F &done) {
  while (!done()) {
    home.advance(5ms);
    co_await turns(10);
  }
}

} // namespace client_test
