#pragma once
// TLS as a `stream` over any other stream, by OpenSSL with memory of our own in between:
// - what arrives is read ahead, up to 64 KiB at a time, and held only while some of it is undecoded;
// - what a record needs to go out and the stream below did not take waits here, at most one record
//   (16 KiB and its overhead) plus what a handshake or a key update adds. Until it has gone no new
//   plaintext is accepted, so a write is never to be repeated with the same bytes.
//
// A context is built once (it reads the files) and shared by any number of streams on any threads.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/stream.hpp>
#include <chorus/transport/tls_certificate.hpp>
#include <chorus/transport/tls_info.hpp>
#include <chorus/transport/tls_options.hpp>
#include <chorus/transport/tls_tickets.hpp>

#include <array>
#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

struct ssl_ctx_st;
struct ssl_session_st;

namespace chorus::transport {

// The SHA-256 of a key (its SubjectPublicKeyInfo).
using key_digest = std::array<unsigned char, 32>;

class tls_context {
public:
  tls_context(ssl_ctx_st *owned, bool server, const tls_options &options);
  ~tls_context();
  tls_context(const tls_context &) = delete;
  tls_context &operator=(const tls_context &) = delete;

  ssl_ctx_st *native() const noexcept { return context_; }
  bool server() const noexcept { return server_; }
  // Of clients: the name to send and verify instead of the host that is dialled; may be empty.
  const std::string &server_name() const noexcept { return server_name_; }
  bool verifies() const noexcept { return verify_ == tls_verify::full; }
  // Of clients: the server's key must be one of these; none when empty.
  const std::vector<key_digest> &pinned() const noexcept { return pinned_; }
  void pin(key_digest key) { pinned_.push_back(key); } // before the first handshake
  // In the wire format of RFC 7301 section 3.1.
  const std::string &alpn() const noexcept { return alpn_; }

  // Of servers: what session tickets are sealed with; null of clients.
  const std::shared_ptr<ticket_keys> &tickets() const noexcept { return tickets_; }
  // From now on those of `other`: its tickets are accepted, unless clients are verified in another way
  // or by other authorities. Before the first handshake.
  void share_tickets(const tls_context &other) noexcept { tickets_ = other.tickets_; }

  // Of clients: sessions are kept for the next connection to the same name and port. At most
  // `most_sessions`; tickets of TLS 1.3 are used once (RFC 8446 appendix C.4).
  static constexpr std::size_t most_sessions = 64;
  void remember_sessions() noexcept;
  // Null: none. The caller's to free.
  ssl_session_st *take_session(const std::string &peer);
  void keep_session(const std::string &peer, ssl_session_st *session);
  void note_resumed() noexcept { resumed_.fetch_add(1, std::memory_order_relaxed); }
  std::uint64_t resumed() const noexcept { return resumed_.load(std::memory_order_relaxed); }

private:
  ssl_ctx_st *context_;
  std::string server_name_;
  std::string alpn_;
  tls_verify verify_;
  std::vector<key_digest> pinned_;
  bool server_;
  bool remembers_ = false;
  std::shared_ptr<ticket_keys> tickets_;
  std::atomic<std::uint64_t> resumed_{0};
  std::mutex mutex_; // of the sessions: streams on several threads share a context
  std::map<std::string, ssl_session_st *> sessions_;
};

// Fail with error::tls_bad_configuration and a sentence that names the file and what is wrong with it.
result<std::shared_ptr<tls_context>> make_client_context(const tls_options &options);
result<std::shared_ptr<tls_context>> make_server_context(const tls_options &options);

// The handshake has not happened yet: await `tls_handshake` before anything else. `host` is a name or a
// literal address, of which only a name is sent (SNI); both are verified, an IPv6 address without its zone.
// Fails with error::tls_bad_configuration when there is nothing to verify the certificate against.
result<std::unique_ptr<stream>> make_tls_client_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context,
                                                       std::string_view host);
result<std::unique_ptr<stream>> make_tls_server_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context);

// Completes when the handshake of `s`, which one of the two functions above made, is done. `s` must
// stay alive. Fails with tls_expired, tls_wrong_host, tls_unknown_issuer, tls_bad_certificate,
// tls_wrong_key, tls_not_tls, tls_failed, tls_timeout at `deadline`, or lost when the peer went away; the
// stream is of no use then. Cancelling throws, by Asio's rule.
task<result<>> tls_handshake(stream &s, detail::time_point deadline);

// Of a stream whose handshake is done.
tls_info tls_info_of(const stream &s);
// What the peer showed, accepted or not, once the handshake is over in either way; nothing when it showed none.
std::optional<tls_certificate> tls_certificate_of(const stream &s);

} // namespace chorus::transport
