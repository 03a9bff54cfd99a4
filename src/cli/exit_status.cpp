#include "exit_status.hpp"

#include "screen_text.hpp"

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
    return is_normal(close_code) ? "" : "; the peer's log or documentation says what it means";
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
    return options ? e.hint + " (--proxy URL, or none)" : e.hint;
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

// The beginning of what a peer says, on one line.
std::string printable(std::string_view text) {
  constexpr std::size_t most = 300;
  auto end = std::min(most, text.size());
  while (end != text.size() && end > most - 3 &&
         (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80)
    --end;
  auto out = one_line(text.substr(0, end));
  while (out.ends_with(' '))
    out.pop_back();
  return out;
}

std::string code_and_reason(std::uint16_t code, std::string_view reason) {
  return std::to_string(code) + (reason.empty() ? "" : " (" + printable(reason) + ")");
}

} // namespace

bool is_normal(std::uint16_t close_code) noexcept {
  return close_code == 0 || close_code == 1000 || close_code == 1001 || close_code == 1005;
}

std::uint16_t code_of_peer(const chorus::failure &end) {
  const auto &detail = end.detail();
  return detail.by_peer ? detail.close_code : detail.answer_code;
}

const std::string &reason_of_peer(const chorus::failure &end) {
  const auto &detail = end.detail();
  return detail.by_peer ? detail.close_reason : detail.answer_reason;
}

status status_of(const chorus::failure &f) {
  using chorus::condition;
  using chorus::error;
  if (!f.code())
    return status::ok;
  if (f == error::closed) {
    const auto code = code_of_peer(f);
    const bool echoed = !f.detail().by_peer && code == f.detail().close_code;
    return echoed || is_normal(code) ? status::ok : status::protocol;
  }
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
    out += code_and_reason(detail.close_code, detail.close_reason);
    if (detail.by_peer)
      return harmless(out) + advice(detail.close_code, words);
    if (detail.answer_code == 1005)
      return harmless(out) + "; the peer answered without a code";
    const bool echoed = detail.answer_code == detail.close_code;
    if (detail.answer_code != 0 && (!echoed || !detail.answer_reason.empty()))
      out += "; the peer answered " + code_and_reason(detail.answer_code, detail.answer_reason);
    return harmless(out) + (echoed ? "" : advice(detail.answer_code, words));
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
  return harmless(one_line(out));
}

std::string advice_of(const chorus::failure &f, wording words) {
  const auto told = chorus::explain(f);
  return harmless(advice(told, f, words));
}

void complain(std::string_view command, std::string_view sentence) {
  std::string line = "chorus";
  if (!command.empty()) {
    line += ' ';
    line += command;
  }
  line += ": ";
  line += sentence;
  line = harmless(one_line(line)); // whatever an argument or a peer brought into it
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
