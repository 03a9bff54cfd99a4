#pragma once
// Base64 with padding (RFC 4648 section 4).

#include <optional>
#include <string>
#include <string_view>

namespace chorus::detail {

std::string to_base64(std::string_view bytes);
// Nothing when `text` is not in canonical form; its padding may be missing.
std::optional<std::string> from_base64(std::string_view text);

} // namespace chorus::detail
