#include <chorus/server/inherited.hpp>

#include <charconv>
#include <cstdlib>
#include <fcntl.h>
#include <unistd.h>

namespace chorus {

namespace {

constexpr int first_descriptor = 3;
constexpr int most_descriptors = 1024;

template <class Number> bool read_number(std::string_view text, Number &out) noexcept {
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), out);
  return parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
}

failure senseless(const char *variable, std::string_view value, const char *what) {
  return failure(error::bad_option, stage::listen,
                 std::string(variable) + " is \"" + std::string(value.substr(0, 40)) + "\", " +
                     what + "; it is set by whoever hands listening sockets over");
}

} // namespace

namespace detail {

result<std::vector<inherited_socket>> read_inherited(const char *listen_pid, const char *listen_fds,
                                                     const char *names, long pid) {
  std::vector<inherited_socket> all;
  if (!listen_pid || !listen_fds)
    return all;
  long meant = 0;
  if (!read_number(std::string_view(listen_pid), meant) || meant <= 0)
    return senseless("LISTEN_PID", listen_pid, "which is no process");
  if (meant != pid) // a parent's own, passed on with the rest of its environment
    return all;
  int count = 0;
  if (!read_number(std::string_view(listen_fds), count) || count < 0 || count > most_descriptors)
    return senseless("LISTEN_FDS", listen_fds, "which is no number from 0 to 1024");
  std::string_view rest = names ? names : "";
  for (int i = 0; i < count; ++i) {
    inherited_socket one;
    one.descriptor = first_descriptor + i;
    one.listen = "fd:" + std::to_string(one.descriptor);
    const auto end = rest.find(':');
    one.name = rest.substr(0, end);
    if (one.name.empty())
      one.name = "unknown";
    rest = end == rest.npos ? std::string_view() : rest.substr(end + 1);
    all.push_back(std::move(one));
  }
  return all;
}

} // namespace detail

result<std::vector<inherited_socket>> inherited_sockets() {
  auto found = detail::read_inherited(std::getenv("LISTEN_PID"), std::getenv("LISTEN_FDS"),
                                      std::getenv("LISTEN_FDNAMES"), static_cast<long>(::getpid()));
  if (found)
    for (const auto &one : *found)
      ::fcntl(one.descriptor, F_SETFD, FD_CLOEXEC); // a wrong number is told by who listens on it
  return found;
}

} // namespace chorus
