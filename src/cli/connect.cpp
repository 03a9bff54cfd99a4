#include "connect.hpp"

#include "conversation.hpp"
#include "remedy.hpp"
#include "values.hpp"

#include <chorus/operators.hpp>

#include <boost/asio/this_coro.hpp>

#include <algorithm>
#include <csignal>

namespace cli {

namespace {

using chorus::task;
using namespace chorus::operators;

// "K: V", with a name of token characters and a value without control characters.
bool split_header(std::string_view line, std::pair<std::string, std::string> &out) {
  const auto colon = line.find(':');
  if (colon == line.npos || colon == 0)
    return false;
  const auto name = line.substr(0, colon);
  auto value = line.substr(colon + 1);
  const auto token = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
           std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
  };
  const auto control = [](char c) {
    return (static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7f;
  };
  if (!std::all_of(name.begin(), name.end(), token) ||
      std::any_of(value.begin(), value.end(), control))
    return false;
  const auto first = value.find_first_not_of(" \t");
  value = first == value.npos ? std::string_view{} : value.substr(first);
  value = value.substr(0, value.find_last_not_of(" \t") + 1);
  out = {std::string(name), std::string(value)};
  return true;
}

std::chrono::milliseconds shorter(std::chrono::milliseconds usual, const connect_settings &s) {
  return s.timeout.count() != 0 ? std::min(usual, s.timeout) : usual;
}

status give_up(const chorus::failure &f, const connect_settings &s) {
  const auto outcome = status_of(f);
  std::string sentence = explain(f, s);
  if (outcome == status::timeout && s.timeout.count() != 0)
    sentence += "; --timeout is " + to_text(s.timeout);
  complain("connect", sentence);
  return outcome == status::ok ? status::failed : outcome;
}

status too_late(const connect_settings &s, const std::string &last = {}) {
  complain("connect", "no connection to " + s.url + " within " + to_text(s.timeout) +
                          "; check the address or raise --timeout" +
                          (last.empty() ? "" : " (last attempt: " + last + ")"));
  return status::timeout;
}

task<status> talk_once(const connect_settings &s, std::shared_ptr<conversation> talk) {
  std::vector<chorus::header> headers;
  for (const auto &[name, value] : s.headers)
    headers.push_back({name, value});
  const std::vector<std::string_view> subprotocols(s.subprotocols.begin(), s.subprotocols.end());
  chorus::connect_options options;
  options.headers = headers;
  options.subprotocols = subprotocols;
  options.session = s.session;
  options.tls = &s.tls;
  options.resolve_timeout = shorter(options.resolve_timeout, s);
  options.connect_timeout = shorter(options.connect_timeout, s);
  options.tls_timeout = shorter(options.tls_timeout, s);
  options.upgrade_timeout = shorter(options.upgrade_timeout, s);

  auto first = co_await (chorus::connect(s.url, options) || talk->interruption(s.timeout));
  if (first.index() == 1)
    co_return talk->stopped() ? status::ok : too_late(s);
  auto &session = std::get<0>(first);
  if (!session)
    co_return give_up(session.error(), s);
  co_return co_await talk->run(std::make_unique<session_link>(std::move(*session)));
}

chorus::client_options client_settings(const connect_settings &s) {
  chorus::client_options options;
  options.urls = {s.url};
  options.headers = s.headers;
  options.subprotocols = s.subprotocols;
  options.session = s.session;
  options.tls = s.tls;
  options.outbox_bytes = s.session.queue_bytes;
  options.on_connect = [](chorus::session &now) {
    log()->info("connected to {}", now.remote_address());
  };
  options.on_disconnect = [](const chorus::failure &why) {
    log()->warn("disconnected: {}", sentence_of(why));
  };
  options.on_error = [](const chorus::failure &why) {
    log()->warn("no connection: {}", sentence_of(why));
  };
  return options;
}

task<status> talk_on(chorus::runtime &rt, const connect_settings &s,
                     std::shared_ptr<conversation> talk) {
  std::unique_ptr<client_link> link;
  try {
    link = std::make_unique<client_link>(rt, client_settings(s));
  } catch (const std::invalid_argument &e) {
    complain("connect", e.what());
    co_return status::usage;
  }
  auto &client = link->client();
  auto first = co_await (client.connected() || talk->interruption(s.timeout));
  if (first.index() == 1) {
    if (talk->stopped())
      co_return status::ok;
    const auto last = client.last_failure();
    co_return too_late(s, last.code() ? sentence_of(last) : std::string());
  }
  if (const auto &up = std::get<0>(first); !up)
    co_return give_up(up.error(), s);
  co_return co_await talk->run(std::move(link));
}

task<> connect_main(chorus::runtime &rt, const connect_settings &s, status &outcome) {
  auto talk = std::make_shared<conversation>(co_await boost::asio::this_coro::executor, s);
  talk->watch_signals();
  if (s.reconnect)
    outcome = co_await talk_on(rt, s, talk);
  else
    outcome = co_await talk_once(s, talk);
}

} // namespace

CLI::App *add_connect(CLI::App &app, connect_settings &s) {
  auto *sub = app.add_subcommand(
      "connect", "Connect to URL: input lines become messages, messages become output lines");
  sub->add_option("URL", s.url,
                  "ws://, wss://, ws+unix://PATH:/TARGET, tcp://, tls:// or unix://PATH")
      ->required();
  sub->add_option("--header", s.header_lines, "A header of the request, 'Name: value'; repeatable")
      ->allow_extra_args(false)
      ->type_name("HEADER")
      ->each([&s](const std::string &line) {
        std::pair<std::string, std::string> parts;
        if (!split_header(line, parts))
          throw CLI::ValidationError("'" + line + "' is no header; say 'Name: value'");
        s.headers.push_back(std::move(parts));
      });
  sub->add_option("--subprotocol", s.subprotocols, "Offer a subprotocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  sub->add_option("--ca", s.tls.ca_file, "Trust these authorities (PEM) instead of the system's")
      ->type_name("FILE");
  sub->add_flag("--insecure", s.insecure, "Accept any certificate: no protection, for tests only");
  auto *cert = sub->add_option("--tls-cert", s.tls.certificate_file, "Client certificate (PEM)")
                   ->type_name("FILE");
  auto *key =
      sub->add_option("--tls-key", s.tls.key_file, "Private key of --tls-cert")->type_name("FILE");
  cert->needs(key);
  key->needs(cert);
  sub->add_flag("--reconnect", s.reconnect, "Come back after a lost connection");
  sub->add_flag("--echo", s.echo, "Send every message back; input and output are not used");
  sub->add_flag("--binary", s.binary, "Send lines as binary; print binary as it is, not in hex");
  add_number(*sub, "--count", s.count, std::uint64_t{0}, std::uint64_t{1'000'000'000'000'000},
             "End after N messages; 0: no limit");
  add_duration(*sub, "--timeout", s.timeout,
               "Bound of connecting, and of waiting for the next message; 0: none");
  add_size(*sub, "--max-message", s.session.max_message, "Largest message taken from the peer");
  add_size(*sub, "--queue-bytes", s.session.queue_bytes, "Bound of the outgoing queue");
  add_heartbeat(*sub, s.session.heartbeat);
  add_switch(*sub, "--compression", s.session.compression.enabled, "Offer permessage-deflate");
  add_log_options(*sub, s.log);
  return sub;
}

status run_connect(const connect_settings &given) {
  auto settings = given;
  if (settings.insecure)
    settings.tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  settings.session.close_timeout = shorter(settings.session.close_timeout, settings);
  start_log(settings.log);
  std::signal(SIGPIPE, SIG_IGN);

  auto outcome = status::failed;
  chorus::runtime rt;
  rt.run(connect_main(rt, settings, outcome));
  return outcome;
}

} // namespace cli
