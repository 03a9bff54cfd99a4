#include <chorus/protocol/handshake.hpp>

namespace chorus::protocol {

namespace {

class category_type final : public boost::system::error_category {
public:
  const char *name() const noexcept override { return "chorus.handshake"; }

  std::string message(int value) const override {
    switch (static_cast<handshake_error>(value)) {
    case handshake_error::none:
      return "no handshake error";
    case handshake_error::bad_method:
      return "a WebSocket request must use GET (RFC 6455 section 4.1)";
    case handshake_error::bad_http_version:
      return "a WebSocket request must be HTTP/1.1 (RFC 6455 section 4.1)";
    case handshake_error::bad_target:
      return "the request's target is neither a path nor an absolute URL (RFC 6455 section 4.2.1)";
    case handshake_error::bad_host:
      return "the request needs exactly one valid Host header (RFC 6455 section 4.2.1)";
    case handshake_error::no_upgrade:
      return "the request has no \"Upgrade: websocket\" header (RFC 6455 section 4.2.1)";
    case handshake_error::no_connection_upgrade:
      return "the request has no \"Connection: Upgrade\" header; does a proxy remove it? (RFC 6455 "
             "section 4.2.1)";
    case handshake_error::no_version:
      return "the request has no Sec-WebSocket-Version header (RFC 6455 section 4.2.1)";
    case handshake_error::unsupported_version:
      return "the request's Sec-WebSocket-Version is not 13 (RFC 6455 section 4.4)";
    case handshake_error::no_key:
      return "the request has no Sec-WebSocket-Key header (RFC 6455 section 4.2.1)";
    case handshake_error::repeated_key:
      return "the request has more than one Sec-WebSocket-Key header (RFC 6455 section 11.3.1)";
    case handshake_error::bad_key:
      return "the request's Sec-WebSocket-Key is not 16 bytes in base64 (RFC 6455 section 4.2.1)";
    case handshake_error::bad_subprotocols:
      return "the request's Sec-WebSocket-Protocol names something twice or is no list of tokens "
             "(RFC 6455 section 4.1)";
    case handshake_error::too_many_fields:
      return "the message has more header fields than the limit of this side";
    case handshake_error::fields_too_large:
      return "the message's header fields are larger than the limit of this side";
    case handshake_error::unexpected_status:
      return "the server did not answer the upgrade with status 101 (RFC 6455 section 4.1)";
    case handshake_error::response_no_upgrade:
      return "the answer has no \"Upgrade: websocket\" header (RFC 6455 section 4.1)";
    case handshake_error::response_no_connection_upgrade:
      return "the answer has no \"Connection: Upgrade\" header (RFC 6455 section 4.1)";
    case handshake_error::no_accept:
      return "the answer has no Sec-WebSocket-Accept header (RFC 6455 section 4.1)";
    case handshake_error::repeated_accept:
      return "the answer has more than one Sec-WebSocket-Accept header (RFC 6455 section 11.3.3)";
    case handshake_error::wrong_accept:
      return "the answer's Sec-WebSocket-Accept does not match the key; it may come from a cache "
             "(RFC 6455 section 4.1)";
    case handshake_error::subprotocol_not_offered:
      return "the server chose a subprotocol that was not offered (RFC 6455 section 4.1)";
    case handshake_error::repeated_subprotocol:
      return "the answer has more than one Sec-WebSocket-Protocol header (RFC 6455 section 11.3.4)";
    case handshake_error::extension_not_offered:
      return "the server uses an extension that was not offered (RFC 6455 section 4.1)";
    case handshake_error::bad_extension_parameters:
      return "the server's permessage-deflate parameters do not answer the offer (RFC 7692 section "
             "5.1)";
    }
    return "unknown handshake error " + std::to_string(value);
  }
};

} // namespace

const boost::system::error_category &handshake_category() noexcept {
  static const category_type category;
  return category;
}

} // namespace chorus::protocol
