#include <chorus/server/conditional.hpp>

#include <chorus/protocol/header_text.hpp>
#include <chorus/server/http_date.hpp>
#include <chorus/server/router.hpp>

#include <algorithm>
#include <limits>
#include <string_view>

namespace chorus::detail {

namespace {

using protocol::detail::equal_ignoring_case;
using protocol::detail::trimmed;

// All fields of that name as one list; nothing when there is none.
std::optional<std::string> joined(const request &r, std::string_view name) {
  std::optional<std::string> all;
  for (const auto &[n, value] : r.headers())
    if (equal_ignoring_case(n, name)) {
      if (all)
        all->append(", ").append(value);
      else
        all.emplace(value);
    }
  return all;
}

// Whether an If-Match or If-None-Match names the entity tag; a weak one counts only where the
// comparison is weak (RFC 9110 section 8.8.3.2). What follows something malformed is not looked at.
bool names(std::string_view list, const std::string &etag, bool weakly) noexcept {
  list = trimmed(list);
  if (list == "*")
    return true;
  while (!list.empty()) {
    if (list.front() == ',' || list.front() == ' ' || list.front() == '\t') {
      list.remove_prefix(1);
      continue;
    }
    const bool weak = list.starts_with("W/");
    if (weak)
      list.remove_prefix(2);
    if (list.empty() || list.front() != '"')
      return false;
    const auto end = list.find('"', 1);
    if (end == list.npos)
      return false;
    if (list.substr(0, end + 1) == etag && (weakly || !weak))
      return true;
    list.remove_prefix(end + 1);
  }
  return false;
}

// Digits, however many: a number that is too large is as good as the largest.
std::optional<std::uint64_t> position(std::string_view digits) noexcept {
  if (digits.empty() || digits.find_first_not_of("0123456789") != digits.npos)
    return std::nullopt;
  return parse_uint(digits).value_or(std::numeric_limits<std::uint64_t>::max());
}

bool if_range_holds(const request &r, const validators &current, std::int64_t now) {
  const auto condition = joined(r, "If-Range");
  if (!condition)
    return true;
  if (condition->starts_with('"') || condition->starts_with("W/"))
    return *condition == current.etag;
  const auto date = parse_http_date(*condition, now);
  return date && current.modified && *date == *current.modified;
}

} // namespace

precondition check_preconditions(const request &r, const validators &current, std::int64_t now) {
  const auto date_of = [&](std::string_view name) -> std::optional<std::int64_t> {
    const auto value = joined(r, name);
    return value && current.modified ? parse_http_date(*value, now) : std::nullopt;
  };
  if (const auto tags = joined(r, "If-Match")) {
    if (!names(*tags, current.etag, false))
      return precondition::failed;
  } else if (const auto date = date_of("If-Unmodified-Since"); date && *current.modified > *date) {
    return precondition::failed;
  }
  if (const auto tags = joined(r, "If-None-Match"))
    return names(*tags, current.etag, true) ? precondition::not_modified : precondition::holds;
  const auto date = date_of("If-Modified-Since");
  return date && *current.modified <= *date ? precondition::not_modified : precondition::holds;
}

range_verdict choose_range(const request &r, const validators &current, std::uint64_t size,
                           std::int64_t now, byte_range &part) {
  constexpr std::string_view unit = "bytes=";
  const auto field = joined(r, "Range");
  if (r.method() != "GET" || !field ||
      !equal_ignoring_case(std::string_view(*field).substr(0, unit.size()), unit) ||
      !if_range_holds(r, current, now))
    return range_verdict::whole;
  const auto range = trimmed(std::string_view(*field).substr(unit.size()));
  const auto dash = range.find('-');
  if (dash == range.npos)
    return range_verdict::whole;
  const auto first = position(range.substr(0, dash));
  const auto last = position(range.substr(dash + 1));
  if (dash == 0) { // the last so many bytes
    if (!last)
      return range_verdict::whole;
    if (*last == 0)
      return range_verdict::unsatisfiable;
    if (size == 0)
      return range_verdict::whole; // all of nothing, which no Content-Range can express
    part.size = std::min(*last, size);
    part.first = size - part.size;
    return range_verdict::part;
  }
  const bool open = dash + 1 == range.size();
  if (!first || (!open && (!last || *last < *first)))
    return range_verdict::whole;
  if (*first >= size)
    return range_verdict::unsatisfiable;
  part.first = *first;
  part.size = (open ? size : std::min(*last, size - 1) + 1) - *first;
  return range_verdict::part;
}

} // namespace chorus::detail
