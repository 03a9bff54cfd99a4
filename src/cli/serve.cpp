#include "serve.hpp"

#include "log.hpp"
#include "values.hpp"
#include "web_routes.hpp"

#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <csignal>
#include <cstdio>

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

task<> serve(const serve_settings &settings, chorus::server &srv, status &outcome) {
  // Registered before the ready line: who waits for that line may signal at once.
  boost::asio::signal_set signals(co_await boost::asio::this_coro::executor, SIGINT, SIGTERM);
  const auto up = co_await srv.start();
  if (!up) {
    complain("serve", sentence_of(up.error()));
    outcome = status_of(up.error());
    co_return;
  }
  std::printf("listening on %s\n", srv.url().c_str());
  std::fflush(stdout);
  log()->info("listening on {} with {} thread(s)", srv.url(), settings.threads);

  const int number = co_await signals.async_wait(boost::asio::use_awaitable);
  // A second signal gets the default treatment and ends the program at once.
  signals.clear();
  log()->info("stopping: signal {}, {} session(s) open", number, srv.size());
  // Handlers get up to a second more, so this ends within five; and it is less than the sessions' own
  // close deadline, so that who does not answer is counted here.
  const auto report = co_await srv.stop(4s);
  const auto stats = srv.stats();
  log()->info("stopped: {} session(s) served, {} message(s) received, {} sent, {} dropped, "
              "{} evicted; {} session(s) did not answer the close in time, {} handler(s) cancelled",
              stats.upgraded, stats.messages_received, stats.messages_sent, stats.messages_dropped,
              stats.evicted, report.sessions_aborted, report.handlers_cancelled);
}

} // namespace

CLI::App *add_serve(CLI::App &app, serve_settings &s) {
  auto *sub = app.add_subcommand(
      "serve", "Serve /echo, /broadcast, a chat at / and /dashboard until SIGTERM or SIGINT");
  sub->add_option("--listen", s.listen, "Address: HOST:PORT (port 0: any free one) or unix:PATH")
      ->capture_default_str();
  add_number(*sub, "--threads", s.threads, 0U, 1024U,
             "Threads, each with connections of its own; 0: one per core");
  auto *cert = sub->add_option("--tls-cert", s.tls_cert, "Certificate chain (PEM): serve wss");
  auto *key = sub->add_option("--tls-key", s.tls_key, "Private key of --tls-cert (PEM)");
  cert->needs(key);
  key->needs(cert);
  add_number(*sub, "--max-connections", s.max_connections, std::size_t{0},
             std::size_t{1'000'000'000}, "Sessions at a time; 0: no limit");
  add_size(*sub, "--max-message", s.session.max_message, "Largest message taken from a peer");
  add_heartbeat(*sub, s.session.heartbeat);
  add_overflow(*sub, "--overflow", s.session.on_overflow,
               "When a peer's queue is full: close, drop_oldest, drop_newest, latest, wait");
  add_size(*sub, "--queue-bytes", s.session.queue_bytes, "Bound of each peer's outgoing queue");
  add_switch(*sub, "--compression", s.session.compression.enabled, "permessage-deflate");
  add_log_level(*sub, s.log_level);
  return sub;
}

status run_serve(const serve_settings &given) {
  auto settings = given;
  start_log(settings.log_level);
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);

  chorus::runtime rt{{.threads = settings.threads}};
  settings.threads = rt.size();
  chorus::server_options options;
  options.listen = settings.listen;
  options.tls.certificate_file = settings.tls_cert;
  options.tls.key_file = settings.tls_key;
  options.session = settings.session;
  options.max_connections = settings.max_connections;
  options.on_error = [](std::string_view what, const chorus::session *s) {
    if (s)
      log()->warn("{} (session {} from {})", what, s->id(), s->remote_address());
    else
      log()->warn("{}", what);
  };
  chorus::server srv{rt, std::move(options)};
  srv.route("/echo", echo);
  srv.route("/broadcast", [&srv](chorus::session s, chorus::request) {
    return broadcast(srv.room("broadcast"), std::move(s));
  });
  add_web_routes(srv);

  status outcome = status::ok;
  rt.run(serve(settings, srv, outcome));
  return outcome;
}

} // namespace cli
