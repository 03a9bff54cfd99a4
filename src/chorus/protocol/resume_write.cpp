#include <chorus/protocol/resume.hpp>

namespace chorus::protocol {

namespace {

void append_string(std::string &out, std::string_view text) {
  constexpr std::string_view hex = "0123456789abcdef";
  out.push_back('"');
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (byte < 0x20) {
      out += "\\u00";
      out.push_back(hex[byte >> 4]);
      out.push_back(hex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
}

void append_room(std::string &out, std::string_view type, std::string_view room) {
  out += "{\"t\":\"";
  out += type;
  out += "\",\"room\":";
  append_string(out, room);
}

void append_place(std::string &out, std::string_view epoch, std::uint64_t offset) {
  out += ",\"epoch\":\"";
  out += epoch;
  out += "\",\"offset\":";
  out += std::to_string(offset);
}

} // namespace

std::string write_hello(std::string_view client, std::span<const resume_position> positions) {
  std::string out = "{\"t\":\"hello\"";
  if (!client.empty()) {
    out += ",\"client\":\"";
    out += client;
    out += '"';
  }
  out += ",\"rooms\":{";
  std::size_t count = 0;
  for (const auto &p : positions) {
    std::string one;
    if (count != 0)
      one += ',';
    append_string(one, p.room);
    one += ":{\"epoch\":\"" + p.epoch + "\",\"offset\":" + std::to_string(p.offset) + '}';
    if (count == max_positions || out.size() + one.size() + 2 > max_client_header)
      break;
    ++count;
    out += one;
  }
  return out + "}}";
}

std::string write_ack(std::string_view room, std::uint64_t offset) {
  std::string out;
  append_room(out, "ack", room);
  return out + ",\"offset\":" + std::to_string(offset) + '}';
}

std::string write_msg_header(std::string_view room) {
  std::string out;
  append_room(out, "msg", room);
  return out + "}\n";
}

std::string write_msg_header(std::string_view room, std::string_view epoch, std::uint64_t offset) {
  std::string out;
  append_room(out, "msg", room);
  append_place(out, epoch, offset);
  return out + "}\n";
}

std::string write_joined(const joined_header &h) {
  std::string out;
  append_room(out, "joined", h.room);
  if (!h.epoch.empty())
    append_place(out, h.epoch, h.offset);
  if (h.recovered)
    out += *h.recovered ? ",\"recovered\":true" : ",\"recovered\":false";
  if (!h.epoch.empty())
    out += ",\"missed\":" + std::to_string(h.missed);
  if (h.why != resume_gap::none) {
    out += ",\"why\":\"";
    out += to_string(h.why);
    out += '"';
  }
  return out + '}';
}

std::string write_left(std::string_view room) {
  std::string out;
  append_room(out, "left", room);
  return out + '}';
}

} // namespace chorus::protocol
