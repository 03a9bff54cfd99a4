#pragma once
// `connect` under way against a scripted server.

#include "scripted.hpp"

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

} // namespace client_test
