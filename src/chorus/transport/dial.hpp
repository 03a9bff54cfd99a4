#pragma once
// Dialling: from a host name to a connected stream. Resolves, races the addresses, and runs the TLS
// handshake; each stage has a deadline and an error of its own.

#include <chorus/async/task.hpp>
#include <chorus/base/result.hpp>
#include <chorus/transport/connect_any.hpp>
#include <chorus/transport/connect_observer.hpp>
#include <chorus/transport/proxy.hpp>
#include <chorus/transport/stream.hpp>
#include <chorus/transport/tls_options.hpp>

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace chorus::transport {

class tls_context;

struct dial_target {
  std::string host; // name or literal address; of a unix socket empty
  std::string port; // number or service name
  std::string path; // of a unix socket
  bool tls = false;
};

struct dial_options {
  std::chrono::milliseconds resolve_timeout{5000};
  std::chrono::milliseconds connect_timeout{10000}; // for all addresses together
  std::chrono::milliseconds tls_timeout{10000};
  bool keep_alive = true; // SO_KEEPALIVE
  tls_options tls;
  // Built from `tls` beforehand, for who dials often; null: built by each call, which reads the files.
  std::shared_ptr<tls_context> ready_context{};
  std::chrono::milliseconds stagger{250}; // see race_options
  // Asked for the addresses of a name instead of the system's resolver, for tests.
  std::function<result<std::vector<endpoint>>(const dial_target &)> look_up{};
  // To be asked for the connection, within another `connect_timeout`. TLS is with the host.
  std::optional<proxy_server> proxy{};
  connect_observer *observer = nullptr; // outlives the call; null: nobody
};

// On shard `home`, whose thread must be the calling one. The name is looked up afresh by each call. TCP_NODELAY is set before anything is sent.
task<result<std::unique_ptr<stream>>> dial(detail::shard &home, dial_target target,
                                           dial_options options);

} // namespace chorus::transport
