#pragma once
// `failure`: an error code plus shared, constant detail. Cheap to copy (an error code and one
// pointer), default constructible, safe to hand to another thread.

#include <chorus/base/error.hpp>

#include <cstdint>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus {

// Which step failed.
enum class stage : std::uint8_t {
  none,
  configure,
  resolve,
  connect,
  tls,
  upgrade,
  open, // the session was established
  close,
  listen,
  proxy, // what stands between this side and the server
};
std::string_view to_string(stage) noexcept;

// An address that was tried in vain.
struct tried_address {
  std::string address;
  error_code why;
};

struct failure_detail {
  stage where = stage::none;
  std::string sentence;         // what happened, for a person
  std::string address;          // "192.0.2.1:80", "unix:/run/x"; empty when none was reached
  std::uint16_t close_code = 0; // RFC 6455 section 7.1.5; 0 when no close frame was involved
  std::string close_reason;     // UTF-8, at most 123 bytes
  bool by_peer = false;         // the peer began the close
  unsigned status = 0;          // HTTP status of a refused upgrade; 0 otherwise
  std::vector<std::pair<std::string, std::string>> headers; // of the refusal
  std::string body; // the first bytes of the refusal's body (at most 1 KiB)
  std::string hint; // what to do about it, where there is more to say than the sentence does
  // The addresses of the host that were tried in vain, in the order in which they failed; at most 32. When
  // several protocols were: each, as in "wss://example.org:8443".
  std::vector<tried_address> tried;
  std::string tls_alert; // by which the peer ended TLS, as in "handshake failure"
  // What the peer's close frame said after a close of this side (whose code is `close_code`): usually its
  // answer, else a close of its own that met ours. 1005: without a code; 0: none came.
  std::uint16_t answer_code = 0;
  std::string answer_reason; // UTF-8, at most 123 bytes
  // The proxy refused for want of a user and a password, or of right ones.
  bool wants_credentials = false;
};

class failure {
public:
  failure() noexcept = default;
  failure(error e) noexcept : code_(e) {}
  failure(error_code ec) noexcept : code_(ec) {}
  failure(error_code ec, failure_detail detail);
  failure(error e, stage where, std::string sentence);

  error_code code() const noexcept { return code_; }
  // Always a valid reference; default values when there is no detail.
  const failure_detail &detail() const noexcept;
  // The sentence of the detail and its hint, or the code's message.
  std::string message() const;

  friend bool operator==(const failure &f, error e) noexcept { return f.code_ == e; }
  friend bool operator==(const failure &f, condition c) noexcept { return f.code_ == c; }

private:
  error_code code_;
  std::shared_ptr<const failure_detail> detail_;
};

// What `.value()` of a failed `result` throws.
class failure_exception : public std::exception {
public:
  explicit failure_exception(failure f) : failure_(std::move(f)), what_(failure_.message()) {}
  const failure &why() const noexcept { return failure_; }
  const char *what() const noexcept override { return what_.c_str(); }

private:
  failure failure_;
  std::string what_;
};

} // namespace chorus
