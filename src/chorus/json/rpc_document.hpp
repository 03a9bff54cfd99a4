#pragma once
// The documents of JSON-RPC 2.0: built as text, and told apart. No I/O, no state.

#include <chorus/base/result.hpp>
#include <chorus/json/rpc_error.hpp>

#include <boost/json/value.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace chorus::detail {

enum class rpc_kind : std::uint8_t { request, notification, answer, invalid };

// One object of a message, or one entry of a batch.
struct rpc_entry {
  rpc_kind kind = rpc_kind::invalid;
  boost::json::value id; // as it came; null when there is none or it is no id
  std::string method;
  boost::json::value params; // array, object, or null when there are none
  // Of an answer; invalid_answer when it is malformed.
  result<boost::json::value> outcome = boost::json::value();
};
rpc_entry classify(boost::json::value &&entry);

// Whether the document claims to be JSON-RPC, of whatever validity.
bool is_rpc(const boost::json::value &document) noexcept;
// The number that this side gave a request; 0 when `id` can't be one.
std::uint64_t own_id(const boost::json::value &id) noexcept;
// Whether a text built here is an answer or a batch of them.
bool is_answer_text(std::string_view text) noexcept;

std::string request_text(std::string_view method, const boost::json::value &params,
                         std::uint64_t id);
std::string notification_text(std::string_view method, const boost::json::value &params);
std::string result_text(const boost::json::value &value, const boost::json::value &id);
std::string error_text(rpc_code code, const boost::json::value &id, std::string_view data = {});
// What a handler failed with: an rpc_failure as it is, anything else as internal_error without a word.
std::string error_text(const failure &why, const boost::json::value &id);

} // namespace chorus::detail
