#include <chorus/transport/address.hpp>

#include <arpa/inet.h>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstring>
#include <net/if.h>
#include <netinet/in.h>

namespace chorus::transport {

namespace {

std::string v4_text(const in_addr &address, in_port_t port) {
  std::array<char, INET_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET, &address, text.data(), text.size());
  return std::string(text.data()) + ':' + std::to_string(ntohs(port));
}

std::string v6_text(const sockaddr_in6 &address) {
  if (IN6_IS_ADDR_V4MAPPED(&address.sin6_addr)) {
    in_addr v4{};
    std::memcpy(&v4, &address.sin6_addr.s6_addr[12], sizeof v4);
    return v4_text(v4, address.sin6_port);
  }
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(AF_INET6, &address.sin6_addr, text.data(), text.size());
  std::string out = '[' + std::string(text.data());
  if (address.sin6_scope_id != 0) {
    std::array<char, IF_NAMESIZE> name{};
    out += '%';
    out += ::if_indextoname(address.sin6_scope_id, name.data())
               ? std::string(name.data())
               : std::to_string(address.sin6_scope_id);
  }
  return out + "]:" + std::to_string(ntohs(address.sin6_port));
}

std::string unix_text(const sockaddr_un &address, socklen_t size) {
  constexpr auto start = offsetof(sockaddr_un, sun_path);
  if (size <= start)
    return "unix:";
  const std::size_t length = size - start;
  if (address.sun_path[0] == '\0')
    return "unix:@" + std::string(address.sun_path + 1, length - 1);
  return "unix:" + std::string(address.sun_path, ::strnlen(address.sun_path, length));
}

template <class Call> std::string text_of(int fd, Call call) {
  sockaddr_storage storage{};
  socklen_t size = sizeof storage;
  auto *address = reinterpret_cast<sockaddr *>(&storage);
  if (call(fd, address, &size) != 0)
    return "unknown";
  return address_text(address, size);
}

} // namespace

std::string address_text(const sockaddr *address, socklen_t size) {
  switch (address->sa_family) {
  case AF_INET: {
    const auto &v4 = *reinterpret_cast<const sockaddr_in *>(address);
    return v4_text(v4.sin_addr, v4.sin_port);
  }
  case AF_INET6:
    return v6_text(*reinterpret_cast<const sockaddr_in6 *>(address));
  case AF_UNIX:
    return unix_text(*reinterpret_cast<const sockaddr_un *>(address), size);
  default:
    return "unknown";
  }
}

std::string local_address_of(int fd) {
  return text_of(fd, [](int d, sockaddr *a, socklen_t *n) { return ::getsockname(d, a, n); });
}

std::string remote_address_of(int fd) {
  return text_of(fd, [](int d, sockaddr *a, socklen_t *n) { return ::getpeername(d, a, n); });
}

bool make_unix_address(std::string_view path, sockaddr_un &address, socklen_t &size) noexcept {
  address = {};
  address.sun_family = AF_UNIX;
  if (path.empty() || path.size() >= sizeof address.sun_path ||
      path.find('\0') != std::string_view::npos)
    return false;
  std::memcpy(address.sun_path, path.data(), path.size());
  size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + path.size());
  if (path.front() == '@')
    address.sun_path[0] = '\0';
  else
    ++size; // the terminating zero
  return true;
}

bool split_host_port(std::string_view text, host_and_port &out) noexcept {
  const auto colon = text.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == text.size())
    return false;
  out.host = text.substr(0, colon);
  out.port = text.substr(colon + 1);
  if (out.host.size() >= 2 && out.host.front() == '[' && out.host.back() == ']') {
    out.host = out.host.substr(1, out.host.size() - 2);
    return !out.host.empty();
  }
  return out.host.find_first_of(":[]") == std::string_view::npos;
}

port_kind parse_port(std::string_view text, unsigned short &number) noexcept {
  if (text.empty())
    return port_kind::invalid;
  if (text.find_first_not_of("0123456789") != std::string_view::npos)
    return port_kind::name;
  const auto end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, number);
  return parsed.ec == std::errc() ? port_kind::number : port_kind::invalid;
}

} // namespace chorus::transport
