#pragma once
// The opening handshake (RFC 6455 section 4) over header fields that an HTTP parser has split: what
// a server answers, what a client accepts, with a typed reason for every refusal. No I/O.

#include <chorus/protocol/deflate.hpp>

#include <boost/system/error_code.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace chorus::protocol {

enum class handshake_error : std::uint8_t {
  none = 0,

  // A request that a server refuses.
  bad_method,
  bad_http_version,
  bad_target,
  bad_host, // missing, repeated or malformed
  no_upgrade,
  no_connection_upgrade,
  no_version,
  unsupported_version,
  no_key,
  repeated_key,
  bad_key, // not 16 bytes in base64
  bad_subprotocols,
  too_many_fields,
  fields_too_large,

  // A response that a client refuses.
  unexpected_status,
  response_no_upgrade,
  response_no_connection_upgrade,
  no_accept,
  repeated_accept,
  wrong_accept,
  subprotocol_not_offered,
  repeated_subprotocol,
  extension_not_offered,
  bad_extension_parameters,
};

const boost::system::error_category &handshake_category() noexcept;
inline boost::system::error_code make_error_code(handshake_error e) noexcept {
  return {static_cast<int>(e), handshake_category()};
}

struct header_field {
  std::string_view name, value;
};

// What an HTTP parser in front should be set to, too.
struct handshake_limits {
  std::size_t max_header_bytes = std::size_t{16} << 10; // names, values and 4 bytes for each field
  std::size_t max_header_fields = 100;
};

// -- Server

struct upgrade_check {
  handshake_error why = handshake_error::none;
  unsigned status = 101;
  // To be added to a refusal: Allow, Upgrade, Connection, Sec-WebSocket-Version. Static storage.
  std::vector<header_field> headers;
  // Views into the request's fields.
  std::string_view key;
  std::vector<std::string_view> subprotocols; // as offered, the preferred first
  std::string extensions;                     // for accept_offer

  explicit operator bool() const noexcept { return why == handshake_error::none; }
};

// `http_version`: 11 for HTTP/1.1.
upgrade_check check_upgrade_request(std::string_view method, unsigned http_version,
                                    std::string_view target, std::span<const header_field> headers,
                                    const handshake_limits &limits = {});

// The request wants a WebSocket, however badly; without it, it is plain HTTP.
bool is_upgrade(std::span<const header_field> headers) noexcept;

// The Sec-WebSocket-Accept value for a key (RFC 6455 section 4.2.2).
std::string accept_for(std::string_view key);

// -- Client

// 16 random bytes in base64. Throws std::runtime_error when the system has no randomness.
std::string make_key();

struct response_check {
  handshake_error why = handshake_error::none;
  std::string subprotocol; // empty when the server chose none
  std::optional<deflate_params> deflate;

  explicit operator bool() const noexcept { return why == handshake_error::none; }
};

// `key`, `subprotocols`, `deflate`: what the request carried.
response_check check_upgrade_response(unsigned status, std::span<const header_field> headers,
                                      std::string_view key,
                                      std::span<const std::string_view> subprotocols,
                                      const deflate_options &deflate,
                                      const handshake_limits &limits = {});

// -- Building

// RFC 9110 section 5.6.2; a subprotocol name is one, too.
bool is_token(std::string_view text) noexcept;
// No control characters (so no line end) and no blanks around it.
bool is_field_value(std::string_view text) noexcept;
// Appends "name: value\r\n"; false, and nothing appended, for what could break out of its line.
[[nodiscard]] bool append_header(std::string &out, std::string_view name, std::string_view value);

} // namespace chorus::protocol

template <>
struct boost::system::is_error_code_enum<chorus::protocol::handshake_error> : std::true_type {};
