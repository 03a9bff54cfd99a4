#include "serve_admission.hpp"

#include "exit_status.hpp"
#include "values.hpp"

#include <limits>

namespace cli {

namespace {

constexpr std::size_t most_connections = 1'000'000'000;
constexpr std::size_t most_bytes = std::numeric_limits<std::uint32_t>::max();
constexpr std::uint32_t most_messages = std::numeric_limits<std::uint32_t>::max();

CLI::Option *add_choice(CLI::App &app, const std::string &name, std::string &into,
                        const std::vector<std::string> &choices, const std::string &help) {
  std::string all;
  for (const auto &one : choices)
    all += (all.empty() ? "" : "|") + one;
  return app
      .add_option_function<std::string>(
          name,
          [&into, name, choices, all](const std::string &text) {
            for (const auto &one : choices)
              if (text == one) {
                into = one;
                return;
              }
            throw CLI::ValidationError(name, "'" + text + "' is none of " + all);
          },
          help)
      ->type_name(all)
      ->default_str(into);
}

// A size within bounds.
CLI::Option *add_bounded(CLI::App &app, const std::string &name, std::size_t &into,
                         std::size_t lowest, std::size_t highest, const std::string &help) {
  return app
      .add_option_function<std::string>(
          name,
          [&into, name, lowest, highest](const std::string &text) {
            const auto value = parse_size(text);
            if (!value || *value < lowest || *value > highest)
              throw CLI::ValidationError(
                  name, "'" + text + "' is no size from " + std::to_string(lowest) + " to " +
                            std::to_string(highest) + " bytes; say 1000, 64k or 1M");
            into = *value;
          },
          help)
      ->type_name("BYTES")
      ->default_str(to_text(into));
}

CLI::Option *add_list(CLI::App &app, const std::string &name, std::vector<std::string> &into,
                      const std::string &type, const std::string &help) {
  return app.add_option(name, into, help)
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->type_name(type);
}

// "https://example.org", "https://example.org:8443", "*": what browsers put into Origin (RFC 6454), and a
// slash behind it.
std::string complaint_about_origin(const std::string &text) {
  const auto scheme = text.find("://");
  const auto host = scheme == text.npos ? scheme : scheme + 3;
  const bool usable =
      text == "*" || (scheme != 0 && scheme != text.npos && host < text.size() &&
                      text.find_first_of("/ ?#@*", host) >= text.size() - 1 &&
                      text.find_first_of(" ?#@*") == text.npos && text[host] != '/');
  return usable ? ""
                : "'" + text +
                      "' is no origin; say https://example.org, with the port if it has "
                      "one, or * for all";
}

} // namespace

void add_admission(CLI::App &app, admission_settings &s) {
  add_number(app, "--max-connections", s.max_connections, std::size_t{0}, most_connections,
             "Sessions at a time; 0: no limit");
  add_number(app, "--max-connections-per-address", s.max_connections_per_address, std::size_t{0},
             most_connections, "Sessions of an IPv4 address or an IPv6 /64; 0: no limit");
  add_number(app, "--max-connections-per-user", s.max_connections_per_user, std::size_t{0},
             most_connections, "Sessions of a user_id of the chat; 0: no limit");
  add_choice(app, "--on-limit", s.on_limit, {"refuse", "close"},
             "Beyond these: refuse with 503 or 429, or accept and close with 1013");
  add_choice(app, "--on-user-limit", s.on_user_limit, {"refuse", "oldest"},
             "Beyond a user's: as --on-limit says, or close its oldest session with 1008");
  add_number(app, "--max-handshakes", s.max_handshakes, std::size_t{0}, most_connections,
             "Connections that are no sessions, at a time; 0: no limit");
  add_duration(app, "--handshake-timeout", s.handshake_timeout,
               "For TLS and the head of the request together")
      ->check([](const std::string &text) {
        const auto value = parse_duration(text);
        return value && value->count() == 0
                   ? "'" + text + "' leaves no time for a handshake; say 10s"
                   : std::string();
      });
  add_bounded(app, "--max-header", s.max_header, 256, most_bytes,
              "Head of a request; beyond it 431");
  add_list(
      app, "--allow-origin", s.allowed_origins, "ORIGIN",
      "Whose pages may connect besides the server's own, * for all; may be given several times")
      ->check(complaint_about_origin);
  add_list(app, "--trusted-proxy", s.trusted_proxies, "NET",
           "Whose X-Forwarded-For is believed: 10.0.0.0/8, 2001:db8::7 or unix:; may be given "
           "several times");
  add_choice(app, "--proxy-protocol", s.proxy_protocol, {"off", "required", "trusted"},
             "Connections begin with a PROXY header: none, all, or those of --trusted-proxy");
  add_number(app, "--messages-per-second", s.messages_per_second, std::uint32_t{0}, most_messages,
             "Taken from each peer; 0: any number");
  add_bounded(app, "--bytes-per-second", s.bytes_per_second, 0, most_bytes,
              "Taken from each peer; 0: any number");
  add_number(app, "--burst-messages", s.burst_messages, std::uint32_t{0}, most_messages,
             "At once after a silence; 0: as many as in a second");
  add_bounded(app, "--burst-bytes", s.burst_bytes, 0, most_bytes,
              "At once after a silence; 0: as many as in a second");
  add_choice(app, "--over-rate", s.over_rate, {"delay", "drop", "close"},
             "What comes faster: read no faster, drop it, or close with 1008");
  add_size(
      app, "--queue-budget", s.queue_budget,
      "Of all outgoing queues together, beyond it the largest is closed with 1013; 0: no limit");
}

bool use_admission(const admission_settings &s, chorus::server_options &o) {
  if (s.proxy_protocol == "trusted" && s.trusted_proxies.empty()) {
    complain("serve",
             "--proxy-protocol trusted needs --trusted-proxy, which says whose PROXY header "
             "to expect; or say required");
    return false;
  }
  o.max_connections = s.max_connections;
  o.max_connections_per_address = s.max_connections_per_address;
  o.max_connections_per_user = s.max_connections_per_user;
  o.on_limit = s.on_limit == "close" ? chorus::over_limit::close_try_later
                                     : chorus::over_limit::refuse_upgrade;
  o.on_user_limit = s.on_user_limit == "oldest" ? chorus::over_user_limit::close_oldest
                                                : chorus::over_user_limit::refuse_new;
  o.max_handshakes = s.max_handshakes;
  o.handshake_timeout = s.handshake_timeout;
  o.max_header_bytes = s.max_header;
  o.allowed_origins = s.allowed_origins;
  o.trusted_proxies = s.trusted_proxies;
  o.proxy = s.proxy_protocol == "required"  ? chorus::proxy_protocol::required
            : s.proxy_protocol == "trusted" ? chorus::proxy_protocol::trusted
                                            : chorus::proxy_protocol::off;
  o.rate.messages_per_second = s.messages_per_second;
  o.rate.bytes_per_second = static_cast<std::uint32_t>(s.bytes_per_second);
  o.rate.burst_messages = s.burst_messages;
  o.rate.burst_bytes = static_cast<std::uint32_t>(s.burst_bytes);
  o.rate.policy = s.over_rate == "close"  ? chorus::over_rate::close
                  : s.over_rate == "drop" ? chorus::over_rate::drop
                                          : chorus::over_rate::delay;
  o.queue_budget_bytes = s.queue_budget;
  return true;
}

} // namespace cli
