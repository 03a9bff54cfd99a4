#pragma once
// How engines carry a `broker_message` and a `broker_member`: bytes with lengths, no room and no position.

#include <chorus/base/result.hpp>
#include <chorus/server/broker.hpp>

#include <string>
#include <string_view>

namespace chorus::detail {

// All but `room`, `keep` and `at`.
std::string write_broker_message(const broker_message &m);
// Fails with `protocol` on what the former has not written.
result<broker_message> read_broker_message(std::string_view bytes);

// All but `at`.
std::string write_broker_member(const broker_member &who);
result<broker_member> read_broker_member(std::string_view bytes);

} // namespace chorus::detail
