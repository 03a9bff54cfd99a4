#pragma once
// What may be logged of a request: tokens do not belong into a log, a sentence or a failure.

#include <span>
#include <string>
#include <string_view>

namespace chorus {

// Whether a query field or header of this name usually holds a secret: one of its words is token,
// secret, password, passwd, pwd, pass, key, apikey, auth, authorization, sig, signature, credential(s),
// ticket, cookie, jwt, session, sid or pin, or ends with one of the first four. Words are set apart by
// anything but letters and digits, or by a capital; else case does not count. So "api_key", "X-Api-Key"
// and "accesstoken" are secrets, "keyboard" and "author" are none.
bool is_secret_name(std::string_view name) noexcept;

// A request target or URL with the values of such query fields, a password before the host and the
// fragment replaced by "***". Text that is no URL comes back as it is.
std::string redact(std::string_view target);
// The value of a header as it may be shown: "***" for Authorization, Proxy-Authorization, Cookie,
// Set-Cookie and other secret names (of Authorization the scheme stays: "Bearer ***").
std::string redact_header(std::string_view name, std::string_view value);
// `text` with every occurrence of one of `secrets` (of four characters or more) replaced by "***".
std::string redact_text(std::string_view text, std::span<const std::string_view> secrets);

} // namespace chorus
