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
#include <chorus/transport/tls_options.hpp>

#include <memory>
#include <string>
#include <string_view>

struct ssl_ctx_st;

namespace chorus::transport {

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
  // In the wire format of RFC 7301 section 3.1.
  const std::string &alpn() const noexcept { return alpn_; }

private:
  ssl_ctx_st *context_;
  std::string server_name_;
  std::string alpn_;
  tls_verify verify_;
  bool server_;
};

// Fail with error::tls_bad_configuration and a sentence that names the file and what is wrong with it.
result<std::shared_ptr<tls_context>> make_client_context(const tls_options &options);
result<std::shared_ptr<tls_context>> make_server_context(const tls_options &options);

// The handshake has not happened yet: await `tls_handshake` before anything else. `host` is a name or a
// literal address, of which only a name is sent (SNI); both are verified. Fails with
// error::tls_bad_configuration when there is nothing to verify the certificate against.
result<std::unique_ptr<stream>> make_tls_client_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context,
                                                       std::string_view host);
result<std::unique_ptr<stream>> make_tls_server_stream(std::unique_ptr<stream> below,
                                                       std::shared_ptr<tls_context> context);

// Completes when the handshake of `s`, which one of the two functions above made, is done. `s` must
// stay alive. Fails with tls_expired, tls_wrong_host, tls_unknown_issuer, tls_bad_certificate,
// tls_not_tls, tls_failed, tls_timeout at `deadline`, or lost when the peer went away; the stream is of no
// use then. Cancelling throws, by Asio's rule.
task<result<>> tls_handshake(stream &s, detail::time_point deadline);

} // namespace chorus::transport
