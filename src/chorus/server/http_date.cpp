#include <chorus/server/http_date.hpp>

#include <chorus/server/router.hpp>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>

namespace chorus::detail {

namespace {

namespace chrono = std::chrono;

constexpr std::array<std::string_view, 7> days{"Sunday",   "Monday", "Tuesday", "Wednesday",
                                               "Thursday", "Friday", "Saturday"};
constexpr std::array<std::string_view, 12> months{"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                                  "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

// Takes a text apart from the left; once something was missing, nothing fits any more.
class scanner {
public:
  explicit scanner(std::string_view text) noexcept : text_(text) {}
  scanner &skip(std::string_view literal) noexcept {
    if (text_.starts_with(literal))
      text_.remove_prefix(literal.size());
    else
      good_ = false;
    return *this;
  }
  bool peek(std::string_view literal) const noexcept { return text_.starts_with(literal); }
  int digits(std::size_t count) noexcept {
    const auto value = parse_uint(text_.substr(0, count));
    if (text_.size() < count || !value)
      good_ = false;
    text_.remove_prefix(std::min(count, text_.size()));
    return static_cast<int>(value.value_or(0));
  }
  template <std::size_t N>
  int one_of(const std::array<std::string_view, N> &names, std::size_t length) noexcept {
    for (std::size_t i = 0; i < N; ++i) {
      const auto name = names[i].substr(0, length);
      if (text_.starts_with(name)) {
        text_.remove_prefix(name.size());
        return static_cast<int>(i);
      }
    }
    good_ = false;
    return 0;
  }
  bool at_end() const noexcept { return good_ && text_.empty(); }

private:
  std::string_view text_;
  bool good_ = true;
};

struct civil {
  int year = 0, month = 0, day = 0, hour = 0, minute = 0, second = 0;
};

void scan_time(scanner &s, civil &c) noexcept {
  c.hour = s.digits(2);
  c.minute = s.skip(":").digits(2);
  c.second = s.skip(":").digits(2);
}

std::optional<std::int64_t> seconds_of(const civil &c) noexcept {
  const chrono::year_month_day date(chrono::year(c.year),
                                    chrono::month(static_cast<unsigned>(c.month + 1)),
                                    chrono::day(static_cast<unsigned>(c.day)));
  if (!date.ok() || c.hour > 23 || c.minute > 59 || c.second > 60)
    return std::nullopt;
  const auto since = chrono::sys_days(date).time_since_epoch();
  return chrono::duration_cast<chrono::seconds>(since).count() + c.hour * 3600 + c.minute * 60 +
         c.second;
}

int year_of(std::int64_t seconds) noexcept {
  const auto day = chrono::floor<chrono::days>(chrono::sys_seconds(chrono::seconds(seconds)));
  return static_cast<int>(chrono::year_month_day(day).year());
}

} // namespace

std::string format_http_date(std::int64_t seconds) {
  const chrono::sys_seconds at{chrono::seconds(seconds)};
  const auto day = chrono::floor<chrono::days>(at);
  const chrono::year_month_day date(day);
  const chrono::hh_mm_ss time(at - day);
  char text[64];
  const int n = std::snprintf(
      text, sizeof text, "%.3s, %02u %.3s %04d %02d:%02d:%02d GMT",
      days[chrono::weekday(day).c_encoding()].data(), static_cast<unsigned>(date.day()),
      months[static_cast<unsigned>(date.month()) - 1].data(), static_cast<int>(date.year()),
      static_cast<int>(time.hours().count()), static_cast<int>(time.minutes().count()),
      static_cast<int>(time.seconds().count()));
  return {text, static_cast<std::size_t>(n)};
}

std::optional<std::int64_t> parse_http_date(std::string_view text, std::int64_t now) {
  civil c;
  {
    scanner s(text); // Sun, 06 Nov 1994 08:49:37 GMT
    s.one_of(days, 3);
    c.day = s.skip(", ").digits(2);
    c.month = s.skip(" ").one_of(months, 3);
    c.year = s.skip(" ").digits(4);
    scan_time(s.skip(" "), c);
    if (s.skip(" GMT").at_end())
      return seconds_of(c);
  }
  {
    scanner s(text); // Sunday, 06-Nov-94 08:49:37 GMT
    s.one_of(days, 9);
    c.day = s.skip(", ").digits(2);
    c.month = s.skip("-").one_of(months, 3);
    c.year = s.skip("-").digits(2);
    scan_time(s.skip(" "), c);
    if (s.skip(" GMT").at_end()) {
      const int latest = year_of(now) + 50;
      c.year += latest - latest % 100;
      if (c.year > latest)
        c.year -= 100;
      return seconds_of(c);
    }
  }
  scanner s(text); // Sun Nov  6 08:49:37 1994
  s.one_of(days, 3);
  c.month = s.skip(" ").one_of(months, 3);
  s.skip(" ");
  const bool one_digit = s.peek(" ");
  if (one_digit)
    s.skip(" ");
  c.day = s.digits(one_digit ? 1 : 2);
  scan_time(s.skip(" "), c);
  c.year = s.skip(" ").digits(4);
  return s.at_end() ? seconds_of(c) : std::nullopt;
}

std::int64_t seconds_now() noexcept {
  return chrono::duration_cast<chrono::seconds>(chrono::system_clock::now().time_since_epoch())
      .count();
}

std::string_view http_date_now() {
  thread_local std::int64_t made_for = -1;
  thread_local std::string text;
  if (const auto now = seconds_now(); now != made_for) {
    text = format_http_date(now);
    made_for = now;
  }
  return text;
}

} // namespace chorus::detail
