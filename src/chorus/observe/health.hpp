#pragma once
// Whether a server works and whether it wants new connections, as orchestrators ask it.

#include <chorus/server/server.hpp>

#include <string>

namespace chorus::observe {

struct health_options {
  std::string live = "/healthz"; // 200 as long as the server answers; empty: not mounted
  std::string ready = "/readyz"; // 200 while it runs, 503 while it starts, drains or stops
};

// Plain HTTP pages without a token; they tell nothing but the state: of the server in the first line,
// and in a second, while its broker's engine is away, since when and why. Before the server starts
// (std::logic_error).
void mount_health(server &srv, health_options options = {});

} // namespace chorus::observe
