#pragma once
// What a TLS handshake agreed on, and who the peer proved to be.

#include <string>
#include <vector>

namespace chorus {

struct tls_info {
  std::string version;     // "TLSv1.3"
  std::string cipher;      // "TLS_AES_256_GCM_SHA384"
  std::string alpn;        // empty: none was agreed
  std::string server_name; // that the client asked for (SNI); empty: none
  bool resumed = false;    // an earlier session went on; who the peer is was proven then
  // The peer gave a certificate and it was verified; without that all below is empty.
  bool peer_verified = false;
  std::string peer_subject;     // RFC 2253: "CN=alice,O=Example"
  std::string peer_common_name; // the last CN of the subject
  // "DNS:a.example", "email:a@b.example", "URI:spiffe://…", "IP:192.0.2.1"; a name with a zero byte in
  // it is left out.
  std::vector<std::string> peer_alt_names{};
};

} // namespace chorus
