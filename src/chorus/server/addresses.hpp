#pragma once
// Addresses of peers as limits and proxies see them. Sans-I/O.

#include <chorus/protocol/handshake.hpp>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::detail {

// An IPv4 address, also one that came as ::ffff:a.b.c.d, or an IPv6 address.
class ip_address {
public:
  // Without a port; a zone (%eth0) is left out of account.
  static std::optional<ip_address> parse(std::string_view text);
  static ip_address v4(std::span<const unsigned char, 4> bytes) noexcept;
  static ip_address v6(std::span<const unsigned char, 16> bytes) noexcept;

  bool is_v4() const noexcept { return v4_; }
  std::span<const unsigned char> bytes() const noexcept {
    return std::span<const unsigned char>(bytes_).first(v4_ ? 4U : 16U);
  }
  std::string str() const;                         // "192.0.2.1", "2001:db8::1"
  std::string with_port(std::uint16_t port) const; // "192.0.2.1:80", "[2001:db8::1]:80"

  friend bool operator==(const ip_address &, const ip_address &) = default;

private:
  std::array<unsigned char, 16> bytes_{};
  bool v4_ = true;
};

// Of "192.0.2.1:80", "[::1]:80", "192.0.2.1", "::1"; nothing for unix sockets and nonsense.
std::optional<ip_address> ip_of(std::string_view address);

// Who counts as one for the limits per address: an IPv4 address, the /64 network of an IPv6 address.
// Empty for what is neither.
std::string address_key(std::string_view address);

// The proxies whose word about their clients is taken.
class proxy_list {
public:
  // "192.0.2.0/24", "2001:db8::/32", a single address, or "unix:" for all peers on unix sockets. Answers
  // what is wrong with `entry` as a sentence; empty when it was added.
  std::string add(std::string_view entry);
  bool empty() const noexcept { return networks_.empty() && !unix_; }
  // `address`: as a stream gives it, or without a port.
  bool trusts(std::string_view address) const;

private:
  struct network {
    ip_address base;
    unsigned bits;
  };
  bool contains(const ip_address &one) const noexcept;

  std::vector<network> networks_;
  bool unix_ = false;
};

// Whose request it is that came from `peer`: of the addresses in X-Forwarded-For the right-most that
// is no trusted proxy. What stands left of it, or left of something malformed, is only claimed, and so
// is all of it when `peer` itself is not trusted.
std::string client_behind(std::string peer, std::span<const protocol::header_field> fields,
                          const proxy_list &proxies);

} // namespace chorus::detail
