#pragma once
// Socket addresses as text: "127.0.0.1:80", "[::1]:80", "unix:/run/x". An IPv4 address that a
// dual-stack socket reports as ::ffff:a.b.c.d is written as IPv4.

#include <chorus/base/result.hpp>

#include <string>
#include <string_view>
#include <sys/socket.h>
#include <sys/un.h>

namespace chorus::transport {

// "unknown" for a family that is none of the above; "unix:" for an unnamed unix socket.
std::string address_text(const sockaddr *address, socklen_t size);

std::string local_address_of(int fd); // "unknown" when the kernel does not tell
std::string remote_address_of(int fd);

// Of a unix socket; a path that begins with '@' names the abstract namespace. False when the path is
// empty, longer than 107 bytes or holds a zero byte.
bool make_unix_address(std::string_view path, sockaddr_un &address, socklen_t &size) noexcept;

// "host:port", "[::1]:port", ":port" (every address of the machine). Views into `text`.
struct host_and_port {
  std::string_view host;
  std::string_view port;
};
bool split_host_port(std::string_view text, host_and_port &out) noexcept;

// A number from 0 to 65535, or the name of a service, or a number that no port has. (The system's
// resolver silently cuts a number that is too large.)
enum class port_kind : unsigned char { number, name, invalid };
port_kind parse_port(std::string_view text, unsigned short &number) noexcept;

} // namespace chorus::transport
