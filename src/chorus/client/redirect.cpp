#include <chorus/client/redirect.hpp>

#include <chorus/base/text.hpp>
#include <chorus/protocol/header_text.hpp>

#include <algorithm>
#include <string_view>
#include <utility>

namespace chorus::detail {

namespace {

std::string_view location_of(const failure &why) noexcept {
  for (const auto &[name, value] : why.detail().headers)
    if (protocol::detail::equal_ignoring_case(name, "Location"))
      return protocol::detail::trimmed(value);
  return {};
}

failure refused(const failure &why, std::string sentence, std::string hint) {
  auto detail = why.detail();
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  return failure(make_error_code(error::upgrade_refused), std::move(detail));
}

// RFC 3986 section 5.2.4, of the path alone.
std::string without_dots(std::string_view target) {
  const auto query = std::min(target.find('?'), target.size());
  std::string out;
  for (auto path = target.substr(0, query); !path.empty();) {
    const auto end = std::min(path.find('/', 1), path.size());
    const auto part = path.substr(0, end);
    path.remove_prefix(end);
    if (part == "/..")
      out.resize(out.empty() ? 0 : out.rfind('/'));
    if (part != "/.." && part != "/.")
      out += part;
    else if (path.empty())
      out += '/';
  }
  return (out.empty() ? "/" : out) + std::string(target.substr(query));
}

// The URL that `location` means, seen from `base` (RFC 3986 section 5.2); empty when it has a scheme that is
// none of HTTP's or WebSocket's.
std::string resolved(const url &base, std::string_view location) {
  location = location.substr(0, location.find('#'));
  const auto mark = location.find(':');
  const bool has_scheme = mark != location.npos && location.find_first_of("/?") > mark;
  if (has_scheme) {
    const auto scheme = lower(location.substr(0, mark));
    if (!location.substr(mark).starts_with("://"))
      return {};
    if (scheme == "http" || scheme == "ws")
      return "ws" + std::string(location.substr(mark));
    if (scheme == "https" || scheme == "wss")
      return "wss" + std::string(location.substr(mark));
    return {};
  }
  if (location.starts_with("//"))
    return std::string(to_string(base.scheme())) + ":" + std::string(location);
  const auto whole = base.str();
  const auto &target = base.target();
  const auto origin = whole.substr(0, whole.size() - target.size());
  if (location.starts_with('/'))
    return origin + without_dots(location);
  const auto path = target.substr(0, target.find('?'));
  if (location.starts_with('?'))
    return origin + path + std::string(location);
  return origin + without_dots(path.substr(0, path.rfind('/') + 1) + std::string(location));
}

// Credentials may go where they were meant for; that is so when the same host turns from ws to wss, too.
bool same_server(const url &a, const url &b) noexcept {
  return a.host() == b.host() && a.socket_path() == b.socket_path() &&
         (a.port() == b.port() || (a.port() == 80 && b.port() == 443 && b.is_secure()));
}

} // namespace

bool is_redirect(const failure &why) noexcept {
  const auto status = why.detail().status;
  return why == error::upgrade_refused &&
         (status == 301 || status == 302 || status == 303 || status == 307 || status == 308) &&
         !location_of(why).empty();
}

result<std::shared_ptr<const connect_plan>> follow(const connect_plan &plan, const failure &why) {
  const auto text = resolved(plan.where, location_of(why));
  auto to = text.empty() ? result<url>(failure(error::bad_url)) : url::parse(text);
  if (!to || to->has_credentials())
    return refused(why, "the server redirects the upgrade to what is no URL of a WebSocket",
                   "check the path of the URL; the header Location of its answer tells more");
  if (plan.where.is_unix() != to->is_unix() || plan.where.socket_path() != to->socket_path())
    return refused(why, "the server behind the unix socket redirects the upgrade away from it",
                   "that is not followed; connect there, if it is meant");
  if (plan.where.is_secure() && !to->is_secure())
    return refused(why, "the server redirects the upgrade from wss:// to ws://",
                   "that is never followed; have it redirect to wss://");
  auto next = std::make_shared<connect_plan>(plan);
  if (!same_server(plan.where, *to)) {
    next->authorization.clear();
    next->extra_headers = plan.open_headers;
    if (!next->dial.tls.server_name.empty()) { // meant for the host before
      next->dial.tls.server_name.clear();
      next->dial.ready_context = nullptr;
    }
  }
  next->where = *std::move(to);
  if (auto chosen = choose_proxy(*next); !chosen)
    return chosen.error();
  return std::shared_ptr<const connect_plan>(std::move(next));
}

failure too_many_redirects(const connect_plan &plan, const failure &why) {
  return refused(why,
                 "the server redirected the upgrade more than " +
                     std::to_string(plan.max_redirects) + " times",
                 "do they lead in a circle? Otherwise allow more of them");
}

} // namespace chorus::detail
