// A server and many reconnecting clients over loopback, in one process. A publisher broadcasts numbered
// messages at a steady rate; in the middle the server is cut off without warning, with messages under
// way (or with --orderly stopped), and another one takes its port. At the end every number must be
// accounted for at every client; the exit status is 0 only then.

#include "demo_fleet.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>

namespace {

using chorus::task;
using demo::fleet;
using demo::ledger;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

struct settings {
  std::uint64_t clients = 1000;
  std::uint64_t seconds = 10;
  std::uint64_t rate = 25; // messages per second
  std::uint64_t seed = 1;
  bool orderly = false;
};

// Messages that are on their way to everybody when the server is cut off.
constexpr int under_way = 10;

// What happens now, and a status line every half second: rewritten on a terminal, plain elsewhere.
class display {
public:
  void event(const char *format, ...) __attribute__((format(printf, 2, 3)));
  void status(const std::string &line);
  const char *colour(const char *code) const { return terminal_ ? code : ""; }
  double elapsed() const {
    return std::chrono::duration<double>(steady_clock::now() - begin_).count();
  }

private:
  const bool terminal_ = ::isatty(STDOUT_FILENO) == 1;
  const steady_clock::time_point begin_ = steady_clock::now();
};

void display::event(const char *format, ...) {
  std::printf("%s%s%6.2f s  ", terminal_ ? "\r\x1b[K" : "", colour("\x1b[1m"), elapsed());
  va_list arguments;
  va_start(arguments, format);
  std::vprintf(format, arguments);
  va_end(arguments);
  std::printf("%s\n", colour("\x1b[0m"));
  std::fflush(stdout);
}

void display::status(const std::string &line) {
  if (terminal_)
    std::printf("\r%6.2f s  %s\x1b[K", elapsed(), line.c_str());
  else
    std::printf("%6.2f s  %s\n", elapsed(), line.c_str());
  std::fflush(stdout);
}

// Whatever way a handler ends, its session is written down.
class seat_in_book {
public:
  seat_in_book(ledger &book, std::size_t client, unsigned server, chorus::session s)
      : book_(book), client_(client), session_(std::move(s)),
        place_(book.sit_down(client, server)) {}
  ~seat_in_book() { book_.stand_up(client_, place_, session_.stats()); }
  seat_in_book(const seat_in_book &) = delete;
  seat_in_book &operator=(const seat_in_book &) = delete;

private:
  ledger &book_;
  std::size_t client_;
  chorus::session session_;
  std::size_t place_;
};

std::uint64_t number_in(std::string_view text) {
  std::uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value);
  return value;
}

task<> live(ledger &book, unsigned server, chorus::room room, chorus::session s, std::size_t id) {
  const auto seat = co_await room.join(s);
  if (!seat || id >= book.clients())
    co_return;
  const seat_in_book booked(book, id, server, s);
  while (const auto m = co_await s.receive())
    book.upstream(id, number_in(m->text()));
}

std::unique_ptr<chorus::server> make_server(chorus::runtime &rt, ledger &book, std::uint16_t port,
                                            unsigned number) {
  chorus::server_options options;
  options.listen = "127.0.0.1:" + std::to_string(port);
  // A client that reads too slowly loses the oldest messages instead of its connection.
  options.session.on_overflow = chorus::overflow::drop_oldest;
  options.session.queue_bytes = 256 * 1024;
  options.session.heartbeat.ping_interval = 500ms; // what was sent before an answered ping arrived
  auto srv = std::make_unique<chorus::server>(rt, std::move(options));
  srv->route("/live/{room}", [&book, &srv = *srv, number](chorus::session s, chorus::request r) {
    return live(book, number, srv.room(r.param("room")), std::move(s),
                number_in(r.query_param("id")));
  });
  return srv;
}

class show {
public:
  show(chorus::runtime &rt, const settings &s) : runtime_(rt), settings_(s), book_(s.clients) {}
  task<> run();
  int exit_status() const { return exit_status_; }

private:
  task<> report();
  task<> publish_until(steady_clock::time_point end);
  void publish(bool last = false);
  task<bool> wait_for_all(unsigned server, std::chrono::seconds patience);
  task<> stop_in_order();
  task<> cut_off();
  task<> restart();
  void summary(const demo::totals &t, bool all_back, bool all_finished);

  chorus::runtime &runtime_;
  const settings settings_;
  ledger book_;
  display out_;
  std::unique_ptr<chorus::server> server_;
  unsigned server_number_ = 0; // 0: down
  std::uint16_t port_ = 0;
  std::optional<fleet> clients_;
  std::atomic<bool> reporting_{true};
  bool report_ended_ = false;
  steady_clock::time_point next_{};
  double downtime_ = 0;
  double back_after_ = 0;
  std::size_t lost_connections_ = 0;
  int exit_status_ = 1;
};

