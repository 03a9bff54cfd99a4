#include <chorus/server/http.hpp>

#include <chorus/protocol/header_text.hpp>
#include <chorus/server/body_source.hpp>
#include <chorus/server/http_date.hpp>

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
    eager(false); // so that it stops behind the head
    body_limit(limits.max_body);
    constexpr std::size_t widest = std::numeric_limits<std::uint32_t>::max();
    header_limit(static_cast<std::uint32_t>(std::min(limits.max_header_bytes, widest)));
  }

  // Notes a folded field in what has just been parsed, which the base class would unfold.
  void look_for_folds(std::string_view parsed) noexcept {
    for (const char c : parsed) {
      folded = folded || (line_feeds == 2 && (c == ' ' || c == '\t'));
      line_feeds = c == '\r' ? 1 : c == '\n' && line_feeds == 1 ? 2 : 0;
    }
  }

  // How many bytes of empty lines `bytes`, which begin a request, begin with (RFC 9112 section 2.2).
  std::size_t skip_empty_lines(std::string_view bytes) noexcept {
    constexpr unsigned most = 4;
    std::size_t skipped = 0;
    for (; empty_lines < most && bytes.substr(skipped, 2) == "\r\n"; ++empty_lines)
      skipped += 2;
    return skipped;
  }

  http_head head;
  std::string body;
  std::size_t max_fields;
  bool too_many_fields = false;
  bool unknown_coding = false;
  bool expects_continue = false;
  bool body_begun = false;  // how the body is to be read is known
  unsigned empty_lines = 0; // before the request
  bool keep_body = false;
  bool folded = false;

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
    if (is_header_done())
      return; // a trailer (RFC 9110 section 6.5.1): nobody may take it for a field of the head
    if (head.size() >= max_fields) {
      too_many_fields = true;
      ec = http::error::header_limit;
    } else if (v.find('\0') != v.npos) {
      ec = http::error::bad_value;
    } else {
      check_framing(name, v, ec);
      head.add({text.data(), text.size()}, v);
      if (name == http::field::expect && equal_ignoring_case(v, "100-continue"))
        expects_continue = head.version() == 11;
    }
  }
  // Stricter than the base class, which takes several equal lengths and ignores transfer codings that
  // it does not know.
  void check_framing(http::field name, std::string_view v, beast::error_code &ec) {
    if (name == http::field::content_length) {
      if (lengths++ > 0 || v.empty() || v.find_first_not_of("0123456789") != v.npos)
        ec = http::error::bad_content_length;
    } else if (name == http::field::transfer_encoding) {
      unknown_coding = !equal_ignoring_case(v, "chunked");
      if (unknown_coding || head.version() == 10)
        ec = http::error::bad_transfer_encoding;
    }
  }
  void on_header_impl(beast::error_code &) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t> &, beast::error_code &) override {}
  std::size_t on_body_impl(beast::string_view part, beast::error_code &) override {
    return take(part);
  }
  void on_chunk_header_impl(std::uint64_t, beast::string_view, beast::error_code &) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, beast::string_view part,
                                 beast::error_code &) override {
    return take(part);
  }
  void on_finish_impl(beast::error_code &) override {}
  std::size_t take(beast::string_view part) {
    if (keep_body)
      body.append(part.data(), part.size());
    return part.size();
  }

  unsigned lengths = 0;
  unsigned line_feeds = 0; // how much of CR LF stands right before
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

bool http_reader::body_follows() const noexcept {
  return parsing_->is_header_done() && !parsing_->is_done() && !parsing_->body_begun;
}

http_progress http_reader::read_body(bool keep) {
  parsing_->keep_body = keep;
  parsing_->body_begun = true;
  return pending_.empty() ? http_progress::need_more : advance(pending_, true);
}

bool http_reader::begun() const noexcept { return parsing_->got_some() || !pending_.empty(); }
const http_head &http_reader::head() const noexcept { return parsing_->head; }
http_head http_reader::take_head() noexcept {
  parsing_->head.compact();
  return std::move(parsing_->head);
}
std::string http_reader::take_body() noexcept { return std::move(parsing_->body); }
bool http_reader::keep_alive() const noexcept { return parsing_->keep_alive(); }
bool http_reader::expects_continue() const noexcept {
  return parsing_->expects_continue && pending_.empty();
}
std::string http_reader::take_leftover() noexcept { return std::exchange(pending_, {}); }

http_progress http_reader::advance(std::string_view bytes, bool bytes_are_pending) {
  beast::error_code ec;
  std::size_t used = parsing_->got_some() ? 0 : parsing_->skip_empty_lines(bytes);
  const bool line_end_begun = !parsing_->got_some() && bytes.substr(used) == "\r";
  // One call ends behind each structure, and gives up at one that is not all there.
  while (!line_end_begun && !parsing_->is_done() && used < bytes.size() && !body_follows()) {
    const auto rest = bytes.substr(used);
    const bool in_head = !parsing_->is_header_done();
    const std::size_t n = parsing_->put(boost::asio::const_buffer(rest.data(), rest.size()), ec);
    used += n;
    if (in_head)
      parsing_->look_for_folds(rest.substr(0, n));
    if (ec || n == 0)
      break;
  }
  if (bytes_are_pending)
    pending_.erase(0, used);
  else
    pending_.assign(bytes.substr(used));

  if (parsing_->folded)
    return fail(400, "The request folds a header field over several lines, which is obsolete "
                     "(RFC 9112 section 5.2).");
  if (!ec || ec == http::error::need_more) {
    if (parsing_->is_done())
      return http_progress::complete;
    if (body_follows())
      return http_progress::head;
    if (parsing_->is_header_done() && pending_.size() > limits_.max_header_bytes)
      return fail(400, "The head of a chunk or the trailer is larger than this server takes.");
    return http_progress::need_more;
  }
  if (ec == http::error::header_limit)
    return fail(431, parsing_->too_many_fields
                         ? "The request has too many header fields."
                         : "The request head is larger than this server takes; send fewer or "
                           "shorter header fields.");
  if (ec == http::error::body_limit || ec == http::error::buffer_overflow)
    return fail(413, "The request body is larger than this server takes.");
  if (ec == http::error::bad_version)
    return fail(505, "This server speaks HTTP/1.1 and HTTP/1.0.");
  if (parsing_->unknown_coding)
    return fail(501, "This server knows no transfer coding but chunked.");
  if (ec == http::error::bad_content_length || ec == http::error::multiple_content_length ||
      ec == http::error::bad_transfer_encoding)
    return fail(400, "The request does not say clearly where its body ends: it needs one "
                     "Content-Length of digits, or Transfer-Encoding: chunked in HTTP/1.1.");
  return fail(400, "The request is not well-formed HTTP/1.1.");
}

http_progress http_reader::fail(unsigned status, std::string_view reason) noexcept {
  status_ = status;
  reason_ = reason;
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
    out.text.append("Content-Length: ")
        .append(std::to_string(reply.length.value_or(reply.body.size())))
        .append("\r\n");
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
                         .length = r.source() ? std::optional(r.source()->size()) : std::nullopt,
                         .head_only = head_only,
                         .keep_alive = keep_alive});
}

std::string write_refusal(unsigned status, std::string_view sentence,
                          std::span<const header_field> fields, bool keep_alive, bool head_only) {
  std::vector<header_field> all(fields.begin(), fields.end());
  all.push_back({"Date", http_date_now()}); // RFC 9110 section 6.6.1
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
