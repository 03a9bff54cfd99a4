#include <chorus/client/http_response.hpp>

#include <chorus/protocol/header_text.hpp>

#include <boost/asio/buffer.hpp>
#include <boost/beast/http/buffer_body.hpp>
#include <boost/beast/http/parser.hpp>

#include <algorithm>
#include <array>
#include <limits>

namespace chorus::detail {

namespace http = boost::beast::http;

struct http_response_reader::parser {
  explicit parser(std::size_t max_head) {
    reader.header_limit(static_cast<std::uint32_t>(
        std::min<std::size_t>(max_head, std::numeric_limits<std::uint32_t>::max())));
    reader.body_limit(boost::none); // of which only the beginning is read
  }
  http::response_parser<http::buffer_body> reader;
  std::array<char, max_body> body;
};

http_response_reader::http_response_reader(std::size_t max_head)
    : parser_(std::make_unique<parser>(max_head)), max_head_(max_head) {}
http_response_reader::http_response_reader(http_response_reader &&) noexcept = default;
http_response_reader &http_response_reader::operator=(http_response_reader &&) noexcept = default;
http_response_reader::~http_response_reader() = default;

bool http_response_reader::has_head() const noexcept { return status_ != 0; }

http_response_reader::progress http_response_reader::fail(std::string why) {
  why_ = std::move(why);
  return progress::malformed;
}

void http_response_reader::take_head() {
  const auto &head = parser_->reader.get();
  status_ = head.result_int();
  version_ = head.version();
  reason_ = std::string(head.reason());
  for (const auto &field : head)
    headers_.emplace_back(std::string(field.name_string()), std::string(field.value()));
}

http_response_reader::progress http_response_reader::too_large() {
  return fail(std::string(heads_before_ == 0 ? "its head is" : "the heads of its answers are") +
              " larger than the limit of " + std::to_string(max_head_) + " bytes");
}

http_response_reader::progress http_response_reader::feed(std::string_view bytes) {
  pending_.append(bytes);
  auto so_far = parse();
  while (so_far == progress::complete && status_ < 200 && status_ != 101) {
    heads_before_ += head_;
    if (heads_before_ >= max_head_)
      return too_large();
    parser_ = std::make_unique<parser>(max_head_ - heads_before_);
    head_ = 0;
    status_ = 0;
    headers_.clear();
    so_far = parse();
  }
  return so_far;
}

http_response_reader::progress http_response_reader::parse() {
  auto &reader = parser_->reader;
  while (!reader.is_done()) {
    if (reader.is_header_done() && body_.size() == max_body)
      break;
    auto &body = reader.get().body();
    body.data = parser_->body.data();
    body.size = max_body - body_.size();
    boost::system::error_code ec;
    const auto used = reader.put(boost::asio::const_buffer(pending_.data(), pending_.size()), ec);
    pending_.erase(0, used);
    if (!has_head())
      head_ += used;
    if (reader.is_header_done() && !has_head()) {
      if (head_ > max_head_ - heads_before_) // Beast does not count the status line
        return too_large();
      take_head();
      if (status_ < 100)
        return fail("its status is " + std::to_string(status_) + ", which is none of HTTP's");
    }
    if (has_head())
      body_.append(parser_->body.data(), max_body - body_.size() - body.size);
    if (ec == http::error::need_more) {
      // Beast counts a head's bytes only once it has found the end of a line, and bounds neither the
      // extensions of chunks nor trailers.
      if (pending_.size() <= max_head_ - heads_before_)
        return progress::need_more;
      return has_head() ? progress::complete : too_large();
    }
    if (ec == http::error::header_limit)
      return too_large();
    if (ec && ec != http::error::need_buffer) {
      if (has_head()) // a broken body takes nothing from what the head says
        return progress::complete;
      return fail(ec.message());
    }
    if (used == 0 && !ec)
      return progress::need_more;
  }
  return progress::complete;
}

http_response_reader::progress http_response_reader::finish() {
  return has_head() ? progress::complete : progress::need_more;
}

std::string_view http_response_reader::header(std::string_view name) const noexcept {
  for (const auto &[n, value] : headers_)
    if (protocol::detail::equal_ignoring_case(n, name))
      return value;
  return {};
}

} // namespace chorus::detail
