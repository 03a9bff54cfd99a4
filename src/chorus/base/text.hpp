#pragma once
// Internal: what is done to ASCII text everywhere. Other bytes stay as they are.

#include <chrono>
#include <string>
#include <string_view>

namespace chorus::detail {

constexpr char lower(char c) noexcept {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
std::string lower(std::string_view text);
bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept;

// The value of a hexadecimal digit, or -1.
constexpr int hex_digit(char c) noexcept {
  if (c >= '0' && c <= '9')
    return c - '0';
  const char small = lower(c);
  return small >= 'a' && small <= 'f' ? small - 'a' + 10 : -1;
}

// Percent-decoded (RFC 3986 section 2.1); what is no escape stays as it is.
std::string percent_decoded(std::string_view text);

std::string_view trimmed(std::string_view text) noexcept; // of blanks and tabs

// Text of a peer's as one line of at most `most` bytes that no terminal obeys, cut at a character: blanks
// for control characters (C1's as well) and what changes the writing direction, '?' for each byte that is
// no UTF-8. Without blanks at its end.
std::string one_line(std::string_view text, std::size_t most = std::string_view::npos);

std::string in_ms(std::chrono::milliseconds d); // "250 ms"

} // namespace chorus::detail
