#include <chorus/transport/tls_stream.hpp>

#include <openssl/bio.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <arpa/inet.h>
#include <array>
#include <ctime>
#include <memory>
#include <stdexcept>
#include <string_view>

namespace chorus::transport {

namespace {

template <auto Free> struct freer {
  template <class T> void operator()(T *p) const noexcept { Free(p); }
};

std::string text_of(const char *text) { return text ? std::string(text) : std::string(); }

// Empty for what can't be converted or holds a zero byte: who compares names must not be fooled by what
// stands before it.
std::string utf8_of(const ASN1_STRING *value) {
  unsigned char *bytes = nullptr;
  const int size = ASN1_STRING_to_UTF8(&bytes, value);
  if (size <= 0)
    return {};
  std::string text(reinterpret_cast<const char *>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return text.find('\0') == text.npos ? text : std::string();
}

std::string subject_of(const X509_NAME *name) {
  const std::unique_ptr<BIO, freer<BIO_free_all>> out(BIO_new(BIO_s_mem()));
  if (!out || X509_NAME_print_ex(out.get(), name, 0, XN_FLAG_RFC2253 & ~ASN1_STRFLGS_ESC_MSB) < 0)
    return {};
  char *text = nullptr;
  const auto size = BIO_get_mem_data(out.get(), &text);
  return std::string(text, static_cast<std::size_t>(size));
}

std::chrono::system_clock::time_point time_of(const ASN1_TIME *time) {
  std::tm parts{};
  if (ASN1_TIME_to_tm(time, &parts) != 1)
    return {};
  return std::chrono::system_clock::from_time_t(::timegm(&parts));
}

std::string common_name_of(const X509_NAME *name) {
  int last = -1;
  for (int at = -1; (at = X509_NAME_get_index_by_NID(name, NID_commonName, at)) >= 0;)
    last = at;
  return last < 0 ? std::string()
                  : utf8_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, last)));
}

std::string address_of(const ASN1_OCTET_STRING *value) {
  const int size = ASN1_STRING_length(value);
  if (size != 4 && size != 16)
    return {};
  std::array<char, INET6_ADDRSTRLEN> text{};
  ::inet_ntop(size == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(value), text.data(),
              text.size());
  return text.data();
}

std::vector<std::string> alt_names_of(const X509 *certificate) {
  std::vector<std::string> all;
  const std::unique_ptr<GENERAL_NAMES, freer<GENERAL_NAMES_free>> names(
      static_cast<GENERAL_NAMES *>(
          X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; names && i < sk_GENERAL_NAME_num(names.get()); ++i) {
    int type = 0;
    const void *value = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(names.get(), i), &type);
    const auto add = [&](const char *kind, std::string text) {
      if (!text.empty())
        all.push_back(kind + std::move(text));
    };
    if (type == GEN_DNS)
      add("DNS:", utf8_of(static_cast<const ASN1_STRING *>(value)));
    else if (type == GEN_EMAIL)
      add("email:", utf8_of(static_cast<const ASN1_STRING *>(value)));
    else if (type == GEN_URI)
      add("URI:", utf8_of(static_cast<const ASN1_STRING *>(value)));
    else if (type == GEN_IPADD)
      add("IP:", address_of(static_cast<const ASN1_OCTET_STRING *>(value)));
  }
  return all;
}

} // namespace

tls_info tls_stream::info() const {
  tls_info i;
  i.version = text_of(SSL_get_version(ssl_));
  i.cipher = text_of(SSL_get_cipher_name(ssl_));
  i.alpn = alpn();
  i.server_name = text_of(SSL_get_servername(ssl_, TLSEXT_NAMETYPE_host_name));
  i.resumed = SSL_session_reused(ssl_) == 1;
  const std::unique_ptr<X509, freer<X509_free>> peer(SSL_get1_peer_certificate(ssl_));
  i.peer_verified = peer && (SSL_get_verify_mode(ssl_) & SSL_VERIFY_PEER) != 0 &&
                    SSL_get_verify_result(ssl_) == X509_V_OK &&
                    (context_->server() || context_->verifies());
  if (i.peer_verified) {
    const auto *name = X509_get_subject_name(peer.get());
    i.peer_subject = subject_of(name);
    i.peer_common_name = common_name_of(name);
    i.peer_alt_names = alt_names_of(peer.get());
  }
  return i;
}

std::optional<tls_certificate> tls_stream::certificate() const {
  // Of a handshake that failed for its certificate this is all that OpenSSL keeps.
  const auto *built = SSL_get0_verified_chain(ssl_);
  const std::unique_ptr<X509, freer<X509_free>> peer(SSL_get1_peer_certificate(ssl_));
  const auto *shown = peer                     ? peer.get()
                      : sk_X509_num(built) > 0 ? sk_X509_value(built, 0)
                                               : nullptr;
  if (!shown)
    return {};
  tls_certificate c;
  c.subject = subject_of(X509_get_subject_name(shown));
  c.issuer = subject_of(X509_get_issuer_name(shown));
  c.alt_names = alt_names_of(shown);
  c.not_before = time_of(X509_get0_notBefore(shown));
  c.not_after = time_of(X509_get0_notAfter(shown));
  if (const auto *key = X509_get0_pubkey(shown))
    c.key = text_of(EVP_PKEY_get0_type_name(key)) + ' ' + std::to_string(EVP_PKEY_get_bits(key));
  for (int i = 0; i < sk_X509_num(built); ++i)
    c.chain.push_back(subject_of(X509_get_subject_name(sk_X509_value(built, i))));
  const auto verdict = SSL_get_verify_result(ssl_);
  c.trusted = verdict == X509_V_OK;
  c.verdict = X509_verify_cert_error_string(verdict);
  return c;
}

namespace {

const tls_stream &tls_of(const stream &s) {
  const auto *tls = dynamic_cast<const tls_stream *>(&s);
  if (!tls)
    throw std::logic_error("chorus: this needs a stream made by make_tls_..._stream");
  return *tls;
}

} // namespace

tls_info tls_info_of(const stream &s) { return tls_of(s).info(); }

std::optional<tls_certificate> tls_certificate_of(const stream &s) {
  return tls_of(s).certificate();
}

} // namespace chorus::transport
