#include <chorus/protocol/resume.hpp>

#include <chorus/protocol/resume_scan.hpp>
#include <chorus/protocol/utf8.hpp>

#include <algorithm>
#include <array>
#include <cstring>

namespace chorus::protocol {

namespace {

using detail::is_digit;
using kind = detail::json_kind;
using scanner = detail::json_scanner;
using value = detail::json_value;

bool text_of(const value &v, std::string &out) {
  return v.is == kind::string && detail::unescape(v.text, out);
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
    if (!detail::unescape(name, at.room) || v.is != kind::object)
      return fail(resume_error::bad_value);
    value epoch;
    value offset;
    const bool once =
        scanner(v.text).members(max_header_depth, [&](std::string_view n, const value &m) {
          n = detail::plain_name(n, plain);
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
    name = detail::plain_name(name, plain);
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
