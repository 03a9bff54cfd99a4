#include <chorus/json/json.hpp>

#include <boost/json/kind.hpp>
#include <boost/json/serialize.hpp>
#include <boost/json/stream_parser.hpp>

#include <cmath>

namespace chorus {

namespace json = boost::json;

namespace {

bool is_finite(const json::value &v) noexcept {
  if (const auto *d = v.if_double())
    return std::isfinite(*d);
  if (const auto *array = v.if_array()) {
    for (const auto &one : *array)
      if (!is_finite(one))
        return false;
  } else if (const auto *object = v.if_object()) {
    for (const auto &one : *object)
      if (!is_finite(one.value()))
        return false;
  }
  return true;
}

void make_finite(json::value &v) {
  if (const auto *d = v.if_double(); d && !std::isfinite(*d))
    v = nullptr;
  else if (auto *array = v.if_array())
    for (auto &one : *array)
      make_finite(one);
  else if (auto *object = v.if_object())
    for (auto &one : *object)
      make_finite(one.value());
}

json_position position_of(std::string_view text, std::size_t byte) noexcept {
  json_position at;
  at.byte = byte;
  for (const char c : text.substr(0, byte))
    if (c == '\n') {
      ++at.line;
      at.column = 1;
    } else if ((static_cast<unsigned char>(c) & 0xc0U) != 0x80U) { // no continuation of UTF-8
      ++at.column;
    }
  return at;
}

failure malformed(error_code ec, std::string_view text, const json_position &at) {
  failure_detail detail;
  detail.where = stage::open;
  detail.sentence = "not valid JSON at byte " + std::to_string(at.byte) + " of " +
                    std::to_string(text.size()) + " (line " + std::to_string(at.line) +
                    ", column " + std::to_string(at.column) + "): " + ec.message();
  return failure(ec, std::move(detail));
}

} // namespace

std::string json_text(const json::value &value) {
  if (is_finite(value))
    return json::serialize(value);
  auto copy = value;
  make_finite(copy);
  return json::serialize(copy);
}

message to_message(const json::value &value) { return message(json_text(value)); }

result<json::value> parse_json(std::string_view text, json_limits limits, json_position *fault) {
  if (limits.max_bytes != 0 && text.size() > limits.max_bytes) {
    if (fault)
      *fault = position_of(text, limits.max_bytes);
    return failure(error::message_too_big, stage::open,
                   "a JSON text of " + std::to_string(text.size()) +
                       " bytes is beyond json_limits::max_bytes, " +
                       std::to_string(limits.max_bytes));
  }
  json::parse_options options;
  options.max_depth = limits.max_depth;
  json::stream_parser parser({}, options);
  error_code ec;
  const auto used = parser.write_some(text.data(), text.size(), ec);
  if (!ec && used < text.size())
    ec = json::error::extra_data;
  if (!ec)
    parser.finish(ec);
  if (!ec)
    return parser.release();
  const auto at = position_of(text, used);
  if (fault)
    *fault = at;
  return malformed(ec, text, at);
}

result<json::value> to_json(const message &m, json_limits limits) {
  return parse_json(m.text(), limits);
}

task<result<>> send_json(session s, const json::value &value, send_options options) {
  return s.send(to_message(value), options);
}

namespace detail {

task<result<json::value>> parsed(task<result<message>> work, json_limits limits) {
  auto m = co_await std::move(work);
  if (m.has_error())
    co_return m.error();
  co_return to_json(*m, limits);
}

// Names come from the peer: one token is cut, and shows nothing that a terminal would obey.
void append_pointer(std::string &pointer, std::string_view name) {
  constexpr std::size_t longest = 64;
  pointer += '/';
  for (const char c : name.substr(0, longest)) {
    if (c == '~')
      pointer += "~0";
    else if (c == '/')
      pointer += "~1";
    else
      pointer += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
  }
  if (name.size() > longest)
    pointer += "...";
}

failure conversion_failure(const json_mismatch &what) {
  failure_detail detail;
  detail.where = stage::open;
  detail.sentence = what.pointer.empty() ? "the JSON value does not convert"
                                         : "the JSON value does not convert at " + what.pointer;
  if (!what.note.empty())
    detail.sentence.append(": ").append(what.note);
  else
    detail.sentence += ": " + what.code.message();
  if (what.found) {
    const json::string_view kind = json::to_string(what.found->kind());
    detail.sentence.append(", found ").append(kind.data(), kind.size());
  }
  return failure(what.code, std::move(detail));
}

} // namespace detail

task<result<json::value>> receive_json(session s, json_limits limits) {
  return detail::parsed(s.receive(), limits);
}

} // namespace chorus
