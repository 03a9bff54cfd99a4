#include <chorus/transport/tls.hpp>
#include <chorus/transport/tls_failure.hpp>
#include <chorus/transport/tls_pins.hpp>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <iterator>
#include <new>
#include <sys/stat.h>
#include <utility>

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

// A session is kept as a copy: OpenSSL spoils its own when the connection ends without good-bye.
int new_session(SSL *ssl, SSL_SESSION *session) {
  auto *context = static_cast<tls_context *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  const auto *peer = static_cast<const std::string *>(SSL_get_app_data(ssl));
  if (context && peer && SSL_SESSION_is_resumable(session) == 1)
    if (auto *copy = SSL_SESSION_dup(session))
      context->keep_session(*peer, copy);
  return 0;
}

// Seals a ticket, or says how to open one: 0 is "by a full handshake", 2 "and make a new one", which
// TLS 1.3 wants every time (RFC 8446 appendix C.4).
int seal_or_open(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher,
                 EVP_MAC_CTX *mac, int sealing) {
  const auto &context =
      *static_cast<const tls_context *>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl)));
  auto &keys = *context.tickets();
  const auto now = detail::clock::now();
  const auto *aes = EVP_aes_256_cbc();
  auto key = sealing ? keys.sealing(now) : keys.opening(name, now);
  if (!key)
    return sealing ? -1 : 0;
  char digest[] = "SHA256";
  const OSSL_PARAM parameters[] = {
      OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, key->mac.data(), key->mac.size()),
      OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
      OSSL_PARAM_construct_end()};
  if (EVP_MAC_CTX_set_params(mac, parameters) != 1)
    return -1;
  if (sealing) {
    if (RAND_bytes(iv, EVP_CIPHER_get_iv_length(aes)) != 1 ||
        EVP_EncryptInit_ex(cipher, aes, nullptr, key->cipher.data(), iv) != 1)
      return -1;
    std::copy(key->name.begin(), key->name.end(), name);
    return 1;
  }
  if (EVP_DecryptInit_ex(cipher, aes, nullptr, key->cipher.data(), iv) != 1)
    return -1;
  return key->current && SSL_version(ssl) < TLS1_3_VERSION ? 1 : 2;
}

// A session may go on only where the same would be asked of its client: the same kind of verification,
// by the same authorities. So both are part of the context that tickets are bound to.
void bind_tickets(SSL_CTX *context, const tls_options &options) {
  std::string policy = options.require_client_certificate ? "require|"
                       : options.ask_client_certificate   ? "ask|"
                                                          : "none|";
  if (options.require_client_certificate || options.ask_client_certificate) {
    std::ifstream file(options.ca_file, std::ios::binary);
    policy.append(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(policy.data(), policy.size(), digest.data(), &size, EVP_sha256(), nullptr);
  SSL_CTX_set_session_id_context(context, digest.data(), size);
}

// A server reads its files on a thread that sessions live on. What can make the reader wait, a pipe
// above all, is refused unopened; what is not there is left to OpenSSL to complain about.
result<> check_files(const tls_options &options) {
  const std::pair<const char *, const std::string &> files[] = {
      {"certificate", options.certificate_file},
      {"key", options.key_file},
      {"CA", options.ca_file}};
  for (const auto &[role, file] : files) {
    struct stat what {};
    if (!file.empty() && ::stat(file.c_str(), &what) == 0 && !S_ISREG(what.st_mode))
      return bad_options(std::string("the ") + role + " file " + file +
                         " can't be used: it is no regular file; a server does not read from "
                         "pipes, devices or directories");
  }
  return {};
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
  if (server)
    tickets_ = std::make_shared<ticket_keys>();
  for (const auto &name : options.alpn) {
    alpn_ += static_cast<char>(static_cast<unsigned char>(name.size()));
    alpn_ += name;
  }
}

tls_context::~tls_context() {
  for (const auto &[peer, session] : sessions_)
    SSL_SESSION_free(session);
  SSL_CTX_free(context_);
}

void tls_context::remember_sessions() noexcept {
  remembers_ = true;
  SSL_CTX_set_app_data(context_, this);
  SSL_CTX_set_session_cache_mode(context_, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
  SSL_CTX_sess_set_new_cb(context_, new_session);
}

SSL_SESSION *tls_context::take_session(const std::string &peer) {
  if (!remembers_)
    return nullptr;
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(peer);
  if (found == sessions_.end())
    return nullptr;
  auto *session = found->second;
  if (SSL_SESSION_get_protocol_version(session) < TLS1_3_VERSION)
    SSL_SESSION_up_ref(session); // may be used again
  else
    sessions_.erase(found);
  return session;
}

void tls_context::keep_session(const std::string &peer, SSL_SESSION *session) {
  std::lock_guard lock(mutex_);
  auto &place = sessions_[peer];
  SSL_SESSION_free(std::exchange(place, session));
  if (sessions_.size() > most_sessions) {
    auto other = sessions_.begin();
    if (other->first == peer)
      ++other;
    SSL_SESSION_free(other->second);
    sessions_.erase(other);
  }
}

result<std::shared_ptr<tls_context>> make_client_context(const tls_options &options) {
  auto made = make_context(options, false);
  if (!made)
    return made;
  auto &context = **made;
  for (const auto &text : options.pinned_keys) {
    const auto key = parse_pin(text);
    if (!key)
      return key.error();
    context.pin(*key);
  }
  if (context.verifies()) {
    SSL_CTX_set_verify(context.native(), SSL_VERIFY_PEER, note_fault);
    if (options.ca_file.empty() && SSL_CTX_set_default_verify_paths(context.native()) != 1)
      return bad_options("the system's certificate store can't be used: " + tls_reason());
  }
  if (!context.pinned().empty())
    verify_pins(context);
  const auto &alpn = context.alpn();
  if (!alpn.empty())
    SSL_CTX_set_alpn_protos(context.native(), reinterpret_cast<const unsigned char *>(alpn.data()),
                            static_cast<unsigned>(alpn.size()));
  return made;
}

result<std::shared_ptr<tls_context>> make_server_context(const tls_options &options) {
  if (!options.pinned_keys.empty())
    return bad_options("pinned_keys are for clients; a server verifies its clients by ca_file");
  if (options.certificate_file.empty())
    return bad_options("a TLS server needs a certificate_file and a key_file");
  const bool asks = options.require_client_certificate || options.ask_client_certificate;
  if (asks && options.ca_file.empty())
    return bad_options(std::string(options.require_client_certificate ? "require" : "ask") +
                       "_client_certificate needs a ca_file to verify clients against");
  if (auto usable = check_files(options); !usable)
    return usable.error();
  auto made = make_context(options, true);
  if (!made)
    return made;
  auto &context = **made;
  if (asks) {
    SSL_CTX_set_verify(
        context.native(),
        SSL_VERIFY_PEER |
            (options.require_client_certificate ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
        note_fault);
    SSL_CTX_set_client_CA_list(context.native(), SSL_load_client_CA_file(options.ca_file.c_str()));
  }
  bind_tickets(context.native(), options);
  SSL_CTX_set_app_data(context.native(), &context);
  SSL_CTX_set_tlsext_ticket_key_evp_cb(context.native(), seal_or_open);
  if (!context.alpn().empty())
    SSL_CTX_set_alpn_select_cb(context.native(), choose_alpn, &context);
  return made;
}

} // namespace chorus::transport
