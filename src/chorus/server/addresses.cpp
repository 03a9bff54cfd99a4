#include <chorus/server/addresses.hpp>

#include <chorus/base/text.hpp>
#include <chorus/protocol/header_text.hpp>

#include <algorithm>
#include <arpa/inet.h>
#include <charconv>
#include <cstring>

namespace chorus::detail {

namespace {} // namespace

ip_address ip_address::v4(std::span<const unsigned char, 4> bytes) noexcept {
  ip_address out;
  std::copy(bytes.begin(), bytes.end(), out.bytes_.begin());
  return out;
}

ip_address ip_address::v6(std::span<const unsigned char, 16> bytes) noexcept {
  static constexpr unsigned char mapped[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
  if (std::equal(std::begin(mapped), std::end(mapped), bytes.begin()))
    return v4(bytes.last<4>());
  ip_address out;
  std::copy(bytes.begin(), bytes.end(), out.bytes_.begin());
  out.v4_ = false;
  return out;
}

std::optional<ip_address> ip_address::parse(std::string_view text) {
  text = text.substr(0, text.find('%'));
  const std::string copy(text);
  if (copy.size() > INET6_ADDRSTRLEN || copy.find('\0') != copy.npos)
    return std::nullopt;
  std::array<unsigned char, 16> bytes{};
  if (::inet_pton(AF_INET, copy.c_str(), bytes.data()) == 1)
    return v4(std::span<const unsigned char, 16>(bytes).first<4>());
  if (::inet_pton(AF_INET6, copy.c_str(), bytes.data()) == 1)
    return v6(bytes);
  return std::nullopt;
}

std::string ip_address::str() const {
  char text[INET6_ADDRSTRLEN] = {};
  ::inet_ntop(v4_ ? AF_INET : AF_INET6, bytes_.data(), text, sizeof text);
  return text;
}

std::string ip_address::with_port(std::uint16_t port) const {
  return (v4_ ? str() : '[' + str() + ']') + ':' + std::to_string(port);
}

std::optional<ip_address> ip_of(std::string_view address) {
  if (address.starts_with('[')) {
    const auto end = address.find(']');
    if (end == address.npos || (end + 1 < address.size() && address[end + 1] != ':'))
      return std::nullopt;
    return ip_address::parse(address.substr(1, end - 1));
  }
  // One colon sets off a port; more are of an IPv6 address.
  if (const auto colon = address.find(':');
      colon != address.npos && address.find(':', colon + 1) == address.npos)
    address = address.substr(0, colon);
  return ip_address::parse(address);
}

std::string address_key(std::string_view address) {
  const auto ip = ip_of(address);
  if (!ip)
    return {};
  const auto bytes = ip->is_v4() ? ip->bytes() : ip->bytes().first(8);
  return std::string(bytes.begin(), bytes.end());
}

std::string proxy_list::add(std::string_view entry) {
  if (entry == "unix:") {
    unix_ = true;
    return {};
  }
  const auto slash = entry.find('/');
  const auto base = ip_address::parse(entry.substr(0, slash));
  const auto complaint = [&](const char *what) { return "\"" + std::string(entry) + "\" " + what; };
  if (!base || entry.find('%') != entry.npos)
    return complaint("is no address or network; write 192.0.2.1, 192.0.2.0/24, 2001:db8::/32 or "
                     "unix:");
  const unsigned most = base->is_v4() ? 32 : 128;
  unsigned bits = most;
  if (slash != entry.npos) {
    const auto number = entry.substr(slash + 1);
    const auto *end = number.data() + number.size();
    const auto [rest, ec] = std::from_chars(number.data(), end, bits);
    if (number.empty() || ec != std::errc() || rest != end || bits > most)
      return complaint("has no prefix length that fits: up to 32 for IPv4, up to 128 for IPv6");
  }
  networks_.push_back({*base, bits});
  return {};
}

bool proxy_list::contains(const ip_address &one) const noexcept {
  return std::any_of(networks_.begin(), networks_.end(), [&](const network &n) {
    if (n.base.is_v4() != one.is_v4())
      return false;
    const auto a = n.base.bytes();
    const auto b = one.bytes();
    const auto whole = n.bits / 8;
    if (!std::equal(a.begin(), a.begin() + whole, b.begin()))
      return false;
    const auto rest = n.bits % 8;
    return rest == 0 || ((a[whole] ^ b[whole]) >> (8 - rest)) == 0;
  });
}

bool proxy_list::trusts(std::string_view address) const {
  if (empty())
    return false;
  if (address.starts_with("unix:"))
    return unix_;
  const auto ip = ip_of(address);
  return ip && contains(*ip);
}

std::string client_behind(std::string peer, std::span<const protocol::header_field> fields,
                          const proxy_list &proxies) {
  if (!proxies.trusts(peer))
    return peer;
  std::string client = std::move(peer);
  for (auto field = fields.rbegin(); field != fields.rend(); ++field) {
    if (!protocol::detail::equal_ignoring_case(field->name, "X-Forwarded-For"))
      continue;
    for (auto rest = field->value;;) {
      const auto comma = rest.rfind(',');
      const auto entry = trimmed(comma == rest.npos ? rest : rest.substr(comma + 1));
      if (!entry.empty()) {
        const auto ip = ip_of(entry);
        if (!ip)
          return client;
        client = ip->str();
        if (!proxies.trusts(client))
          return client;
      }
      if (comma == rest.npos)
        break;
      rest = rest.substr(0, comma);
    }
  }
  return client;
}

} // namespace chorus::detail
