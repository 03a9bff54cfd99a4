#include <chorus/server/http.hpp>

#include <chorus/protocol/header_text.hpp>

#include <boost/beast/http/basic_parser.hpp>
#include <boost/beast/http/error.hpp>
#include <boost/beast/http/status.hpp>

#include <algorithm>
#include <limits>

namespace chorus::detail {

namespace beast = boost::beast;
namespace http = boost::beast::http;
using protocol::detail::equal_ignoring_case;

template <class F> void http_head::each(F f) const {
  const char *at = text_.data() + method_size_ + target_size_;
  for (unsigned i = 0; i < fields_; ++i) {
    const std::string_view name(at);
    at += name.size() + 1;
    const std::string_view value(at);
    at += value.size() + 1;
    if (!f(name, value))
      return;
  }
}

std::string_view http_head::find(std::string_view name) const noexcept {
  std::string_view found;
  each([&](std::string_view n, std::string_view v) {
    if (!equal_ignoring_case(n, name))
      return true;
    found = v;
    return false;
  });
  return found;
}

std::size_t http_head::count(std::string_view name) const noexcept {
  std::size_t n = 0;
  each([&](std::string_view field, std::string_view) {
    n += equal_ignoring_case(field, name) ? 1 : 0;
    return true;
  });
  return n;
}

std::vector<header_field> http_head::fields() const {
  std::vector<header_field> all;
  all.reserve(fields_);
  each([&](std::string_view n, std::string_view v) {
    all.push_back({n, v});
    return true;
  });
  return all;
}

void http_head::start(std::string_view method, std::string_view target, unsigned version) {
  text_.assign(method).append(target);
  method_size_ = static_cast<std::uint32_t>(method.size());
  target_size_ = static_cast<std::uint32_t>(target.size());
  version_ = static_cast<std::uint16_t>(version);
  fields_ = 0;
}

void http_head::add(std::string_view name, std::string_view value) {
  text_.append(name).push_back('\0');
  text_.append(value).push_back('\0');
  ++fields_;
}

// Beast's parser with our own storage behind it.
struct http_reader::parsing final : http::basic_parser<true> {
  explicit parsing(const http_limits &limits) : max_fields(limits.max_fields) {
    eager(true);
    body_limit(limits.max_body);
    constexpr std::size_t widest = std::numeric_limits<std::uint32_t>::max();
    header_limit(static_cast<std::uint32_t>(std::min(limits.max_header_bytes, widest)));
  }

  http_head head;
  std::size_t max_fields;
  bool too_many_fields = false;
  bool expects_continue = false;

private:
  void on_request_impl(http::verb, beast::string_view method, beast::string_view target,
                       int version, beast::error_code &) override {
    head.start({method.data(), method.size()}, {target.data(), target.size()},
               static_cast<unsigned>(version));
  }
  void on_response_impl(int, beast::string_view, int, beast::error_code &) override {}
  void on_field_impl(http::field name, beast::string_view text, beast::string_view value,
                     beast::error_code &ec) override {
    const std::string_view v(value.data(), value.size());
    if (head.size() >= max_fields) {
      too_many_fields = true;
      ec = http::error::header_limit;
    } else if (v.find('\0') != v.npos) {
      ec = http::error::bad_value;
    } else {
      head.add({text.data(), text.size()}, v);
      if (name == http::field::expect && equal_ignoring_case(v, "100-continue"))
        expects_continue = true;
    }
  }
  void on_header_impl(beast::error_code &) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t> &, beast::error_code &) override {}
  std::size_t on_body_impl(beast::string_view body, beast::error_code &) override {
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code &) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view body,
                                 beast::error_code &) override {
    return body.size();
  }
  void on_finish_impl(beast::error_code &) override {}
};

http_reader::http_reader(http_limits limits)
    : limits_(limits), parsing_(std::make_unique<parsing>(limits)) {}

http_reader::~http_reader() = default;

http_progress http_reader::feed(std::string_view bytes) {
  if (pending_.empty())
    return advance(bytes, false);
  pending_.append(bytes);
  return advance(pending_, true);
}

http_progress http_reader::next() {
  parsing_ = std::make_unique<parsing>(limits_);
  return pending_.empty() ? http_progress::need_more : advance(pending_, true);
}

