#pragma once
// `explain`: a failure taken apart for whoever has to tell of it, so that programs and logs need not search
// sentences for phrases.

#include <chorus/base/failure.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace chorus {

// What kind of thing would help; a program that names its own switches goes by this.
enum class remedy : std::uint8_t {
  none,
  correct_url,      // or an option: the sentence says which and how
  check_name,       // of the host, or the DNS
  start_server,     // or correct the port: nobody listens there
  check_network,    // no answer, or no way there
  use_plain_scheme, // TLS to a port that speaks none: ws:// or tcp://
  use_other_scheme, // the peer speaks another protocol: tcp:// for ws://, or the reverse, or TLS
  trust_authority,  // give the CA file
  use_certificate_name, // connect by a name that the certificate holds
  renew_certificate,    // or set the clock right
  check_certificate,    // any other complaint about a certificate or a pinned key
  give_certificate,     // of this side: the peer wants one
  replace_certificate,  // of this side: the peer does not take it
  give_credentials,     // 401
  check_permission,     // 403, or this side may not connect there
  check_path,           // 404 and its like, or plain HTTP at this path
  change_version,       // 426, 505
  follow_redirect,      // 3xx
  try_later,            // 429, 5xx, 1012, 1013
  proxy_credentials,    // 407, or SOCKS5's
  check_proxy,
};
std::string_view to_string(remedy) noexcept; // "start_server"

struct explanation {
  stage where = stage::none;
  std::string address; // "" when none was reached
  std::string what;    // what happened: one sentence, without what to do
  // What the peer said of it: status and start of the body, a TLS alert, a close code and its reason. One
  // line of UTF-8 without control characters, at most 300 bytes.
  std::string said;
  std::string hint; // what to do, for those who program with the library; may be empty
  chorus::remedy remedy = chorus::remedy::none;
};

explanation explain(const failure &why);
remedy remedy_of(const failure &why) noexcept; // that alone

// All of it on one line: "what; hint [address]; the peer says: …", saying nothing twice.
std::string to_text(const explanation &e);

} // namespace chorus
