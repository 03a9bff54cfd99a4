#include <chorus/client/plan.hpp>

#include <chorus/base/base64.hpp>
#include <chorus/base/redact.hpp>
#include <chorus/client/protocols.hpp>
#include <chorus/protocol/handshake.hpp>
#include <chorus/protocol/header_text.hpp>
#include <chorus/session/bounds.hpp>

#include <algorithm>
#include <cstdlib>

namespace chorus::detail {

failure bad_option(std::string sentence) {
  return failure(error::bad_option, stage::configure, std::move(sentence));
}

namespace {

// What the handshake writes itself, and what would change how the request is read.
bool is_reserved(std::string_view name) noexcept {
  using protocol::detail::equal_ignoring_case;
  for (std::string_view taken :
       {"Host", "Upgrade", "Connection", "Content-Length", "Transfer-Encoding", "Trailer", "TE"})
    if (equal_ignoring_case(name, taken))
      return true;
  constexpr std::string_view prefix = "Sec-WebSocket-";
  return name.size() >= prefix.size() && equal_ignoring_case(name.substr(0, prefix.size()), prefix);
}

std::string printable(std::string_view text) {
  std::string out;
  for (char c : text.substr(0, 60))
    out += c >= 0x20 && c < 0x7f ? c : '?';
  return out;
}

std::string bad_header(std::string_view name) {
  if (protocol::detail::equal_ignoring_case(name, "Sec-WebSocket-Protocol"))
    return "give subprotocols as connect_options::subprotocols, not as a header";
  if (protocol::detail::equal_ignoring_case(name, "Sec-WebSocket-Extensions"))
    return "switch compression on by session_options::compression, not by a header";
  return "the header " + printable(name) + " belongs to the handshake and can't be set";
}

// Nothing, or why this header can't be sent. The value may be a secret: never repeated.
std::string add_header(connect_plan &plan, std::string_view name, std::string_view value) {
  if (is_reserved(name))
    return bad_header(name);
  std::string line;
  if (!protocol::append_header(line, name, value))
    return "the header \"" + printable(name) +
           "\" can't be sent: a name is a token, and a value has no line ends or other "
           "control characters and no blanks around it";
  plan.extra_headers += line;
  if (!is_secret_name(name))
    plan.open_headers += line;
  return {};
}

// Takes the lines of that name out of rendered headers.
void remove_header(std::string &rendered, std::string_view name) {
  for (std::size_t at = 0; at < rendered.size();) {
    const auto end = rendered.find("\r\n", at) + 2;
    const auto line = std::string_view(rendered).substr(at, end - at);
    if (protocol::detail::equal_ignoring_case(line.substr(0, line.find(':')), name))
      rendered.erase(at, end - at);
    else
      at = end;
  }
}

} // namespace

result<> choose_proxy(connect_plan &plan) {
  plan.dial.proxy.reset();
  const auto &where = plan.where;
  if (where.is_unix())
    return {};
  if (!plan.proxy.empty()) {
    auto given = transport::parse_proxy(plan.proxy, "proxy");
    if (!given)
      return given.error();
    plan.dial.proxy = *std::move(given);
  } else if (plan.proxy_from_environment) {
    const auto variables = [](const char *name) -> const char * { return std::getenv(name); };
    auto chosen = transport::proxy_for(variables, where.is_websocket(), where.is_secure(),
                                       where.host(), where.port());
    if (!chosen)
      return chosen.error();
    plan.dial.proxy = *std::move(chosen);
  }
  return {};
}

result<> check_pins(const tls_options &tls, std::span<const std::string> urls,
                    const std::vector<url_scheme> &protocols) {
  if (tls.pinned_keys.empty() || urls.empty())
    return {};
  connect_options how;
  how.protocols = protocols;
  for (const auto &text : urls) {
    const auto meant = urls_meant(text, how);
    if (!meant ||
        std::any_of(meant->begin(), meant->end(), [](const url &u) { return u.is_secure(); }))
      return {};
  }
  const auto &first = urls.front();
  const auto shown = url::names_scheme(first) ? redact(first) : redact("ws://" + first).substr(5);
  return bad_option("pinned keys are of no use without TLS, and " + shown +
                    (urls.size() > 1 ? " and the other URLs have none" : " has none") +
                    "; use wss:// or tls://, or pin no keys");
}

result<std::shared_ptr<connect_plan>>
with_headers(const connect_plan &plan,
             const std::vector<std::pair<std::string, std::string>> &headers) {
  auto changed = std::make_shared<connect_plan>(plan);
  for (const auto &[name, value] : headers) {
    remove_header(changed->extra_headers, name);
    remove_header(changed->open_headers, name);
    if (protocol::detail::equal_ignoring_case(name, "Authorization"))
      changed->authorization.clear();
  }
  for (const auto &[name, value] : headers)
    if (auto why = add_header(*changed, name, value); !why.empty())
      return bad_option(std::move(why));
  return changed;
}

result<std::shared_ptr<connect_plan>> make_plan(std::string_view text,
                                                const connect_options &options) {
  const auto meant = urls_meant(text, options);
  if (!meant)
    return meant.error();
  auto plan = std::make_shared<connect_plan>();
  plan->where = most_capable(*meant);
  const bool websocket = plan->where.is_websocket();

  if (!websocket && !options.headers.empty())
    return bad_option("only a WebSocket handshake has headers; leave them out for " +
                      std::string(to_string(plan->where.scheme())) + "://");
  for (const auto &h : options.headers) {
    if (auto why = add_header(*plan, h.name, h.value); !why.empty())
      return bad_option(std::move(why));
  }
  const bool has_agent =
      std::any_of(options.headers.begin(), options.headers.end(), [](const header &h) {
        return protocol::detail::equal_ignoring_case(h.name, "User-Agent");
      });
  if (websocket && !has_agent && !options.user_agent.empty())
    if (auto why = add_header(*plan, "User-Agent", options.user_agent); !why.empty())
      return bad_option(std::move(why));

  if (plan->where.has_credentials()) {
    for (const auto &h : options.headers)
      if (protocol::detail::equal_ignoring_case(h.name, "Authorization"))
        return bad_option(
            "the URL holds credentials and there is an Authorization header; choose one");
    plan->authorization = "Authorization: Basic " +
                          to_base64(plan->where.user() + ":" + plan->where.password()) + "\r\n";
  }

  if (!websocket && !options.subprotocols.empty())
    return bad_option("only a WebSocket handshake has subprotocols; leave them out for " +
                      std::string(to_string(plan->where.scheme())) + "://");
  for (auto name : options.subprotocols) {
    if (!protocol::is_token(name))
      return bad_option("the subprotocol \"" + printable(name) +
                        "\" is no token (letters, digits and !#$%&'*+-.^_`|~)");
    if (std::find(plan->subprotocols.begin(), plan->subprotocols.end(), name) !=
        plan->subprotocols.end())
      return bad_option("the subprotocol \"" + printable(name) + "\" is listed twice");
    plan->subprotocols.emplace_back(name);
  }

  for (auto [limit, name] : {std::pair{options.resolve_timeout, "resolve_timeout"},
                             std::pair{options.connect_timeout, "connect_timeout"},
                             std::pair{options.tls_timeout, "tls_timeout"},
                             std::pair{options.upgrade_timeout, "upgrade_timeout"}})
    if (limit.count() <= 0)
      return bad_option(std::string(name) + " must be longer than zero");
  if (options.connect_stagger < std::chrono::milliseconds(10))
    return bad_option("connect_stagger must be 10 ms or more (RFC 8305 section 8)");
  if (options.max_response_bytes == 0)
    return bad_option("max_response_bytes must not be zero");
  plan->session = bounded(options.session);
  if (const auto complaint = complaint_about(plan->session.heartbeat); !complaint.empty())
    return bad_option(std::string(complaint));
  const auto &deflate = options.session.compression;
  if (deflate.enabled) {
    for (int bits : {deflate.server_max_window_bits, deflate.client_max_window_bits})
      if (bits < 8 || bits > 15)
        return bad_option("a compression window has 8 to 15 bits");
    if (deflate.level < 1 || deflate.level > 9)
      return bad_option("compression levels go from 1 to 9");
    if (deflate.mem_level < 1 || deflate.mem_level > 9)
      return bad_option("compression memory levels go from 1 to 9");
  }

  plan->dial.resolve_timeout = std::min(options.resolve_timeout, longest_time);
  plan->dial.connect_timeout = std::min(options.connect_timeout, longest_time);
  plan->dial.tls_timeout = std::min(options.tls_timeout, longest_time);
  plan->dial.keep_alive = options.keep_alive;
  plan->dial.stagger = std::min(options.connect_stagger, longest_time);
  plan->dial.observer = options.observer;
  if (options.tls)
    plan->dial.tls = *options.tls;
  plan->upgrade_timeout = std::min(options.upgrade_timeout, longest_time);
  plan->max_response_bytes = options.max_response_bytes;
  plan->max_redirects = options.max_redirects;
  plan->proxy = options.proxy;
  plan->proxy_from_environment = options.proxy_from_environment;
  plan->race_ways = options.race_protocols;
  if (meant->size() > 1)
    for (const auto &one : *meant) {
      auto way = *plan;
      way.where = one;
      if (auto chosen = choose_proxy(way); !chosen)
        return chosen.error();
      plan->ways.push_back({one, way.dial.proxy});
    }
  if (auto chosen = choose_proxy(*plan); !chosen)
    return chosen.error();
  return plan;
}

} // namespace chorus::detail
