#pragma once
// Internal: a walk over the JSON of a resume header, which copies nothing and allocates nothing.

#include <chorus/base/text.hpp>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace chorus::protocol::detail {

enum class json_kind : std::uint8_t { none, string, number, boolean, null, object, array };

// A json_value where it stands: a string between its quotes, everything else whole.
struct json_value {
  json_kind is = json_kind::none;
  std::string_view text{};
};

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }

// Walks over JSON text; every step answers whether it was well-formed.
class json_scanner {
public:
  explicit json_scanner(std::string_view text) noexcept : text_(text) {}

  bool at_end() noexcept {
    blank();
    return at_ == text_.size();
  }
  bool take(char c) noexcept {
    blank();
    if (at_ == text_.size() || text_[at_] != c)
      return false;
    ++at_;
    return true;
  }
  bool any(json_value &v, std::size_t depth) {
    blank();
    const auto begin = at_;
    if (at_ == text_.size())
      return false;
    bool good = false;
    switch (text_[at_]) {
    case '"':
      v.is = json_kind::string;
      if (!string())
        return false;
      v.text = text_.substr(begin + 1, at_ - begin - 2);
      return true;
    case '{':
      v.is = json_kind::object;
      good = members(depth, [](std::string_view, const json_value &) { return true; });
      break;
    case '[':
      v.is = json_kind::array;
      good = elements(depth);
      break;
    case 't':
      v.is = json_kind::boolean;
      good = word("true");
      break;
    case 'f':
      v.is = json_kind::boolean;
      good = word("false");
      break;
    case 'n':
      v.is = json_kind::null;
      good = word("null");
      break;
    default:
      v.is = json_kind::number;
      good = number();
    }
    v.text = text_.substr(begin, at_ - begin);
    return good;
  }
  // An object: `member` is told of each, and may end it.
  template <class F> bool members(std::size_t depth, F member) {
    if (depth == 0 || !take('{'))
      return false;
    if (take('}'))
      return true;
    do {
      blank();
      const auto begin = at_;
      if (!string())
        return false;
      const auto name = text_.substr(begin + 1, at_ - begin - 2);
      json_value v;
      if (!take(':') || !any(v, depth - 1) || !member(name, v))
        return false;
    } while (take(','));
    return take('}');
  }

private:
  void blank() noexcept {
    while (at_ < text_.size() && (text_[at_] == ' ' || text_[at_] == '\t' || text_[at_] == '\r'))
      ++at_;
  }
  bool word(std::string_view w) noexcept {
    if (text_.substr(at_, w.size()) != w)
      return false;
    at_ += w.size();
    return true;
  }
  bool string() noexcept {
    if (at_ == text_.size() || text_[at_] != '"')
      return false;
    for (++at_; at_ < text_.size();) {
      const char c = text_[at_++];
      if (c == '"')
        return true;
      if (static_cast<unsigned char>(c) < 0x20)
        return false;
      if (c != '\\')
        continue;
      if (at_ == text_.size())
        return false;
      const char e = text_[at_++];
      if (e == 'u') {
        for (int i = 0; i < 4; ++i, ++at_)
          if (at_ == text_.size() || chorus::detail::hex_digit(text_[at_]) < 0)
            return false;
      } else if (std::string_view("\"\\/bfnrt").find(e) == std::string_view::npos) {
        return false;
      }
    }
    return false;
  }
  bool digits() noexcept {
    const auto begin = at_;
    while (at_ < text_.size() && is_digit(text_[at_]))
      ++at_;
    return at_ != begin;
  }
  bool number() noexcept {
    word("-");
    if (!word("0") && !digits())
      return false;
    if (word(".") && !digits())
      return false;
    if (word("e") || word("E")) {
      if (!word("+"))
        word("-");
      return digits();
    }
    return true;
  }
  bool elements(std::size_t depth) {
    if (depth == 0 || !take('['))
      return false;
    if (take(']'))
      return true;
    do {
      json_value v;
      if (!any(v, depth - 1))
        return false;
    } while (take(','));
    return take(']');
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

// False for half of a surrogate pair. `raw` has been scanned.
bool unescape(std::string_view raw, std::string &out);
// A name without its escapes, with which it would be the same; in `space` if need be.
std::string_view plain_name(std::string_view raw, std::string &space);

} // namespace chorus::protocol::detail
