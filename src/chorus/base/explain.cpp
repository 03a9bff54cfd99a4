#include <chorus/base/explain.hpp>

#include <chorus/base/text.hpp>

namespace chorus {

namespace {

constexpr std::size_t most_said = 300;

remedy of_status(unsigned status) noexcept {
  switch (status) {
  case 401:
    return remedy::give_credentials;
  case 403:
    return remedy::check_permission;
  case 407:
    return remedy::proxy_credentials;
  case 426:
  case 505:
    return remedy::change_version;
  case 408:
  case 425:
  case 429:
    return remedy::try_later;
  default:
    break;
  }
  if (status >= 500)
    return remedy::try_later;
  return status >= 300 && status < 400 ? remedy::follow_redirect : remedy::check_path;
}

// Of a proxy that was not reached, unless it is plain what else is amiss.
remedy of_unreached_proxy(remedy otherwise) noexcept {
  return otherwise == remedy::check_permission || otherwise == remedy::check_network
             ? otherwise
             : remedy::check_proxy;
}

// By the last address that said no.
remedy of_refused_connection(const failure_detail &detail) noexcept {
  namespace errc = boost::system::errc;
  if (detail.tried.empty()) // which is the usual reason
    return remedy::start_server;
  for (auto one = detail.tried.rbegin(); one != detail.tried.rend(); ++one) {
    if (one->why == errc::timed_out)
      continue;
    if (one->why == errc::connection_refused || one->why == errc::no_such_file_or_directory)
      return remedy::start_server;
    if (one->why == errc::network_unreachable || one->why == errc::host_unreachable ||
        one->why == errc::network_down || one->why == errc::address_not_available)
      return remedy::check_network;
    if (one->why == errc::permission_denied || one->why == errc::operation_not_permitted)
      return remedy::check_permission;
    return remedy::none;
  }
  return remedy::check_network; // none of them answered
}

// RFC 8446 section 6.2.
remedy of_alert(std::string_view alert) noexcept {
  if (alert == "certificate required")
    return remedy::give_certificate;
  for (const std::string_view refused :
       {"bad certificate", "unsupported certificate", "certificate revoked", "certificate expired",
        "certificate unknown", "unknown CA", "access denied"})
    if (alert == refused)
      return remedy::replace_certificate;
  return remedy::none;
}

// Where the failure itself has no hint.
const char *usual_hint(remedy r) noexcept {
  switch (r) {
  case remedy::check_name:
    return "check the name's spelling and the DNS";
  case remedy::start_server:
    return "is the server running, is the port right?";
  case remedy::check_network:
    return "is the host up, does a firewall drop the packets?";
  case remedy::use_plain_scheme:
    return "use ws:// or tcp://, or the TLS port";
  case remedy::use_other_scheme:
    return "does this port speak another protocol: TLS (wss://, tls://), or framed messages "
           "(tcp://) "
           "instead of WebSocket (ws://)?";
  case remedy::renew_certificate:
    return "renew the certificate, or set this machine's clock right";
  case remedy::use_certificate_name:
    return "connect by a name that the certificate holds, or set server_name";
  case remedy::trust_authority:
    return "give the authority's certificate as ca_file";
  case remedy::check_proxy:
    return "check the proxy's address, and what it allows";
  case remedy::proxy_credentials:
    return "give the proxy's user and password in its URL";
  case remedy::try_later:
    return "try again later";
  default:
    return "";
  }
}

std::string said_by_peer(const failure_detail &detail) {
  std::string out;
  if (detail.status != 0) {
    out = "status " + std::to_string(detail.status);
    if (!detail.body.empty())
      out += ": " + detail.body;
  } else if (!detail.tls_alert.empty()) {
    out = "TLS alert \"" + detail.tls_alert + "\"";
  } else if (detail.by_peer && detail.close_code != 0) {
    out = "close " + std::to_string(detail.close_code);
    if (!detail.close_reason.empty())
      out += ": " + detail.close_reason;
  }
  return chorus::detail::one_line(out, most_said);
}

} // namespace

remedy remedy_of(const failure &why) noexcept {
  const auto &detail = why.detail();
  if (why.code().category() != error_category())
    return remedy::none;
  const bool at_proxy = detail.where == stage::proxy;
  switch (static_cast<error>(why.code().value())) {
  case error::bad_url:
  case error::bad_option:
  case error::no_runtime:
  case error::tls_bad_configuration:
    return remedy::correct_url;
  case error::resolve_failed:
  case error::resolve_timeout:
    return at_proxy ? remedy::check_proxy : remedy::check_name;
  case error::connect_failed: {
    const auto help = of_refused_connection(detail);
    return at_proxy ? of_unreached_proxy(help) : help;
  }
  case error::connect_timeout:
    return at_proxy ? remedy::check_proxy : remedy::check_network;
  case error::tls_not_tls:
    return remedy::use_plain_scheme;
  case error::tls_expired:
    return remedy::renew_certificate;
  case error::tls_wrong_host:
    return remedy::use_certificate_name;
  case error::tls_unknown_issuer:
    return remedy::trust_authority;
  case error::tls_bad_certificate:
  case error::tls_wrong_key:
    return remedy::check_certificate;
  case error::tls_failed:
    return of_alert(detail.tls_alert);
  case error::tls_timeout:
  case error::upgrade_invalid:
  case error::upgrade_timeout:
  case error::no_protocol:
    return remedy::use_other_scheme;
  case error::upgrade_refused:
    return of_status(detail.status);
  case error::proxy_refused:
    return detail.wants_credentials ? remedy::proxy_credentials : remedy::check_proxy;
  case error::proxy_invalid:
  case error::proxy_timeout:
    return remedy::check_proxy;
  case error::auth_refused:
    return remedy::give_credentials;
  case error::auth_failed:
  case error::auth_timeout:
    return remedy::try_later;
  case error::lost:
    if (const auto told = of_alert(detail.tls_alert); told != remedy::none)
      return told;
    // Nothing tells a port of another protocol from a server that died: where it happens, the first is
    // usual.
    return detail.where == stage::upgrade || detail.where == stage::tls ? remedy::use_other_scheme
           : at_proxy                                                   ? remedy::check_proxy
                                                                        : remedy::none;
  case error::message_too_big:
  case error::protocol:
    return remedy::none;
  case error::closed:
    return detail.by_peer && (detail.close_code == 1012 || detail.close_code == 1013)
               ? remedy::try_later
               : remedy::none;
  default:
    return remedy::none;
  }
}

std::string_view to_string(remedy r) noexcept {
  switch (r) {
  case remedy::none:
    return "none";
  case remedy::correct_url:
    return "correct_url";
  case remedy::check_name:
    return "check_name";
  case remedy::start_server:
    return "start_server";
  case remedy::check_network:
    return "check_network";
  case remedy::use_plain_scheme:
    return "use_plain_scheme";
  case remedy::use_other_scheme:
    return "use_other_scheme";
  case remedy::trust_authority:
    return "trust_authority";
  case remedy::use_certificate_name:
    return "use_certificate_name";
  case remedy::renew_certificate:
    return "renew_certificate";
  case remedy::check_certificate:
    return "check_certificate";
  case remedy::give_certificate:
    return "give_certificate";
  case remedy::replace_certificate:
    return "replace_certificate";
  case remedy::give_credentials:
    return "give_credentials";
  case remedy::check_permission:
    return "check_permission";
  case remedy::check_path:
    return "check_path";
  case remedy::change_version:
    return "change_version";
  case remedy::follow_redirect:
    return "follow_redirect";
  case remedy::try_later:
    return "try_later";
  case remedy::proxy_credentials:
    return "proxy_credentials";
  case remedy::check_proxy:
    return "check_proxy";
  }
  return "unknown";
}

explanation explain(const failure &why) {
  const auto &detail = why.detail();
  explanation e;
  e.where = detail.where;
  e.address = detail.address;
  e.remedy = remedy_of(why);
  e.what =
      chorus::detail::one_line(detail.sentence.empty() ? why.code().message() : detail.sentence);
  e.said = said_by_peer(detail);
  e.hint = detail.hint;
  // A sentence without a hint of its own often says itself what to do, after a semicolon or as a question.
  const bool says_it = e.what.find_first_of(";?") != std::string::npos;
  if (e.hint.empty() && !says_it)
    e.hint = usual_hint(e.remedy);
  return e;
}

std::string to_text(const explanation &e) {
  auto out = e.what;
  if (!e.hint.empty())
    out += "; " + e.hint;
  if (!e.address.empty() && out.find(e.address) == out.npos)
    out += " [" + e.address + "]";
  if (!e.said.empty())
    out += "; the peer says: " + e.said;
  return out;
}

} // namespace chorus
