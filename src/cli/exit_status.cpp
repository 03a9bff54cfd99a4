#include "exit_status.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <utility>

namespace cli {

namespace {

bool broke_protocol(const chorus::failure &f) {
  return f == chorus::error::protocol || f == chorus::error::upgrade_invalid ||
         f == chorus::error::message_too_big || f == chorus::error::evicted ||
         std::string_view(f.code().category().name()) == "chorus.protocol";
}

// A close frame with this code is no complaint. Without a code (1005, or 0) it is none either.
bool normal(std::uint16_t code) {
  return code == 0 || code == 1000 || code == 1001 || code == 1005;
}

const char *advice(std::uint16_t close_code) {
  switch (close_code) {
  case 1007:
    return "; text has to be UTF-8, --binary sends anything";
  case 1009:
    return "; send smaller messages or raise the peer's limit";
  case 1012:
  case 1013:
    return "; try again later";
  default:
    return normal(close_code) ? "" : "; the peer's log or documentation says what it means";
  }
}

// The library advises those who program with it; here the same advice names the options.
void translate(std::string &sentence) {
  static constexpr std::array<std::pair<std::string_view, std::string_view>, 7> phrases{{
      {"; is the server running, is the port right?",
       "; check that the server runs and listens there"},
      {"as a header, as in {\"Authorization\", \"Bearer \u2026\"}",
       "with --header 'Authorization: Bearer ...'"},
      {", or set server_name", ", or for a test with --insecure"},
      {"set server_name", "give the URL a host name, or for a test --insecure"},
      {"; give the authority's certificate as ca_file",
       "; --ca FILE trusts it, --insecure anybody (for tests)"},
      {"server_options::trusted_proxies", "--trusted-proxy"},
      {"give certificate_file and key_file", "give --tls-cert and --tls-key"},
  }};
  for (const auto &[theirs, ours] : phrases)
    if (const auto at = sentence.find(theirs); at != sentence.npos) {
      sentence.replace(at, theirs.size(), ours);
      return;
    }
}

// Control characters of the peer's stay out of the terminal.
std::string printable(std::string_view text) {
  std::string out(text.substr(0, 300));
  std::replace_if(
      out.begin(), out.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  while (out.ends_with(' '))
    out.pop_back();
  return out;
}

} // namespace

status status_of(const chorus::failure &f) {
  using chorus::condition;
  using chorus::error;
  if (!f.code())
    return status::ok;
  if (f == error::closed)
    return !f.detail().by_peer || normal(f.detail().close_code) ? status::ok : status::protocol;
  if (f == error::bad_url || f == error::bad_option)
    return status::usage;
  if (f == condition::timeout)
    return status::timeout;
  if (f == condition::tls)
    return status::tls;
  if (f == condition::refused)
    return status::refused;
  if (broke_protocol(f))
    return status::protocol;
  return status::failed;
}

std::string sentence_of(const chorus::failure &f) {
  const auto &detail = f.detail();
  std::string out;
  if (f == chorus::error::closed && detail.close_code != 0) {
    out = detail.by_peer ? "the peer closed the connection with " : "closed with ";
    out += std::to_string(detail.close_code);
    if (!detail.close_reason.empty())
      out += " (" + printable(detail.close_reason) + ")";
    return out + advice(detail.close_code);
  }
  out = f.message();
  translate(out);
  if (detail.status != 0 && out.find(std::to_string(detail.status)) == out.npos)
    out += " (status " + std::to_string(detail.status) + ")";
  if (!detail.address.empty() && out.find(detail.address) == out.npos)
    out += " [" + detail.address + "]";
  if (detail.status != 0 && !detail.body.empty())
    out += "; the server says: " + printable(detail.body);
  return out;
}

void complain(std::string_view command, std::string_view sentence) {
  std::string line = "chorus";
  if (!command.empty()) {
    line += ' ';
    line += command;
  }
  line += ": ";
  line += sentence;
  // One line, whatever an argument brought into it.
  std::replace_if(
      line.begin(), line.end(),
      [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; }, ' ');
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void raise_descriptor_limit() noexcept {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

} // namespace cli
