#include <chorus/base/url.hpp>

#include <chorus/base/text.hpp>

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>
#include <optional>

namespace chorus {

namespace {

constexpr std::size_t max_url = 8 * 1024;
constexpr std::size_t max_host = 253;        // RFC 1035 section 2.3.4, without the final dot
constexpr std::size_t max_socket_path = 107; // sockaddr_un::sun_path and its terminator

failure bad(std::string sentence) {
  return failure(error::bad_url, stage::configure, std::move(sentence));
}

bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
std::optional<url_scheme> scheme_of(std::string_view name) noexcept {
  for (auto s : {url_scheme::ws, url_scheme::wss, url_scheme::tcp, url_scheme::tls,
                 url_scheme::unix_socket, url_scheme::ws_unix})
    if (name == to_string(s))
      return s;
  return std::nullopt;
}

constexpr std::string_view schemes = "ws://, wss://, tcp://, tls://, unix:// or ws+unix://";

bool is_host_and_port(std::string_view text) noexcept {
  const auto colon = text.rfind(':');
  return colon != std::string_view::npos && colon > 0 && colon + 1 < text.size() &&
         text.find_first_of("/?#") == std::string_view::npos &&
         std::all_of(text.begin() + static_cast<std::ptrdiff_t>(colon) + 1, text.end(), is_digit);
}

failure no_scheme() {
  return bad(
      "the URL has no scheme: start it with " + std::string(schemes) +
      ", as in wss://example.org/path; only host:port alone, for framed messages over TCP, needs "
      "none");
}

// Path and query (RFC 3986 sections 3.3 and 3.4).
bool is_target_char(char c) noexcept {
  return is_alpha(c) || is_digit(c) ||
         std::string_view("-._~!$&'()*+,;=:@/?").find(c) != std::string_view::npos;
}

// Nothing, or what is wrong with `text` as part of a URL.
std::optional<failure> check_encoding(std::string_view text, std::string_view what) {
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '%') {
      if (i + 2 >= text.size() || detail::hex_digit(text[i + 1]) < 0 ||
          detail::hex_digit(text[i + 2]) < 0)
        return bad("the URL's " + std::string(what) +
                   " holds a % that two hexadecimal digits do not follow; write a percent sign "
                   "itself as %25");
      i += 2;
    } else if (!is_target_char(c)) {
      const auto byte = static_cast<unsigned char>(c);
      constexpr std::string_view digits = "0123456789ABCDEF";
      std::string code{'%', digits[byte >> 4], digits[byte & 15]};
      return bad("the URL's " + std::string(what) +
                 " holds a character that must be percent-encoded: write it as " + code);
    }
  }
  return std::nullopt;
}

struct credentials {
  std::string user;
  std::string password;
};

// RFC 3986 section 3.2.1; what basic authentication can carry (RFC 7617 section 2).
result<credentials> parse_credentials(std::string_view text) {
  if (text.find('@') != std::string_view::npos)
    return bad("an @ in the URL's user or password must be written as %40");
  if (auto wrong = check_encoding(text, "user or password"))
    return *std::move(wrong);
  const auto colon = text.find(':');
  credentials out;
  out.user = detail::percent_decoded(text.substr(0, colon));
  if (colon != std::string_view::npos)
    out.password = detail::percent_decoded(text.substr(colon + 1));
  if (out.user.empty())
    return bad("the URL names no user before the @; write it as in wss://user:password@host/");
  if (out.user.find(':') != std::string::npos)
    return bad("the user of a URL can't hold a colon: basic authentication has no place for it");
  for (const auto *part : {&out.user, &out.password})
    for (const char c : *part)
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
        return bad("the URL's user or password holds a control character");
  return out;
}

result<std::string> parse_ipv6(std::string_view text) {
  // RFC 6874: a zone stands after an encoded percent sign.
  auto address = text;
  std::string_view zone;
  if (const auto percent = text.find('%'); percent != std::string_view::npos) {
    address = text.substr(0, percent);
    zone = text.substr(percent + 1);
    if (zone.substr(0, 2) == "25")
      zone.remove_prefix(2);
    if (zone.empty() || !std::all_of(zone.begin(), zone.end(), [](char c) {
          return is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_';
        }))
      return bad("the zone of the URL's IPv6 address can't be used; write it as in "
                 "ws://[fe80::1%25eth0]:8080/");
  }
  in6_addr parsed{};
  if (inet_pton(AF_INET6, std::string(address).c_str(), &parsed) != 1)
    return bad("what stands in brackets in the URL is no IPv6 address; write it as in "
               "ws://[2001:db8::1]:8080/path");
  auto host = detail::lower(address);
  if (!zone.empty())
    host.append("%").append(zone);
  return host;
}

