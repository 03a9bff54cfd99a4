#include "serve.hpp"

#include "chat.hpp"
#include "dashboard.hpp"
#include "live_room.hpp"
#include "serve_life.hpp"
#include "serve_observe.hpp"
#include "values.hpp"
#include "web_routes.hpp"

#include <csignal>
#include <utility>
#include <vector>

namespace cli {

namespace {

using chorus::task;
using namespace std::chrono_literals;

// All messages of one read at a time. A small one is copied into the outgoing buffer, a large one
// goes back in the memory it came in; only a full queue waits.
task<> echo(chorus::session s, chorus::request) {
  constexpr std::size_t worth_sharing = 8 * 1024;
  while (auto batch = co_await s.receive_some()) {
    for (std::size_t i = 0; i < batch->size(); ++i) {
      const auto &m = (*batch)[i];
      if (m.size() < worth_sharing && s.try_send(m))
        continue;
      if (!co_await s.send(batch->take(i)) && !s.is_open())
        co_return;
    }
  }
}

task<> broadcast(chorus::room everyone, chorus::session s) {
  auto seat = co_await everyone.join(s);
  if (!seat)
    co_return;
  while (auto m = co_await s.receive())
    seat->publish(std::move(*m));
}

// What --help shows together.
void group_help(CLI::App &command) {
  using names = std::vector<const char *>;
  static const std::pair<const char *, names> groups[] = {
      {"Listening", {"--listen", "--reuse-port", "--unix-mode", "--handover", "--threads"}},
      {"TLS", {"--tls-cert", "--tls-key", "--tls-client-ca", "--tls-client-cert"}},
      {"Leaving", {"--drain-window", "--drain-rate", "--retry-after"}},
      {"Who may connect",
       {"--max-connections", "--max-connections-per-address", "--max-connections-per-user",
        "--on-limit", "--on-user-limit", "--max-handshakes", "--handshake-timeout", "--max-header",
        "--allow-origin", "--trusted-proxy", "--proxy-protocol"}},
      {"How much each may do",
       {"--messages-per-second", "--bytes-per-second", "--burst-messages", "--burst-bytes",
        "--over-rate", "--max-message", "--queue-bytes", "--overflow", "--queue-budget"}},
      {"Sessions", {"--ping-interval", "--pong-wait", "--compression", "--presence-grace"}},
      {"One of several nodes", {"--broker", "--broker-ca", "--when-away", "--broker-lease"}},
      {"Watching", {"--log-level", "--log-format", "--metrics-token", "--admin-token"}},
  };
  for (const auto &[title, options] : groups)
    for (const auto *name : options)
      if (auto *option = command.get_option_no_throw(name)) // not every build has metrics
        option->group(title);
}

} // namespace

CLI::App *add_serve(CLI::App &app, serve_settings &s) {
  auto *sub = app.add_subcommand(
      "serve", "Serve /echo, /broadcast, a chat at / and /dashboard until SIGTERM or SIGINT");
  add_life(*sub, s);
  add_number(*sub, "--threads", s.threads, 0U, 1024U,
             "Threads, each with connections of its own; 0: one per core");
  auto *cert = sub->add_option("--tls-cert", s.tls_cert, "Certificate chain (PEM): serve wss");
  auto *key = sub->add_option("--tls-key", s.tls_key, "Private key of --tls-cert (PEM)");
  cert->needs(key);
  key->needs(cert);
  sub->get_option("--tls-client-ca")->needs(cert);
  add_admission(*sub, s.admission);
  add_size(*sub, "--max-message", s.session.max_message, "Largest message taken from a peer");
  add_heartbeat(*sub, s.session.heartbeat);
  add_overflow(*sub, "--overflow", s.session.on_overflow,
               "When a peer's queue is full: close, drop_oldest, drop_newest, latest, wait");
  add_size(*sub, "--queue-bytes", s.session.queue_bytes, "Bound of each peer's outgoing queue");
  add_duration(*sub, "--presence-grace", s.presence_grace,
               "Who comes back to the chat within this time has not left; 0: tell at once");
  add_switch(*sub, "--compression", s.session.compression.enabled, "permessage-deflate");
  add_broker(*sub, s.broker);
  add_log_options(*sub, s.log, "of the library or program, as warn,session=debug,server=info");
  add_observe_options(*sub, s.metrics_token, s.admin_token);
  group_help(*sub);
  return sub;
}

status run_serve(const serve_settings &given) {
  auto settings = given;
  start_log(settings.log);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);

  chorus::runtime rt{{.threads = settings.threads}};
  settings.threads = rt.size();
  chorus::server_options options;
  options.reuse_port = settings.reuse_port;
  options.unix_socket_mode = settings.unix_mode;
  options.tls.certificate_file = settings.tls_cert;
  options.tls.key_file = settings.tls_key;
  options.tls.ca_file = settings.tls_client_ca;
  options.tls.require_client_certificate =
      !settings.tls_client_ca.empty() && settings.client_certificates == "require";
  options.tls.ask_client_certificate = !settings.tls_client_ca.empty();
  options.session = settings.session;
  if (!use_admission(settings.admission, options))
    return status::usage;
  const auto when_away = away_policy_of(settings.broker);
  use_broker(settings.broker, options);
  const chat_options talk{
      .presence_grace = settings.presence_grace, .broker = options.broker, .when_away = when_away};
  options.rooms = [talk, when_away](std::string_view name) {
    return is_live_room(name) ? options_of_live_room(when_away) : chat::options_of_room(name, talk);
  };
  options.log = library_log();
  status outcome = status::ok;
  std::optional<chorus::inheritance> heritage;
  if (!find_sockets(settings, rt, options, heritage, outcome))
    return outcome;
  const shared_engine engine{name_of_engine(settings.broker), options.broker};
  chorus::server srv{rt, std::move(options)};
  srv.route("/echo", echo);
  srv.route("/broadcast", [&srv](chorus::session s, chorus::request) {
    return broadcast(srv.room("broadcast"), std::move(s));
  });
  add_live_rooms(srv);
  add_web_routes(srv, talk, engine);
  mount_observe(srv, settings.metrics_token);
  if (!settings.admin_token.empty())
    srv.mount_admin("/", {.token = settings.admin_token});

  rt.run(live(settings, srv, std::move(heritage), outcome));
  return outcome;
}

} // namespace cli
