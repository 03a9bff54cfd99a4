#include "screen_text.hpp"

#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace cli {

namespace {

// The code point that begins at `at` and its length; length 0 for what is no UTF-8 (RFC 3629).
std::pair<std::uint32_t, std::size_t> decode(std::string_view text, std::size_t at) {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned first = byte(at);
  if (first < 0x80)
    return {first, 1};
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() - at < length)
    return {0, 0};
  std::uint32_t point = first & (0xffU >> (length + 1));
  for (std::size_t i = 1; i < length; ++i) {
    if ((byte(at + i) & 0xc0) != 0x80)
      return {0, 0};
    point = point << 6 | (byte(at + i) & 0x3fU);
  }
  constexpr std::array<std::uint32_t, 5> least{0, 0, 0x80, 0x800, 0x10000};
  if (point < least[length] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
    return {0, 0};
  return {point, length};
}

bool harmful(std::uint32_t point) noexcept {
  return point < 0x20 || (point >= 0x7f && point < 0xa0) || point == 0x200e || point == 0x200f ||
         (point >= 0x2028 && point <= 0x202e) || (point >= 0x2066 && point <= 0x2069) ||
         point == 0xfeff;
}

void append_hex(std::string &out, std::string_view lead, std::uint32_t value, int digits) {
  out += lead;
  for (int shift = 4 * (digits - 1); shift >= 0; shift -= 4)
    out += "0123456789abcdef"[(value >> shift) & 15];
}

} // namespace

void add_color(CLI::App &app, color_choice &into) {
  app.add_option_function<std::string>(
         "--color",
         [&into](const std::string &text) {
           if (text == "auto")
             into = color_choice::automatic;
           else if (text == "always")
             into = color_choice::always;
           else if (text == "never")
             into = color_choice::never;
           else
             throw CLI::ValidationError("--color", "'" + text + "' is none of auto, always, never");
         },
         "Colours: on a terminal, unless NO_COLOR is set; always; or never")
      ->type_name("WHEN")
      ->default_str("auto");
}

bool wants_color(color_choice choice, int descriptor) noexcept {
  if (choice != color_choice::automatic)
    return choice == color_choice::always;
  const char *no = std::getenv("NO_COLOR");
  const char *term = std::getenv("TERM");
  return ::isatty(descriptor) == 1 && !(no && *no) && !(term && std::strcmp(term, "dumb") == 0);
}

std::string painter::operator()(paint p, std::string_view text) const {
  if (!colored_ || p == paint::plain || text.empty())
    return std::string(text);
  constexpr std::array<const char *, 9> codes{"0", "2", "1", "31", "32", "33", "34", "35", "36"};
  std::string out = "\x1b[";
  out += codes[static_cast<std::size_t>(p)];
  out += 'm';
  out += text;
  out += "\x1b[0m";
  return out;
}

std::string harmless(std::string_view text, bool lines) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t at = 0; at < text.size();) {
    const auto [point, length] = decode(text, at);
    if (length == 0) {
      append_hex(out, "\\x", static_cast<unsigned char>(text[at++]), 2);
      continue;
    }
    if (!harmful(point) || (lines && (point == '\n' || point == '\t')))
      out += text.substr(at, length);
    else if (point < 0x100)
      append_hex(out, "\\x", point, 2);
    else
      append_hex(out, "\\u", point, 4);
    at += length;
  }
  return out;
}

std::string one_line(std::string_view text) {
  std::string out(text);
  for (auto &c : out)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
      c = ' ';
  return out;
}

bool is_utf8(std::string_view text) noexcept {
  for (std::size_t at = 0; at < text.size();) {
    const auto length = decode(text, at).second;
    if (length == 0)
      return false;
    at += length;
  }
  return true;
}

} // namespace cli
