#include "values.hpp"

#include <array>
#include <charconv>
#include <cmath>
#include <limits>
#include <utility>

namespace cli {

namespace {

using std::chrono::milliseconds;

// A number without a sign or an exponent, and what follows it.
std::optional<std::pair<double, std::string_view>> split_number(std::string_view text) {
  const auto digits = text.find_first_not_of("0123456789.");
  const auto number = text.substr(0, digits);
  double value = 0;
  const auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), value);
  if (number.empty() || error != std::errc{} || end != number.data() + number.size())
    return {};
  return std::pair{value, digits == text.npos ? std::string_view{} : text.substr(digits)};
}

constexpr double longest = 10.0 * 365 * 24 * 3600 * 1000;
constexpr double largest = 0x1p50;

} // namespace

std::optional<milliseconds> parse_duration(std::string_view text) {
  const auto parts = split_number(text);
  if (!parts)
    return {};
  const auto [value, unit] = *parts;
  static constexpr std::array<std::pair<std::string_view, double>, 5> units{
      {{"", 1000}, {"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
  for (const auto &[name, scale] : units)
    if (name == unit && value * scale <= longest)
      return milliseconds(std::llround(std::ceil(value * scale)));
  return {};
}

std::optional<std::size_t> parse_size(std::string_view text) {
  const auto parts = split_number(text);
  if (!parts)
    return {};
  auto [value, unit] = *parts;
  double scale = 1;
  if (!unit.empty()) {
    static constexpr std::string_view prefixes = "kmgt";
    const auto letter = static_cast<char>(unit.front() | 0x20);
    if (const auto at = prefixes.find(letter); at != prefixes.npos) {
      scale = std::pow(1024.0, static_cast<double>(at + 1));
      unit.remove_prefix(1);
      if (unit.starts_with('i'))
        unit.remove_prefix(1);
    }
    if (unit.starts_with('B'))
      unit.remove_prefix(1);
    if (!unit.empty())
      return {};
  }
  const double bytes = value * scale;
  if (bytes > largest || (scale == 1 && bytes != std::floor(bytes)))
    return {};
  return static_cast<std::size_t>(bytes);
}

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc{} || end != text.data() + text.size())
    return {};
  return value;
}

std::optional<double> parse_factor(std::string_view text) {
  const auto parts = split_number(text);
  if (!parts || !parts->second.empty())
    return {};
  const auto value = parts->first;
  if (value != 0 && (value < 0.001 || value > 1000))
    return {};
  return value;
}

std::string to_text(milliseconds d) {
  const auto count = d.count();
  if (count % 1000 != 0)
    return std::to_string(count) + "ms";
  const auto seconds = count / 1000;
  if (seconds != 0 && seconds % 3600 == 0)
    return std::to_string(seconds / 3600) + "h";
  if (seconds != 0 && seconds % 60 == 0)
    return std::to_string(seconds / 60) + "m";
  return seconds == 0 ? "0" : std::to_string(seconds) + "s";
}

std::string to_text(std::size_t bytes) {
  static constexpr std::array<std::pair<std::size_t, const char *>, 3> units{
      {{std::size_t{1} << 30, "G"}, {std::size_t{1} << 20, "M"}, {std::size_t{1} << 10, "k"}}};
  for (const auto &[unit, name] : units)
    if (bytes >= unit && bytes % unit == 0)
      return std::to_string(bytes / unit) + name;
  return std::to_string(bytes);
}

CLI::Option *add_number(CLI::App &app, const std::string &name, std::uint64_t lowest,
                        std::uint64_t highest, std::uint64_t initial,
                        std::function<void(std::uint64_t)> set, const std::string &help) {
  return app
      .add_option_function<std::string>(
          name,
          [set = std::move(set), name, lowest, highest](const std::string &text) {
            const auto value = parse_number(text);
            if (!value || *value < lowest || *value > highest)
              throw CLI::ValidationError(name, "'" + text + "' is no whole number from " +
                                                   std::to_string(lowest) + " to " +
                                                   std::to_string(highest));
            set(*value);
          },
          help)
      ->type_name("N")
      ->default_str(std::to_string(initial));
}

CLI::Option *add_duration(CLI::App &app, const std::string &name, milliseconds &into,
                          const std::string &help) {
  return app
      .add_option_function<std::string>(
          name,
          [&into, name](const std::string &text) {
            const auto value = parse_duration(text);
            if (!value)
              throw CLI::ValidationError(
                  name, "'" + text + "' is no duration from 0 to 87600h; say 500ms, 30s, 2m or 0");
            into = *value;
          },
          help)
      ->type_name("DURATION")
      ->default_str(to_text(into));
}

CLI::Option *add_size(CLI::App &app, const std::string &name, std::size_t &into,
                      const std::string &help) {
  return app
      .add_option_function<std::string>(
          name,
          [&into, name](const std::string &text) {
            const auto value = parse_size(text);
            if (!value)
              throw CLI::ValidationError(
                  name, "'" + text + "' is no size from 0 to 1024T; say 1000, 64k, 1M or 16MiB");
            into = *value;
          },
          help)
      ->type_name("BYTES")
      ->default_str(to_text(into));
}

CLI::Option *add_switch(CLI::App &app, const std::string &name, bool &into,
                        const std::string &help) {
  return app
      .add_option_function<std::string>(
          name,
          [&into, name](const std::string &text) {
            if (text != "on" && text != "off")
              throw CLI::ValidationError(name, "'" + text + "' is neither on nor off");
            into = text == "on";
          },
          help)
      ->type_name("on|off")
      ->default_str(into ? "on" : "off");
}

void add_heartbeat(CLI::App &app, chorus::heartbeat_options &into) {
  add_duration(app, "--ping-interval", into.ping_interval,
               "Ping the peer this often, whatever else passes; 0: never");
  add_duration(app, "--pong-wait", into.pong_wait,
               "Give up a peer that was silent for this long, pongs included; 0: never");
  app.parse_complete_callback([&into] {
    if (into.ping_interval.count() != 0 && into.pong_wait.count() != 0 &&
        into.pong_wait <= into.ping_interval)
      throw CLI::ValidationError("--pong-wait",
                                 to_text(into.pong_wait) +
                                     " is not longer than --ping-interval, which is " +
                                     to_text(into.ping_interval) +
                                     ": silent peers would be given up before they can answer; "
                                     "raise --pong-wait or lower --ping-interval (0 switches "
                                     "either off)");
  });
}

CLI::Option *add_overflow(CLI::App &app, const std::string &name, chorus::overflow &into,
                          const std::string &help) {
  using chorus::overflow;
  static constexpr std::array<std::pair<const char *, overflow>, 5> policies{
      {{"close", overflow::close},
       {"drop_oldest", overflow::drop_oldest},
       {"drop_newest", overflow::drop_newest},
       {"latest", overflow::latest},
       {"wait", overflow::wait}}};
  const char *initial = "";
  for (const auto &[text, policy] : policies)
    if (policy == into)
      initial = text;
  return app
      .add_option_function<std::string>(
          name,
          [&into, name](const std::string &given) {
            for (const auto &[text, policy] : policies)
              if (given == text) {
                into = policy;
                return;
              }
            throw CLI::ValidationError(
                name, "'" + given + "' is none of close, drop_oldest, drop_newest, latest, wait");
          },
          help)
      ->type_name("POLICY")
      ->default_str(initial);
}

} // namespace cli
