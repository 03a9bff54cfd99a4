#pragma once
// How the program ends: its exit status, and the sentence that goes with it.

#include <chorus/chorus.hpp>

#include <cstdint>
#include <string>
#include <string_view>

namespace cli {

enum class status : int {
  ok = 0,       // closed in order, by either side
  failed = 1,   // anything that has no number of its own
  usage = 2,    // the command line or the input can't be used
  refused = 3,  // nobody listens, or the server refused the upgrade
  tls = 4,      // the certificate or the TLS handshake
  timeout = 5,  // a deadline passed
  protocol = 6, // the peer broke the protocol or closed with an error code
};

// After a close of this side it counts what the peer answered.
status status_of(const chorus::failure &f);
// What the peer's close frame said, whoever began: 1005 when it had no code, 0 when none came.
std::uint16_t code_of_peer(const chorus::failure &end);
const std::string &reason_of_peer(const chorus::failure &end);
// Whether a close frame with this code is no complaint: 1000, 1001, 1005 and 0.
bool is_normal(std::uint16_t close_code) noexcept;
// Whose words say what to do: the command line's options, or the fields of a script.
enum class wording { options, fields };
// What happened, at which stage and address, what the peer said of it, and what to do about it. UTF-8
// without control characters.
std::string sentence_of(const chorus::failure &f, wording words = wording::options);
// What to do about it, of that; may be empty.
std::string advice_of(const chorus::failure &f, wording words = wording::options);
// One line on standard error: "chorus connect: ...", or "chorus: ..." without a command.
void complain(std::string_view command, std::string_view sentence);

// The most descriptors that this process may have; a server of many connections needs them.
void raise_descriptor_limit() noexcept;

} // namespace cli