bool http_reader::begun() const noexcept { return parsing_->got_some() || !pending_.empty(); }
http_head http_reader::take_head() noexcept { return std::move(parsing_->head); }
bool http_reader::keep_alive() const noexcept { return parsing_->keep_alive(); }
bool http_reader::wants_continue() noexcept {
  return parsing_->is_header_done() && !parsing_->is_done() &&
         std::exchange(parsing_->expects_continue, false);
}
std::string http_reader::take_leftover() noexcept { return std::exchange(pending_, {}); }

http_progress http_reader::advance(std::string_view bytes, bool bytes_are_pending) {
  beast::error_code ec;
  std::size_t used = 0;
  // One call gives up at each structure it can't finish; it is called again as long as it moves.
  while (!parsing_->is_done() && used < bytes.size()) {
    const auto rest = bytes.substr(used);
    const std::size_t n = parsing_->put(boost::asio::const_buffer(rest.data(), rest.size()), ec);
    used += n;
    if (ec || n == 0)
      break;
  }
  if (bytes_are_pending)
    pending_.erase(0, used);
  else
    pending_.assign(bytes.substr(used));

  if (!ec || ec == http::error::need_more) {
    if (parsing_->is_done()) {
      parsing_->head.compact();
      return http_progress::complete;
    }
    return http_progress::need_more;
  }
  if (ec == http::error::header_limit) {
    status_ = 431;
    reason_ = parsing_->too_many_fields
                  ? "The request has too many header fields."
                  : "The request head is larger than this server takes; send fewer or shorter "
                    "header fields.";
  } else if (ec == http::error::body_limit || ec == http::error::buffer_overflow) {
    status_ = 413;
    reason_ = "The request body is larger than this server takes.";
  } else if (ec == http::error::bad_version) {
    status_ = 505;
    reason_ = "This server speaks HTTP/1.1 and HTTP/1.0.";
  } else {
    status_ = 400;
    reason_ = "The request is not well-formed HTTP/1.1.";
  }
  return http_progress::failed;
}

std::string_view status_phrase(unsigned status) noexcept {
  const auto phrase = http::obsolete_reason(http::int_to_status(status));
  return {phrase.data(), phrase.size()};
}

http_text write_response(const http_reply &reply) {
  http_text out;
  const bool bodiless = reply.status < 200 || reply.status == 204 || reply.status == 304;
  out.text.reserve(160 + (reply.head_only ? 0 : reply.body.size()));
  out.text.append("HTTP/1.1 ").append(std::to_string(reply.status)).push_back(' ');
  out.text.append(status_phrase(reply.status)).append("\r\n");
  for (const auto &field : reply.fields) {
    if (equal_ignoring_case(field.name, "Content-Length") ||
        equal_ignoring_case(field.name, "Transfer-Encoding"))
      continue;
    // A refusal names its own, as in "Connection: Upgrade"; ours goes with it.
    if (equal_ignoring_case(field.name, "Connection") && reply.status != 426 && reply.status != 101)
      continue;
    if (!protocol::append_header(out.text, field.name, field.value))
      out.complete = false;
  }
  if (!bodiless)
    out.text.append("Content-Length: ").append(std::to_string(reply.body.size())).append("\r\n");
  if (!reply.keep_alive && reply.status != 101)
    out.text.append("Connection: close\r\n");
  out.text.append("\r\n");
  if (!reply.head_only && !bodiless)
    out.text.append(reply.body);
  return out;
}

http_text write_response(const response &r, bool head_only, bool keep_alive) {
  std::vector<header_field> fields;
  fields.reserve(r.headers().size());
  for (const auto &[name, value] : r.headers())
    fields.push_back({name, value});
  return write_response({.status = r.status(),
                         .fields = fields,
                         .body = r.body(),
                         .head_only = head_only,
                         .keep_alive = keep_alive});
}

std::string write_refusal(unsigned status, std::string_view sentence,
                          std::span<const header_field> fields, bool keep_alive, bool head_only) {
  std::vector<header_field> all(fields.begin(), fields.end());
  all.push_back({"Content-Type", "text/plain; charset=utf-8"});
  std::string body(sentence);
  body.push_back('\n');
  return write_response({.status = status,
                         .fields = all,
                         .body = body,
                         .head_only = head_only,
                         .keep_alive = keep_alive})
      .text;
}

} // namespace chorus::detail
