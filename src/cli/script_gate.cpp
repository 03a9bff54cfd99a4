#include "script_check.hpp"

#include "script_kinds.hpp"

#include <chorus/base/url.hpp>

#include <boost/json/value.hpp>

#include <algorithm>

namespace cli::script {

namespace json = boost::json;

namespace {

bool has_port(std::string_view host) {
  const auto colon = host.rfind(':');
  if (colon == host.npos || colon + 1 == host.size())
    return false;
  const auto digits = host.substr(colon + 1);
  const bool number =
      std::all_of(digits.begin(), digits.end(), [](char c) { return c >= '0' && c <= '9'; });
  // An address of IPv6 has its port behind the bracket.
  return number && (host.find(':') == colon || host.substr(0, colon).ends_with(']'));
}

} // namespace

std::string gate_url(const json::object &arguments) {
  const auto host = text_of(arguments.at("host"));
  const auto *port = arguments.if_contains("port");
  if (host.find("://") != host.npos)
    return host;
  const bool bare_v6 = std::count(host.begin(), host.end(), ':') > 1 && !host.starts_with('[');
  auto out = "tcp://" + (bare_v6 ? '[' + host + ']' : host);
  if (port)
    out += ':' + std::to_string(integer_of(*port));
  return out;
}

std::pair<std::string, std::string> gate_complaint(const json::object &arguments) {
  const auto host = text_of(arguments.at("host"));
  const bool port = arguments.contains("port");
  if (host.empty())
    return {
        "\"host\" is empty; say ws://HOST/PATH, wss://, tcp://HOST:PORT, or a host with a \"port\"",
        "host"};
  if (host.find("://") != host.npos) {
    if (port)
      return {"a URL has its port in itself: take away \"port\"", "port"};
  } else if (has_port(host) ? port : !port) {
    return port ? std::pair<std::string, std::string>{"the host has a port already: take away "
                                                      "\"port\"",
                                                      "port"}
                : std::pair<std::string, std::string>{
                      "a host without a scheme needs a \"port\" for framed TCP; for WebSocket say "
                      "ws://" +
                          host.substr(host.rfind('@') + 1),
                      "host"};
  }
  const auto url = chorus::url::parse(gate_url(arguments));
  if (!url)
    return {url.error().message(), "host"};
  for (const char *name : {"headers", "subprotocols", "compression"})
    if (!url->is_websocket() && arguments.contains(name))
      return {'"' + std::string(name) + "\" is for WebSocket: " +
                  std::string(to_string(url->scheme())) + ":// has no upgrade",
              name};
  if (url->is_websocket() && arguments.contains("framing"))
    return {"\"framing\" is for TCP: WebSocket has frames of its own", "framing"};
  for (const char *name : {"ca", "tls_cert", "tls_key", "server_name", "insecure"})
    if (!url->is_secure() && arguments.contains(name))
      return {'"' + std::string(name) + "\" is for TLS: say " +
                  (url->is_websocket() ? "wss://" : "tls://"),
              name};
  for (const auto &[one, other] :
       {std::pair("tls_cert", "tls_key"), std::pair("tls_key", "tls_cert")})
    if (arguments.contains(one) && !arguments.contains(other))
      return {'"' + std::string(one) + "\" needs \"" + other + '"', one};
  return {};
}

} // namespace cli::script
