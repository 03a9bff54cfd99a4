// Three `chorus serve` nodes and a Redis as processes, and many clients that resume, spread over them. In
// the midst of publishing a node is killed, Redis is killed and comes back with its data, a node is added
// and another one leaves. At the end every client of a room must have had the same messages in the same
// order, each once, with all that was accepted among them; the exit status is 0 only then.

#include "cluster_display.hpp"
#include "cluster_fleet.hpp"
#include "cluster_nodes.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <exception>
#include <optional>
#include <string>

namespace {

using chorus::task;
using namespace cluster_demo;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

struct settings {
  std::uint64_t clients = 1500;
  std::uint64_t rooms = 30;
  std::uint64_t seconds = 30;
  std::uint64_t rate = 150; // messages per second
  std::uint64_t seed = 1;
  bool calm = false;
  bool forget = false;
  fault wrong = fault::none;
  node_settings nodes{};
};

constexpr auto to_arrive = 60s; // for whatever everybody waits for
constexpr auto to_settle = 2s;  // that nothing new comes

// Somebody wants the demo to end, or a process that is needed does not come up.
struct given_up {
  std::string why;
};

class show {
public:
  show(chorus::runtime &rt, const settings &s)
      : runtime_(rt), settings_(s), books_(s.clients, s.rooms, publishers(s)), nodes_(s.nodes) {}
  task<> run();
  int exit_status() const { return exit_status_; }

private:
  static std::size_t publishers(const settings &s) {
    return static_cast<std::size_t>(std::min(s.clients, 2 * s.rooms));
  }
  task<> report();
  task<> listen_for_signals();
  task<> play();
  task<> everybody_connected(const char *when);
  task<> everybody_up_to_date();
  task<> quiet(double part);
  void check() const;
  std::string line();
  void summary();

