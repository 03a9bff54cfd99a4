#include <chorus/server/route_table.hpp>

#include <algorithm>
#include <stdexcept>

namespace chorus::detail {

namespace {

std::string host_of(std::string_view authority) {
  if (const auto user = authority.rfind('@'); user != authority.npos)
    authority.remove_prefix(user + 1);
  const auto bracket = authority.rfind(']'); // colons before it are an IPv6 address's
  const auto colon = authority.rfind(':');
  if (colon != authority.npos && (bracket == authority.npos || colon > bracket))
    authority = authority.substr(0, colon);
  if (authority.ends_with('.'))
    authority.remove_suffix(1);
  std::string host(authority);
  std::transform(host.begin(), host.end(), host.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  return host;
}

} // namespace

router &route_table::on(std::string_view host) {
  auto name = host_of(host);
  if (name.empty() || host.find_first_of("/@ *") != host.npos ||
      name.size() + (host.ends_with('.') ? 1 : 0) != host.size())
    throw std::invalid_argument("chorus: routes are mounted for \"" + std::string(host) +
                                "\", which is no host name or address without a port");
  return hosts_[std::move(name)];
}

route_match route_table::find(const http_head &head, route_kind kind) const {
  const auto path = split_target(head.target()).path;
  const auto method = kind == route_kind::session ? std::string_view("GET") : head.method();
  using verdict = route_match::verdict;
  route_match own;
  if (!hosts_.empty())
    if (const auto found = hosts_.find(requested_host(head)); found != hosts_.end())
      own = found->second.find(path, kind, method);
  if (own.what == verdict::found)
    return own;
  auto any = everywhere_.find(path, kind, method);
  return any.what == verdict::found || own.what == verdict::not_found ? any : own;
}

std::string requested_host(const http_head &head) {
  const auto authority = split_target(head.target()).authority;
  return host_of(authority.empty() ? head.find("Host") : authority);
}

} // namespace chorus::detail
