#include <chorus/protocol/resume_scan.hpp>

namespace chorus::protocol::detail {

namespace {

std::uint32_t four_hex(std::string_view text) noexcept {
  std::uint32_t n = 0;
  for (const char c : text.substr(0, 4))
    n = n * 16 + static_cast<std::uint32_t>(chorus::detail::hex_digit(c));
  return n;
}

void append_utf8(std::string &out, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

} // namespace

bool unescape(std::string_view raw, std::string &out) {
  out.clear();
  for (std::size_t i = 0; i < raw.size();) {
    const char c = raw[i++];
    if (c != '\\') {
      out.push_back(c);
      continue;
    }
    const char e = raw[i++];
    constexpr std::string_view names = "bfnrt";
    constexpr std::string_view meant = "\b\f\n\r\t";
    if (e != 'u') {
      const auto found = names.find(e);
      out.push_back(found == names.npos ? e : meant[found]);
      continue;
    }
    auto code = four_hex(raw.substr(i));
    i += 4;
    if (code >= 0xdc00 && code < 0xe000)
      return false;
    if (code >= 0xd800 && code < 0xdc00) {
      if (raw.size() - i < 6 || raw[i] != '\\' || raw[i + 1] != 'u')
        return false;
      const auto low = four_hex(raw.substr(i + 2));
      if (low < 0xdc00 || low >= 0xe000)
        return false;
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      i += 6;
    }
    append_utf8(out, code);
  }
  return true;
}

std::string_view plain_name(std::string_view raw, std::string &space) {
  if (raw.find('\\') == raw.npos || !unescape(raw, space))
    return raw;
  return space;
}

} // namespace chorus::protocol::detail
