#pragma once
// The headers of the resume protocol, subprotocol "chorus.v1" (docs/protocol.md): read and written,
// without I/O. Every message of such a connection is a header, a flat JSON object, or a header, a line
// feed and a payload.
//
// Reading is strict (RFC 8259 without a raw line feed, known members of the right type and not twice)
// and bounded: by the size of the header, in depth, and in rooms.

#include <chorus/protocol/frame.hpp>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace chorus::protocol {

inline constexpr std::string_view resume_subprotocol = "chorus.v1";
inline constexpr std::size_t max_client_header = 16 * 1024; // bytes, the line feed aside
inline constexpr std::size_t max_server_header = 1024;
inline constexpr std::size_t max_positions = 256; // rooms in a hello
inline constexpr std::size_t max_header_depth = 16;
inline constexpr std::uint64_t max_offset = (std::uint64_t{1} << 53) - 1;

// The header of a message to or from one connection alone, with its line feed.
inline constexpr std::string_view plain_msg_header = "{\"t\":\"msg\"}\n";

enum class resume_type : std::uint8_t {
  other, // not known to this side: to be ignored
  hello,
  msg,
  ack,
  joined,
  left,
};

// Why a gap can't be filled: `why` of a joined.
enum class resume_gap : std::uint8_t { none, epoch, trimmed, ahead, no_history, other };
std::string_view to_string(resume_gap) noexcept;

struct resume_position {
  std::string room;
  std::string epoch;
  std::uint64_t offset = 0;
  friend bool operator==(const resume_position &, const resume_position &) = default;
};

// What a header says; only what its type has is filled in.
struct resume_header {
  resume_type type = resume_type::other;
  std::optional<std::string> room;    // ack, joined, left; msg of a room
  std::string epoch;                  // msg and joined of a room with history, else empty
  std::uint64_t offset = 0;           // ack; with an epoch
  std::optional<bool> recovered;      // joined
  std::uint64_t missed = 0;           // joined
  resume_gap why = resume_gap::none;  // joined
  std::string client;                 // hello; empty: none
  std::vector<resume_position> rooms; // hello
  bool has_payload = false;
};

enum class resume_error : std::uint8_t {
  none,
  too_long,       // the header, for its sender
  not_utf8,       // in a binary message
  malformed,      // no JSON object
  repeated,       // a member, or a room, twice
  incomplete,     // a member that the type needs is missing, or a msg has no payload
  bad_value,      // of a known member: its type, its range, its letters
  stray_payload,  // where the type has none
  too_many_rooms, // in a hello
};
// A sentence.
std::string_view to_string(resume_error) noexcept;

// Reads the header in front of `message`, as sent by `from`. `size` is what is in front of the
// payload: the header with its line feed, or all of the message. On an error `out` is unspecified.
// Throws std::bad_alloc.
resume_error read_resume(role from, std::span<const std::byte> message, resume_header &out,
                         std::size_t &size);

// Epochs and clients: `least` to 64 letters and digits.
bool is_resume_token(std::string_view text, std::size_t least = 1) noexcept;

// The headers, without a line feed but for those of a msg. Texts have to be UTF-8.

// Leaves out the last positions when they are more than max_positions or max_client_header bytes.
std::string write_hello(std::string_view client, std::span<const resume_position> positions);
std::string write_ack(std::string_view room, std::uint64_t offset);

std::string write_msg_header(std::string_view room); // published, and not kept
std::string write_msg_header(std::string_view room, std::string_view epoch, std::uint64_t offset);
struct joined_header {
  std::string_view room;
  std::string_view epoch{}; // empty: no history, and none of the rest but `recovered` and `why`
  std::uint64_t offset = 0;
  std::optional<bool> recovered{}; // empty: the client named no position
  std::uint64_t missed = 0;
  resume_gap why = resume_gap::none;
};
std::string write_joined(const joined_header &);
std::string write_left(std::string_view room);

} // namespace chorus::protocol
