#pragma once
// Listening sockets that a parent opened before it started this process: socket activation as systemd
// does it (sd_listen_fds(3)). LISTEN_PID names the process they are for, LISTEN_FDS how many there
// are, from descriptor 3 on, and LISTEN_FDNAMES, separated by colons, what they are called.
//
//   const auto sockets = chorus::inherited_sockets();
//   if (sockets && !sockets->empty())
//     options.listen = sockets->front().listen;

#include <chorus/base/result.hpp>

#include <string>
#include <string_view>
#include <vector>

namespace chorus {

struct inherited_socket {
  std::string name;    // "unknown" where LISTEN_FDNAMES does not tell
  std::string listen;  // "fd:3", for server_options::listen and also_listen
  int descriptor = -1; // made close-on-exec
};

// Empty when nothing was handed over, or when it was to another process. Fails with bad_option when the
// variables make no sense. To be called before there are threads that change the environment; the
// variables stay as they are.
result<std::vector<inherited_socket>> inherited_sockets();

namespace detail {

// Of the three variables' values, null where there is none, in the process `pid`.
result<std::vector<inherited_socket>> read_inherited(const char *listen_pid, const char *listen_fds,
                                                     const char *names, long pid);

} // namespace detail

} // namespace chorus
