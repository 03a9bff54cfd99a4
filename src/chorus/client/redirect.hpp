#pragma once
// Redirects of the upgrade (RFC 9110 section 15.4).

#include <chorus/client/plan.hpp>

#include <memory>

namespace chorus::detail {

// A refused upgrade with 301, 302, 303, 307 or 308 and a Location.
bool is_redirect(const failure &why) noexcept;

// The plan of where the answer points to. To another host go no credentials: none of the URL's, no header
// whose name is that of a secret. Fails with upgrade_refused and what the server said: when it leads from
// TLS to plain text, away from a unix socket (to another one as well), or to what can't be connected to.
result<std::shared_ptr<const connect_plan>> follow(const connect_plan &plan, const failure &why);

// What it is when `plan.max_redirects` were followed, and `why` is one more.
failure too_many_redirects(const connect_plan &plan, const failure &why);

} // namespace chorus::detail
