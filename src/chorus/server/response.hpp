#pragma once
// `response`: what a plain HTTP page answers.

#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace chorus {

namespace detail {
class body_source;
}

class response {
public:
  response() = default;
  // 200 with a body.
  explicit response(std::string body, std::string content_type = "text/plain; charset=utf-8")
      : body_(std::move(body)) {
    set("Content-Type", std::move(content_type));
  }
  response(unsigned status, std::string body) : response(std::move(body)) { status_ = status; }

  unsigned status() const noexcept { return status_; }
  void status(unsigned code) noexcept { status_ = code; }
  const std::string &body() const noexcept { return body_; }
  void body(std::string text) { body_ = std::move(text); }
  void set(std::string name, std::string value) {
    headers_.emplace_back(std::move(name), std::move(value));
  }
  const std::vector<std::pair<std::string, std::string>> &headers() const noexcept {
    return headers_;
  }
  // The first header of that exact name; empty when there is none.
  std::string_view header(std::string_view name) const noexcept {
    for (const auto &[n, value] : headers_)
      if (n == name)
        return value;
    return {};
  }

  // For static files: a body that is sent piece by piece, in place of `body`.
  const std::shared_ptr<detail::body_source> &source() const noexcept { return source_; }
  void source(std::shared_ptr<detail::body_source> s) noexcept { source_ = std::move(s); }

private:
  unsigned status_ = 200;
  std::string body_;
  std::vector<std::pair<std::string, std::string>> headers_;
  std::shared_ptr<detail::body_source> source_;
};

} // namespace chorus
