#pragma once
// What the cluster demo shows while it runs.

#include <chrono>
#include <cstdio>
#include <string>

#include <unistd.h>

namespace cluster_demo {

// What happens now, and a status line every half second: rewritten on a terminal, plain elsewhere.
class display {
public:
  void event(const char *format, ...) __attribute__((format(printf, 2, 3)));
  // ASCII; as much of it as the terminal has room for in a line. `well` chooses the colour.
  void status(const std::string &line, bool well);
  const char *colour(const char *code) const { return terminal_ ? code : ""; }
  bool terminal() const noexcept { return terminal_; }
  double elapsed() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin_).count();
  }

private:
  const bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  const std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
};

} // namespace cluster_demo
