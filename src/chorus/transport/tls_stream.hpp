#pragma once
// The stream that `make_tls_..._stream` gives; for the sources of this room only.

#include <chorus/base/byte_buffer.hpp>
#include <chorus/transport/tls.hpp>
#include <chorus/transport/tls_failure.hpp>

struct ssl_st;

namespace chorus::transport {

class tls_stream final : public stream, private ready_listener {
public:
  tls_stream(std::unique_ptr<stream> below, std::shared_ptr<tls_context> context, std::string name);
  ~tls_stream() override;

  io_result read_some(std::span<std::byte> into) noexcept override;
  io_result write_some(std::span<const iovec> from) noexcept override;
  error_code error() const noexcept override { return failure_.code(); }
  failure why() const override { return failure_; }
  void listen(ready_listener *listener) noexcept override;
  void set_interest(unsigned ready_flags) noexcept override;
  void shutdown_write() noexcept override;
  void close(bool abortive) noexcept override;
  std::string local_address() const override { return below_->local_address(); }
  std::string remote_address() const override { return below_->remote_address(); }
  std::string alpn() const override;
  bool secure() const noexcept override { return true; }

  // One step, as far as it goes without waiting: ok when the handshake is done.
  io_status handshake() noexcept;
  tls_info info() const; // tls_info.cpp
  std::optional<tls_certificate> certificate() const;
  failure late() const { return tls_timeout_failure(situation()); }

  // What OpenSSL's BIO calls.
  int pull(char *into, int size) noexcept;
  int push(const char *from, int size) noexcept;
  // What OpenSSL's verification calls when the peer's key is none of the pinned ones.
  void note_key(std::string seen) noexcept { wrong_key_ = std::move(seen); }
  // What it calls when a certificate is at fault: the subject if it is an issuer's, else nothing.
  void note_issuer(std::string subject) noexcept { bad_issuer_ = std::move(subject); }
  bool below_ended() const noexcept { return below_ended_; }

private:
  void on_ready(unsigned what) noexcept override;
  bool flush() noexcept;
  void watch_below() noexcept;
  bool buffered() const noexcept;
  void tell_later() noexcept;
  void tell_buffered() noexcept;
  void look_at_first(const std::byte *bytes, std::size_t count) noexcept;
  tls_situation situation() const;
  io_status give_up(int ssl_error) noexcept;
  io_status fail(failure why) noexcept;
  void put_close_notify() noexcept;
  bool has_decoded() const noexcept;
  bool put_record(std::span<const iovec> from, std::size_t piece, std::size_t offset,
                  std::size_t &taken) noexcept;

  std::unique_ptr<stream> below_;
  std::shared_ptr<tls_context> context_;
  ssl_st *ssl_;
  std::string name_;       // that the certificate must be for; clients only
  std::string resume_key_; // of the session that a client resumes or keeps
  std::string wrong_key_;  // of the server, when it is none of the pinned ones
  std::string bad_issuer_; // the subject of the certificate at fault, when it is not the peer's own
  ready_listener *listener_ = nullptr;
  unsigned interest_ = 0;

  buffer incoming_; // undecoded bytes; held only while there are some
  std::size_t incoming_begin_ = 0;
  std::size_t incoming_end_ = 0;
  byte_buffer pending_; // encoded bytes that the stream below did not take yet
  std::size_t pending_begin_ = 0;

  failure failure_;        // the first
  error_code write_error_; // the stream below takes nothing any more; reading may go on
  bool fatal_ = false;     // neither reading nor writing can go on
  bool below_ended_ = false;
  bool ended_ = false; // close_notify came
  bool done_ = false;  // the handshake
  bool notify_sent_ = false;
  bool shutdown_after_flush_ = false;
  bool closed_ = false;
  bool told_ = false; // a notice about buffered bytes is on its way
  bool plain_text_ = false;
  unsigned char first_seen_ = 0;        // bytes of the peer's first record looked at
  std::shared_ptr<tls_stream *> token_; // null inside once destroyed; made when first needed
};

} // namespace chorus::transport
