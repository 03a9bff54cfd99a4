#pragma once
// Ports of 127.0.0.1 that behave badly.

#include <chorus/transport/connect_any.hpp>
#include <chorus/transport/descriptor.hpp>

#include <boost/test/unit_test.hpp>

#include <netinet/in.h>
#include <string>
#include <sys/socket.h>
#include <vector>

namespace chorus::test {

// A port on which nobody listens, kept from everybody else while it lives.
struct dead_port {
  dead_port() : socket(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto *where = reinterpret_cast<sockaddr *>(&address);
    BOOST_REQUIRE_EQUAL(::bind(socket.get(), where, size), 0);
    BOOST_REQUIRE_EQUAL(::getsockname(socket.get(), where, &size), 0);
    number = std::to_string(ntohs(address.sin_port));
    here = transport::endpoint(where, size);
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
  }
  std::vector<transport::descriptor> fill;
};

} // namespace chorus::test
