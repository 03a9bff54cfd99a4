// Three `chorus serve` nodes and a Redis as processes, and many clients that resume, spread over them. In
// the midst of publishing a node is killed, Redis is killed and comes back with its data, a node is added
// and another one leaves. At the end every client of a room must have had the same messages in the same
// order, each once, with all that was accepted among them; after each of these events all rooms must have
// gone on, and no process may have ended by itself. The exit status is 0 only then.

#include "cluster_display.hpp"
#include "cluster_fleet.hpp"
#include "cluster_nodes.hpp"
#include "cluster_options.hpp"
#include "cluster_readers.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdio>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

namespace {

using chorus::task;
using namespace cluster_demo;
using std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto to_settle = 2s; // that nothing new comes

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
    return static_cast<std::size_t>(std::min(s.clients, 3 * s.rooms));
  }
  task<> report();
  task<> listen_for_signals();
  task<> play();
  task<> faults();
  task<> everybody_connected(const char *when);
  task<> everybody_up_to_date();
  // What is published from now on is accepted, and comes to somebody, in all rooms.
  task<> all_rooms_go_on(const char *when);
  task<> quiet(double part);
  void publishers_everywhere(std::initializer_list<std::size_t> nodes) const;
  void check();
  std::string line();
  void summary();

  chorus::runtime &runtime_;
  const settings settings_;
  account books_;
  cluster nodes_;
  display out_;
  std::optional<fleet> clients_;
  std::optional<readers> readers_;
  std::vector<std::string> wrong_; // what is not in the account
  std::atomic<bool> reporting_{true};
  bool report_ended_ = false;
  std::atomic<int> interrupted_{0};
  std::uint64_t deliveries_before_ = 0;
  steady_clock::time_point then_ = steady_clock::now();
  double calm_p50_ = 0;
  double calm_p99_ = 0;
  int exit_status_ = 1;
};

void show::check() {
  if (interrupted_ != 0)
    throw given_up{"interrupted by signal " + std::to_string(interrupted_)};
  nodes_.check();
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
  const auto give_up = steady_clock::now() + std::chrono::seconds(settings_.patience);
  while (clients_->connected() < books_.clients() || readers_->connected() < books_.rooms()) {
    check();
    if (steady_clock::now() > give_up)
      throw given_up{"only " + std::to_string(clients_->connected()) + " of " +
                     std::to_string(books_.clients()) + " clients, and " +
                     std::to_string(readers_->connected()) + " of " +
                     std::to_string(books_.rooms()) + " plain readers, are connected " +
                     std::to_string(settings_.patience) + " s after " + when};
    co_await chorus::sleep(20ms);
  }
  out_.event("all are connected");
}

task<> show::all_rooms_go_on(const char *when) {
  // Beyond the patience for what hangs, as long as a publisher may pause between two messages.
  const auto pause = std::chrono::seconds(2 * books_.publishers() / settings_.rate + 1);
  const auto give_up = steady_clock::now() + std::chrono::seconds(settings_.patience) + pause;
  books_.begin_stage();
  for (auto idle = books_.idle_room(); idle < books_.rooms(); idle = books_.idle_room()) {
    check();
    if (steady_clock::now() > give_up)
      throw given_up{"room r" + std::to_string(idle) + " has not gone on " +
                     std::to_string(settings_.patience) + " s after " + when};
    co_await chorus::sleep(20ms);
  }
  out_.event("all rooms go on");
}

// Without publishers there a node would have nothing to do with what becomes of messages.
void show::publishers_everywhere(std::initializer_list<std::size_t> nodes) const {
  if (books_.publishers() < 3 * books_.rooms() || books_.rooms() < 2)
    return;
  for (const auto n : nodes)
    if (clients_->at(nodes_.address(n)).publishers == 0)
      throw given_up{"nobody publishes at node " + std::to_string(n + 1)};
}

// What nobody has got by the end of this the account will name.
task<> show::everybody_up_to_date() {
  const auto give_up = steady_clock::now() + std::chrono::seconds(settings_.patience);
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
  wrong_.push_back(std::to_string(books_.behind()) + " clients were behind, and " +
                   std::to_string(clients_->waiting()) + " publishers waited, " +
                   std::to_string(settings_.patience) + " s after the last message");
}

