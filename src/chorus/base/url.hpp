#pragma once
// `url`: where a peer is, as the text of a URL says it. A constant value; parsing does no I/O.
//
//   ws://host[:port][/path][?query]    wss://…   ports 80 and 443 unless given
//   ws+unix://path[:/target]                     WebSocket over a unix socket
//   tcp://host:port                    tls://…   framed messages; the port is needed
//   unix://path                                  framed messages over a unix socket
//   host:port                          the same as tcp://host:port
//
// IPv6 addresses stand in brackets. ws and wss take a user and a password before the host, percent-encoded:
// wss://user:password@host/. A fragment is refused (RFC 6455 section 3).

#include <chorus/base/result.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace chorus {

enum class url_scheme : std::uint8_t { ws, wss, tcp, tls, unix_socket, ws_unix };
std::string_view to_string(url_scheme) noexcept; // "ws", "wss", "tcp", "tls", "unix", "ws+unix"

class url {
public:
  url() = default; // ws://localhost/
  // Fails with error::bad_url; the sentence says what is wrong and shows what would be right. It
  // never repeats the path or the query, which may hold a token.
  static result<url> parse(std::string_view text);
  // Whether it begins with a scheme, known or not, and "://".
  static bool names_scheme(std::string_view text) noexcept;

  url_scheme scheme() const noexcept { return scheme_; }
  // A name in lower case or an address, IPv6 without its brackets; empty for a unix socket.
  const std::string &host() const noexcept { return host_; }
  // 0 for a unix socket.
  std::uint16_t port() const noexcept { return port_; }
  // Of the unix socket, percent-decoded; empty otherwise.
  const std::string &socket_path() const noexcept { return socket_path_; }
  // What the request line asks for: path and query as written, at least "/". Empty without WebSocket.
  const std::string &target() const noexcept { return target_; }
  // What stands before the host, decoded: for basic authentication (RFC 7617). Secrets.
  bool has_credentials() const noexcept { return has_credentials_; }
  const std::string &user() const noexcept { return user_; }
  const std::string &password() const noexcept { return password_; }
  // The value of a Host header (RFC 9110 section 7.2): the port only when it is not the default.
  std::string authority() const;

  bool is_websocket() const noexcept {
    return scheme_ == url_scheme::ws || scheme_ == url_scheme::wss ||
           scheme_ == url_scheme::ws_unix;
  }
  bool is_secure() const noexcept {
    return scheme_ == url_scheme::wss || scheme_ == url_scheme::tls;
  }
  bool is_unix() const noexcept {
    return scheme_ == url_scheme::unix_socket || scheme_ == url_scheme::ws_unix;
  }
  // The URL again, normalised: scheme and host in lower case, no default port, no credentials.
  std::string str() const;

  friend bool operator==(const url &, const url &) = default;

private:
  url_scheme scheme_ = url_scheme::ws;
  std::uint16_t port_ = 80;
  std::string host_ = "localhost";
  std::string socket_path_;
  std::string target_ = "/";
  std::string user_;
  std::string password_;
  bool has_credentials_ = false;
};

} // namespace chorus
