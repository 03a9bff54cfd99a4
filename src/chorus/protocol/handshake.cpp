#include <chorus/protocol/handshake.hpp>
#include <chorus/protocol/header_text.hpp>

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/sha.h>

#include <algorithm>
#include <array>
#include <stdexcept>

namespace chorus::protocol {

namespace {

// All fields of one name. Their values make one list, in order (RFC 9110 section 5.3).
struct field_values {
  std::size_t count = 0;
  std::string_view first;
  std::string joined; // filled when there are several

  std::string_view list() const noexcept { return count > 1 ? std::string_view(joined) : first; }
};

field_values find(std::span<const header_field> headers, std::string_view name) {
  field_values result;
  for (const auto &h : headers) {
    if (!detail::equal_ignoring_case(h.name, name))
      continue;
    const auto value = detail::trimmed(h.value);
    if (++result.count == 1) {
      result.first = value;
    } else {
      if (result.count == 2)
        result.joined = result.first;
      result.joined.append(", ").append(value);
    }
  }
  return result;
}

bool any_contains(std::span<const header_field> headers, std::string_view name,
                  std::string_view token) noexcept {
  return std::any_of(headers.begin(), headers.end(), [&](const header_field &h) {
    return detail::equal_ignoring_case(h.name, name) && detail::list_contains(h.value, token);
  });
}

handshake_error check_limits(std::span<const header_field> headers,
                             const handshake_limits &limits) {
  if (headers.size() > limits.max_header_fields)
    return handshake_error::too_many_fields;
  std::size_t bytes = 0;
  for (const auto &h : headers)
    bytes += h.name.size() + h.value.size() + 4;
  return bytes > limits.max_header_bytes ? handshake_error::fields_too_large
                                         : handshake_error::none;
}

// Origin-form or absolute-form (RFC 9112 section 3.2), without blanks, controls or a fragment.
bool is_target(std::string_view target) noexcept {
  if (target.empty())
    return false;
  const auto scheme = target.substr(0, target.find("://"));
  const bool absolute =
      scheme.size() < target.size() &&
      (detail::equal_ignoring_case(scheme, "ws") || detail::equal_ignoring_case(scheme, "wss") ||
       detail::equal_ignoring_case(scheme, "http") || detail::equal_ignoring_case(scheme, "https"));
  return (target.front() == '/' || absolute) &&
         std::all_of(target.begin(), target.end(),
                     [](char c) { return c > 0x20 && c < 0x7f && c != '#'; });
}

// uri-host [":" port], loosely: nothing that belongs elsewhere in a URL.
bool is_host(std::string_view host) noexcept {
  return !host.empty() && std::all_of(host.begin(), host.end(), [](char c) {
    return c > 0x20 && c < 0x7f && std::string_view("/?#@\\,").find(c) == std::string_view::npos;
  });
}

// 16 bytes are 22 characters of base64 and two of padding.
bool is_key(std::string_view key) noexcept {
  return key.size() == 24 && key.ends_with("==") &&
         std::all_of(key.begin(), key.end() - 2, [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  c == '+' || c == '/';
         });
}

std::string base64(std::span<const unsigned char> bytes) {
  std::string text((bytes.size() + 2) / 3 * 4 + 1, '\0'); // one more for EVP's terminator
  const int n = EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()), bytes.data(),
                                static_cast<int>(bytes.size()));
  text.resize(static_cast<std::size_t>(n));
  return text;
}

constexpr header_field offer_upgrade = {"Upgrade", "websocket"};
constexpr header_field offer_connection = {"Connection", "Upgrade"};
constexpr header_field offer_version = {"Sec-WebSocket-Version", "13"};
constexpr header_field allow_get = {"Allow", "GET"};

upgrade_check refuse(handshake_error why, unsigned status,
                     std::initializer_list<header_field> headers = {}) {
  upgrade_check result;
  result.why = why;
  result.status = status;
  result.headers = headers;
  return result;
}

} // namespace

