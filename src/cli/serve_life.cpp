#include "serve_life.hpp"

#include "log.hpp"
#include "values.hpp"

#include <chorus/server/inherited.hpp>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <charconv>
#include <csignal>
#include <cstdio>
#include <memory>

namespace cli {

namespace {

namespace asio = boost::asio;
using chorus::task;
using namespace std::chrono_literals;

// What else than a signal may end the waiting for one. All of it happens on one thread.
struct events {
  explicit events(const asio::any_io_executor &executor)
      : signals(executor, SIGINT, SIGTERM, SIGHUP) {}
  asio::signal_set signals;
  bool handed_over = false;
  bool drained = false;
  chorus::drain_report report;
};
using events_ptr = std::shared_ptr<events>;

task<> inherit(std::string path, std::optional<chorus::inheritance> &heritage, bool &failed) {
  auto got = co_await chorus::take_over(path);
  if (got) {
    heritage = std::move(*got);
    co_return;
  }
  // Nobody there to succeed; or one that died meanwhile, and then the address is free.
  failed = got.error() != chorus::error::connect_failed && got.error() != chorus::error::lost;
  if (failed)
    complain("serve", sentence_of(got.error()));
  else
    log()->info("{}; starting afresh", got.error().message());
}

task<> await_successor(events_ptr e, std::shared_ptr<chorus::handover_offer> offer) {
  const auto over = co_await offer->handed_over();
  if (!over)
    co_return; // withdrawn, at the end
  e->handed_over = true;
  e->signals.cancel();
}

task<> drain(events_ptr e, chorus::server &srv, chorus::drain_options how) {
  auto report = co_await srv.drain(how);
  if (report)
    e->report = *report;
  e->drained = true;
  e->signals.cancel();
}

// The number of a signal; 0 when something else has happened.
task<int> next_signal(events_ptr e) {
  boost::system::error_code ec;
  const int number = co_await e->signals.async_wait(asio::redirect_error(asio::use_awaitable, ec));
  co_return ec ? 0 : number;
}

task<> reload(chorus::server &srv) {
  const auto done = co_await srv.reload_tls();
  if (done)
    log()->info("certificates reloaded");
  else
    log()->warn("nothing reloaded: {}", done.error().message());
}

// Until a signal or a successor ends it: the signal's number, 0 for the successor.
task<int> serve_on(events_ptr e, chorus::server &srv) {
  int number = 0;
  while (!e->handed_over) {
    number = co_await next_signal(e);
    if (number == SIGINT || number == SIGTERM)
      break;
    if (number == SIGHUP)
      co_await reload(srv);
    number = 0;
  }
  co_return number;
}

task<std::size_t> leave(events_ptr e, chorus::server &srv, const serve_settings &settings) {
  chorus::drain_options how;
  how.window = settings.drain_window;
  how.per_second = static_cast<double>(settings.drain_rate);
  how.retry_after = settings.retry_after;
  how.stop_deadline = 4s;
  asio::co_spawn(co_await asio::this_coro::executor, drain(e, srv, how), asio::detached);
  while (!e->drained) {
    const int number = co_await next_signal(e);
    if (number == SIGINT || number == SIGTERM) {
      log()->info("stopping at once: signal {}", number);
      co_await srv.stop(500ms);
    }
  }
  std::string pace;
  for (const auto n : e->report.begun)
    pace += ' ' + std::to_string(n);
  log()->info(
      "drained: {} session(s), {} closed, {} left, {} aborted; {} upgrade(s) refused; closes "
      "per second:{}",
      e->report.sessions, e->report.closed, e->report.left, e->report.aborted,
      e->report.upgrades_refused, pace);
  co_return e->report.aborted;
}

void report_end(const chorus::server &srv, std::size_t unanswered, std::size_t cancelled) {
  const auto stats = srv.stats();
  log()->info("stopped: {} session(s) served, {} message(s) received, {} sent, {} dropped, "
              "{} evicted; {} session(s) did not answer the close in time, {} handler(s) cancelled",
              stats.upgraded, stats.messages_received, stats.messages_sent, stats.messages_dropped,
              stats.evicted, unanswered, cancelled);
}

// The library names the member of its options at fault.
std::string naming_the_option(std::string sentence) {
  constexpr std::string_view theirs = "trusted_proxies:";
  if (sentence.starts_with(theirs))
    sentence.replace(0, theirs.size(), "--trusted-proxy:");
  return sentence;
}

// Where a browser finds something: the ready line names what clients connect to.
void tell_pages(const chorus::server &srv) {
  for (const auto &url : srv.urls())
    if (url.starts_with("ws://") || url.starts_with("wss://")) {
      const auto page = "http" + url.substr(2);
      log()->info("for a browser: chat at {}/, live figures at {}/dashboard", page, page);
      return;
    }
}

// False when the program can't go on. A server that has taken over already serves without, rather than
// not at all.
task<bool> offer_handover(events_ptr e, chorus::server &srv, std::string path, bool needed) {
  auto offer = std::make_shared<chorus::handover_offer>(srv, path);
  const auto opened = co_await offer->open();
  if (!opened) {
    if (needed)
      complain("serve", sentence_of(opened.error()));
    else
      log()->warn("nobody can take over: {}", opened.error().message());
    co_return !needed;
  }
  asio::co_spawn(co_await asio::this_coro::executor, await_successor(e, std::move(offer)),
                 asio::detached);
  co_return true;
}

} // namespace

void add_life(CLI::App &command, serve_settings &s) {
  command
      .add_option(
          "--listen", s.listen,
          "Address: HOST:PORT (port 0: any free one), [IPV6]:PORT, :PORT, unix:PATH, fd:N or "
          "inherited (systemd's sockets); may be given several times")
      ->expected(1)
      ->take_all()
      ->allow_extra_args(false)
      ->capture_default_str();
  command.add_flag("--reuse-port", s.reuse_port,
                   "Share the tcp ports with other processes of this user that say so, too");
  command
      .add_option_function<std::string>(
          "--unix-mode",
          [&s](const std::string &text) {
            const auto end = text.data() + text.size();
            const auto parsed = std::from_chars(text.data(), end, s.unix_mode, 8);
            if (parsed.ec != std::errc() || parsed.ptr != end || s.unix_mode == 0 ||
                s.unix_mode > 0777)
              throw CLI::ValidationError("--unix-mode",
                                         "'" + text + "' is no octal mode from 1 to 777; say 660");
          },
          "Mode of socket files, octal")
      ->type_name("MODE");
  auto *ca = command.add_option("--tls-client-ca", s.tls_client_ca,
                                "Authorities (PEM) to verify clients' certificates against");
  command
      .add_option("--tls-client-cert", s.client_certificates,
                  "Under --tls-client-ca: ask clients for a certificate, or require one")
      ->check(CLI::IsMember({"ask", "require"}))
      ->needs(ca)
      ->capture_default_str();
  add_duration(command, "--drain-window", s.drain_window,
               "At SIGTERM or a handover close the sessions evenly over this time; 0: at once");
  add_number(command, "--drain-rate", s.drain_rate, std::size_t{0}, std::size_t{1'000'000},
             "Instead: so many a second, however long that takes; 0: by the window");
  add_duration(command, "--retry-after", s.retry_after,
               "When a client that is closed so should come back");
  command.add_option(
      "--handover", s.handover,
      "Socket file: take the listening sockets over from the process that offers them "
      "there, if any, and offer them there to the next one");
}

bool find_sockets(const serve_settings &settings, chorus::runtime &rt,
                  chorus::server_options &options, std::optional<chorus::inheritance> &heritage,
                  status &outcome) {
  std::vector<std::string> all;
  for (const auto &one : settings.listen) {
    if (one != "inherited") {
      all.push_back(one);
      continue;
    }
    const auto sockets = chorus::inherited_sockets();
    if (!sockets || sockets->empty()) {
      complain("serve", sockets ? "--listen inherited: no listening socket was handed over "
                                  "(LISTEN_FDS); is it started by a socket unit?"
                                : sentence_of(sockets.error()));
      outcome = status::failed;
      return false;
    }
    for (const auto &s : *sockets)
      all.push_back(s.listen);
  }
  if (!settings.handover.empty()) {
    bool failed = false;
    rt.run(inherit(settings.handover, heritage, failed));
    if (failed) {
      outcome = status::failed;
      return false;
    }
    if (heritage)
      all = heritage->listen();
  }
  options.listen = all.front();
  options.also_listen.assign(all.begin() + 1, all.end());
  return true;
}

task<> live(const serve_settings &settings, chorus::server &srv,
            std::optional<chorus::inheritance> heritage, status &outcome) {
  // Registered before the ready line: who waits for that line may signal at once.
  const auto e = std::make_shared<events>(co_await asio::this_coro::executor);
  const auto up = co_await srv.start();
  if (!up) {
    complain("serve", naming_the_option(sentence_of(up.error())));
    outcome = status_of(up.error());
    co_return;
  }
  if (heritage) {
    const auto ours = co_await heritage->ready();
    log()->info("took over from the process at {}{}", settings.handover,
                ours ? "" : ", which has gone: " + ours.error().message());
  }
  if (!settings.handover.empty()) {
    const bool offered = co_await offer_handover(e, srv, settings.handover, !heritage);
    if (!offered) {
      outcome = status::failed;
      co_await srv.stop(1s);
      co_return;
    }
  }
  std::string urls;
  for (const auto &url : srv.urls())
    urls += ' ' + url;
  std::printf("listening on%s\n", urls.c_str());
  std::fflush(stdout);
  log()->info("listening on{} with {} thread(s)", urls, settings.threads);
  tell_pages(srv);

  const int number = co_await serve_on(e, srv);
  if (number == 0)
    log()->info("handed over: {} session(s) open", srv.size());
  else
    log()->info("stopping: signal {}, {} session(s) open", number, srv.size());
  if (number != SIGINT) {
    const auto unanswered = co_await leave(e, srv, settings);
    report_end(srv, unanswered, e->report.handlers_cancelled);
    co_return;
  }
  // A second signal gets the default treatment and ends the program at once.
  e->signals.clear();
  // Handlers get up to a second more, so this ends within five; and it is less than the sessions' own
  // close deadline, so that who does not answer is counted here.
  const auto report = co_await srv.stop(4s);
  report_end(srv, report.sessions_aborted, report.handlers_cancelled);
}

} // namespace cli
