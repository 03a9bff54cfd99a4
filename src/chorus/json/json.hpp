#pragma once
// JSON messages, as free functions over messages and sessions.

#include <chorus/async/task.hpp>
#include <chorus/base/message.hpp>
#include <chorus/base/result.hpp>
#include <chorus/session/session.hpp>

#include <boost/json/value.hpp>

#include <cstddef>

namespace chorus {

struct json_limits {
  std::size_t max_depth = 32; // nested arrays and objects
};

// A text message with the serialised value, to be sent or published.
message to_message(const boost::json::value &value);

// Fails with Boost.JSON's error code; the sentence names the position of the fault in bytes.
result<boost::json::value> to_json(const message &m, json_limits limits = {});

// `send` of the serialised value; everything said there holds.
task<result<>> send_json(session s, const boost::json::value &value, send_options options = {});

// `receive` of a message that is taken as JSON, whatever its kind. A malformed one fails as `to_json`
// does and is consumed; the session stays open.
task<result<boost::json::value>> receive_json(session s, json_limits limits = {});

} // namespace chorus
