#include <chorus/transport/tls_failure.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509_vfy.h>

#include <cstring>

namespace chorus::transport {

namespace {

// The queue's oldest entry is the cause, the later ones tell how it went on.
unsigned long take_error() noexcept {
  const auto code = ERR_get_error();
  ERR_clear_error();
  return code;
}

std::string text_of(unsigned long code) {
  if (code == 0)
    return "unknown reason";
  if (ERR_SYSTEM_ERROR(code))
    return std::strerror(ERR_GET_REASON(code));
  const char *reason = ERR_reason_error_string(code);
  return reason ? reason : "OpenSSL error " + std::to_string(code);
}

failure make(chorus::error code, const tls_situation &where, std::string sentence,
             std::string hint = {}, std::string alert = {}) {
  failure_detail detail;
  detail.where = stage::tls;
  detail.address = where.address;
  detail.sentence = std::move(sentence);
  detail.hint = std::move(hint);
  detail.tls_alert = std::move(alert);
  return failure(make_error_code(code), std::move(detail));
}

std::string peer_of(const tls_situation &where) {
  return (where.server ? "the client " : "the server ") + where.address;
}

failure untrusted(const tls_situation &where, long verdict) {
  const bool by_issuer = !where.issuer.empty();
  const auto subject = by_issuer ? "the certificate of the issuer " + where.issuer +
                                       ", above that of " + peer_of(where) + ","
                                 : "the certificate of " + peer_of(where);
  const std::string reason = X509_verify_cert_error_string(verdict);
  switch (verdict) {
  case X509_V_ERR_CERT_HAS_EXPIRED:
    return make(error::tls_expired, where, subject + " has expired",
                by_issuer ? "have the issuer's renewed, at the server or in ca_file, or set this "
                            "machine's clock right"
                          : "renew it, or set this machine's clock right");
  case X509_V_ERR_CERT_NOT_YET_VALID:
    return make(error::tls_expired, where, subject + " is not valid yet",
                "set this machine's clock right, or wait");
  case X509_V_ERR_HOSTNAME_MISMATCH:
  case X509_V_ERR_IP_ADDRESS_MISMATCH:
    return make(error::tls_wrong_host, where, subject + " is not for " + where.name,
                "connect by a name that the certificate holds, or set server_name");
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
  case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
  case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
  case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
    return make(error::tls_unknown_issuer, where,
                "the certificate of " + peer_of(where) +
                    " was issued by an authority that is not known here (" + reason + ")",
                "give the authority's certificate as ca_file");
  case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
    return make(error::tls_unknown_issuer, where,
                subject + " is signed by itself, and not known here",
                "give the certificate itself as ca_file");
  case X509_V_ERR_APPLICATION_VERIFICATION: // the pins'
    return make(
        error::tls_wrong_key, where,
        "the key of " + peer_of(where) + " is none of the pinned ones: it is " + where.key,
        "pin that one if the server has changed its key; if it has not, somebody else answers");
  default:
    return make(error::tls_bad_certificate, where, subject + " can't be trusted: " + reason);
  }
}

std::string name_of(int alert) {
  // This one OpenSSL 3.0 calls "unknown".
  return alert == SSL_AD_CERTIFICATE_REQUIRED ? "certificate required"
                                              : SSL_alert_desc_string_long(alert);
}

std::string hint_about(int alert) {
  switch (alert) {
  case SSL_AD_PROTOCOL_VERSION:
    return "it speaks no version that is allowed here, TLS 1.2 and later";
  case SSL_AD_CERTIFICATE_REQUIRED:
    return "it wants a certificate of this side; give certificate_file and key_file";
  case SSL_AD_BAD_CERTIFICATE:
  case SSL_AD_UNSUPPORTED_CERTIFICATE:
  case SSL_AD_CERTIFICATE_REVOKED:
  case SSL_AD_CERTIFICATE_EXPIRED:
  case SSL_AD_CERTIFICATE_UNKNOWN:
  case SSL_AD_UNKNOWN_CA:
    return "it does not take this side's certificate; its log may tell more";
  case SSL_AD_HANDSHAKE_FAILURE:
    return "it may want a certificate of this side, or other ciphers; its log may tell more";
  default:
    return "its log may tell more";
  }
}

} // namespace

std::string tls_reason() { return text_of(take_error()); }

failure tls_timeout_failure(const tls_situation &where) {
  return make(error::tls_timeout, where,
              peer_of(where) + " did not finish the TLS handshake in time",
              "does it speak TLS there?");
}

failure tls_failure(ssl_st *ssl, const tls_situation &where) {
  const auto code = take_error();
  const bool from_ssl = ERR_GET_LIB(code) == ERR_LIB_SSL;
  const int reason = ERR_GET_REASON(code);
  if (from_ssl && reason == SSL_R_CERTIFICATE_VERIFY_FAILED)
    return untrusted(where, SSL_get_verify_result(ssl));
  if (where.plain_text)
    return make(error::tls_not_tls, where,
                peer_of(where) +
                    (where.server ? " does not speak TLS" : " does not speak TLS on this port"),
                where.server ? "it should use wss:// or tls://"
                             : "use ws:// or tcp://, or its TLS port");
  if (from_ssl && reason == SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE)
    return make(error::tls_bad_certificate, where,
                peer_of(where) + " gave no certificate, and one is required here");
  if (from_ssl && reason > SSL_AD_REASON_OFFSET) {
    const int number = reason - SSL_AD_REASON_OFFSET;
    const auto alert = name_of(number);
    return make(error::tls_failed, where,
                peer_of(where) + " ended TLS with the alert \"" + alert + "\"", hint_about(number),
                alert);
  }
  if (where.ended && (code == 0 || !from_ssl || reason == SSL_R_UNEXPECTED_EOF_WHILE_READING))
    return make(error::lost, where,
                peer_of(where) + " ended the connection during the TLS handshake" +
                    (where.below ? " (" + where.below.message() + ")" : std::string()),
                "does it speak TLS on this port?");
  return make(error::tls_failed, where, "TLS with " + peer_of(where) + " failed: " + text_of(code));
}

} // namespace chorus::transport
