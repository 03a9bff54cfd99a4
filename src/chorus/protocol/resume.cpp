#include <chorus/protocol/resume.hpp>

#include <chorus/protocol/utf8.hpp>

#include <algorithm>
#include <array>
#include <cstring>

namespace chorus::protocol {

namespace {

enum class kind : std::uint8_t { none, string, number, boolean, null, object, array };

// A value where it stands: a string between its quotes, everything else whole.
struct value {
  kind is = kind::none;
  std::string_view text{};
};

bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
bool is_hex(char c) noexcept {
  return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

// Walks over JSON text; every step answers whether it was well-formed.
class scanner {
public:
  explicit scanner(std::string_view text) noexcept : text_(text) {}

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
  bool any(value &v, std::size_t depth) {
    blank();
    const auto begin = at_;
    if (at_ == text_.size())
      return false;
    bool good = false;
    switch (text_[at_]) {
    case '"':
      v.is = kind::string;
      if (!string())
        return false;
      v.text = text_.substr(begin + 1, at_ - begin - 2);
      return true;
    case '{':
      v.is = kind::object;
      good = members(depth, [](std::string_view, const value &) { return true; });
      break;
    case '[':
      v.is = kind::array;
      good = elements(depth);
      break;
    case 't':
      v.is = kind::boolean;
      good = word("true");
      break;
    case 'f':
      v.is = kind::boolean;
      good = word("false");
      break;
    case 'n':
      v.is = kind::null;
      good = word("null");
      break;
    default:
      v.is = kind::number;
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
      value v;
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
          if (at_ == text_.size() || !is_hex(text_[at_]))
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
      value v;
      if (!any(v, depth - 1))
        return false;
    } while (take(','));
    return take(']');
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

std::uint32_t four_hex(std::string_view text) noexcept {
  std::uint32_t n = 0;
  for (const char c : text.substr(0, 4))
    n = n * 16 + static_cast<std::uint32_t>(is_digit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
  return n;
}

void append_utf8(std::string &out, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { out.push_back(static_cast<char>(byte)); };
  if (c < 0x80) {
    put(c);
  } else if (c < 0x800) {
    put(0xc0 | c >> 6);
    put(0x80 | (c & 0x3f));
  } else if (c < 0x10000) {
    put(0xe0 | c >> 12);
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  } else {
    put(0xf0 | c >> 18);
    put(0x80 | (c >> 12 & 0x3f));
    put(0x80 | (c >> 6 & 0x3f));
    put(0x80 | (c & 0x3f));
  }
}

// False for half of a surrogate pair. `raw` has been scanned.
bool unescape(std::string_view raw, std::string &out) {
  out.clear();
  for (std::size_t i = 0; i < raw.size();) {
    const char c = raw[i++];
    if (c != '\\') {
      out.push_back(c);
      continue;
    }
    const char e = raw[i++];
    constexpr std::string_view names = "bfnrt";
    constexpr std::string_view meant = "\b\f\n\r\t";
    if (e != 'u') {
      const auto found = names.find(e);
      out.push_back(found == names.npos ? e : meant[found]);
      continue;
    }
    auto code = four_hex(raw.substr(i));
    i += 4;
    if (code >= 0xdc00 && code < 0xe000)
      return false;
    if (code >= 0xd800 && code < 0xdc00) {
      if (raw.size() - i < 6 || raw[i] != '\\' || raw[i + 1] != 'u')
        return false;
      const auto low = four_hex(raw.substr(i + 2));
      if (low < 0xdc00 || low >= 0xe000)
        return false;
      code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
      i += 6;
    }
    append_utf8(out, code);
  }
  return true;
}

// Without its escapes, with which it would be the same name.
std::string_view plain_name(std::string_view raw, std::string &space) {
  if (raw.find('\\') == raw.npos || !unescape(raw, space))
    return raw;
  return space;
}

bool text_of(const value &v, std::string &out) {
  return v.is == kind::string && unescape(v.text, out);
}

bool token_of(const value &v, std::string &out, std::size_t least = 1) {
  return text_of(v, out) && is_resume_token(out, least);
}

bool integer_of(const value &v, std::uint64_t &out) noexcept {
  if (v.is != kind::number || v.text.size() > 16 ||
      !std::all_of(v.text.begin(), v.text.end(), is_digit))
    return false;
  out = 0;
  for (const char c : v.text)
    out = out * 10 + static_cast<std::uint64_t>(c - '0');
  return out <= max_offset;
}

// The members that some type knows.
struct known {
  enum name : std::size_t { t, room, epoch, offset, recovered, missed, why, client, rooms, count };
  static constexpr std::array<std::string_view, count> names{
      "t", "room", "epoch", "offset", "recovered", "missed", "why", "client", "rooms"};
  std::array<value, count> values;

  bool has(name n) const noexcept { return values[n].is != kind::none; }
  const value &operator[](name n) const noexcept { return values[n]; }
};

resume_error positions_of(const value &rooms, std::vector<resume_position> &out) {
  if (rooms.is != kind::object)
    return resume_error::bad_value;
  auto wrong = resume_error::none;
  std::string plain;
  scanner(rooms.text).members(max_header_depth, [&](std::string_view name, const value &v) {
    const auto fail = [&](resume_error e) {
      wrong = e;
      return false;
    };
    if (out.size() == max_positions)
      return fail(resume_error::too_many_rooms);
    auto &at = out.emplace_back();
    if (!unescape(name, at.room) || v.is != kind::object)
      return fail(resume_error::bad_value);
    value epoch;
    value offset;
    const bool once =
        scanner(v.text).members(max_header_depth, [&](std::string_view n, const value &m) {
          n = plain_name(n, plain);
          auto *which = n == "epoch" ? &epoch : n == "offset" ? &offset : nullptr;
          if (which && which->is != kind::none)
            return false;
          if (which)
            *which = m;
          return true;
        });
    if (!once)
      return fail(resume_error::repeated);
    if (epoch.is == kind::none || offset.is == kind::none)
      return fail(resume_error::incomplete);
    if (!token_of(epoch, at.epoch) || !integer_of(offset, at.offset))
      return fail(resume_error::bad_value);
    return true;
  });
  if (wrong != resume_error::none)
    return wrong;
  std::vector<std::string_view> names;
  for (const auto &p : out)
    names.push_back(p.room);
  std::sort(names.begin(), names.end());
  return std::adjacent_find(names.begin(), names.end()) == names.end() ? resume_error::none
                                                                       : resume_error::repeated;
}

resume_error hello_of(const known &k, resume_header &out) {
  constexpr std::size_t least_client = 16;
  if (k.has(known::client) && !token_of(k[known::client], out.client, least_client))
    return resume_error::bad_value;
  return k.has(known::rooms) ? positions_of(k[known::rooms], out.rooms) : resume_error::none;
}

resume_error room_of(const known &k, resume_header &out) {
  if (!k.has(known::room))
    return resume_error::incomplete;
  return text_of(k[known::room], out.room.emplace()) ? resume_error::none : resume_error::bad_value;
}

// Both or none of them.
resume_error place_of(const known &k, resume_header &out) {
  if (k.has(known::epoch) != k.has(known::offset))
    return resume_error::incomplete;
  if (k.has(known::epoch) &&
      (!token_of(k[known::epoch], out.epoch) || !integer_of(k[known::offset], out.offset)))
    return resume_error::bad_value;
  return resume_error::none;
}

resume_error ack_of(const known &k, resume_header &out) {
  if (const auto e = room_of(k, out); e != resume_error::none)
    return e;
  if (!k.has(known::offset))
    return resume_error::incomplete;
  return integer_of(k[known::offset], out.offset) ? resume_error::none : resume_error::bad_value;
}

resume_error published_of(const known &k, resume_header &out) {
  if (!k.has(known::room))
    return k.has(known::offset) ? resume_error::incomplete : resume_error::none;
  if (const auto e = room_of(k, out); e != resume_error::none)
    return e;
  if (const auto e = place_of(k, out); e != resume_error::none)
    return e;
  return out.epoch.empty() || out.offset != 0 ? resume_error::none : resume_error::bad_value;
}

resume_error joined_of(const known &k, resume_header &out) {
  if (const auto e = room_of(k, out); e != resume_error::none)
    return e;
  if (const auto e = place_of(k, out); e != resume_error::none)
    return e;
  if (k.has(known::recovered)) {
    if (k[known::recovered].is != kind::boolean)
      return resume_error::bad_value;
    out.recovered = k[known::recovered].text == "true";
  }
  if (k.has(known::missed) && !integer_of(k[known::missed], out.missed))
    return resume_error::bad_value;
  if (k.has(known::why)) {
    std::string why;
    if (!text_of(k[known::why], why))
      return resume_error::bad_value;
    out.why = resume_gap::other;
    for (const auto gap :
         {resume_gap::epoch, resume_gap::trimmed, resume_gap::ahead, resume_gap::no_history})
      if (why == to_string(gap))
        out.why = gap;
  }
  return resume_error::none;
}

resume_error header_of(role from, std::string_view text, resume_header &out) {
  known k;
  bool twice = false;
  scanner scan(text);
  std::string plain;
  const bool object = scan.members(max_header_depth, [&](std::string_view name, const value &v) {
    name = plain_name(name, plain);
    for (std::size_t i = 0; i < known::count; ++i)
      if (name == known::names[i]) {
        twice = twice || k.values[i].is != kind::none;
        k.values[i] = v;
      }
    return true;
  });
  if (!object || !scan.at_end())
    return resume_error::malformed;
  if (twice)
    return resume_error::repeated;
  if (!k.has(known::t))
    return resume_error::incomplete;
  std::string type;
  if (!text_of(k[known::t], type))
    return resume_error::bad_value;
  auto e = resume_error::none;
  bool carries = false;
  if (type == "msg") {
    out.type = resume_type::msg;
    carries = true;
    if (from == role::server)
      e = published_of(k, out);
  } else if (from == role::client && type == "hello") {
    out.type = resume_type::hello;
    e = hello_of(k, out);
  } else if (from == role::client && type == "ack") {
    out.type = resume_type::ack;
    e = ack_of(k, out);
  } else if (from == role::server && type == "joined") {
    out.type = resume_type::joined;
    e = joined_of(k, out);
  } else if (from == role::server && type == "left") {
    out.type = resume_type::left;
    e = room_of(k, out);
  } else {
    return resume_error::none; // may carry what it likes
  }
  if (e != resume_error::none)
    return e;
  if (carries != out.has_payload)
    return carries ? resume_error::incomplete : resume_error::stray_payload;
  return resume_error::none;
}

} // namespace

std::string_view to_string(resume_gap gap) noexcept {
  switch (gap) {
  case resume_gap::none:
    return "";
  case resume_gap::epoch:
    return "epoch";
  case resume_gap::trimmed:
    return "trimmed";
  case resume_gap::ahead:
    return "ahead";
  case resume_gap::no_history:
    return "no_history";
  case resume_gap::other:
    break;
  }
  return "other";
}

std::string_view to_string(resume_error e) noexcept {
  switch (e) {
  case resume_error::none:
    return "";
  case resume_error::too_long:
    return "a header of chorus.v1 is longer than its sender may make it";
  case resume_error::not_utf8:
    return "a header of chorus.v1 is not UTF-8";
  case resume_error::malformed:
    return "a message of chorus.v1 does not begin with a JSON object";
  case resume_error::repeated:
    return "a header of chorus.v1 names a member or room twice";
  case resume_error::incomplete:
    return "a header of chorus.v1 lacks what its type needs";
  case resume_error::bad_value:
    return "a member of a header of chorus.v1 has no value that it may have";
  case resume_error::stray_payload:
    return "a header of chorus.v1 is followed by a payload that its type has not";
  case resume_error::too_many_rooms:
    break;
  }
  return "a hello of chorus.v1 names more than 256 rooms";
}

bool is_resume_token(std::string_view text, std::size_t least) noexcept {
  constexpr std::size_t most = 64;
  return text.size() >= least && text.size() <= most &&
         std::all_of(text.begin(), text.end(), [](char c) {
           return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
         });
}

resume_error read_resume(role from, std::span<const std::byte> message, resume_header &out,
                         std::size_t &size) {
  out = resume_header();
  const std::string_view all(reinterpret_cast<const char *>(message.data()), message.size());
  if (all.starts_with(plain_msg_header)) {
    out.type = resume_type::msg;
    out.has_payload = true;
    size = plain_msg_header.size();
    return resume_error::none;
  }
  const auto limit = from == role::client ? max_client_header : max_server_header;
  const auto end = all.substr(0, limit + 1).find('\n');
  if (end == all.npos && all.size() > limit)
    return resume_error::too_long;
  out.has_payload = end != all.npos;
  const auto header = all.substr(0, end);
  size = out.has_payload ? end + 1 : all.size();
  if (!is_valid_utf8(std::as_bytes(std::span(header))))
    return resume_error::not_utf8;
  return header_of(from, header, out);
}

} // namespace chorus::protocol
