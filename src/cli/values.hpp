#pragma once
// The values that options are given in: durations (`500ms`, `30s`, `2m`, `1h`; a bare number is in
// seconds) and sizes (`1000`, `64k`, `1M`, `16MiB`; the units are powers of 1024).

#include <chorus/session/options.hpp>

#include <CLI/CLI.hpp>

#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

namespace cli {

// Nothing when the text is no duration, or longer than ten years.
std::optional<std::chrono::milliseconds> parse_duration(std::string_view text);
// Nothing when the text is no size, or more than 1024T.
std::optional<std::size_t> parse_size(std::string_view text);
// Nothing when the text is anything but decimal digits, or does not fit.
std::optional<std::uint64_t> parse_number(std::string_view text);
// A factor from 0.001 to 1000, or 0; nothing when the text is anything else.
std::optional<double> parse_factor(std::string_view text);
std::string to_text(std::chrono::milliseconds d);
std::string to_text(std::size_t bytes);

// Options of a command that read such a value; a wrong one is a usage error that names the option and
// what it takes.
CLI::Option *add_number(CLI::App &app, const std::string &name, std::uint64_t lowest,
                        std::uint64_t highest, std::uint64_t initial,
                        std::function<void(std::uint64_t)> set, const std::string &help);
template <std::integral T>
CLI::Option *add_number(CLI::App &app, const std::string &name, T &into, T lowest, T highest,
                        const std::string &help) {
  return add_number(
      app, name, static_cast<std::uint64_t>(lowest), static_cast<std::uint64_t>(highest),
      static_cast<std::uint64_t>(into), [&into](std::uint64_t n) { into = static_cast<T>(n); },
      help);
}
CLI::Option *add_duration(CLI::App &app, const std::string &name, std::chrono::milliseconds &into,
                          const std::string &help);
CLI::Option *add_size(CLI::App &app, const std::string &name, std::size_t &into,
                      const std::string &help);
CLI::Option *add_switch(CLI::App &app, const std::string &name, bool &into,
                        const std::string &help);
// --ping-interval and --pong-wait, which must fit each other.
void add_heartbeat(CLI::App &app, chorus::heartbeat_options &into);
CLI::Option *add_overflow(CLI::App &app, const std::string &name, chorus::overflow &into,
                          const std::string &help);

} // namespace cli
