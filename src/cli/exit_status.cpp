#include "exit_status.hpp"

#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <utility>

namespace cli {

namespace {

bool broke_protocol(const chorus::failure &f) {
  return f == chorus::error::protocol || f == chorus::error::upgrade_invalid ||
         f == chorus::error::message_too_big || f == chorus::error::evicted ||
         f == chorus::error::proxy_invalid || f == chorus::error::no_protocol ||
         std::string_view(f.code().category().name()) == "chorus.protocol";
}

// A close frame with this code is no complaint. Without a code (1005, or 0) it is none either.
bool normal(std::uint16_t code) {
  return code == 0 || code == 1000 || code == 1001 || code == 1005;
}

const char *advice(std::uint16_t close_code, wording words) {
  switch (close_code) {
  case 1007:
    return words == wording::options ? "; text has to be UTF-8, --binary sends anything"
                                     : "; text has to be UTF-8, \"hex\" sends anything";
  case 1009:
    return "; send smaller messages or raise the peer's limit";
  case 1012:
  case 1013:
    return "; try again later";
  default:
    return normal(close_code) ? "" : "; the peer's log or documentation says what it means";
  }
}

// The library advises those who program with it; here the same advice names what the user can change.
std::string advice(const chorus::explanation &e, const chorus::failure &f, wording words) {
  using chorus::remedy;
  if (e.hint.empty()) // there is none, or it is part of what happened
    return {};
  const bool options = words == wording::options;
  switch (e.remedy) {
  case remedy::trust_authority:
    return options ? "--ca FILE trusts it, --insecure anybody (for tests)"
                   : "\"ca\" trusts it, \"insecure\": true anybody (for tests)";
  case remedy::use_certificate_name:
    return options ? "connect by a name that the certificate holds, or say it with --server-name, "
                     "or for a test --insecure"
                   : "connect by a name that the certificate holds, or say it by \"server_name\", "
                     "or for a test \"insecure\": true";
  case remedy::give_credentials:
    return options ? "it wants credentials: give them with --header 'Authorization: Bearer ...', "
                     "or in the URL as USER:PASSWORD@HOST"
                   : "it wants credentials: give them by \"headers\", or in the URL as "
                     "USER:PASSWORD@HOST";
  case remedy::give_certificate:
    return options ? "it wants a certificate of this side; give --tls-cert and --tls-key"
                   : "it wants a certificate of this side; give \"tls_cert\" and \"tls_key\"";
  case remedy::check_certificate:
    return f == chorus::error::tls_wrong_key && options
               ? "--pin that one if the server has changed its key; if it has not, somebody else "
                 "answers"
               : e.hint;
  case remedy::check_proxy:
  case remedy::proxy_credentials:
    return options ? e.hint + " (--proxy URL, or none to go without)" : e.hint;
  case remedy::follow_redirect:
    return options ? e.hint + " (--redirects N)" : e.hint;
  default:
    return e.hint;
  }
}

// "[tls 192.0.2.1:443]", what of it there is and the sentence does not say.
std::string place(const chorus::explanation &e, const std::string &sentence) {
  using chorus::stage;
  std::string out;
  if (e.where == stage::resolve || e.where == stage::connect || e.where == stage::proxy ||
      e.where == stage::tls || e.where == stage::upgrade)
    out = to_string(e.where);
  if (!e.address.empty() && sentence.find(e.address) == sentence.npos)
    out += (out.empty() ? "" : " ") + e.address;
  return out.empty() ? out : " [" + out + "]";
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
  // A connection that breaks in the handshake is as little TLS as one that answers wrongly.
  if (f == condition::tls || (f == error::lost && f.detail().where == chorus::stage::tls))
    return status::tls;
  if (f == condition::refused)
    return status::refused;
  if (broke_protocol(f))
    return status::protocol;
  return status::failed;
}

std::string sentence_of(const chorus::failure &f, wording words) {
  const auto &detail = f.detail();
  std::string out;
  if (f == chorus::error::closed && detail.close_code != 0) {
    out = detail.by_peer ? "the peer closed the connection with " : "closed with ";
    out += std::to_string(detail.close_code);
    if (!detail.close_reason.empty())
      out += " (" + printable(detail.close_reason) + ")";
    return out + advice(detail.close_code, words);
  }
  const auto e = chorus::explain(f);
  out = e.what;
  if (const auto hint = advice(e, f, words); !hint.empty())
    out += "; " + hint;
  if (detail.status != 0 && out.find(std::to_string(detail.status)) == out.npos)
    out += " (status " + std::to_string(detail.status) + ")";
  out += place(e, out);
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
