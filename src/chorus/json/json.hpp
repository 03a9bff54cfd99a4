#pragma once
// JSON messages, as free functions over messages and sessions. Types of one's own are converted by
// Boost.JSON: those it knows (numbers, strings, containers, described classes) and those with a
// `tag_invoke`.
//
// Expected failures are values. Text that is no JSON fails with Boost.JSON's error code
// (`json::condition::parse_error`) and a sentence that names byte, line and column; a value that does
// not fit the type with `json::condition::conversion_error` and a sentence that names the member, as a
// JSON pointer (RFC 6901).
//
// g++ 12 takes no initializer list inside a `co_await` expression, and destroys a temporary aggregate
// that owns something there twice. So `json_array` and `json_object` build values without one, and a
// temporary of such a type is refused when it is compiled: name it first.

#include <chorus/async/task.hpp>
#include <chorus/base/message.hpp>
#include <chorus/base/result.hpp>
#include <chorus/json/convert.hpp>
#include <chorus/session/session.hpp>

#include <boost/json/value.hpp>
#include <boost/json/value_from.hpp>

#include <cstddef>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

namespace chorus {

struct json_limits {
  std::size_t max_depth = 32; // nested arrays and objects
  // Of the text. A parsed value takes up to a dozen times as much: an element of an array takes 2
  // bytes of text and 24 of memory. 0 for no bound but the session's max_message.
  std::size_t max_bytes = std::size_t{1} << 20;
};
static_assert(std::is_trivially_destructible_v<json_limits>);

// Where in a text something is. Lines end with a line feed; columns count characters, both from 1.
struct json_position {
  std::size_t byte = 0;
  std::size_t line = 1;
  std::size_t column = 1;
};

// Fails with message_too_big beyond `max_bytes`, else as said above; `fault`, if given, is then set to
// the place.
result<boost::json::value> parse_json(std::string_view text, json_limits limits = {},
                                      json_position *fault = nullptr);

// The serialised value, on one line. Numbers that JSON can't express (infinities, which also come of
// texts like 1e400, and NaN) become null.
std::string json_text(const boost::json::value &value);

// A text message with the serialised value, to be sent or published.
message to_message(const boost::json::value &value);
template <json_convertible T> message to_message(const T &value) {
  return to_message(boost::json::value_from(value));
}

// `parse_json` of a message of either kind.
result<boost::json::value> to_json(const message &m, json_limits limits = {});

// Both steps: `from_json<T>(value)` of convert.hpp behind `to_json`.
template <class T> result<T> from_json(const message &m, json_limits limits = {}) {
  const auto value = to_json(m, limits);
  if (value.has_error())
    return value.error();
  return from_json<T>(*value);
}

// `send` of the serialised value; everything said there holds. The value is serialised when this is
// called, on the calling thread.
task<result<>> send_json(session s, const boost::json::value &value, send_options options = {});
template <class T>
requires json_convertible<std::remove_cvref_t<T>> task<result<>>
send_json(session s, T &&value, send_options options = {}) {
  static_assert(json_safe_argument<T>,
                "name this value first: an aggregate that owns something must "
                "not be a temporary in a co_await expression");
  return s.send(to_message(value), options);
}

// `receive` of a message that is taken as JSON, whatever its kind. One that is malformed, or does not
// convert, fails as said above and is consumed; the session stays open.
task<result<boost::json::value>> receive_json(session s, json_limits limits = {});

namespace detail {
task<result<boost::json::value>> parsed(task<result<message>> work, json_limits limits);

template <class T> task<result<T>> converted(task<result<boost::json::value>> work) {
  auto value = co_await std::move(work);
  if (value.has_error())
    co_return value.error();
  co_return from_json<T>(*value);
}
} // namespace detail

template <class T> task<result<T>> receive_json(session s, json_limits limits = {}) {
  return detail::converted<T>(receive_json(std::move(s), limits));
}

} // namespace chorus
