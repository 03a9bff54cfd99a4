#pragma once
// Errors of JSON-RPC 2.0 (section 5.1 of its specification) as failures: the code of such a failure is
// the number on the wire, in the category "chorus.rpc", its message the one that the other side gave,
// `detail().body` the serialised data. `rpc_error_of` takes them apart again.

#include <chorus/base/result.hpp>

#include <boost/json/value.hpp>

#include <optional>
#include <string>
#include <string_view>

namespace chorus {

// The codes that have a meaning here; applications use others, outside -32768 to -32000.
enum class rpc_code : int {
  parse_error = -32700,     // the text is no JSON
  invalid_request = -32600, // the JSON is no request
  method_not_found = -32601,
  invalid_params = -32602,
  internal_error = -32603, // a handler threw, or failed with anything but an rpc_failure
  busy = -32000,           // more requests at once than the other side takes
  invalid_answer = -32099, // never sent: the other side's answer is no JSON-RPC 2.0 response
};

const boost::system::error_category &rpc_category() noexcept;
inline error_code make_error_code(rpc_code e) noexcept {
  return {static_cast<int>(e), rpc_category()};
}

struct rpc_error {
  int code = 0;
  std::string message;
  boost::json::value data; // null when there was none
};

// What a handler fails with to say what is sent, and what a request fails with that was answered so.
// The message should be one concise sentence.
failure rpc_failure(int code, std::string_view message, const boost::json::value &data = nullptr);
failure rpc_failure(rpc_code code, std::string_view message,
                    const boost::json::value &data = nullptr);

// Nothing for failures of other kinds: of the connection, a timeout, a cancellation.
std::optional<rpc_error> rpc_error_of(const failure &f);

} // namespace chorus

template <> struct boost::system::is_error_code_enum<chorus::rpc_code> : std::true_type {};
