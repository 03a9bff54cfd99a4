#pragma once
// HTTP/1.1 as a server needs it, without I/O: bytes in, one request at a time out; responses as text.
// Every bound is checked while bytes arrive, so a peer costs at most `max_header_bytes` and twice the
// part of a body that has come. What two readers could take for the end of a request at different places (two
// lengths, a length and a transfer coding, folded lines, bare line feeds) is refused, not interpreted
// (RFC 9112 sections 2.2, 5.2 and 6.3).

#include <chorus/protocol/handshake.hpp>
#include <chorus/server/response.hpp>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::detail {

using protocol::header_field;

struct http_limits {
  std::size_t max_header_bytes = 16 * 1024;    // request line and fields together; beyond it 431
  std::size_t max_fields = 100;                // beyond it 431
  std::size_t max_body = std::size_t{1} << 20; // bytes; beyond it 413
};

// The head of a request in one allocation: an idle session keeps it.
class http_head {
public:
  std::string_view method() const noexcept { return {text_.data(), method_size_}; }
  std::string_view target() const noexcept { return {text_.data() + method_size_, target_size_}; }
  unsigned version() const noexcept { return version_; } // 10 or 11
  std::size_t size() const noexcept { return fields_; }
  // The first field of that name, in any case; empty when there is none.
  std::string_view find(std::string_view name) const noexcept;
  std::size_t count(std::string_view name) const noexcept;
  std::vector<header_field> fields() const;

  // For who fills it: the request line first, then the fields.
  void start(std::string_view method, std::string_view target, unsigned version);
  void add(std::string_view name, std::string_view value);
  void compact() { text_.shrink_to_fit(); }

private:
  // Calls `f` with each field until it answers false.
  template <class F> void each(F f) const;

  // Method and target, then for each field name and value, each ended by a zero byte, which can't
  // occur in any of them.
  std::string text_;
  std::uint32_t method_size_ = 0;
  std::uint32_t target_size_ = 0;
  std::uint16_t fields_ = 0;
  std::uint16_t version_ = 11;
};

enum class http_progress : std::uint8_t {
  need_more,
  head,     // the head is there and a body will follow: go on with `read_body`
  complete, // `head` is the request; `leftover` what came after it
  failed,   // `status` and `reason` say why; nothing can be read any more
};

class http_reader {
public:
  explicit http_reader(http_limits limits = {});
  ~http_reader();
  http_reader(const http_reader &) = delete;
  http_reader &operator=(const http_reader &) = delete;

  // Takes all of `bytes`. Not to be called after `head`, `complete` or `failed`.
  http_progress feed(std::string_view bytes);
  bool body_follows() const noexcept; // after `head`, until `read_body`
  // After `head`: keeps the body for `take_body`, or reads past it. The bound holds for both.
  http_progress read_body(bool keep);
  // Goes on to the next request, beginning with what was left over.
  http_progress next();

  // Something of a request has arrived.
  bool begun() const noexcept;
  const http_head &head() const noexcept; // from `head` or `complete` to `take_head`
  http_head take_head() noexcept;
  std::string take_body() noexcept; // when complete; empty when there was none
  // The client wants to send further requests on this connection.
  bool keep_alive() const noexcept;
  // The client sends its body only when told to go on (Expect: 100-continue), and none of it has come.
  bool expects_continue() const noexcept;
  std::string take_leftover() noexcept;

  unsigned status() const noexcept { return status_; }
  std::string_view reason() const noexcept { return reason_; }

private:
  struct parsing;
  http_progress advance(std::string_view bytes, bool bytes_are_pending);
  http_progress fail(unsigned status, std::string_view reason) noexcept;

  http_limits limits_;
  std::unique_ptr<parsing> parsing_;
  std::string pending_; // what has arrived and can't be parsed yet
  unsigned status_ = 0;
  std::string_view reason_;
};

// The text of a response. Content-Length and Connection are its own: such fields of the caller's are
// left out, as is any field that could break out of its line (then `complete` is false).
struct http_text {
  std::string text;
  bool complete = true;
};
struct http_reply {
  unsigned status = 200;
  std::span<const header_field> fields{};
  std::string_view body{};
  std::optional<std::uint64_t> length{}; // of a body that is sent after this text, not in it
  bool head_only = false;                // the answer to HEAD: the length, but no body
  bool keep_alive = true;
};
http_text write_response(const http_reply &reply);
http_text write_response(const response &r, bool head_only, bool keep_alive);
// A refusal with a sentence as its body and the Date, closing the connection.
std::string write_refusal(unsigned status, std::string_view sentence,
                          std::span<const header_field> fields = {}, bool keep_alive = false,
                          bool head_only = false);
std::string_view status_phrase(unsigned status) noexcept;

} // namespace chorus::detail
