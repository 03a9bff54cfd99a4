#include <chorus/protocol/framing.hpp>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>
#include <string_view>

namespace chorus::protocol {

namespace {

constexpr std::size_t min_tail = std::size_t{16} << 10;
constexpr std::byte line_feed{'\n'};
constexpr std::byte carriage_return{'\r'};

std::uint32_t length_of(const std::array<std::byte, 4> &prefix) noexcept {
  std::uint32_t value = 0;
  for (const auto b : prefix)
    value = value << 8 | static_cast<std::uint32_t>(b);
  return value;
}

// A prefix beyond the limit: what a server of another protocol answers, or its client sends, looks like one.
violation too_big(const std::array<std::byte, 4> &prefix) noexcept {
  constexpr std::array<std::string_view, 11> http{"HTTP", "GET ", "HEAD", "POST", "PUT ", "DELE",
                                                  "CONN", "OPTI", "TRAC", "PATC", "PRI "};
  constexpr std::byte alert{0x15}; // RFC 8446 section 5.1: the record's type, then its version 3.x
  constexpr std::byte handshake{0x16};
  const std::string_view text(reinterpret_cast<const char *>(prefix.data()), prefix.size());
  if (std::find(http.begin(), http.end(), text) != http.end())
    return violation::framed_is_http;
  if ((prefix[0] == alert || prefix[0] == handshake) && prefix[1] == std::byte{3})
    return violation::framed_is_tls;
  return violation::framed_too_big;
}

} // namespace

framed_reader::framed_reader(const framed_reader_options &options) noexcept
    : max_message_(std::max<std::size_t>(options.max_message, 1)), how_(options.how),
      check_utf8_(options.check_utf8) {}

event framed_reader::next(std::span<std::byte> &input) {
  forget_delivered();
  if (ended_) {
    input = {};
    return event::need_more;
  }
  switch (how_) {
  case framing::length32:
    return next_prefixed(input);
  case framing::lines:
    return next_line(input);
  case framing::raw:
    break;
  }
  return next_chunk(input);
}

event framed_reader::next_prefixed(std::span<std::byte> &input) {
  if (!in_message_) {
    const std::size_t n = std::min(prefix_.size() - prefix_size_, input.size());
    if (n != 0)
      std::memcpy(prefix_.data() + prefix_size_, input.data(), n);
    prefix_size_ = static_cast<std::uint8_t>(prefix_size_ + n);
    input = input.subspan(n);
    if (prefix_size_ < prefix_.size())
      return event::need_more;
    prefix_size_ = 0;
    remaining_ = length_of(prefix_);
    if (remaining_ > max_message_)
      return fail(too_big(prefix_));
    if (remaining_ <= input.size()) {
      const auto payload = input.first(remaining_);
      input = input.subspan(remaining_);
      return deliver(payload, false);
    }
    in_message_ = true;
  }
  const std::size_t n = std::min<std::size_t>(remaining_, input.size());
  assembly_.append(std::span<const std::byte>(input.first(n)));
  input = input.subspan(n);
  remaining_ -= static_cast<std::uint32_t>(n);
  if (remaining_ != 0)
    return event::need_more;
  in_message_ = false;
  return deliver({assembly_.data(), assembly_.size()}, true);
}

event framed_reader::next_line(std::span<std::byte> &input) {
  if (input.empty())
    return event::need_more;
  const auto *const found = static_cast<std::byte *>(
      std::memchr(input.data(), static_cast<int>(line_feed), input.size()));
  const std::size_t n = found ? static_cast<std::size_t>(found - input.data()) : input.size();
  const auto piece = input.first(n);
  input = input.subspan(found ? n + 1 : n);

  // A carriage return at the very end may belong to the line's end and does not count.
  const std::size_t size = assembly_.size() + n;
  const std::byte last = n != 0              ? piece.back()
                         : assembly_.empty() ? std::byte{0}
                                             : assembly_.data()[size - 1];
  const bool stripped = last == carriage_return;
  if (size - (stripped ? 1 : 0) > max_message_) {
    // Which rule is broken first must not depend on how the stream was cut.
    const auto at = [&](std::size_t i) {
      return i < assembly_.size() ? assembly_.data()[i] : piece[i - assembly_.size()];
    };
    const std::size_t excess = max_message_ + (at(max_message_) == carriage_return ? 1 : 0);
    const bool readable = !check_utf8_ || text_.feed(piece.first(excess - assembly_.size()));
    return fail(readable ? violation::line_too_long : violation::line_invalid_utf8);
  }
  if (check_utf8_ && !text_.feed(piece))
    return fail(violation::line_invalid_utf8);
  if (found && check_utf8_ && !text_.complete())
    return fail(violation::line_invalid_utf8);
  if (found && !in_message_)
    return deliver(piece.first(n - (stripped ? 1 : 0)), false);

  assembly_.append(std::span<const std::byte>(piece));
  in_message_ = !found;
  if (!found)
    return event::need_more;
  return deliver({assembly_.data(), size - (stripped ? 1 : 0)}, true);
}

event framed_reader::next_chunk(std::span<std::byte> &input) noexcept {
  if (input.empty())
    return event::need_more;
  const auto piece = input.first(std::min(input.size(), max_message_));
  input = input.subspan(piece.size());
  return deliver(piece, false);
}

event framed_reader::deliver(std::span<std::byte> payload, bool owned) noexcept {
  payload_ = payload.data();
  payload_size_ = payload.size();
  delivered_ = owned;
  owned_ = owned && payload_ != nullptr;
  return event::message;
}

event framed_reader::fail(violation v) noexcept {
  why_ = v;
  ended_ = true;
  in_message_ = false;
  owned_ = false;
  payload_ = nullptr;
  payload_size_ = 0;
  assembly_ = byte_buffer();
  return event::violation;
}

void framed_reader::forget_delivered() noexcept {
  if (delivered_)
    assembly_ = byte_buffer();
  delivered_ = false;
}

buffer framed_reader::take_storage() noexcept {
  owned_ = false;
  delivered_ = false;
  return assembly_.take();
}

std::span<std::byte> framed_reader::tail() {
  forget_delivered();
  if (!in_message_ || how_ != framing::length32 || remaining_ < min_direct_read ||
      assembly_.size() < min_tail)
    return {};
  const std::size_t size = assembly_.size();
  // Twice what came is the most that may be held, so a buffer grows once it is full.
  if (assembly_.storage().capacity() <= size)
    assembly_.grow(std::min<std::size_t>(remaining_, std::bit_floor(2 * size) - size));
  const std::size_t room = std::min<std::size_t>(remaining_, assembly_.storage().capacity() - size);
  if (room < min_tail)
    return {};
  return {assembly_.data() + size, room};
}

event framed_reader::commit(std::size_t n) {
  assembly_.advance(n);
  remaining_ -= static_cast<std::uint32_t>(n);
  if (remaining_ != 0)
    return event::need_more;
  in_message_ = false;
  return deliver({assembly_.data(), assembly_.size()}, true);
}

bool framed_reader::at_boundary() const noexcept { return !in_message_ && prefix_size_ == 0; }

violation check_framed(framing how, std::span<const std::byte> payload) noexcept {
  if (how == framing::length32 && payload.size() > std::numeric_limits<std::uint32_t>::max())
    return violation::prefix_overflow;
  if (how == framing::lines && !payload.empty() &&
      (payload.back() == carriage_return ||
       std::memchr(payload.data(), static_cast<int>(line_feed), payload.size())))
    return violation::line_contains_newline;
  return violation::none;
}

violation append_framed(byte_buffer &out, framing how, std::span<const std::byte> payload) {
  if (const auto v = check_framed(how, payload); v != violation::none)
    return v;
  std::byte *at = out.grow(payload.size() + 4);
  std::size_t size = payload.size();
  if (how == framing::length32) {
    for (unsigned i = 0; i < 4; ++i)
      *at++ = static_cast<std::byte>(payload.size() >> (24 - 8 * i));
    size += 4;
  }
  if (!payload.empty())
    std::memcpy(at, payload.data(), payload.size());
  if (how == framing::lines) {
    at[payload.size()] = line_feed;
    ++size;
  }
  out.advance(size);
  return violation::none;
}

} // namespace chorus::protocol
