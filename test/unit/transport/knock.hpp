#pragma once
#include <chorus/transport/address.hpp>
#include <chorus/transport/descriptor.hpp>

#include <boost/test/unit_test.hpp>

#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <sys/un.h>

namespace chorus::test {

// A blocking client connection to "127.0.0.1:port", "[::1]:port" or "unix:path"; -1 and errno. By
// `socket`, which stays the caller's, or by a new one.
inline int knock(const std::string &address, int socket = -1) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.starts_with("unix:")) {
    auto &to = reinterpret_cast<sockaddr_un &>(storage);
    BOOST_REQUIRE(transport::make_unix_address(address.substr(5), to, size));
  } else {
    const auto port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    if (address.starts_with("[")) {
      auto &to = reinterpret_cast<sockaddr_in6 &>(storage);
      to.sin6_family = AF_INET6;
      to.sin6_addr = in6addr_loopback;
      to.sin6_port = port;
      size = sizeof to;
    } else {
      auto &to = reinterpret_cast<sockaddr_in &>(storage);
      to.sin_family = AF_INET;
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      to.sin_port = port;
      size = sizeof to;
    }
  }
  if (socket >= 0)
    return ::connect(socket, reinterpret_cast<const sockaddr *>(&storage), size) == 0 ? socket : -1;
  transport::descriptor s(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(s.get(), reinterpret_cast<const sockaddr *>(&storage), size) != 0)
    return -1;
  return s.release();
}

} // namespace chorus::test
