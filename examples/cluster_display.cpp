#include "cluster_display.hpp"

#include <cstdarg>

namespace cluster_demo {

void display::event(const char *format, ...) {
  std::printf("%s%s%6.2f s  ", terminal_ ? "\r\x1b[K" : "", colour("\x1b[1m"), elapsed());
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("%s\n", colour("\x1b[0m"));
  std::fflush(stdout);
}

void display::status(const std::string &line) {
  if (terminal_)
    std::printf("\r%6.2f s  %s\x1b[K", elapsed(), line.c_str());
  else
    std::printf("%6.2f s  %s\n", elapsed(), line.c_str());
  std::fflush(stdout);
}

} // namespace cluster_demo
