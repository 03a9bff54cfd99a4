#pragma once
// When a server that goes away, or can't serve now, asks its client to come back.

#include <chorus/base/failure.hpp>

#include <chrono>
#include <optional>

namespace chorus::detail {

// Of a close by the peer with 1001, 1012 or 1013 whose reason begins with "retry-after=" and a decimal
// number of seconds (docs/protocol.md), or of a refused upgrade with 429 or 503 and a Retry-After in
// whole seconds (RFC 9110 section 10.2.3; a date is not looked at). Rounded up to a millisecond, at
// most ten years.
std::optional<std::chrono::milliseconds> retry_hint(const failure &why) noexcept;

} // namespace chorus::detail
