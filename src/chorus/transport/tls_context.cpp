#include <chorus/transport/tls.hpp>
#include <chorus/transport/tls_failure.hpp>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <new>

namespace chorus::transport {

namespace {

failure bad_file(const char *role, const std::string &file) {
  return failure(error::tls_bad_configuration, stage::configure,
                 std::string("the ") + role + " file " + file + " can't be used: " + tls_reason());
}

failure bad_options(std::string sentence) {
  return failure(error::tls_bad_configuration, stage::configure, std::move(sentence));
}

int no_passphrase(char *, int, int, void *) { return 0; } // instead of a prompt on the terminal

// Takes the first of the server's protocols that the client offers.
int choose_alpn(SSL *, const unsigned char **out, unsigned char *out_size,
                const unsigned char *offered, unsigned offered_size, void *context) {
  const auto &ours = static_cast<const tls_context *>(context)->alpn();
  unsigned char *chosen = nullptr;
  if (SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char *>(ours.data()),
                            static_cast<unsigned>(ours.size()), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED)
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  *out = chosen;
  return SSL_TLSEXT_ERR_OK;
}

// The certificate chain and key of this side, and the authorities it trusts.
result<> load_files(SSL_CTX *context, const tls_options &options) {
  ERR_clear_error();
  SSL_CTX_set_default_passwd_cb(context, no_passphrase);
  if (!options.certificate_file.empty()) {
    const auto &key = options.key_file.empty() ? options.certificate_file : options.key_file;
    if (SSL_CTX_use_certificate_chain_file(context, options.certificate_file.c_str()) != 1)
      return bad_file("certificate", options.certificate_file);
    if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1)
      return bad_file("key", key);
    if (SSL_CTX_check_private_key(context) != 1)
      return bad_file("key", key);
  } else if (!options.key_file.empty()) {
    return bad_options("there is a key file (" + options.key_file + ") but no certificate_file");
  }
  if (!options.ca_file.empty() && SSL_CTX_load_verify_file(context, options.ca_file.c_str()) != 1)
    return bad_file("CA", options.ca_file);
  return {};
}

result<std::shared_ptr<tls_context>> make_context(const tls_options &options, bool server) {
  for (const auto &name : options.alpn)
    if (name.empty() || name.size() > 255)
      return bad_options("an ALPN protocol name has 1 to 255 bytes");
  auto *native = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  if (!native)
    throw std::bad_alloc();
  const auto made = std::make_shared<tls_context>(native, server, options);
  SSL_CTX_set_min_proto_version(native, TLS1_2_VERSION);
  SSL_CTX_set_options(native, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
  SSL_CTX_set_mode(native, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                               SSL_MODE_RELEASE_BUFFERS);
  // Sessions are resumed by tickets; a cache would cost memory per client.
  SSL_CTX_set_session_cache_mode(native, SSL_SESS_CACHE_OFF);
  if (auto loaded = load_files(native, options); !loaded)
    return loaded.error();
  return made;
}

} // namespace

tls_context::tls_context(ssl_ctx_st *owned, bool server, const tls_options &options)
    : context_(owned), server_name_(options.server_name), verify_(options.verify), server_(server) {
  for (const auto &name : options.alpn) {
    alpn_ += static_cast<char>(static_cast<unsigned char>(name.size()));
    alpn_ += name;
  }
}

tls_context::~tls_context() { SSL_CTX_free(context_); }

result<std::shared_ptr<tls_context>> make_client_context(const tls_options &options) {
  auto made = make_context(options, false);
  if (!made)
    return made;
  const auto &context = **made;
  if (context.verifies()) {
    SSL_CTX_set_verify(context.native(), SSL_VERIFY_PEER, nullptr);
    if (options.ca_file.empty() && SSL_CTX_set_default_verify_paths(context.native()) != 1)
      return bad_options("the system's certificate store can't be used: " + tls_reason());
  }
  const auto &alpn = context.alpn();
  if (!alpn.empty())
    SSL_CTX_set_alpn_protos(context.native(), reinterpret_cast<const unsigned char *>(alpn.data()),
                            static_cast<unsigned>(alpn.size()));
  return made;
}

result<std::shared_ptr<tls_context>> make_server_context(const tls_options &options) {
  if (options.certificate_file.empty())
    return bad_options("a TLS server needs a certificate_file and a key_file");
  if (options.require_client_certificate && options.ca_file.empty())
    return bad_options("require_client_certificate needs a ca_file to verify clients against");
  auto made = make_context(options, true);
  if (!made)
    return made;
  auto &context = **made;
  if (options.require_client_certificate) {
    SSL_CTX_set_verify(context.native(), SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT,
                       nullptr);
    SSL_CTX_set_client_CA_list(context.native(), SSL_load_client_CA_file(options.ca_file.c_str()));
    static constexpr unsigned char id[] = "chorus";
    SSL_CTX_set_session_id_context(context.native(), id, sizeof id - 1);
  }
  if (!context.alpn().empty())
    SSL_CTX_set_alpn_select_cb(context.native(), choose_alpn, &context);
  return made;
}

} // namespace chorus::transport