result<std::string> parse_name(std::string_view text) {
  if (text.size() > max_host)
    return bad("the URL's host name is longer than 253 characters");
  for (char c : text) {
    if (is_alpha(c) || is_digit(c) || c == '-' || c == '.' || c == '_')
      continue;
    if (static_cast<unsigned char>(c) >= 0x80)
      return bad("the URL's host name is not ASCII; write it in its xn-- form");
    if (c == ':')
      return bad("the URL's host holds more than one colon; put an IPv6 address in brackets, as "
                 "in ws://[::1]:8080/");
    return bad("the URL's host holds a character that no host name has; write it as in "
               "ws://example.org:8080/path");
  }
  return detail::lower(text);
}

result<std::uint16_t> parse_port(std::string_view text, std::string_view scheme) {
  unsigned port = 0;
  const auto *end = text.data() + text.size();
  const auto [rest, ec] = std::from_chars(text.data(), end, port);
  if (ec != std::errc() || rest != end || port == 0 || port > 65535)
    return bad("the URL's port must be a number from 1 to 65535, as in " + std::string(scheme) +
               "://localhost:8080");
  return static_cast<std::uint16_t>(port);
}

} // namespace

std::string_view to_string(url_scheme s) noexcept {
  switch (s) {
  case url_scheme::ws:
    return "ws";
  case url_scheme::wss:
    return "wss";
  case url_scheme::tcp:
    return "tcp";
  case url_scheme::tls:
    return "tls";
  case url_scheme::unix_socket:
    return "unix";
  case url_scheme::ws_unix:
    return "ws+unix";
  }
  return "?";
}

bool url::names_scheme(std::string_view text) noexcept {
  const auto mark = text.find("://");
  // Behind one of these it is part of something else.
  return mark != std::string_view::npos && mark != 0 &&
         text.substr(0, mark).find_first_of("/?#:@") == std::string_view::npos;
}

