#pragma once
// Ports of 127.0.0.1 that behave badly.

#include <chorus/transport/connect_any.hpp>
#include <chorus/transport/descriptor.hpp>

#include <boost/test/unit_test.hpp>

#include <netinet/in.h>
#include <poll.h>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace chorus::test {

// 127.0.0.`last`, or ::1.
inline transport::endpoint loopback4(in_port_t port = 0, unsigned last = 1) {
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(0x7f000000U + last);
  address.sin_port = htons(port);
  return {&address, sizeof address};
}
inline transport::endpoint loopback6(in_port_t port = 0) {
  sockaddr_in6 address{};
  address.sin6_family = AF_INET6;
  address.sin6_addr = in6addr_loopback;
  address.sin6_port = htons(port);
  return {&address, sizeof address};
}

// Keeps an address from everybody else without listening there; nothing when somebody has it.
inline transport::descriptor keep_from_others(const transport::endpoint &where) {
  transport::descriptor socket(::socket(where.address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::bind(socket.get(), where.get(), where.size) != 0)
    socket.reset();
  return socket;
}

// A port on which nobody listens, kept from everybody else while it lives.
struct dead_port {
  explicit dead_port(const transport::endpoint &any = loopback4())
      : socket(keep_from_others(any)), here(any) {
    BOOST_REQUIRE(socket);
    auto *where = reinterpret_cast<sockaddr *>(&here.address);
    BOOST_REQUIRE_EQUAL(::getsockname(socket.get(), where, &here.size), 0);
    const auto text = here.text();
    number = text.substr(text.rfind(':') + 1);
  }
  transport::descriptor socket;
  std::string number;
  transport::endpoint here;
};

// A listener whose backlog is full: further connects get no answer.
struct full_port : dead_port {
  full_port() {
    BOOST_REQUIRE_EQUAL(::listen(socket.get(), 0), 0);
    for (int i = 0; i < 2; ++i) {
      fill.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0));
      ::connect(fill.back().get(), here.get(), here.size);
    }
    // Not before the kernel has one of them in the queue.
    pollfd filled{socket.get(), POLLIN, 0};
    BOOST_REQUIRE_EQUAL(::poll(&filled, 1, 120'000), 1);
  }
  std::vector<transport::descriptor> fill;
};

} // namespace chorus::test
