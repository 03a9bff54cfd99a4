#pragma once
// Internal: the little grammar that handshake headers are made of (RFC 9110 section 5.6, RFC 6455
// section 9.1).

#include <chorus/base/text.hpp>

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::protocol::detail {

using chorus::detail::equal_ignoring_case;
using chorus::detail::trimmed;

bool is_token_char(char c) noexcept;

// The elements of a comma-separated list, trimmed, empty ones left out. For lists of tokens only:
// quotes have no meaning here.
std::vector<std::string_view> split_list(std::string_view text);
bool list_contains(std::string_view list, std::string_view token) noexcept;

struct extension_parameter {
  std::string name;
  std::optional<std::string> value;
};
struct extension {
  std::string name;
  std::vector<extension_parameter> parameters;
};
// Sec-WebSocket-Extensions; nothing when it is malformed.
std::optional<std::vector<extension>> parse_extensions(std::string_view text);

} // namespace chorus::protocol::detail
