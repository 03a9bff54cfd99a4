#pragma once
// What a client or a server wants of TLS. The defaults are the safe ones: the peer's certificate and
// host name are verified, the host name is sent (SNI), and TLS 1.2 is the minimum.

#include <string>
#include <vector>

namespace chorus {

enum class tls_verify : unsigned char {
  full,                            // chain, validity and host name
  insecure_accept_any_certificate, // no protection against an impostor; for tests
};

struct tls_options {
  std::string ca_file{};           // PEM; empty: the system's
  std::string certificate_file{};  // PEM chain of this side; a server needs one
  std::string key_file{};          // PEM
  std::string server_name{};       // for SNI and verification instead of the URL's host
  std::vector<std::string> alpn{}; // in order of preference
  tls_verify verify = tls_verify::full;
  bool require_client_certificate = false; // servers: and verify it against `ca_file`
  // Servers: ask for one, and verify it if there is one; request::tls() tells. A bad one is refused.
  bool ask_client_certificate = false;
  // Clients: keys of which the server must have one, besides what `verify` asks for: "sha256//" and the
  // Base64 of the SHA-256 of its SubjectPublicKeyInfo, as curl writes it. Empty: any key. With
  // insecure_accept_any_certificate they are all that is asked for. After a redirect they hold as well.
  // Where nothing that is asked for has TLS they are refused, so no redirect leads from there to TLS.
  std::vector<std::string> pinned_keys{};
};

} // namespace chorus
