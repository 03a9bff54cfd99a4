#include "cluster_display.hpp"

#include <sys/ioctl.h>

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

void display::status(const std::string &line, bool well) {
  char time[32];
  std::snprintf(time, sizeof time, "%6.2f s  ", elapsed());
  auto text = time + line;
  if (terminal_) {
    // One that is too long would leave a line behind at every turn.
    winsize size{};
    const std::size_t columns =
        ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 1 ? size.ws_col : 80;
    text = text.substr(0, columns - 1);
    std::printf("\r%s%s%s\x1b[K", colour(well ? "\x1b[32m" : "\x1b[33m"), text.c_str(),
                colour("\x1b[0m"));
  } else {
    std::printf("%s\n", text.c_str());
  }
  std::fflush(stdout);
}

} // namespace cluster_demo
