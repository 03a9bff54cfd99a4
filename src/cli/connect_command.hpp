#pragma once
// What a line typed into `connect` at a terminal means: a message, or a command.

#include <cstdint>
#include <string>
#include <string_view>

namespace cli {

struct typed {
  enum class what : unsigned char { message, ping, close, headers, binary, stats, help, wrong };
  what kind = what::message;
  std::string text;          // the message, the reason, the file's name, or what is wrong
  std::uint16_t code = 1000; // of a close
};

// "//text" is the message "/text". The code of a close is one that an endpoint may send (RFC 6455 section 7.4), its
// reason at most 123 bytes.
typed read_typed(std::string_view line);

// A line each.
std::string_view command_help() noexcept;

} // namespace cli
