#pragma once
// The client's half of the opening handshake over an established stream (RFC 6455 section 4.1).

#include <chorus/client/plan.hpp>
#include <chorus/protocol/deflate.hpp>
#include <chorus/transport/stream.hpp>

#include <optional>
#include <string>

namespace chorus::detail {

// What the server agreed to.
struct upgrade_answer {
  std::string subprotocol;
  std::optional<protocol::deflate_params> compression;
  std::string rest; // bytes that came after the head: frames already
};

// The request's head for a key of `protocol::make_key`.
std::string upgrade_request(const connect_plan &plan, std::string_view key);

// Completes when the server has agreed; interim answers before that are read past. Fails with
// upgrade_refused (the detail holds the answer), upgrade_invalid, upgrade_timeout, lost, or the
// stream's error. `s` and `plan` must outlive it. Cancelling throws, by Asio's own rule.
task<result<upgrade_answer>> upgrade(transport::stream &s, const connect_plan &plan);

} // namespace chorus::detail
