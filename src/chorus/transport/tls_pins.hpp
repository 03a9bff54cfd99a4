#pragma once
// What is looked at while a peer's certificates are verified: which of them is at fault, and pinned keys, for
// servers that are known by their key. For the sources of this room only.

#include <chorus/base/result.hpp>
#include <chorus/transport/tls.hpp>

#include <string_view>

struct ssl_st;
struct x509_store_ctx_st;

namespace chorus::transport {

class tls_stream;

// Of "sha256//" and the Base64 of 32 bytes. Fails with tls_bad_configuration.
result<key_digest> parse_pin(std::string_view text);

// Has the handshakes of this client's context end where the server's key is none of `context.pinned()`:
// before anything of this side's is sent that the server could use. What else was to be verified still is,
// unless `context` verifies nothing.
void verify_pins(tls_context &context);

// For SSL_CTX_set_verify: changes nothing, and tells the stream which certificate is at fault.
int note_fault(int good, x509_store_ctx_st *store) noexcept;

// Says whose handshake `ssl` is, for the stream to learn which certificate or key was refused.
void attach(ssl_st *ssl, tls_stream &owner);

} // namespace chorus::transport
