#pragma once
// What user code says of a request that it failed at may quote the request's token, and goes to a log.

#include <chorus/server/http.hpp>

#include <string>
#include <string_view>

namespace chorus::detail {

// `what` without the values of those headers and query fields of the request that usually are secrets.
std::string without_secrets(std::string_view what, const http_head &head);

} // namespace chorus::detail