  chorus::runtime &runtime_;
  const settings settings_;
  account books_;
  cluster nodes_;
  display out_;
  std::optional<fleet> clients_;
  std::atomic<bool> reporting_{true};
  bool report_ended_ = false;
  std::atomic<int> interrupted_{0};
  std::uint64_t deliveries_before_ = 0;
  steady_clock::time_point then_ = steady_clock::now();
  double calm_p50_ = 0;
  double calm_p99_ = 0;
  int exit_status_ = 1;
};

void show::check() const {
  if (interrupted_ != 0)
    throw given_up{"interrupted by signal " + std::to_string(interrupted_)};
}

std::string show::line() {
  const auto now = steady_clock::now();
  const auto deliveries = books_.deliveries();
  const double rate = static_cast<double>(deliveries - deliveries_before_) /
                      std::chrono::duration<double>(now - then_).count();
  deliveries_before_ = deliveries;
  then_ = now;
  const auto open = clients_->connected();
  char text[320];
  std::snprintf(text, sizeof text,
                "%zu/%zu connected  %s  accepted %llu  refused %llu  open %llu  deliveries %llu "
                "(%.0f/s)  behind %zu  reconnects %llu",
                open, books_.clients(), nodes_.state().c_str(),
                static_cast<unsigned long long>(books_.told(outcome::accepted)),
                static_cast<unsigned long long>(books_.told(outcome::refused)),
                static_cast<unsigned long long>(books_.told(outcome::unknown)),
                static_cast<unsigned long long>(deliveries), rate, books_.behind(),
                static_cast<unsigned long long>(clients_->totals().reconnects));
  return text;
}

task<> show::report() {
  int turn = 0;
  while (reporting_) {
    co_await chorus::sleep(500ms);
    // Where lines stay, one every two seconds is enough.
    const bool due = out_.terminal() || ++turn % 4 == 0;
    if (clients_ && reporting_ && due)
      out_.status(line(), clients_->connected() == books_.clients() && books_.behind() == 0);
  }
  report_ended_ = true;
}

task<> show::listen_for_signals() {
  interrupted_ = co_await runtime_.signals();
  co_await runtime_.signals();
  runtime_.stop();
}

// A part of the time in which nothing is done to anybody.
task<> show::quiet(double part) {
  const auto end = steady_clock::now() +
                   std::chrono::duration_cast<steady_clock::duration>(std::chrono::duration<double>(
                       part * static_cast<double>(settings_.seconds)));
  while (steady_clock::now() < end) {
    check();
    co_await chorus::sleep(50ms);
  }
}

task<> show::everybody_connected(const char *when) {
  const auto begin = steady_clock::now();
  while (clients_->connected() < books_.clients()) {
    check();
    if (steady_clock::now() > begin + to_arrive)
      throw given_up{"only " + std::to_string(clients_->connected()) + " of " +
                     std::to_string(books_.clients()) + " clients are connected 60 s after " +
                     when};
    co_await chorus::sleep(20ms);
  }
  out_.event("all are connected");
}

// What nobody has got by the end of this the account will name.
task<> show::everybody_up_to_date() {
  const auto give_up = steady_clock::now() + to_arrive;
  auto deliveries = books_.deliveries();
  auto quiet_since = steady_clock::now();
  while (steady_clock::now() < give_up) {
    check();
    co_await chorus::sleep(50ms);
    const auto now = steady_clock::now();
    if (books_.deliveries() != deliveries || clients_->waiting() != 0 || books_.behind() != 0) {
      deliveries = books_.deliveries();
      quiet_since = now;
    } else if (now > quiet_since + to_settle) {
      co_return;
    }
  }
  out_.event("%zu clients are still behind after 60 s", books_.behind());
}

task<> show::play() {
  co_await nodes_.start_engine();
  for (std::size_t n = 0; n < nodes_.at_first(); ++n)
    co_await nodes_.start(n);
  out_.event("%s; starting %zu clients in %zu rooms, %zu of which publish",
             nodes_.description().c_str(), books_.clients(), books_.rooms(), books_.publishers());
  clients_.emplace(runtime_, books_, nodes_.urls(), nodes_.at_first(), settings_.seed,
                   static_cast<double>(settings_.rate), settings_.wrong);
  co_await everybody_connected("they were started");
  clients_->latencies().begin();
  clients_->publish(true);
  out_.event("publishing about %llu messages a second",
             static_cast<unsigned long long>(settings_.rate));
  co_await quiet(0.2);
  calm_p50_ = clients_->latencies().percentile(0.5);
  calm_p99_ = clients_->latencies().percentile(0.99);

  if (!settings_.calm) {
    nodes_.kill(0);
    out_.event("node 1 is killed (SIGKILL)");
    co_await quiet(0.2);
    co_await everybody_connected("node 1 went");
    nodes_.kill_engine();
    out_.event("%s is killed (SIGKILL)", nodes_.engine_name());
    co_await quiet(0.05);
    if (settings_.forget)
      nodes_.forget();
    co_await nodes_.start_engine();
    out_.event("%s is back, %s its data", nodes_.engine_name(),
               settings_.forget ? "without" : "with");
    co_await quiet(0.2);
    co_await nodes_.start(3);
    out_.event("node 4 is added");
    co_await quiet(0.05);
    out_.event("node 2 leaves (SIGTERM)");
    nodes_.stop(1);
    co_await quiet(0.2);
  } else {
    co_await quiet(0.8);
  }
  clients_->publish(false);
  out_.event("no more is published; waiting for the last ones");
  co_await everybody_connected("the last message");
  co_await everybody_up_to_date();
}

task<> show::run() {
  runtime_.spawn(listen_for_signals());
  runtime_.spawn(report());
  std::string why;
  try {
    co_await play();
  } catch (const given_up &g) {
    why = g.why;
  } catch (const std::exception &e) {
    why = e.what();
  }
  reporting_ = false;
  while (!report_ended_)
    co_await chorus::sleep(10ms);
  if (!why.empty()) {
    std::printf("\n");
    out_.event("given up: %s", why.c_str());
    if (interrupted_ == 0)
      std::printf("%s", nodes_.last_words().c_str());
    nodes_.end();
    co_return;
  }
  out_.event("closing %zu clients, then the nodes", clients_->connected());
  const auto totals = clients_->totals();
  co_await clients_->close();
  co_await nodes_.leave();
  std::printf(
      "\n%llu reconnects, %llu rooms recovered with %llu messages that were missed; %llu came "
      "again and were dropped by the protocol\n",
      static_cast<unsigned long long>(totals.reconnects),
      static_cast<unsigned long long>(totals.rooms_recovered),
      static_cast<unsigned long long>(totals.messages_recovered),
      static_cast<unsigned long long>(totals.messages_doubled));
  summary();
}

void show::summary() {
  const auto v = books_.close();
  const auto row = [](const char *name, std::uint64_t value, const char *note = "") {
    std::printf("  %-38s %10llu  %s\n", name, static_cast<unsigned long long>(value), note);
  };
  std::printf("messages\n");
  row("sent by publishers", v.sent);
  row("accepted", v.accepted);
  row("refused", v.refused, "(nobody may have these)");
  row("without an outcome", v.unknown, "(their connection was lost: all have it or nobody)");
  row("of these delivered", v.unknown_arrived);
  std::printf("deliveries\n");
  row("to be made", v.expected, "(of each room's messages to each of its clients)");
  row("made", v.deliveries);
  std::printf("delivery before anything was killed: p50 %.1f ms, p99 %.1f ms\n", calm_p50_,
              calm_p99_);
  constexpr std::size_t most = 10;
  for (std::size_t i = 0; i < std::min(v.complaints.size(), most); ++i)
    std::printf("  %s\n", v.complaints[i].c_str());
  if (v.complaints.size() > most)
    std::printf("  and %zu more\n", v.complaints.size() - most);
  const bool good = v.good() && v.accepted != 0;
  if (v.accepted == 0)
    std::printf("  no message was accepted\n");
  std::printf("%s%s%s\n", out_.colour(good ? "\x1b[1;32m" : "\x1b[1;31m"),
              good ? "every client has the same sequence: nothing lost, nothing twice"
                   : "THE ACCOUNTS DO NOT BALANCE",
              out_.colour("\x1b[0m"));
  if (!good)
    std::printf("%s", nodes_.last_words().c_str());
  exit_status_ = good ? 0 : 1;
}

void usage() {
  std::fprintf(stderr, "%s", R"(usage: chorus_cluster_demo [OPTION VALUE]...
  --clients 1500  --rooms 30  --seconds 30  --rate 150 (messages per second)  --seed 1
  --redis-server PATH, --chorus PATH    the programs
  --when-away refuse|buffer             what the nodes do with messages while Redis is away
  --calm         nothing is killed
  --alone        one node without Redis, and nothing is killed
  --forget       Redis comes back without its data: the account must say that clients were told so
  --fault drop|twice|swap               of what the first client gets: the account must say so
  --self-check   whether the account finds what it is there for
)");
}

bool parse_words(int argc, char **argv, settings &s, bool &self_check) {
  const struct {
    const char *name;
    std::uint64_t &value;
    std::uint64_t least, most;
  } numbers[] = {{"--clients", s.clients, 2, 100'000},
                 {"--rooms", s.rooms, 1, 10'000},
                 {"--seconds", s.seconds, 1, 3'600},
                 {"--rate", s.rate, 1, 100'000},
                 {"--seed", s.seed, 0, ~std::uint64_t{0}}};
  const std::string_view faults[] = {"", "drop", "twice", "swap"};
  for (int i = 1; i < argc; ++i) {
    const std::string_view word = argv[i];
    if (word == "--calm" || word == "--alone" || word == "--self-check" || word == "--forget") {
      s.calm = s.calm || word == "--calm" || word == "--alone";
      s.forget = s.forget || word == "--forget";
      s.nodes.alone = s.nodes.alone || word == "--alone";
      self_check = self_check || word == "--self-check";
      continue;
    }
    const std::string_view text = ++i < argc ? argv[i] : "";
    if (text.empty())
      return false;
    if (word == "--redis-server") {
      s.nodes.redis_server = text;
    } else if (word == "--chorus") {
      s.nodes.chorus = text;
    } else if (word == "--when-away" && (text == "refuse" || text == "buffer")) {
      s.nodes.when_away = text;
    } else if (const auto *f = std::find(std::begin(faults), std::end(faults), text);
               word == "--fault" && f != std::end(faults)) {
      s.wrong = static_cast<fault>(f - std::begin(faults));
    } else {
      const auto *n = std::find_if(std::begin(numbers), std::end(numbers),
                                   [&](const auto &o) { return word == o.name; });
      const char *end = text.data() + text.size();
      if (n == std::end(numbers) || std::from_chars(text.data(), end, n->value).ptr != end ||
          n->value < n->least || n->value > n->most)
        return false;
    }
  }
  return s.rooms <= s.clients;
}

} // namespace

int main(int argc, char **argv) {
  settings s;
  bool self_check = false;
  if (!parse_words(argc, argv, s, self_check)) {
    usage();
    return 2;
  }
  if (self_check) {
    const auto missed = check_account();
    for (const auto &one : missed)
      std::printf("%s\n", one.c_str());
    std::printf("%s\n",
                missed.empty() ? "the account finds what is wrong" : "THE ACCOUNT IS BLIND");
    return missed.empty() ? 0 : 1;
  }
  std::signal(SIGPIPE, SIG_IGN);
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  try {
    if (const auto why = complete(s.nodes); !why.empty()) {
      std::fprintf(stderr, "chorus_cluster_demo: %s\n", why.c_str());
      return 1;
    }
    chorus::runtime rt{{.threads = 2}};
    show demo(rt, s);
    rt.run(demo.run());
    return demo.exit_status();
  } catch (const std::exception &e) {
    std::fprintf(stderr, "chorus_cluster_demo: %s\n", e.what());
    return 1;
  }
}
