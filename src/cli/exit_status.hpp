#pragma once
// How the program ends: its exit status, and the sentence that goes with it.

#include <chorus/chorus.hpp>

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

status status_of(const chorus::failure &f);
// Whose words say what to do: the command line's options, or the fields of a script.
enum class wording { options, fields };
// What happened, at which stage and address, what the peer said of it, and what to do about it.
std::string sentence_of(const chorus::failure &f, wording words = wording::options);
// One line on standard error: "chorus connect: ...", or "chorus: ..." without a command.
void complain(std::string_view command, std::string_view sentence);

// The most descriptors that this process may have; a server of many connections needs them.
void raise_descriptor_limit() noexcept;

} // namespace cli
