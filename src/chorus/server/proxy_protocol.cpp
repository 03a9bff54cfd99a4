#include <chorus/server/proxy_protocol.hpp>

#include <chorus/server/addresses.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <optional>
#include <span>

namespace chorus::detail {

namespace {

using progress = proxy_header_reader::progress;

constexpr std::string_view line_start = "PROXY ";
constexpr std::string_view signature("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t fixed_part = 16;
constexpr std::size_t shortest_line = 15; // "PROXY UNKNOWN\r\n"

unsigned byte_at(std::string_view text, std::size_t at) noexcept {
  return static_cast<unsigned char>(text[at]);
}

std::optional<std::uint16_t> port_of(std::string_view text) noexcept {
  std::uint16_t port = 0;
  const auto *end = text.data() + text.size();
  const auto [rest, ec] = std::from_chars(text.data(), end, port);
  if (text.empty() || ec != std::errc() || rest != end || (text.front() == '0' && text.size() > 1))
    return std::nullopt;
  return port;
}

} // namespace

progress proxy_header_reader::fail(std::string_view why) noexcept {
  why_ = why;
  return progress::failed;
}

std::size_t proxy_header_reader::wanted() const noexcept {
  if (skipped_ != 0)
    return skipped_;
  const auto size = text_.size();
  if (size == 0)
    return shortest_line;
  if (text_.front() == signature.front())
    return (size < fixed_part ? fixed_part : kept_) - size;
  if (size < line_start.size() + 2)
    return shortest_line - size;
  if (text_.back() == '\r')
    return 1;
  if (text_[line_start.size()] != 'T')
    return std::max<std::size_t>(2, shortest_line - std::min(size, shortest_line));
  // Each blank that is missing comes with a character behind it, and the line break with both.
  const auto blanks = static_cast<std::size_t>(std::count(text_.begin(), text_.end(), ' '));
  return 2 + 2 * (5 - std::min<std::size_t>(blanks, 5)) + (text_.back() == ' ' ? 1 : 0);
}

progress proxy_header_reader::feed(std::string_view bytes) {
  auto now = progress::need_more;
  while (!bytes.empty() && now == progress::need_more) {
    if (skipped_ != 0) {
      const auto part = std::min(skipped_, bytes.size());
      skipped_ -= part;
      bytes.remove_prefix(part);
      if (skipped_ == 0)
        now = progress::complete;
      continue;
    }
    text_.push_back(bytes.front());
    bytes.remove_prefix(1);
    now = step();
  }
  return now;
}

progress proxy_header_reader::step() {
  return text_.front() == signature.front() ? step_binary() : step_line();
}

progress proxy_header_reader::step_line() {
  const auto size = text_.size();
  if (size <= line_start.size())
    return text_.back() == line_start[size - 1]
               ? progress::need_more
               : fail("the connection does not begin with a PROXY protocol header; let the proxy "
                      "send one, or switch proxy_protocol off");
  const bool line_feed = text_.back() == '\n';
  if (line_feed != (text_[size - 2] == '\r'))
    return fail("the PROXY line does not end with CR LF");
  if (line_feed)
    return parse_line();
  return size < longest_line ? progress::need_more
                             : fail("the PROXY line is longer than 107 bytes");
}

progress proxy_header_reader::parse_line() {
  auto rest = std::string_view(text_).substr(line_start.size());
  rest.remove_suffix(2);
  std::array<std::string_view, 5> part{};
  std::size_t count = 0;
  const auto is_unknown = [](std::string_view word) { return word == "UNKNOWN"; };
  if (is_unknown(rest.substr(0, rest.find(' '))))
    return progress::complete; // whatever follows is to be ignored
  for (;;) {
    const auto blank = rest.find(' ');
    if (count == part.size())
      return fail("the PROXY line has more than two addresses and two ports");
    part[count++] = rest.substr(0, blank);
    if (blank == rest.npos)
      break;
    rest.remove_prefix(blank + 1);
  }
  const bool v4 = part[0] == "TCP4";
  if (!v4 && part[0] != "TCP6")
    return fail("the PROXY line names a protocol other than TCP4, TCP6 and UNKNOWN");
  if (count != part.size())
    return fail("the PROXY line has fewer than two addresses and two ports");
  const auto fits = [&](std::string_view text) {
    return (text.find(':') == text.npos) == v4 && text.find('%') == text.npos &&
           ip_address::parse(text).has_value();
  };
  const auto from = port_of(part[3]);
  if (!fits(part[1]) || !fits(part[2]))
    return fail("the PROXY line has a malformed address");
  if (!from || !port_of(part[4]))
    return fail("the PROXY line has a malformed port");
  source_ = ip_address::parse(part[1])->with_port(*from);
  return progress::complete;
}

progress proxy_header_reader::step_binary() {
  const auto size = text_.size();
  if (size <= signature.size())
    return text_.back() == signature[size - 1]
               ? progress::need_more
               : fail("the connection does not begin with a PROXY protocol header; let the proxy "
                      "send one, or switch proxy_protocol off");
  if (size < fixed_part)
    return progress::need_more;
  if (size > fixed_part)
    return size < kept_ ? progress::need_more : parse_addresses();

  const auto command = byte_at(text_, 12);
  const auto family = byte_at(text_, 13);
  const std::size_t length = byte_at(text_, 14) * std::size_t{256} + byte_at(text_, 15);
  if (command >> 4 != 2)
    return fail("the PROXY header is of a version other than 1 and 2");
  if ((command & 0xf) > 1)
    return fail("the PROXY header has a command other than LOCAL and PROXY");
  if (family >> 4 > 3 || (family & 0xf) > 2)
    return fail("the PROXY header has an unknown address family or protocol");
  const bool local = (command & 0xf) == 0;
  constexpr std::array<std::size_t, 4> sizes = {0, 12, 36, 216};
  if (!local && length < sizes[family >> 4])
    return fail("the PROXY header is too short for its addresses");
  const bool useful = !local && (family == 0x11 || family == 0x21);
  const std::size_t used = useful ? sizes[family >> 4] : 0;
  skipped_ = length - used;
  kept_ = fixed_part + used;
  if (used != 0) {
    std::swap(skipped_, pending_);
    return progress::need_more;
  }
  return skipped_ == 0 ? progress::complete : progress::need_more;
}

progress proxy_header_reader::parse_addresses() {
  const auto *at = reinterpret_cast<const unsigned char *>(text_.data()) + fixed_part;
  const bool v4 = byte_at(text_, 13) == 0x11;
  const auto port = [&](std::size_t offset) {
    return static_cast<std::uint16_t>(at[offset] * 256U + at[offset + 1]);
  };
  source_ = v4 ? ip_address::v4(std::span<const unsigned char, 4>(at, 4)).with_port(port(8))
               : ip_address::v6(std::span<const unsigned char, 16>(at, 16)).with_port(port(32));
  skipped_ = pending_;
  return skipped_ == 0 ? progress::complete : progress::need_more;
}

} // namespace chorus::detail
