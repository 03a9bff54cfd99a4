#include <chorus/transport/proxy.hpp>

#include <chorus/base/text.hpp>
#include <chorus/transport/address.hpp>

#include <boost/asio/ip/address.hpp>
#include <boost/asio/ip/network_v4.hpp>
#include <boost/asio/ip/network_v6.hpp>

#include <algorithm>
#include <charconv>

namespace chorus::transport {

namespace {

namespace ip = boost::asio::ip;

failure bad(std::string_view what, const std::string &why) {
  return failure(error::bad_option, stage::configure, std::string(what) + ": " + why);
}

// Percent-decoded; nothing when that can't be done, or gives a control character.
std::optional<std::string> decoded(std::string_view text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || detail::hex_digit(text[i + 1]) < 0 ||
          detail::hex_digit(text[i + 2]) < 0)
        return {};
      c = static_cast<char>(detail::hex_digit(text[i + 1]) * 16 + detail::hex_digit(text[i + 2]));
      i += 2;
    }
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      return {};
    out += c;
  }
  return out;
}

// An IPv4 address that is mapped to IPv6 as what it is.
std::optional<ip::address> address_in(std::string_view host) {
  boost::system::error_code ec;
  auto a = ip::make_address(std::string(host), ec);
  if (!ec && a.is_v6() && a.to_v6().is_v4_mapped())
    a = ip::make_address_v4(ip::v4_mapped, a.to_v6());
  return ec ? std::nullopt : std::optional(a);
}

// In lower case, without the dot that ends a name which is complete.
std::string name_in(std::string_view host) {
  if (host.ends_with('.'))
    host.remove_suffix(1);
  return detail::lower(host);
}

bool is_this_machine(std::string_view host) {
  if (const auto a = address_in(host))
    return a->is_loopback();
  const auto name = name_in(host);
  return name == "localhost" || name.ends_with(".localhost");
}

bool in_network(const ip::address &a, std::string_view network) {
  boost::system::error_code ec;
  if (a.is_v4() && network.find(':') == network.npos) {
    const auto net = ip::make_network_v4(std::string(network), ec);
    return !ec && ip::network_v4(a.to_v4(), net.prefix_length()).canonical() == net.canonical();
  }
  const auto net = ip::make_network_v6(std::string(network), ec);
  if (ec || (a.is_v4() && net.prefix_length() < 96))
    return false;
  const auto six = a.is_v4() ? ip::make_address_v6(ip::v4_mapped, a.to_v4()) : a.to_v6();
  return ip::network_v6(six, net.prefix_length()).canonical() == net.canonical();
}

struct list_entry {
  std::string what;      // a name, an address or a network, without brackets
  std::string_view port; // empty: any
};

// A port stands behind a name, an IPv4 address or network, or behind brackets: a bare IPv6 address has
// colons of its own. The length of an IPv6 network stands within the brackets or behind them.
std::optional<list_entry> entry_in(std::string_view entry) {
  const bool bracket = entry.starts_with('[');
  if (!bracket && std::count(entry.begin(), entry.end(), ':') != 1)
    return list_entry{std::string(entry), {}};
  const auto end = bracket ? entry.find(']') : 0;
  if (end == entry.npos)
    return {};
  const auto colon = std::min(entry.find(':', end), entry.size());
  list_entry out{std::string(entry.substr(0, colon)), {}};
  if (bracket)
    out.what =
        std::string(entry.substr(1, end - 1)) + std::string(entry.substr(end + 1, colon - end - 1));
  if (colon != entry.size()) {
    out.port = entry.substr(colon + 1);
    if (out.port.empty())
      return {};
  }
  return out;
}

bool is_named(std::string_view text, std::string_view host, std::uint16_t port) {
  const auto entry = entry_in(text);
  if (!entry || (!entry->port.empty() && entry->port != std::to_string(port)))
    return false;
  if (entry->what == "*")
    return true;
  if (const auto address = address_in(host)) {
    if (entry->what.find('/') != entry->what.npos)
      return in_network(*address, entry->what);
    return address_in(entry->what) == address;
  }
  auto suffix = name_in(entry->what);
  if (suffix.starts_with('.'))
    suffix.erase(0, 1);
  const auto name = name_in(host);
  return !suffix.empty() && (name == suffix || name.ends_with("." + suffix));
}

} // namespace