result<url> url::parse(std::string_view text) {
  if (text.empty())
    return bad("the URL is empty; give one like wss://example.org/path");
  if (text.size() > max_url)
    return bad("the URL is longer than 8192 bytes");
  for (char c : text)
    if (static_cast<unsigned char>(c) <= 0x20 || c == 0x7f)
      return bad("the URL holds a blank or a control character; write a blank as %20 and remove "
                 "the rest");

  if (!names_scheme(text))
    return is_host_and_port(text) ? parse("tcp://" + std::string(text)) : no_scheme();
  const auto mark = text.find("://");
  const auto name = detail::lower(text.substr(0, mark));
  const auto scheme = scheme_of(name);
  if (!scheme) {
    if (name == "http" || name == "https")
      return bad("the scheme " + name + " is not for messages; write " +
                 (name == "http" ? "ws" : "wss") + ":// instead");
    return bad("the URL's scheme is none of " + std::string(schemes));
  }
  auto rest = text.substr(mark + 3);
  if (rest.find('#') != std::string_view::npos)
    return bad(
        "a WebSocket URL has no fragment (RFC 6455 section 3); remove the # and what follows "
        "it, or write the character as %23");

  url out;
  out.scheme_ = *scheme;
  if (out.is_unix()) {
    out.host_.clear();
    out.port_ = 0;
    out.target_.clear();
    auto path = rest;
    if (*scheme == url_scheme::ws_unix) {
      const auto colon = rest.find(':');
      path = rest.substr(0, colon);
      const auto target = colon == std::string_view::npos ? "/" : rest.substr(colon + 1);
      if (target.empty() || target.front() != '/')
        return bad("what follows the colon of a ws+unix URL must begin with a slash, as in "
                   "ws+unix:///run/app.sock:/chat");
      if (auto wrong = check_encoding(target, "path or query"))
        return *std::move(wrong);
      out.target_ = target;
    }
    if (path.empty())
      return bad("the URL names no socket; write it as in " + name + ":///run/app.sock");
    if (path.find('?') != std::string_view::npos)
      return bad("the path of a unix socket has no query; write a question mark as %3F");
    if (auto wrong = check_encoding(path, "socket path"))
      return *std::move(wrong);
    out.socket_path_ = detail::percent_decoded(path);
    if (out.socket_path_.find('\0') != std::string::npos)
      return bad("the path of a unix socket can't hold a zero byte");
    if (out.socket_path_.size() > max_socket_path)
      return bad("the path of the unix socket is longer than the 107 bytes that the system allows; "
                 "use a shorter or a relative one");
    return out;
  }

  const auto authority_end = std::min(rest.find_first_of("/?"), rest.size());
  auto authority = rest.substr(0, authority_end);
  const auto target = rest.substr(authority_end);
  if (const auto at = authority.rfind('@'); at != std::string_view::npos) {
    if (!out.is_websocket())
      return bad(
          "framed messages have no place for credentials; remove what stands before the @ and "
          "send them as a message");
    auto taken = parse_credentials(authority.substr(0, at));
    if (!taken)
      return taken.error();
    out.user_ = std::move(taken->user);
    out.password_ = std::move(taken->password);
    out.has_credentials_ = true;
    authority.remove_prefix(at + 1);
  }
  if (authority.empty() || authority.rfind(':') == 0)
    return bad("the URL names no host; write it as in " + name + "://example.org:8080");

  std::string_view port;
  bool has_colon = false;
  if (authority.front() == '[') {
    const auto close = authority.find(']');
    if (close == std::string_view::npos)
      return bad("the bracket of the URL's IPv6 address is not closed; write it as in " + name +
                 "://[::1]:8080");
    auto host = parse_ipv6(authority.substr(1, close - 1));
    if (!host)
      return host.error();
    out.host_ = *std::move(host);
    const auto after = authority.substr(close + 1);
    has_colon = !after.empty();
    if (has_colon && after.front() != ':')
      return bad(
          "only a colon and a port may follow the bracket of the URL's IPv6 address, as in " +
          name + "://[::1]:8080");
    port = has_colon ? after.substr(1) : after;
  } else {
    const auto colon = authority.rfind(':');
    has_colon = colon != std::string_view::npos;
    auto host = parse_name(authority.substr(0, colon));
    if (!host)
      return host.error();
    out.host_ = *std::move(host);
    port = has_colon ? authority.substr(colon + 1) : std::string_view();
  }

  if (!port.empty()) {
    auto number = parse_port(port, name);
    if (!number)
      return number.error();
    out.port_ = *number;
  } else if (out.is_websocket()) {
    out.port_ = *scheme == url_scheme::wss ? 443 : 80;
  } else {
    return bad("the URL needs a port; write it as in " + name + "://example.org:9000");
  }

  if (!out.is_websocket()) {
    out.target_.clear();
    if (!target.empty() && target != "/")
      return bad("a " + name + " URL ends after its port; for a path use ws:// or wss://");
    return out;
  }
  if (auto wrong = check_encoding(target, "path or query"))
    return *std::move(wrong);
  out.target_ = (target.empty() || target.front() == '?' ? "/" : "") + std::string(target);
  return out;
}

std::string url::authority() const {
  if (is_unix())
    return "localhost";
  // A zone means something to this machine only.
  const auto zone = host_.find('%');
  const bool v6 = host_.find(':') != std::string::npos;
  auto out = v6 ? "[" + host_.substr(0, zone) + "]" : host_;
  const bool usual =
      (scheme_ == url_scheme::ws && port_ == 80) || (scheme_ == url_scheme::wss && port_ == 443);
  if (!usual)
    out += ":" + std::to_string(port_);
  return out;
}

std::string url::str() const {
  std::string out(to_string(scheme_));
  out += "://";
  if (is_unix()) {
    for (char c : socket_path_) {
      // A colon would end the path of ws+unix.
      if (c != ':' && c != '?' && is_target_char(c)) {
        out += c;
        continue;
      }
      constexpr std::string_view digits = "0123456789ABCDEF";
      const auto byte = static_cast<unsigned char>(c);
      out += '%';
      out += digits[byte >> 4];
      out += digits[byte & 15];
    }
    return scheme_ == url_scheme::ws_unix ? out + ":" + target_ : out;
  }
  const auto zone = host_.find('%');
  out += authority();
  if (zone != std::string::npos)
    out.insert(out.find(']'), "%25" + host_.substr(zone + 1));
  return out + target_;
}

} // namespace chorus
