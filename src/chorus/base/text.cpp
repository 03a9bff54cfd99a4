#include <chorus/base/text.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

namespace chorus::detail {

namespace {

struct code_point {
  std::uint32_t value = 0;
  std::size_t length = 0; // in bytes; 0 of what is no UTF-8 (RFC 3629)
};

code_point code_point_at(std::string_view text, std::size_t at) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(at);
  if (first < 0x80)
    return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() - at < length)
    return {};
  std::uint32_t value = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0U) != 0x80)
      return {};
    value = value << 6 | (byte(at + i) & 0x3fU);
  }
  constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value < 0xe000))
    return {};
  return {value, length};
}

// A terminal does something else with it than to show it.
bool is_control(std::uint32_t c) noexcept {
  return c < 0x20 || (c >= 0x7f && c < 0xa0) || c == 0x200e || c == 0x200f ||
         (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) || c == 0xfeff;
}

} // namespace

std::string lower(std::string_view text) {
  std::string out(text);
  for (auto &c : out)
    c = lower(c);
  return out;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) noexcept {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                    [](char x, char y) { return lower(x) == lower(y); });
}

std::string percent_decoded(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool escape = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
                        hex_digit(text[i + 2]) >= 0;
    out +=
        escape ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2])) : text[i];
    i += escape ? 2 : 0;
  }
  return out;
}

std::string_view trimmed(std::string_view text) noexcept {
  const auto first = text.find_first_not_of(" \t");
  if (first == text.npos)
    return {};
  return text.substr(first, text.find_last_not_of(" \t") - first + 1);
}

std::string one_line(std::string_view text, std::size_t most) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const auto next = code_point_at(text, at);
    const bool shown = next.length != 0 && !is_control(next.value);
    if (out.size() + (shown ? next.length : 1) > most)
      break;
    if (shown)
      out += text.substr(at, next.length);
    else
      out += next.length == 0 ? '?' : ' ';
    at += next.length == 0 ? 1 : next.length;
  }
  while (out.ends_with(' '))
    out.pop_back();
  return out;
}

std::string in_ms(std::chrono::milliseconds d) { return std::to_string(d.count()) + " ms"; }

} // namespace chorus::detail
