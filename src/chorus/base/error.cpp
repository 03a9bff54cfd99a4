#include <chorus/base/error.hpp>

#include <string>

namespace chorus {

namespace {

class library_category final : public boost::system::error_category {
public:
  const char *name() const noexcept override { return "chorus"; }

  std::string message(int value) const override {
    switch (static_cast<error>(value)) {
    case error::closed:
      return "the connection was closed";
    case error::lost:
      return "the connection was lost without a closing handshake";
    case error::timed_out:
      return "timed out: the peer gave no sign of life";
    case error::write_timeout:
      return "timed out: the peer stopped reading";
    case error::aborted:
      return "the connection was aborted by this side";
    case error::protocol:
      return "the peer broke the protocol";
    case error::message_too_big:
      return "the message is larger than the limit";
    case error::queue_full:
      return "the outgoing queue is full; wait, raise its bound or choose an overflow policy";
    case error::evicted:
      return "closed because the peer did not keep up";
    case error::cancelled:
      return "the operation was cancelled";
    case error::busy:
      return "another receive is already waiting on this session; one at a time";
    case error::not_open:
      return "not open";
    case error::shut_down:
      return "the runtime has ended";
    case error::no_runtime:
      return "no runtime here: await this inside chorus::runtime, or register your io_context with "
             "one";
    case error::bad_url:
      return "the URL can't be used";
    case error::bad_option:
      return "an option has a value that can't be used";
    case error::resolve_failed:
      return "the host name is not known; check its spelling and the DNS";
    case error::resolve_timeout:
      return "resolving the host name took too long";
    case error::connect_failed:
      return "no address of the host accepted the connection";
    case error::connect_timeout:
      return "connecting took too long";
    case error::tls_failed:
      return "the TLS handshake failed";
    case error::tls_timeout:
      return "the TLS handshake took too long";
    case error::tls_not_tls:
      return "the peer does not speak TLS on this port; use ws:// or tcp://, or the TLS port";
    case error::tls_expired:
      return "the peer's certificate is expired or not yet valid";
    case error::tls_wrong_host:
      return "the peer's certificate is for another host name";
    case error::tls_unknown_issuer:
      return "the peer's certificate was issued by an unknown authority; give its CA file";
    case error::tls_bad_certificate:
      return "the peer's certificate can't be trusted";
    case error::tls_bad_configuration:
      return "a certificate, key or CA file can't be used";
    case error::upgrade_refused:
      return "the server refused the WebSocket upgrade";
    case error::upgrade_invalid:
      return "the server's answer is no valid WebSocket handshake";
    case error::upgrade_timeout:
      return "the server did not answer the upgrade in time";
    case error::attempts_exhausted:
      return "gave up after the configured number of attempts";
    case error::unconfirmed:
      return "written to a connection that was lost; whether it arrived is unknown";
    case error::listen_failed:
      return "can't listen on the address";
    case error::room_closed:
      return "the room is closed";
    case error::limit_reached:
      return "a limit was reached";
    case error::join_refused:
      return "the room does not take this member; its join hook refused";
    case error::tls_wrong_key:
      return "the peer's key is none of the pinned ones";
    case error::proxy_refused:
      return "the proxy did not connect to the server";
    case error::proxy_invalid:
      return "what answers at the proxy's address is no such proxy";
    case error::proxy_timeout:
      return "the proxy did not connect to the server in time";
    case error::no_protocol:
      return "the peer speaks none of the protocols that were tried";
    case error::auth_refused:
      return "the peer does not accept who this client says it is";
    case error::auth_failed:
      return "authentication did not succeed; it may later";
    case error::auth_timeout:
      return "authentication took too long";
    case error::handler_failed:
      return "a handler of this program threw";
    }
    return "unknown chorus error " + std::to_string(value);
  }
};

bool is_timeout(error e) noexcept {
  return e == error::timed_out || e == error::write_timeout || e == error::resolve_timeout ||
         e == error::connect_timeout || e == error::tls_timeout || e == error::upgrade_timeout ||
         e == error::proxy_timeout || e == error::auth_timeout;
}

bool is_tls(error e) noexcept {
  return (e >= error::tls_failed && e <= error::tls_bad_configuration) || e == error::tls_wrong_key;
}

bool is_ended(error e) noexcept {
  return (e >= error::closed && e <= error::message_too_big) || e == error::evicted ||
         e == error::not_open || e == error::shut_down || e == error::no_protocol;
}

bool is_fatal(error e) noexcept {
  return e == error::bad_url || e == error::bad_option || e == error::tls_expired ||
         e == error::tls_wrong_host || e == error::tls_unknown_issuer ||
         e == error::tls_bad_certificate || e == error::tls_bad_configuration ||
         e == error::tls_not_tls || e == error::upgrade_invalid || e == error::no_runtime ||
         e == error::shut_down || e == error::tls_wrong_key || e == error::proxy_invalid ||
         e == error::auth_refused;
}

class library_conditions final : public boost::system::error_category {
public:
  const char *name() const noexcept override { return "chorus.condition"; }

  std::string message(int value) const override {
    switch (static_cast<condition>(value)) {
    case condition::ended:
      return "the connection is over";
    case condition::timeout:
      return "a deadline passed";
    case condition::refused:
      return "the peer refused";
    case condition::tls:
      return "TLS failed";
    case condition::fatal:
      return "trying again the same way can't succeed";
    }
    return "unknown chorus condition " + std::to_string(value);
  }

  bool equivalent(const error_code &ec, int value) const noexcept override {
    if (ec.category() != chorus::error_category())
      return false;
    const auto e = static_cast<error>(ec.value());
    switch (static_cast<condition>(value)) {
    case condition::ended:
      return is_ended(e);
    case condition::timeout:
      return is_timeout(e);
    case condition::refused:
      return e == error::connect_failed || e == error::upgrade_refused ||
             e == error::join_refused || e == error::proxy_refused || e == error::auth_refused;
    case condition::tls:
      return is_tls(e) || e == error::tls_timeout;
    case condition::fatal:
      return is_fatal(e);
    }
    return false;
  }
};

} // namespace

const boost::system::error_category &error_category() noexcept {
  static const library_category category;
  return category;
}

const boost::system::error_category &condition_category() noexcept {
  static const library_conditions category;
  return category;
}

} // namespace chorus
