#include "script_kinds.hpp"

#include "screen_text.hpp"
#include "script_match.hpp"
#include "script_names.hpp"
#include "script_values.hpp"
#include "values.hpp"

#include <chorus/protocol/utf8.hpp>

#include <boost/json/array.hpp>
#include <boost/json/object.hpp>
#include <boost/json/serialize.hpp>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

namespace cli::script {

namespace json = boost::json;

namespace {

// What a value is, in words.
std::string described(const json::value &v) {
  if (v.is_object())
    return "an object";
  if (v.is_array())
    return "an array";
  return shown(v);
}

std::optional<std::int64_t> as_integer(const json::value &v) {
  if (const auto *i = v.if_int64())
    return *i;
  if (const auto *d = v.if_double(); d && *d == std::floor(*d) && std::abs(*d) < 1e15)
    return static_cast<std::int64_t>(*d);
  return {};
}

// What a variable of the command line holds is a string, whatever it is good for.
std::optional<std::int64_t> integer_in(const json::value &v, bool written) {
  const auto *s = v.if_string();
  if (!s || written)
    return as_integer(v);
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(s->data(), s->data() + s->size(), number);
  return error == std::errc{} && end == s->data() + s->size() ? std::optional(number)
                                                              : std::nullopt;
}

std::optional<std::chrono::milliseconds> duration_in(const json::value &v) {
  if (const auto *s = v.if_string())
    return parse_duration(view(*s));
  if (!v.is_number())
    return {};
  const auto seconds = v.to_number<double>();
  constexpr double longest = 10.0 * 365 * 24 * 3600;
  if (!(seconds >= 0 && seconds <= longest))
    return {};
  return std::chrono::milliseconds(std::llround(std::ceil(seconds * 1000)));
}

std::optional<std::size_t> size_in(const json::value &v) {
  if (const auto *s = v.if_string())
    return parse_size(view(*s));
  const auto number = as_integer(v);
  return number && *number >= 0 ? std::optional(static_cast<std::size_t>(*number)) : std::nullopt;
}

std::optional<bool> boolean_in(const json::value &v, bool written) {
  if (const auto *b = v.if_bool())
    return *b;
  if (const auto *s = v.if_string(); s && !written && (*s == "true" || *s == "false"))
    return *s == "true";
  return {};
}

bool valid_name(std::string_view s) noexcept {
  return !s.empty() && s.size() <= 64 && std::all_of(s.begin(), s.end(), [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           c == '-' || c == '.';
  });
}

fault wrong(const field &f, std::string_view takes, const json::value &v) {
  return {'"' + std::string(f.name) + "\" takes " + std::string(takes) + ", not " + described(v),
          {}};
}

std::optional<fault> check_texts(const field &f, const json::value &v) {
  if (v.is_string())
    return {};
  const auto *array = v.if_array();
  if (!array)
    return wrong(f, "a string or an array of strings", v);
  for (std::size_t i = 0; i < array->size(); ++i)
    if (!(*array)[i].is_string()) {
      auto out = wrong(f, "strings", (*array)[i]);
      out.element = i;
      return out;
    }
  return {};
}

// Values are not shown: they may be tokens.
std::optional<fault> check_headers(const field &f, const json::value &v, bool written) {
  const auto takes = '"' + std::string(f.name) + "\" takes ";
  const auto *object = v.if_object();
  if (!object)
    return fault{takes + "an object of strings, as {\"Authorization\": \"Bearer ...\"}", {}};
  for (const auto &one : *object) {
    const std::string name(one.key().data(), one.key().size());
    const auto *s = one.value().if_string();
    if (!s)
      return fault{takes + "strings, and one of the values is none", name};
    if (!valid_header(name, {})) {
      const auto end = name.find_first_of(" \t:");
      return fault{(end == name.npos ? shown(name) : shown(name.substr(0, end)) + "...") +
                       " is no header: names have letters, digits and !#$%&'*+-.^_`|~",
                   name};
    }
    const bool open = written && !find_references(view(*s)).found.empty();
    if (!open && !valid_header(name, view(*s)))
      return fault{shown(name) + " is no header: its value has control characters", name};
  }
  return {};
}

std::optional<fault> check_text(const field &f, const json::value &v, bool literal) {
  const auto *s = v.if_string();
  if (!s)
    return wrong(f, "a string", v);
  if (f.type == kind::hex && literal && !bytes_of_hex(view(*s)))
    return wrong(f, "an even number of hexadecimal digits", v);
  if (f.type == kind::regex && literal)
    if (const auto why = regex_complaint(view(*s)); !why.empty())
      return fault{shown(view(*s)) + " is no regular expression: " + why, {}};
  return {};
}

} // namespace

std::optional<fault> check_value(const field &f, const json::value &v, bool written) {
  const auto *s = v.if_string();
  const bool open = written && s && !find_references(view(*s)).found.empty();
  const bool later = open && is_reference(view(*s)); // its value is looked at when it is known
  switch (f.type) {
  case kind::any:
    return {};
  case kind::text:
  case kind::hex:
  case kind::regex:
    return check_text(f, v, !open);
  case kind::name:
  case kind::file:
    if (!s)
      return wrong(f, "a string", v);
    if (f.type == kind::name && !valid_name(view(*s)))
      return wrong(f, "up to 64 letters, digits, '_', '-' and '.'", v);
    if (s->empty())
      return wrong(f, "the path of a file", v);
    return {};
  case kind::texts:
    return later ? std::nullopt : check_texts(f, v);
  case kind::headers:
    return later ? std::nullopt : check_headers(f, v, written);
  case kind::steps:
    return v.is_array() ? std::nullopt : std::optional(wrong(f, "an array of steps", v));
  default:
    break;
  }
  if (later)
    return {};
  if (f.type == kind::integer) {
    const auto number = integer_in(v, written);
    if (!number || *number < f.lowest || *number > f.highest)
      return wrong(
          f, "a number from " + std::to_string(f.lowest) + " to " + std::to_string(f.highest), v);
  } else if (f.type == kind::boolean) {
    if (!boolean_in(v, written))
      return wrong(f, "true or false", v);
  } else if (f.type == kind::duration) {
    if (!duration_in(v))
      return wrong(f, "a time such as \"500ms\", \"30s\" or \"2m\", or a number of seconds", v);
  } else if (f.type == kind::size) {
    const auto bytes = size_in(v);
    if (!bytes || *bytes < static_cast<std::size_t>(f.lowest) ||
        *bytes > static_cast<std::size_t>(f.highest))
      return wrong(f,
                   "a number of bytes such as 1000, \"64k\" or \"1M\", from " +
                       to_text(static_cast<std::size_t>(f.lowest)) + " to " +
                       to_text(static_cast<std::size_t>(f.highest)),
                   v);
  } else if (f.type == kind::choice) {
    if (!s)
      return wrong(f, "one of " + listed(f.choices, "or"), v);
    if (std::find(f.choices.begin(), f.choices.end(), view(*s)) == f.choices.end()) {
      const auto best = nearest(view(*s), f.choices);
      auto out = wrong(f, listed(f.choices, "or"), v);
      if (!best.empty())
        out.sentence += "; did you mean '" + std::string(best) + "'?";
      return out;
    }
  }
  return {};
}

std::chrono::milliseconds duration_of(const json::value &v) {
  return duration_in(v).value_or(std::chrono::milliseconds(0));
}
std::size_t size_of(const json::value &v) { return size_in(v).value_or(0); }
std::int64_t integer_of(const json::value &v) { return integer_in(v, false).value_or(0); }
bool boolean_of(const json::value &v) { return boolean_in(v, false).value_or(false); }

std::string text_of(const json::value &v) {
  if (const auto *s = v.if_string())
    return {s->data(), s->size()};
  if (const auto *d = v.if_double(); d && std::isfinite(*d)) { // 0.25, not 2.5E-1
    std::array<char, 32> text{};
    const auto end = std::to_chars(text.data(), text.data() + text.size(), *d).ptr;
    return {text.data(), end};
  }
  return json::serialize(v);
}

std::optional<std::string> bytes_of_hex(std::string_view text) {
  std::string out;
  int high = -1;
  for (const char c : text) {
    int digit = 0;
    if (c >= '0' && c <= '9')
      digit = c - '0';
    else if (const auto letter = static_cast<char>(c | 0x20); letter >= 'a' && letter <= 'f')
      digit = letter - 'a' + 10;
    else if (high < 0 && (c == ' ' || c == '\n' || c == '\t'))
      continue;
    else
      return {};
    if (high < 0) {
      high = digit;
    } else {
      out += static_cast<char>(high * 16 + digit);
      high = -1;
    }
  }
  return high < 0 ? std::optional(std::move(out)) : std::nullopt;
}

std::string hex_of(std::string_view bytes) {
  static constexpr std::string_view digits = "0123456789abcdef";
  std::string out;
  out.reserve(2 * bytes.size());
  for (const char c : bytes) {
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

bool valid_header(std::string_view name, std::string_view value) noexcept {
  const auto token = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  };
  const auto control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  return !name.empty() && std::all_of(name.begin(), name.end(), token) &&
         std::none_of(value.begin(), value.end(), control);
}

std::string shown(std::string_view text) {
  constexpr std::size_t most = 200;
  const auto bytes = std::as_bytes(std::span(text));
  const bool clipped = text.size() > most;
  auto end = std::min(most, text.size());
  if (clipped && chorus::protocol::is_valid_utf8(bytes))
    end = chorus::protocol::valid_utf8_prefix(bytes, most);
  std::string out;
  for (const char c : text.substr(0, end)) {
    if (c == '"' || c == '\\')
      out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  out = '"' + harmless(out) + '"';
  if (clipped)
    out += "... (" + std::to_string(text.size()) + " bytes)";
  return out;
}

std::string shown(const json::value &v) {
  if (const auto *s = v.if_string())
    return shown(view(*s));
  const auto text = json::serialize(v);
  if (text.size() <= 200)
    return harmless(text);
  const auto end = chorus::protocol::valid_utf8_prefix(std::as_bytes(std::span(text)), 200);
  return harmless(text.substr(0, end)) + "... (" + std::to_string(text.size()) + " bytes)";
}

} // namespace cli::script
