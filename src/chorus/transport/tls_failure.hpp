#pragma once
// From OpenSSL's error queue to a `failure` with a sentence that says what to do.

#include <chorus/base/failure.hpp>

#include <string>
#include <string_view>

struct ssl_st;

namespace chorus::transport {

struct tls_situation {
  std::string address; // of the peer
  std::string name;    // that the certificate should be for; empty for servers
  bool server = false;
  bool plain_text = false; // what came from the peer does not look like TLS
  bool ended = false;      // the stream below ended or failed
  error_code below;        // why it failed
  std::string key;         // the peer's, when it is none of the pinned ones
  std::string issuer;      // the subject of the certificate above the peer's own that was at fault
};

// Empties the calling thread's queue.
failure tls_failure(ssl_st *ssl, const tls_situation &where);
failure tls_timeout_failure(const tls_situation &where);

// The first error of the calling thread's queue as text; empties it. "unknown reason" without one.
std::string tls_reason();

} // namespace chorus::transport