task<> show::play() {
  co_await nodes_.start_engine();
  for (std::size_t n = 0; n < nodes_.at_first(); ++n)
    co_await nodes_.start(n);
  out_.event("%s; starting %zu clients in %zu rooms, %zu of which publish",
             nodes_.description().c_str(), books_.clients(), books_.rooms(), books_.publishers());
  clients_.emplace(runtime_, books_, nodes_.urls(), nodes_.at_first(), settings_.seed,
                   static_cast<double>(settings_.rate), settings_.wrong);
  // The last one of these is neither killed nor told to leave.
  readers_.emplace(runtime_, books_, nodes_.urls()[nodes_.at_first() - 1],
                   settings_.wrong == fault::echo);
  co_await everybody_connected("they were started");
  clients_->latencies().begin();
  clients_->publish(true);
  out_.event("publishing about %llu messages a second",
             static_cast<unsigned long long>(settings_.rate));
  co_await all_rooms_go_on("the first message");
  co_await quiet(0.2);
  calm_p50_ = clients_->latencies().percentile(0.5);
  calm_p99_ = clients_->latencies().percentile(0.99);

  if (settings_.wrong == fault::crash)
    nodes_.crash(nodes_.at_first() - 1);
  if (settings_.calm)
    co_await quiet(0.8);
  else
    co_await faults();
  clients_->publish(false);
  out_.event("no more is published; waiting for the last ones");
  co_await everybody_connected("the last message");
  co_await everybody_up_to_date();
}

task<> show::faults() {
  nodes_.kill(0);
  out_.event("node 1 is killed (SIGKILL)");
  co_await all_rooms_go_on("node 1 was killed");
  co_await quiet(0.2);
  co_await everybody_connected("node 1 was killed");
  publishers_everywhere({1, 2});
  nodes_.kill_engine();
  out_.event("%s is killed (SIGKILL)", nodes_.engine_name());
  co_await quiet(0.05);
  if (settings_.forget) {
    nodes_.forget();
    books_.lose();
  }
  if (settings_.wrong != fault::away) {
    co_await nodes_.start_engine();
    out_.event("%s is back, %s its data", nodes_.engine_name(),
               settings_.forget ? "without" : "with");
  }
  co_await all_rooms_go_on("Redis was killed");
  co_await quiet(0.2);
  co_await nodes_.start(3);
  out_.event("node 4 is added");
  co_await all_rooms_go_on("node 4 was added");
  co_await quiet(0.05);
  nodes_.stop(1);
  out_.event("node 2 leaves (SIGTERM)");
  co_await all_rooms_go_on("node 2 left");
  co_await quiet(0.2);
  co_await everybody_connected("node 2 left");
  publishers_everywhere({2, 3});
  // It comes next in the lists of those who began at node 2.
  if (books_.clients() > books_.rooms() && clients_->at(nodes_.address(3)).clients == 0)
    throw given_up{"nobody has come to node 4"};
  co_await all_rooms_go_on("node 4 had clients");
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
  co_await readers_->close();
  for (auto &what : co_await nodes_.leave())
    wrong_.push_back(std::move(what));
  if (totals.messages_doubled != 0)
    wrong_.push_back(std::to_string(totals.messages_doubled) + " messages came twice to clients");
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
  auto v = books_.close();
  v.complaints.insert(v.complaints.begin(), wrong_.begin(), wrong_.end());
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
  row("to plain readers", v.overheard, "(none twice)");
  if (settings_.forget)
    row("clients that were told of the loss", v.told);
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
              !good ? "THE ACCOUNTS DO NOT BALANCE"
              : settings_.forget
                  ? "every client was told of the loss, and has the same sequence since"
                  : "every client has the same sequence: nothing lost, nothing twice",
              out_.colour("\x1b[0m"));
  if (!good)
    std::printf("%s", nodes_.last_words().c_str());
  exit_status_ = good ? 0 : 1;
}

} // namespace

int main(int argc, char **argv) {
  settings s;
  if (!parse_words(argc, argv, s)) {
    usage();
    return 2;
  }
  if (s.self_check) {
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
