#pragma once
// The certificate that a TLS peer showed, and what came of verifying it.

#include <chrono>
#include <string>
#include <vector>

namespace chorus {

struct tls_certificate {
  std::string subject;                // RFC 2253: "CN=alice,O=Example"
  std::string issuer;                 // of the same form
  std::vector<std::string> alt_names; // as in tls_info::peer_alt_names
  std::chrono::system_clock::time_point not_before{};
  std::chrono::system_clock::time_point not_after{};
  std::string key; // "RSA 2048", "EC 256": what kind and how many bits; empty when it can't be read
  // Subjects from this certificate up to the root, as far as the chain could be built.
  std::vector<std::string> chain;
  // Chain, validity and, in clients, host name are in order. May be false where verification is off.
  bool trusted = false;
  std::string verdict; // OpenSSL's words: "ok", "certificate has expired"
};

} // namespace chorus
