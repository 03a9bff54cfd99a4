#pragma once
// Told of each stage of a connection attempt as it is done, for who measures or shows them. What went wrong
// in the end is in the failure of `connect`.

#include <chorus/transport/tls_certificate.hpp>
#include <chorus/transport/tls_info.hpp>

#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace chorus {

// All calls come on the connection's shard, in this order, from within the attempt: they must return soon, and
// what they throw is thrown by the attempt. A redirect begins again at the top.
class connect_observer {
public:
  virtual ~connect_observer() = default;

  // The name is about to be looked up; what this side needs for TLS is loaded.
  virtual void on_started();
  // In the order in which they are tried; of the proxy, when there is one; of a unix socket its path.
  virtual void on_resolved(std::span<const std::string> addresses);
  // The address that won.
  virtual void on_connected(std::string_view remote, std::string_view local);
  // The proxy has connected to the host.
  virtual void on_proxied();
  // Also when it is not accepted; not when the handshake broke off before the peer showed one.
  virtual void on_certificate(const tls_certificate &shown);
  virtual void on_secured(const tls_info &agreed);
  // The server has agreed to speak WebSocket.
  virtual void on_upgraded(unsigned status,
                           std::span<const std::pair<std::string, std::string>> headers);
  // The server's answer leads to this URL, which is tried next. Without query: that may hold a secret.
  virtual void on_redirected(unsigned status, std::string_view to);
};

} // namespace chorus
