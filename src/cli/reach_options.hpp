#pragma once
// The options of commands that connect: by which proxy, with which headers, in which protocol.

#include <chorus/chorus.hpp>

#include <CLI/CLI.hpp>

#include <string>
#include <utility>
#include <vector>

namespace cli {

using header_list = std::vector<std::pair<std::string, std::string>>;

struct reach_settings {
  std::string proxy; // "none", a URL, or empty: as the environment says
  unsigned redirects = 5;
  std::string user_agent;
  std::vector<chorus::url_scheme> protocols; // of a URL without a scheme
  bool race = false;
};

// --cookie, which adds to `headers`, --user-agent, --proxy and --redirects; of TLS --server-name and --pin.
void add_reach_options(CLI::App &app, reach_settings &settings, header_list &headers,
                       chorus::tls_options &tls);
// --ca, --insecure, --tls-cert and --tls-key.
void add_trust_options(CLI::App &app, chorus::tls_options &tls, bool &insecure);
// --protocol and --race, for commands that take URLs without a scheme.
void add_protocol_options(CLI::App &app, reach_settings &settings);

// To connect_options or client_options, which may point into the settings.
template <class Options> void apply(const reach_settings &s, Options &to) {
  if (s.proxy != "none")
    to.proxy = s.proxy;
  to.proxy_from_environment = s.proxy.empty();
  to.max_redirects = s.redirects;
  to.user_agent = s.user_agent;
  to.protocols = s.protocols;
  to.race_protocols = s.race;
}

// A URL as it may be shown, with a scheme or without: no passwords and tokens.
std::string without_secrets(const std::string &url);

} // namespace cli
