#include <chorus/client/retry_hint.hpp>

#include <chorus/base/text.hpp>

#include <algorithm>
#include <string_view>

namespace chorus::detail {

namespace {

using std::chrono::milliseconds;

constexpr std::int64_t most_seconds = std::int64_t{10} * 366 * 24 * 3600;

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// The number that `text` begins with; `fraction`: digits after a dot count, too. What follows it must
// not belong to the number.
std::optional<milliseconds> seconds_at(std::string_view text, bool fraction) noexcept {
  std::int64_t whole = 0;
  std::size_t at = 0;
  for (; at < text.size() && is_digit(text[at]); ++at)
    whole = std::min(most_seconds, whole * 10 + (text[at] - '0'));
  if (at == 0)
    return {};
  std::int64_t thousandths = 0;
  if (fraction && at + 1 < text.size() && text[at] == '.' && is_digit(text[at + 1])) {
    bool more = false;
    std::int64_t place = 100;
    for (++at; at < text.size() && is_digit(text[at]); ++at, place /= 10) {
      thousandths += (text[at] - '0') * place;
      more |= place == 0 && text[at] != '0';
    }
    thousandths += more ? 1 : 0;
  }
  if (at < text.size() && text[at] != ' ' && text[at] != ';' && text[at] != ',')
    return {};
  return milliseconds(std::min(most_seconds * 1000, whole * 1000 + thousandths));
}

} // namespace

std::optional<milliseconds> retry_hint(const failure &why) noexcept {
  const auto &detail = why.detail();
  const auto code = detail.close_code;
  if (why == error::closed && detail.by_peer && (code == 1001 || code == 1012 || code == 1013)) {
    constexpr std::string_view name = "retry-after=";
    const std::string_view reason = detail.close_reason;
    return reason.starts_with(name) ? seconds_at(reason.substr(name.size()), true) : std::nullopt;
  }
  if (why == error::upgrade_refused && (detail.status == 429 || detail.status == 503))
    for (const auto &[name, value] : detail.headers)
      if (equal_ignoring_case(name, "Retry-After"))
        return seconds_at(value, false);
  return {};
}

} // namespace chorus::detail
