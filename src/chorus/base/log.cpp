#include <chorus/base/log.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <ctime>

namespace chorus {

namespace {

constexpr std::array<std::string_view, 6> level_names{"trace", "debug", "info",
                                                      "warn",  "error", "off"};
constexpr std::array<std::string_view, log_rooms> room_names{
    "base",   "protocol", "async",   "transport", "session", "json",
    "client", "server",   "cluster", "observe",   "program"};

template <std::size_t N>
std::optional<std::size_t> index_of(const std::array<std::string_view, N> &names,
                                    std::string_view name) noexcept {
  const auto found = std::find(names.begin(), names.end(), name);
  if (found == names.end())
    return {};
  return static_cast<std::size_t>(found - names.begin());
}

template <class Number> void append_number(std::string &to, Number n) {
  char digits[32];
  const auto end = std::to_chars(digits, digits + sizeof digits, n).ptr;
  to.append(digits, end);
}

// The length of the UTF-8 sequence that `text` begins with; 0 when it is malformed (RFC 3629).
std::size_t sequence_length(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  const auto first = byte(0);
  if (first < 0x80)
    return 1;
  const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
  if (first < 0xc2 || first > 0xf4 || text.size() < length)
    return 0;
  for (std::size_t i = 1; i < length; ++i)
    if ((byte(i) & 0xc0U) != 0x80)
      return 0;
  const auto second = byte(1);
  if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
      (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
    return 0;
  return length;
}

void append_json(std::string &to, std::string_view text) {
  to += '"';
  while (!text.empty()) {
    const auto c = static_cast<unsigned char>(text.front());
    auto length = sequence_length(text);
    if (length == 0) {
      to += "\\ufffd";
      length = 1;
    } else if (c == '"' || c == '\\') {
      to += '\\';
      to += static_cast<char>(c);
    } else if (c < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      to += escape;
    } else {
      to.append(text.substr(0, length));
    }
    text.remove_prefix(length);
  }
  to += '"';
}

bool plain(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
    return c > 0x20 && c < 0x7f && c != '"' && c != '=' && c != '\\';
  });
}

void append_value(std::string &to, const log_value &value, bool json) {
  switch (value.what()) {
  case log_value::kind::text:
    if (!json && plain(value.text()))
      to += value.text();
    else
      append_json(to, value.text());
    break;
  case log_value::kind::number:
    append_number(to, value.number());
    break;
  case log_value::kind::count:
    append_number(to, value.count());
    break;
  case log_value::kind::real:
    if (std::isfinite(value.real()))
      append_number(to, value.real());
    else
      to += "null";
    break;
  case log_value::kind::flag:
    to += value.flag() ? "true" : "false";
    break;
  }
}

} // namespace

std::string_view to_string(log_level l) noexcept {
  return level_names[std::min(static_cast<std::size_t>(l), level_names.size() - 1)];
}

std::string_view to_string(log_room r) noexcept {
  return room_names[std::min(static_cast<std::size_t>(r), room_names.size() - 1)];
}

std::optional<log_levels> parse_log_levels(std::string_view text) {
  log_levels levels;
  for (bool first = true;; first = false) {
    const auto comma = text.find(',');
    const auto part = text.substr(0, comma);
    const auto equals = part.find('=');
    const auto level = index_of(level_names, part.substr(equals == part.npos ? 0 : equals + 1));
    if (!level)
      return {};
    if (equals != part.npos) {
      const auto room = index_of(room_names, part.substr(0, equals));
      if (!room)
        return {};
      levels.rooms[*room] = static_cast<log_level>(*level);
    } else if (first) {
      levels = log_levels(static_cast<log_level>(*level));
    } else {
      return {};
    }
    if (comma == text.npos)
      return levels;
    text.remove_prefix(comma + 1);
  }
}

log_sink::log_sink(log_levels levels) noexcept { set_levels(levels); }

void log_sink::set_levels(const log_levels &levels) noexcept {
  for (std::size_t i = 0; i < log_rooms; ++i)
    levels_[i].store(levels.rooms[i], std::memory_order_relaxed);
}

std::string to_text_line(const log_record &record) {
  std::string line(to_string(record.room));
  line += ' ';
  line += record.event;
  if (record.connection != 0) {
    line += " connection=";
    append_number(line, record.connection);
  }
  for (const auto &field : record.fields) {
    line += ' ';
    line += field.key;
    line += '=';
    append_value(line, field.value, false);
  }
  return line;
}

std::string to_json_line(const log_record &record, log_time at) {
  std::string line = "{\"time\":\"" + to_iso8601(at) + "\",\"level\":\"";
  line += to_string(record.level);
  line += "\",\"room\":\"";
  line += to_string(record.room);
  line += '"';
  if (record.connection != 0) {
    line += ",\"connection\":";
    append_number(line, record.connection);
  }
  line += ",\"event\":";
  append_json(line, record.event);
  for (const auto &field : record.fields) {
    line += ',';
    append_json(line, field.key);
    line += ':';
    append_value(line, field.value, true);
  }
  line += '}';
  return line;
}

std::string to_iso8601(log_time at) {
  using namespace std::chrono;
  const auto whole = floor<seconds>(at);
  const std::time_t count = system_clock::to_time_t(whole);
  std::tm utc{};
  ::gmtime_r(&count, &utc);
  char text[48];
  std::snprintf(text, sizeof text, "%04d-%02d-%02dT%02d:%02d:%02d.%03dZ", utc.tm_year + 1900,
                utc.tm_mon + 1, utc.tm_mday, utc.tm_hour, utc.tm_min, utc.tm_sec,
                static_cast<int>(duration_cast<milliseconds>(at - whole).count()));
  return text;
}

namespace detail {

void write_log(log_sink &sink, log_level l, log_room r, std::uint64_t connection,
               std::string_view event, std::initializer_list<log_field> fields) noexcept {
  sink.write({l, r, connection, event, {fields.begin(), fields.size()}});
}

std::string_view loggable_path(std::string_view target) noexcept {
  return target.substr(0, target.find_first_of("?#")).substr(0, 128);
}

} // namespace detail

} // namespace chorus
