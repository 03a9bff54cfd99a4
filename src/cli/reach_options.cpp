#include "reach_options.hpp"

#include "values.hpp"

#include <chorus/base/redact.hpp>

#include <algorithm>
#include <functional>

namespace cli {

namespace {

// All cookies go into one header (RFC 6265 section 5.4).
void add_cookie(header_list &headers, const std::string &cookie) {
  for (auto &[name, value] : headers)
    if (name == "Cookie") {
      value += "; " + cookie;
      return;
    }
  headers.emplace_back("Cookie", cookie);
}

CLI::Option *add_texts(CLI::App &app, const std::string &name, const std::string &type,
                       std::function<void(const std::string &)> take, const std::string &help) {
  return app
      .add_option_function<std::vector<std::string>>(
          name,
          [take = std::move(take)](const std::vector<std::string> &all) {
            for (const auto &one : all)
              take(one);
          },
          help)
      ->allow_extra_args(false)
      ->type_name(type);
}

} // namespace

void add_trust_options(CLI::App &app, chorus::tls_options &tls, bool &insecure) {
  app.add_option("--ca", tls.ca_file, "Trust these authorities (PEM) instead of the system's")
      ->type_name("FILE");
  app.add_flag("--insecure", insecure, "Accept any certificate: no protection, for tests only");
  auto *cert = app.add_option("--tls-cert", tls.certificate_file, "Client certificate (PEM)")
                   ->type_name("FILE");
  auto *key =
      app.add_option("--tls-key", tls.key_file, "Private key of --tls-cert")->type_name("FILE");
  cert->needs(key);
  key->needs(cert);
}

void add_protocol_options(CLI::App &app, reach_settings &s) {
  using chorus::url_scheme;
  auto *protocols = add_texts(
      app, "--protocol", "ws|wss|tcp|tls",
      [&s](const std::string &list) {
        for (std::size_t at = 0; at <= list.size();) {
          const auto end = std::min(list.find(',', at), list.size());
          const auto name = list.substr(at, end - at);
          const auto known = {url_scheme::ws, url_scheme::wss, url_scheme::tcp, url_scheme::tls};
          const auto *found = std::find_if(known.begin(), known.end(),
                                           [&](url_scheme one) { return to_string(one) == name; });
          if (found == known.end())
            throw CLI::ValidationError("--protocol", "'" + name + "' is none of ws, wss, tcp, tls");
          s.protocols.push_back(*found);
          at = end + 1;
        }
      },
      "What to try for a URL without a scheme, in this order: ws, wss, tcp, tls; repeatable, or "
      "several behind commas. Without it tcp");
  app.add_flag("--race", s.race, "Try them side by side")->needs(protocols);
}

void add_reach_options(CLI::App &app, reach_settings &s, header_list &headers,
                       chorus::tls_options &tls) {
  add_texts(
      app, "--cookie", "COOKIE",
      [&headers](const std::string &cookie) {
        const auto mark = cookie.find('=');
        if (mark == cookie.npos || mark == 0)
          throw CLI::ValidationError("--cookie", "this is no cookie; say 'name=value'");
        add_cookie(headers, cookie);
      },
      "A cookie of the request, 'name=value'; repeatable");
  app.add_option("--user-agent", s.user_agent, "The header User-Agent of the request")
      ->type_name("TEXT");
  app.add_option("--proxy", s.proxy,
                 "Proxy to go through, http://[USER:PASSWORD@]HOST:PORT or socks5://...; none: "
                 "without. Otherwise as http_proxy, https_proxy, all_proxy and no_proxy say")
      ->type_name("URL|none");
  add_number(app, "--redirects", s.redirects, 0U, 100U, "Redirects of the upgrade to follow");
  app.add_option("--server-name", tls.server_name,
                 "Name to verify the certificate for, instead of the URL's host")
      ->type_name("NAME");
  app.add_option("--pin", tls.pinned_keys,
                 "Only a server with this key: sha256//BASE64 of its public key, as curl writes "
                 "it; repeatable, any of them will do")
      ->allow_extra_args(false)
      ->type_name("KEY");
}

std::string without_secrets(const std::string &url) {
  if (chorus::url::names_scheme(url))
    return chorus::redact(url);
  return chorus::redact("ws://" + url).substr(5);
}

} // namespace cli