task<> show::report() {
  std::uint64_t before = 0;
  auto then = steady_clock::now();
  while (reporting_) {
    co_await chorus::sleep(500ms);
    const auto now = steady_clock::now();
    const auto deliveries = book_.deliveries();
    const double rate = static_cast<double>(deliveries - before) /
                        std::chrono::duration<double>(now - then).count();
    before = deliveries;
    then = now;
    if (!clients_ || !reporting_)
      continue;
    char line[240];
    std::snprintf(line, sizeof line,
                  "%s%zu/%zu connected%s  published %llu  deliveries %llu (%.0f/s)  reconnects %llu"
                  "  round trip %.2f ms",
                  out_.colour(clients_->connected() == book_.clients() ? "\x1b[32m" : "\x1b[33m"),
                  clients_->connected(), book_.clients(), out_.colour("\x1b[0m"),
                  static_cast<unsigned long long>(book_.published()),
                  static_cast<unsigned long long>(deliveries), rate,
                  static_cast<unsigned long long>(clients_->reconnects()),
                  clients_->round_trips().recent(0.5));
    out_.status(line);
  }
  report_ended_ = true;
}

void show::publish(bool last) {
  const auto number = book_.publish(server_number_);
  if (server_number_ != 0)
    server_->room("news").publish(demo::make_news(number, last));
}

task<> show::publish_until(steady_clock::time_point end) {
  const std::chrono::nanoseconds pace = 1'000'000'000ns / settings_.rate;
  next_ = std::max(next_, steady_clock::now());
  while (next_ < end) {
    if (const auto left = next_ - steady_clock::now(); left > 0ns)
      co_await chorus::sleep(left);
    publish();
    next_ += pace;
  }
}

// Publishing goes on meanwhile, if there is anything to publish to.
task<bool> show::wait_for_all(unsigned server, std::chrono::seconds patience) {
  const auto give_up = steady_clock::now() + patience;
  while (book_.joined(server) < book_.clients()) {
    if (steady_clock::now() > give_up)
      co_return false;
    if (server == 1)
      co_await chorus::sleep(10ms);
    else
      co_await publish_until(steady_clock::now() + 10ms);
  }
  co_return true;
}

task<> show::stop_in_order() {
  // The last one of this server waits until every copy is with the kernel.
  const auto number = book_.publish(server_number_);
  const auto gathered =
      co_await server_->room("news").broadcast(demo::make_news(number, false), {.deadline = 5s});
  out_.event("number %llu: %zu delivered, %zu dropped, %zu failed, %zu pending",
             static_cast<unsigned long long>(number), gathered.delivered, gathered.dropped,
             gathered.failed, gathered.pending);
  book_.pause(true);
  lost_connections_ = server_->size();
  out_.event("stopping the server under %zu connections", lost_connections_);
  const auto stopped = co_await server_->stop(2s);
  out_.event("stopped (%zu aborted); publishing goes on without a server",
             stopped.sessions_aborted);
  book_.pause(false);
}

// As if the server's host had died: its connections are reset while it has messages to send.
task<> show::cut_off() {
  const auto sessions = co_await server_->sessions();
  lost_connections_ = sessions.size();
  book_.cut(server_number_);
  for (int i = 0; i < under_way; ++i)
    publish();
  for (auto s : sessions)
    s.abort();
  out_.event("cut off %zu connections with %d messages under way; publishing goes on",
             lost_connections_, under_way);
  co_await server_->stop(0ms); // there is nothing left but the listeners
}

task<> show::restart() {
  const auto cut = steady_clock::now();
  if (settings_.orderly)
    co_await stop_in_order();
  else
    co_await cut_off();
  server_.reset();
  server_number_ = 0;
  co_await publish_until(steady_clock::now() +
                         std::min<std::chrono::milliseconds>(1s, 100ms * settings_.seconds));
  server_ = make_server(runtime_, book_, port_, 2);
  (co_await server_->start()).value();
  server_number_ = 2;
  downtime_ = std::chrono::duration<double>(steady_clock::now() - cut).count();
  out_.event("restarted on port %u", unsigned{server_->port()});
}

task<> show::run() {
  server_ = make_server(runtime_, book_, 0, 1);
  (co_await server_->start()).value();
  server_number_ = 1;
  port_ = server_->port();
  out_.event("serving %s, starting %zu clients", server_->url().c_str(), book_.clients());
  clients_.emplace(runtime_, book_, port_, settings_.seed);
  runtime_.spawn(report());
  if (!co_await wait_for_all(1, 30s))
    out_.event("only %zu clients came within 30 s", book_.joined(1));
  else
    out_.event("all are there; publishing %llu messages a second",
               static_cast<unsigned long long>(settings_.rate));

  const auto begin = steady_clock::now();
  const auto length = std::chrono::seconds(settings_.seconds);
  co_await publish_until(begin + length / 2);
  co_await restart();
  const auto restarted = steady_clock::now();
  const bool all_back = co_await wait_for_all(2, 30s);
  back_after_ = std::chrono::duration<double>(steady_clock::now() - restarted).count();
  if (all_back)
    out_.event("the last client was back %.2f s after the restart", back_after_);
  else
    out_.event("%zu clients are not back after 30 s", book_.clients() - book_.joined(2));
  co_await publish_until(begin + length);

  clients_->stop_talking();
  publish(true);
  book_.pause(true);
  for (int i = 0; i < 500 && clients_->finished() < book_.clients(); ++i)
    co_await chorus::sleep(10ms);
  const bool all_finished = clients_->finished() == book_.clients();
  out_.event("closing %zu clients, then the server", clients_->connected());
  reporting_ = false;
  co_await clients_->close();
  co_await server_->stop(5s);
  while (!report_ended_)
    co_await chorus::sleep(10ms);
  summary(book_.close_books(), all_back, all_finished);
}

