#include <chorus/server/upgrade.hpp>

#include <chorus/protocol/handshake.hpp>
#include <chorus/protocol/header_text.hpp>

namespace chorus::detail {

using protocol::detail::equal_ignoring_case;

namespace {

std::string_view without(std::string_view text, std::string_view ending) noexcept {
  return text.ends_with(ending) ? text.substr(0, text.size() - ending.size()) : text;
}

} // namespace

bool origin_allowed(std::string_view origin, std::string_view host,
                    std::span<const std::string> allowed) noexcept {
  for (const auto &entry : allowed)
    if (entry == "*" || equal_ignoring_case(without(entry, "/"), origin))
      return true;
  const auto scheme_end = origin.find("://");
  if (scheme_end == origin.npos || host.empty()) // "null" among others
    return false;
  const auto scheme = origin.substr(0, scheme_end);
  const auto authority = origin.substr(scheme_end + 3);
  const std::string_view default_port = equal_ignoring_case(scheme, "https")  ? ":443"
                                        : equal_ignoring_case(scheme, "http") ? ":80"
                                                                              : "";
  return !authority.empty() &&
         equal_ignoring_case(without(authority, default_port), without(host, default_port));
}

std::string_view choose_subprotocol(std::span<const std::string> supported,
                                    std::span<const std::string_view> offered) noexcept {
  for (const auto &one : supported)
    for (const auto &other : offered)
      if (one == other) // compared with case (RFC 6455 section 11.5)
        return one;
  return {};
}

std::string write_switching(std::string_view key, std::string_view subprotocol,
                            std::string_view extensions) {
  const std::string accept = protocol::accept_for(key);
  std::vector<header_field> fields{
      {"Upgrade", "websocket"}, {"Connection", "Upgrade"}, {"Sec-WebSocket-Accept", accept}};
  if (!subprotocol.empty())
    fields.push_back({"Sec-WebSocket-Protocol", subprotocol});
  if (!extensions.empty())
    fields.push_back({"Sec-WebSocket-Extensions", extensions});
  return write_response({.status = 101, .fields = fields}).text;
}

} // namespace chorus::detail
