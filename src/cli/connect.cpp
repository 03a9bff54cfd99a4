#include "connect.hpp"

#include "conversation.hpp"
#include "header_option.hpp"
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
  complain("connect", "no connection to " + without_secrets(s.url) + " within " +
                          to_text(s.timeout) + "; check the address or raise --timeout" +
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
  apply(s.reach, options);
  options.resolve_timeout = shorter(options.resolve_timeout, s);
  options.connect_timeout = shorter(options.connect_timeout, s);
  options.tls_timeout = shorter(options.tls_timeout, s);
  options.upgrade_timeout = shorter(options.upgrade_timeout, s);

  const auto observer = talk->observer();
  options.observer = observer.get();
  auto first = co_await (chorus::connect(s.url, options) || talk->interruption(s.timeout));
  if (first.index() == 1)
    co_return talk->stopped() ? status::ok : too_late(s);
  auto &session = std::get<0>(first);
  if (!session)
    co_return give_up(session.error(), s);
  co_return co_await talk->run(std::make_unique<session_link>(std::move(*session)));
}

chorus::client_options client_settings(const connect_settings &s,
                                       std::shared_ptr<chorus::connect_observer> observer) {
  chorus::client_options options;
  options.urls = {s.url};
  options.headers = s.headers;
  options.subprotocols = s.subprotocols;
  options.session = s.session;
  options.tls = s.tls;
  options.observer = std::move(observer);
  apply(s.reach, options);
  options.outbox_bytes = s.session.queue_bytes;
  // Either the library tells of it or, above the level of its events, this program does.
  if (const auto sink = library_log();
      sink && sink->wants(chorus::log_room::client, chorus::log_level::info)) {
    options.log = sink;
    return options;
  }
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
    link = std::make_unique<client_link>(rt, client_settings(s, talk->observer()));
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

task<> connect_main(chorus::runtime &rt, const connect_settings &s, std::vector<recorded> replay,
                    std::unique_ptr<recorder> record, status &outcome) {
  auto talk = std::make_shared<conversation>(co_await boost::asio::this_coro::executor, s,
                                             std::move(replay), std::move(record));
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
  sub->add_option(
         "URL", s.url,
         "ws://, wss://, ws+unix://PATH:/TARGET, tcp://, tls:// or unix://PATH; HOST:PORT is "
         "tcp://")
      ->required();
  add_header_option(*sub, s.header_lines, s.headers);
  sub->add_option("--subprotocol", s.subprotocols, "Offer a subprotocol; repeatable, best first")
      ->allow_extra_args(false)
      ->type_name("NAME");
  add_trust_options(*sub, s.tls, s.insecure);
  add_reach_options(*sub, s.reach, s.headers, s.tls);
  add_protocol_options(*sub, s.reach);
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
  add_log_options(*sub, s.log,
                  "as warn,client=debug: what becomes of the connections of --reconnect");
  add_color(*sub, s.color);
  sub->add_option("--record", s.record, "Write what is sent and received to FILE, as JSON lines")
      ->type_name("FILE");
  add_size(*sub, "--record-limit", s.record_limit, "End when FILE has grown to this; 0: no bound");
  auto *replay =
      sub->add_option("--replay", s.replay,
                      "Send what --record wrote to FILE, at its times, instead of standard input")
          ->type_name("FILE");
  sub->add_option_function<std::string>(
         "--replay-speed",
         [&s](const std::string &text) {
           const auto speed = parse_factor(text);
           if (!speed)
             throw CLI::ValidationError("--replay-speed", "'" + text +
                                                              "' is no number from 0.001 to 1000, "
                                                              "or 0 for no pauses");
           s.replay_speed = *speed;
         },
         "How many times as fast; 0: without pauses")
      ->needs(replay)
      ->type_name("X")
      ->default_str("1");
  replay->excludes(sub->get_option("--echo"));
  return sub;
}

status run_connect(const connect_settings &given) {
  auto settings = given;
  if (settings.insecure)
    settings.tls.verify = chorus::tls_verify::insecure_accept_any_certificate;
  settings.session.close_timeout = shorter(settings.session.close_timeout, settings);
  start_log(settings.log);
  std::signal(SIGPIPE, SIG_IGN);

  std::vector<recorded> replay;
  if (!settings.replay.empty()) {
    std::string wrong;
    auto read = read_recording(settings.replay, wrong);
    if (!read) {
      complain("connect", "--replay: " + wrong);
      return status::usage;
    }
    replay = *std::move(read);
  }
  std::unique_ptr<recorder> record;
  if (!settings.record.empty()) {
    record = std::make_unique<recorder>(settings.record, settings.record_limit);
    if (!record->error().empty()) {
      complain("connect", "--record: " + record->error());
      return status::usage;
    }
  }

  auto outcome = status::failed;
  chorus::runtime rt;
  auto main = connect_main(rt, settings, std::move(replay), std::move(record), outcome);
  rt.run(std::move(main));
  return outcome;
}

} // namespace cli
