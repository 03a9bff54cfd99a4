#pragma once
// Dates as HTTP writes them (RFC 9110 section 5.6.7), in whole seconds since 1970 and UTC.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace chorus::detail {

// "Sun, 06 Nov 1994 08:49:37 GMT".
std::string format_http_date(std::int64_t seconds);
// That form and the two obsolete ones; nothing for anything else. A year of two digits is the one at
// most fifty years after `now`.
std::optional<std::int64_t> parse_http_date(std::string_view text, std::int64_t now);

std::int64_t seconds_now() noexcept;
// Made once a second; valid until this thread's next call.
std::string_view http_date_now();

} // namespace chorus::detail
