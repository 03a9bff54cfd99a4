#pragma once
// Text as the chat takes and gives it: names, lengths in characters, points in time.

#include <chrono>
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace cli {

// Code points of well-formed UTF-8 (RFC 3629); nothing when it is not.
std::optional<std::size_t> characters(std::string_view text) noexcept;
// Has control characters: C0, DEL or C1.
bool has_control(std::string_view utf8) noexcept;
// Nothing but white space that a page would show as nothing.
bool is_blank(std::string_view text) noexcept;
// Letters, digits and the characters of `more`.
bool is_word(std::string_view text, std::string_view more) noexcept;
// ISO 8601, UTC, milliseconds: "2026-01-31T23:59:59.001Z".
std::string iso_time(std::chrono::system_clock::time_point at);

} // namespace cli