upgrade_check check_upgrade_request(std::string_view method, unsigned http_version,
                                    std::string_view target, std::span<const header_field> headers,
                                    const handshake_limits &limits) {
  using enum handshake_error;
  if (const auto why = check_limits(headers, limits); why != none)
    return refuse(why, 431);
  if (http_version != 11)
    return refuse(bad_http_version, 505);
  if (method != "GET")
    return refuse(bad_method, 405, {allow_get});
  if (!is_target(target))
    return refuse(bad_target, 400);
  if (const auto host = find(headers, "Host"); host.count != 1 || !is_host(host.first))
    return refuse(bad_host, 400);
  if (!any_contains(headers, "Upgrade", "websocket"))
    return refuse(no_upgrade, 426, {offer_upgrade, offer_connection, offer_version});
  if (!any_contains(headers, "Connection", "upgrade"))
    return refuse(no_connection_upgrade, 426, {offer_upgrade, offer_connection, offer_version});

  const auto version = find(headers, "Sec-WebSocket-Version");
  if (version.count == 0)
    return refuse(no_version, 400, {offer_version});
  if (version.list() != "13")
    return refuse(unsupported_version, 426, {offer_upgrade, offer_connection, offer_version});

  const auto key = find(headers, "Sec-WebSocket-Key");
  if (key.count == 0)
    return refuse(no_key, 400);
  if (key.count > 1)
    return refuse(repeated_key, 400);
  if (!is_key(key.first))
    return refuse(bad_key, 400);

  upgrade_check result;
  result.key = key.first;
  for (const auto &h : headers) {
    if (!detail::equal_ignoring_case(h.name, "Sec-WebSocket-Protocol"))
      continue;
    for (const auto name : detail::split_list(h.value)) {
      auto &names = result.subprotocols;
      if (!is_token(name) || std::find(names.begin(), names.end(), name) != names.end())
        return refuse(bad_subprotocols, 400);
      names.push_back(name);
    }
  }
  result.extensions = find(headers, "Sec-WebSocket-Extensions").list();
  return result;
}

bool is_upgrade(std::span<const header_field> headers) noexcept {
  return any_contains(headers, "Upgrade", "websocket");
}

std::string accept_for(std::string_view key) {
  std::string text(key);
  text += "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
  std::array<unsigned char, SHA_DIGEST_LENGTH> digest;
  SHA1(reinterpret_cast<const unsigned char *>(text.data()), text.size(), digest.data());
  return base64(digest);
}

std::string make_key() {
  std::array<unsigned char, 16> bytes;
  if (RAND_bytes(bytes.data(), static_cast<int>(bytes.size())) != 1)
    throw std::runtime_error("no randomness for the handshake's key: OpenSSL's generator failed");
  return base64(bytes);
}

response_check check_upgrade_response(unsigned status, std::span<const header_field> headers,
                                      std::string_view key,
                                      std::span<const std::string_view> subprotocols,
                                      const deflate_options &deflate,
                                      const handshake_limits &limits) {
  using enum handshake_error;
  response_check result;
  const auto refused = [&result](handshake_error why) {
    result = {};
    result.why = why;
    return result;
  };
  if (const auto why = check_limits(headers, limits); why != none)
    return refused(why);
  if (status != 101)
    return refused(unexpected_status);
  if (const auto upgrade = find(headers, "Upgrade");
      upgrade.count != 1 || !detail::equal_ignoring_case(upgrade.first, "websocket"))
    return refused(response_no_upgrade);
  if (!any_contains(headers, "Connection", "upgrade"))
    return refused(response_no_connection_upgrade);

  const auto accept = find(headers, "Sec-WebSocket-Accept");
  if (accept.count == 0)
    return refused(no_accept);
  if (accept.count > 1)
    return refused(repeated_accept);
  if (accept.first != accept_for(key))
    return refused(wrong_accept);

  const auto protocol = find(headers, "Sec-WebSocket-Protocol");
  if (protocol.count > 1)
    return refused(repeated_subprotocol);
  if (protocol.count == 1) {
    if (std::find(subprotocols.begin(), subprotocols.end(), protocol.first) == subprotocols.end())
      return refused(subprotocol_not_offered);
    result.subprotocol = protocol.first;
  }

  const auto extensions = find(headers, "Sec-WebSocket-Extensions");
  const auto verified = verify_response(extensions.list(), deflate);
  switch (verified.verdict) {
  case response_verdict::declined:
    break;
  case response_verdict::accepted:
    result.deflate = verified.params;
    break;
  case response_verdict::not_offered:
    return refused(extension_not_offered);
  case response_verdict::bad_parameters:
    return refused(bad_extension_parameters);
  }
  return result;
}

bool is_token(std::string_view text) noexcept {
  return !text.empty() && std::all_of(text.begin(), text.end(), detail::is_token_char);
}

bool is_field_value(std::string_view text) noexcept {
  return detail::trimmed(text).size() == text.size() &&
         std::all_of(text.begin(), text.end(), [](char c) {
           const auto u = static_cast<unsigned char>(c);
           return u == '\t' || (u >= 0x20 && u != 0x7f);
         });
}

bool append_header(std::string &out, std::string_view name, std::string_view value) {
  if (!is_token(name) || !is_field_value(value))
    return false;
  out.append(name).append(": ").append(value).append("\r\n");
  return true;
}

} // namespace chorus::protocol
