#pragma once
// Status codes of a close frame (RFC 6455 section 7.4 and the IANA registry).

#include <cstdint>

namespace chorus {

enum class close_code : std::uint16_t {
  normal = 1000,
  going_away = 1001,
  protocol_error = 1002,
  unsupported_data = 1003,
  no_status = 1005, // never on the wire: the close frame carried no code
  abnormal = 1006,  // never on the wire: no close frame came
  invalid_payload = 1007,
  policy_violation = 1008,
  message_too_big = 1009,
  mandatory_extension = 1010,
  internal_error = 1011,
  service_restart = 1012,
  try_again_later = 1013,
  bad_gateway = 1014,
  tls_failure = 1015, // never on the wire
};

namespace protocol {

using chorus::close_code;

// May stand in a close frame: 1000-1003, 1007-1014, 3000-4999 (RFC 6455 section 7.4.2).
constexpr bool valid_on_wire(std::uint16_t code) noexcept {
  return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) ||
         (code >= 3000 && code <= 4999);
}

} // namespace protocol
} // namespace chorus