result<proxy_server> parse_proxy(std::string_view text, std::string_view what) {
  constexpr auto form = "write it as in http://user:password@proxy.example.org:3128 or "
                        "socks5://127.0.0.1:1080";
  proxy_server out;
  out.port = "80";
  if (const auto mark = text.find("://"); mark != text.npos) {
    const auto scheme = detail::lower(text.substr(0, mark));
    if (scheme == "socks5" || scheme == "socks5h") {
      out.kind = proxy_kind::socks5;
      out.port = "1080";
    } else if (scheme == "https") {
      return bad(what, "a proxy that is itself reached by TLS (https://) is not supported; use its "
                       "http:// port");
    } else if (scheme != "http") {
      return bad(what, std::string("proxies are http:// or socks5://; ") + form);
    }
    text.remove_prefix(mark + 3);
  }
  text = text.substr(0, text.find_first_of("/?#"));
  if (const auto at = text.rfind('@'); at != text.npos) {
    const auto given = text.substr(0, at);
    const auto colon = given.find(':');
    const auto user = decoded(given.substr(0, colon));
    const auto password =
        decoded(colon == given.npos ? std::string_view() : given.substr(colon + 1));
    if (!user || !password || user->empty() || user->size() > 255 || password->size() > 255 ||
        user->find(':') != user->npos)
      return bad(what, "the credentials before the @ can't be used: percent-encoded, at most 255 "
                       "bytes each, without control characters, and no colon in the user");
    out.user = *user;
    out.password = *password;
    text.remove_prefix(at + 1);
  }
  host_and_port parts;
  if (!text.empty() && text.front() == '[' && text.back() == ']') {
    out.host = text.substr(1, text.size() - 2);
  } else if (text.find(':') == text.npos) {
    out.host = text;
  } else if (split_host_port(text, parts)) {
    out.host = parts.host;
    out.port = parts.port;
    if (out.host.starts_with('['))
      out.host = out.host.substr(1, out.host.size() - 2);
  }
  unsigned short number = 0;
  const bool odd = std::any_of(out.host.begin(), out.host.end(), [](char c) {
    return static_cast<unsigned char>(c) <= 0x20 || c == 0x7f;
  });
  if (out.host.empty() || odd || parse_port(out.port, number) != port_kind::number || number == 0)
    return bad(what, std::string("it names no host and port; ") + form);
  return out;
}

bool is_listed(std::string_view list, std::string_view host, std::uint16_t port) {
  while (!list.empty()) {
    const auto comma = std::min(list.find_first_of(", "), list.size());
    const auto entry = detail::trimmed(list.substr(0, comma));
    if (!entry.empty() && is_named(entry, host, port))
      return true;
    list.remove_prefix(std::min(comma + 1, list.size()));
  }
  return false;
}

result<std::optional<proxy_server>> proxy_for(const environment &variables, bool http, bool tls,
                                              std::string_view host, std::uint16_t port) {
  const auto value = [&](const char *name) {
    const char *text = variables(name);
    return detail::trimmed(text ? std::string_view(text) : std::string_view());
  };
  const auto either = [&](const char *low, const char *high) {
    const auto first = value(low);
    return first.empty() ? value(high) : first;
  };
  std::optional<proxy_server> none;
  if (is_this_machine(host) || is_listed(either("no_proxy", "NO_PROXY"), host, port))
    return none;
  std::string_view text;
  const char *what = "all_proxy";
  if (http && tls) {
    text = either("https_proxy", "HTTPS_PROXY");
    what = "https_proxy";
  } else if (http) {
    text = value("http_proxy");
    what = "http_proxy";
  }
  if (text.empty()) {
    text = either("all_proxy", "ALL_PROXY");
    what = "all_proxy";
  }
  if (text.empty())
    return none;
  auto parsed = parse_proxy(text, std::string("the environment's ") + what);
  if (!parsed)
    return parsed.error();
  return std::optional(*std::move(parsed));
}

} // namespace chorus::transport
