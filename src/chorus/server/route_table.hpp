#pragma once
// All routes of a server: those for any host, and those for one.

#include <chorus/server/http.hpp>
#include <chorus/server/router.hpp>

#include <map>
#include <string>
#include <string_view>

namespace chorus::detail {

class route_table {
public:
  router &everywhere() noexcept { return everywhere_; }
  // Throws std::invalid_argument for what is no host name or address without a port.
  router &on(std::string_view host);

  // What the routes of the request's own host have for it comes first.
  route_match find(const http_head &head, route_kind kind) const;

private:
  router everywhere_;
  std::map<std::string, router, std::less<>> hosts_; // in lower case
};

// The host that a request asks for, in lower case, without port and final dot (RFC 9112 section 3.2);
// an IPv6 address keeps its brackets.
std::string requested_host(const http_head &head);

} // namespace chorus::detail
