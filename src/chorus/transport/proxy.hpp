#pragma once
// Proxies: which one to use for a host, and asking it for a connection there (HTTP CONNECT, RFC 9110
// section 9.3.6; SOCKS5, RFC 1928 and 1929).

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/stream.hpp>

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace chorus::transport {

enum class proxy_kind : std::uint8_t { http, socks5 };

struct proxy_server {
  proxy_kind kind = proxy_kind::http;
  std::string host;
  std::string port;
  std::string user; // empty: no credentials
  std::string password;
};

// "http://[user:password@]host[:port]" (port 80), "socks5://…" or "socks5h://…" (port 1080); without a
// scheme http. The proxy looks the host's name up in every case. Fails with bad_option; the sentence names
// `what` and never the credentials.
result<proxy_server> parse_proxy(std::string_view text, std::string_view what);

// Whether a list like "example.org,.local,10.0.0.0/8,*" (of no_proxy) names the host: a name with its
// subdomains, an address, a network, "*" for all; each with ":port" for that port alone (IPv6 in brackets
// then: "[fd00::]/8:443"). A final dot of a name makes no difference, and an IPv4 address mapped to IPv6 is
// that address.
bool is_listed(std::string_view list, std::string_view host, std::uint16_t port);

// The variable's value; null when there is none.
using environment = std::function<const char *(const char *)>;
// Of http_proxy for plain connections (lower case alone: servers of old set HTTP_PROXY from a request's
// header), https_proxy for those with TLS, else all_proxy; unless no_proxy lists the host. `http`: the
// connection begins with HTTP, so that the first two count. Never for this machine itself: "localhost"
// and loopback addresses, however they are written.
result<std::optional<proxy_server>> proxy_for(const environment &variables, bool http, bool tls,
                                              std::string_view host, std::uint16_t port);

// Has the proxy at the other end of `s` connect to the host; then the stream is the host's. Fails with
// proxy_refused (the detail holds an HTTP proxy's answer), proxy_invalid, proxy_timeout, or lost. `s` must
// outlive it. Cancelling throws, by Asio's own rule.
task<result<>> connect_through(stream &s, proxy_server by, std::string host, std::string port,
                               detail::time_point deadline);

} // namespace chorus::transport
