#include <chorus/transport/tls_pins.hpp>

#include <chorus/base/base64.hpp>
#include <chorus/base/text.hpp>
#include <chorus/transport/tls_stream.hpp>

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509_vfy.h>

#include <algorithm>
#include <optional>
#include <string>

namespace chorus::transport {

namespace {

constexpr std::string_view prefix = "sha256//";

int owner_index() noexcept {
  static const int index = SSL_get_ex_new_index(0, nullptr, nullptr, nullptr, nullptr);
  return index;
}

std::optional<key_digest> digest_of(const X509 *certificate) noexcept {
  unsigned char *encoded = nullptr;
  const int size = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(certificate), &encoded);
  if (size <= 0)
    return std::nullopt;
  key_digest digest{};
  unsigned written = 0;
  const int done = EVP_Digest(encoded, static_cast<std::size_t>(size), digest.data(), &written,
                              EVP_sha256(), nullptr);
  OPENSSL_free(encoded);
  if (done != 1 || written != digest.size())
    return std::nullopt;
  return digest;
}

tls_stream *stream_of(X509_STORE_CTX *store) noexcept {
  const auto *ssl = static_cast<const SSL *>(
      X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
  return ssl ? static_cast<tls_stream *>(SSL_get_ex_data(ssl, owner_index())) : nullptr;
}

std::string printed_subject(const X509 *certificate) {
  auto *out = BIO_new(BIO_s_mem());
  std::string subject;
  // Without ASN1_STRFLGS_ESC_MSB: UTF-8 stays what it is.
  if (out && X509_NAME_print_ex(out, X509_get_subject_name(certificate), 0,
                                XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) >= 0) {
    char *text = nullptr;
    const auto size = BIO_get_mem_data(out, &text);
    subject = detail::one_line({text, static_cast<std::size_t>(size)}, 200);
  }
  BIO_free(out);
  return subject.empty() ? "without a name" : subject;
}

std::string text_of(const key_digest &digest) {
  return std::string(prefix) +
         detail::to_base64({reinterpret_cast<const char *>(digest.data()), digest.size()});
}

// Instead of OpenSSL's own verification, which it calls.
int verify(X509_STORE_CTX *store, void *with) noexcept {
  const auto &context = *static_cast<const tls_context *>(with);
  if (context.verifies() && X509_verify_cert(store) != 1)
    return 0;
  const auto *certificate = X509_STORE_CTX_get0_cert(store);
  const auto digest = certificate ? digest_of(certificate) : std::nullopt;
  const auto &pinned = context.pinned();
  if (digest && std::find(pinned.begin(), pinned.end(), *digest) != pinned.end()) {
    X509_STORE_CTX_set_error(store, X509_V_OK);
    return 1;
  }
  if (auto *owner = stream_of(store))
    owner->note_key(digest ? text_of(*digest) : "one that can't be read");
  X509_STORE_CTX_set_error(store, X509_V_ERR_APPLICATION_VERIFICATION);
  return 0;
}

} // namespace

result<key_digest> parse_pin(std::string_view text) {
  key_digest digest{};
  const auto bytes =
      text.starts_with(prefix) ? detail::from_base64(text.substr(prefix.size())) : std::nullopt;
  if (!bytes || bytes->size() != digest.size())
    return failure(
        error::tls_bad_configuration, stage::configure,
        "a pinned key is written as sha256// and the Base64 of 32 bytes, the SHA-256 of the "
        "key's SubjectPublicKeyInfo");
  std::copy(bytes->begin(), bytes->end(), reinterpret_cast<char *>(digest.data()));
  return digest;
}

void verify_pins(tls_context &context) {
  SSL_CTX_set_verify(context.native(), SSL_VERIFY_PEER, note_fault);
  SSL_CTX_set_cert_verify_callback(context.native(), verify, &context);
}

int note_fault(int good, X509_STORE_CTX *store) noexcept {
  auto *owner = good == 1 ? nullptr : stream_of(store);
  const auto *at_fault = owner ? X509_STORE_CTX_get_current_cert(store) : nullptr;
  if (at_fault)
    owner->note_issuer(X509_STORE_CTX_get_error_depth(store) > 0 ? printed_subject(at_fault)
                                                                 : std::string());
  return good;
}

void attach(SSL *ssl, tls_stream &owner) { SSL_set_ex_data(ssl, owner_index(), &owner); }

} // namespace chorus::transport