void show::summary(const demo::totals &t, bool all_back, bool all_finished) {
  const auto row = [](const char *name, std::uint64_t value, const char *note = "") {
    std::printf("  %-38s %10llu  %s\n", name, static_cast<unsigned long long>(value), note);
  };
  const auto expected = book_.published() * book_.clients();
  std::printf("\n%llu messages published x %zu clients\n",
              static_cast<unsigned long long>(book_.published()), book_.clients());
  row("delivered, in order, once", t.delivered);
  row("dropped by policy", t.dropped, "(the oldest of a full queue)");
  row("published while the server was down", t.server_down);
  row("published before that client was back", t.not_yet_back);
  row("unconfirmed at the cut", t.unconfirmed, "(under way when the connection ended)");
  row("sum", t.sum(), t.sum() == expected ? "= published x clients" : "DOES NOT BALANCE");
  std::printf("messages from the clients to the server\n");
  row("accepted by the clients", t.up_accepted);
  row("received by the server", t.up_received);
  row("dropped by a client's outbox", t.up_dropped);
  row("lost at the cut", t.up_lost);
  row("unconfirmed, say the clients", t.up_unconfirmed, "(those lost are among them)");

  auto &trips = clients_->round_trips();
  auto &latencies = clients_->latencies();
  std::printf("down for %.2f s, %zu connections cut, %llu reconnects; the last client was back "
              "%.2f s after the restart\n",
              downtime_, lost_connections_, static_cast<unsigned long long>(clients_->reconnects()),
              back_after_);
  std::printf("round trip   p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms (%zu pings)\n",
              trips.percentile(0.5), trips.percentile(0.99), trips.percentile(0.999), trips.size());
  std::printf("delivery     p50 %.2f ms, p99 %.2f ms, p99.9 %.2f ms\n", latencies.percentile(0.5),
              latencies.percentile(0.99), latencies.percentile(0.999));
  const auto left_behind = book_.clients() - book_.joined(2);
  std::printf("clients left behind: %zu\n", left_behind);

  for (std::size_t i = 0; i < std::min<std::size_t>(t.complaints.size(), 10); ++i)
    std::printf("  %s\n", t.complaints[i].c_str());
  if (t.complaints.size() > 10)
    std::printf("  and %zu more\n", t.complaints.size() - 10);
  if (!all_finished)
    std::printf("  some clients did not get the last message\n");
  const bool good = t.complaints.empty() && all_back && all_finished && t.sum() == expected;
  std::printf("%s%s%s\n", out_.colour(good ? "\x1b[1;32m" : "\x1b[1;31m"),
              good ? "every message is accounted for" : "THE ACCOUNTS DO NOT BALANCE",
              out_.colour("\x1b[0m"));
  exit_status_ = good ? 0 : 1;
}

bool parse(int argc, char **argv, settings &s) {
  const struct {
    const char *name;
    std::uint64_t &value;
    std::uint64_t least, most;
  } options[] = {{"--clients", s.clients, 1, 1'000'000},
                 {"--seconds", s.seconds, 1, 86'400},
                 {"--rate", s.rate, 1, 100'000},
                 {"--seed", s.seed, 0, ~std::uint64_t{0}}};
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--orderly") == 0) {
      s.orderly = true;
      continue;
    }
    const auto *option = std::find_if(std::begin(options), std::end(options), [&](const auto &o) {
      return std::strcmp(o.name, argv[i]) == 0;
    });
    const char *text = ++i < argc ? argv[i] : "";
    const char *end = text + std::strlen(text);
    if (option == std::end(options) || text == end ||
        std::from_chars(text, end, option->value).ptr != end || option->value < option->least ||
        option->value > option->most) {
      std::fprintf(stderr, "usage: chorus_demo [--clients N] [--seconds N] [--rate MESSAGES/S] "
                           "[--seed N] [--orderly]\n");
      return false;
    }
  }
  return true;
}

} // namespace

int main(int argc, char **argv) {
  settings s;
  if (!parse(argc, argv, s))
    return 2;
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  try {
    chorus::runtime rt{{.threads = 2}};
    show demo(rt, s);
    rt.run(demo.run());
    return demo.exit_status();
  } catch (const std::exception &e) {
    std::fprintf(stderr, "chorus_demo: %s\n", e.what());
    return 1;
  }
}
