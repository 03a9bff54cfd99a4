#pragma once
// Reads the head of an HTTP/1.1 answer, and the beginning of its body, out of bytes as they arrive.
// Interim answers (1xx but 101; RFC 9110 section 15.2) are read past. Bounded in what it keeps; no I/O.

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus::detail {

class http_response_reader {
public:
  enum class progress : unsigned char {
    need_more, // feed more bytes
    complete,  // the head is there, and as much of the body as is wanted
    malformed, // `why` tells
  };

  // `max_head`: bytes of status line and header fields, those of interim answers included.
  explicit http_response_reader(std::size_t max_head);
  http_response_reader(http_response_reader &&) noexcept;
  http_response_reader &operator=(http_response_reader &&) noexcept;
  ~http_response_reader();

  // Looks at more bytes. Of an answer without a body (101 above all) `rest` is what follows the head.
  progress feed(std::string_view bytes);
  // The peer sent nothing more: complete when the head is, however long the body was to be.
  progress finish();

  bool has_head() const noexcept;
  unsigned status() const noexcept { return status_; }
  const std::string &reason() const noexcept { return reason_; }
  unsigned version() const noexcept { return version_; } // 11 for HTTP/1.1
  const std::vector<std::pair<std::string, std::string>> &headers() const noexcept {
    return headers_;
  }
  // The first field of that name (case-insensitive); empty when there is none.
  std::string_view header(std::string_view name) const noexcept;
  const std::string &body() const noexcept { return body_; } // at most max_body bytes
  std::string_view rest() const noexcept { return pending_; }
  const std::string &why() const noexcept { return why_; }

  static constexpr std::size_t max_body = 1024;

private:
  struct parser;
  progress parse();
  progress fail(std::string why);
  progress too_large();
  void take_head();

  std::unique_ptr<parser> parser_;
  std::size_t max_head_;
  std::size_t head_ = 0;         // bytes of the present head so far
  std::size_t heads_before_ = 0; // of interim answers
  std::string pending_;          // not consumed yet
  std::vector<std::pair<std::string, std::string>> headers_;
  std::string reason_;
  std::string body_;
  std::string why_;
  unsigned status_ = 0;
  unsigned version_ = 0;
};

} // namespace chorus::detail
