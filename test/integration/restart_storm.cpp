// Clients behind a server that is killed again and again: restart_storm CLIENTS KILLS
//
// The server is a process of its own (this program, called with "serve") that gets SIGKILL while all are
// talking and comes back on the same port. It closes nothing, says nothing and takes its rooms' histories
// with it; what it did is in memory that the two processes share, so that it can be compared with what
// the clients know. Between the kills it cuts off clients of its own accord, so that there is something
// to resume, too.
//
// Half of the clients are plain: numbered messages each way, every one answered. The other half are in
// rooms with history under the resume protocol. All send; in the end
//   - everybody is back,
//   - no message arrived twice or out of order, in either direction,
//   - what clients sent and the server did not get is within what they count as unconfirmed,
//   - whoever was in a room has seen its messages without a gap for as long as one server lived, those
//     of the last server to the very last, and was told whenever a server had taken history with it,
//   - the first attempts after a loss are spread over the time that the backoff gives them.

#include "support/server_process.hpp"

#include <chorus/client/client_group.hpp>
#include <chorus/server/server.hpp>

#include <netinet/in.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace {

using chorus::task;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

constexpr std::size_t max_clients = 1000;
constexpr std::size_t max_lives = 64;
constexpr std::size_t max_messages = 32 * 1024; // of one client
constexpr std::size_t room_size = 25;
constexpr auto first_delay = 500ms; // of the backoff

[[noreturn]] void fail(const std::string &what) {
  std::printf("restart_storm: %s\n", what.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

std::uint64_t number_in(std::string_view text) {
  std::uint64_t n = 0;
  std::from_chars(text.data(), text.data() + text.size(), n);
  return n;
}

// What outlives a killed server. All zeroes at first.
struct account {
  struct of_client {
    std::atomic<std::uint64_t> received; // messages, each number once
    std::atomic<std::uint64_t> doubled;  // numbers that had come before
    std::atomic<std::uint64_t> disorder; // within one connection
    std::atomic<std::uint64_t> answered; // numbers its messages from the server count by
    std::array<std::atomic<std::uint64_t>, max_messages / 64> seen;
  };
  std::array<of_client, max_clients> clients;
  // Published by each server to each room.
  std::array<std::array<std::atomic<std::uint64_t>, max_clients / room_size>, max_lives> published;
  std::atomic<std::uint64_t> cut_off;
  std::atomic<bool> calm;   // wanted: nobody else is to be cut off
  std::atomic<bool> calmed; // nobody else will be
};
static_assert(std::atomic<std::uint64_t>::is_always_lock_free);

account &map_account(int fd) {
  void *const at = ::mmap(nullptr, sizeof(account), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (at == MAP_FAILED)
    fail("can't share memory");
  return *static_cast<account *>(at);
}

// --- the server ---------------------------------------------------------------------------------------

void note(account::of_client &c, std::uint64_t number, std::uint64_t &last) {
  if (number >= max_messages)
    fail("more messages than are counted");
  if (number <= last)
    ++c.disorder;
  last = number;
  const auto bit = std::uint64_t{1} << (number % 64);
  if ((c.seen[number / 64].fetch_or(bit) & bit) != 0)
    ++c.doubled;
  else
    ++c.received;
}

task<> talk(account &shared, chorus::session s, chorus::request r) {
  auto &me = shared.clients[number_in(r.param("client"))];
  std::uint64_t last = 0;
  while (auto m = co_await s.receive()) {
    note(me, number_in(m->text()), last);
    co_await s.send(std::to_string(++me.answered));
  }
}

task<> chat(chorus::server &srv, account &shared, std::size_t life, chorus::session s,
            chorus::request r) {
  const auto client = number_in(r.param("client"));
  auto &me = shared.clients[client];
  const auto room = client / room_size;
  auto seat = co_await srv.room(std::to_string(room)).join(s, {.history = SIZE_MAX});
  std::uint64_t last = 0;
  while (auto m = co_await s.receive()) {
    note(me, number_in(m->text()), last);
    if (seat) {
      ++shared.published[life][room];
      seat->publish(*m);
    }
  }
}

task<> cut_off(chorus::server &srv, account &shared, std::size_t clients) {
  std::mt19937 random(static_cast<unsigned>(::getpid()));
  while (!shared.calm) {
    co_await chorus::sleep(50ms); // the pace
    const auto all = co_await srv.sessions();
    for (std::size_t i = 0; i < clients / 200 + 1 && !all.empty(); ++i, ++shared.cut_off) {
      auto victim = all[random() % all.size()];
      victim.abort();
    }
  }
  shared.calmed = true;
}

int serve(const char *port, int fd, std::size_t life, std::size_t clients) {
  // Ends with the one that started it, and in any case.
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::alarm(300);
  auto &shared = map_account(fd);
  chorus::runtime rt{{.threads = 2}};
  chorus::server_options options;
  options.listen = std::string("127.0.0.1:") + port;
  options.rooms = [](std::string_view) {
    chorus::room_options room;
    room.history_messages = 1'000'000;
    room.history_bytes = std::size_t{256} << 20;
    return room;
  };
  options.max_handshakes = 4096;
  chorus::server srv(rt, std::move(options));
  srv.route("/plain/{client}", [&](chorus::session s, chorus::request r) {
    return talk(shared, std::move(s), std::move(r));
  });
  srv.route("/room/{client}", [&](chorus::session s, chorus::request r) {
    return chat(srv, shared, life, std::move(s), std::move(r));
  });
  auto work = [&]() -> task<> {
    if (auto up = co_await srv.start(); !up)
      fail("the server can't start: " + up.error().message());
    co_await cut_off(srv, shared, clients);
    co_await rt.signals(); // until it is killed
  };
  rt.run(work());
  return 1;
}

// The process, killed at the latest when this goes.
class process {
public:
  process(std::uint16_t port, int fd, std::size_t life, std::size_t clients) {
    std::array<std::string, 6> words{"restart_storm",      "serve",
                                     std::to_string(port), std::to_string(fd),
                                     std::to_string(life), std::to_string(clients)};
    std::vector<char *> argv;
    for (auto &w : words)
      argv.push_back(w.data());
    argv.push_back(nullptr);
    pid_ = ::fork();
    if (pid_ < 0)
      fail("can't fork");
    if (pid_ == 0) {
      ::execv("/proc/self/exe", argv.data());
      ::_exit(127);
    }
  }
  ~process() { kill(); }
  process(const process &) = delete;
  process &operator=(const process &) = delete;

  void kill() {
    if (pid_ < 0)
      return;
    int status = 0;
    const auto pid = std::exchange(pid_, -1);
    ::kill(pid, SIGKILL);
    ::waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
      fail("a server ended by itself, with " + std::to_string(status));
  }

private:
  pid_t pid_ = -1;
};

// --- the clients --------------------------------------------------------------------------------------

// When attempts come after a kill: the first of each client, and all. And how long after its own loss
// each client made its first.
class attempts {
public:
  static constexpr std::size_t bins = 40;
  static constexpr auto width = 50ms;

  void killed() {
    since_ = steady::now();
    ++kill_;
  }
  void add(std::size_t &last_kill, steady::time_point lost_at) {
    if (lost_at != steady::time_point())
      ++(steady::now() - lost_at < first_delay / 2 ? early_ : late_);
    if (kill_ == 0)
      return;
    const auto bin = std::min(static_cast<std::size_t>((steady::now() - since_) / width), bins - 1);
    ++all_[bin];
    if (std::exchange(last_kill, kill_) != kill_)
      ++first_[bin];
  }
  void print() const {
    std::printf("attempts by the time since the kill (# first, + further; a column is %zu)\n",
                std::max<std::size_t>(1, *std::max_element(all_.begin(), all_.end()) / 60));
    const auto unit = std::max<std::size_t>(1, *std::max_element(all_.begin(), all_.end()) / 60);
    for (std::size_t i = 0; i < bins; ++i)
      if (all_[i] != 0)
        std::printf("%5lld ms %s%6zu %s%s\n", static_cast<long long>(i * width / 1ms),
                    i + 1 == bins ? "+" : " ", all_[i], std::string(first_[i] / unit, '#').c_str(),
                    std::string((all_[i] - first_[i]) / unit, '+').c_str());
  }
  // In percent; half of them, if nothing delays them but the backoff.
  std::size_t early() const { return 100 * early_ / std::max<std::size_t>(1, early_ + late_); }

private:
  steady::time_point since_;
  std::size_t kill_ = 0;
  std::array<std::size_t, bins> all_{};
  std::array<std::size_t, bins> first_{};
  std::size_t early_ = 0;
  std::size_t late_ = 0;
};

struct user {
  std::size_t number = 0;
  bool plain = false;
  std::size_t last_kill = 0;
  steady::time_point lost_at{}; // of a connection, until the next attempt
  std::uint64_t said = 0;
  std::uint64_t heard = 0; // messages
  std::uint64_t last = 0;  // plain: the number of the last
  std::string epoch;       // of the room, and the last offset in it
  std::uint64_t offset = 0;
  std::uint64_t epochs = 0; // seen
  std::uint64_t lost = 0;   // told so often that the history is gone
  std::uint64_t recovered = 0;
  bool over = false;
};

using crowd = std::vector<std::unique_ptr<user>>;

void hear(user &u, const chorus::placed_message &m) {
  ++u.heard;
  const auto who = "client " + std::to_string(u.number);
  if (u.plain) {
    const auto n = number_in(m.content.text());
    if (n <= u.last)
      fail(who + " got answer " + std::to_string(n) + " after " + std::to_string(u.last));
    u.last = n;
    return;
  }
  if (m.epoch != u.epoch) {
    if (++u.epochs > u.lost + 1)
      fail(who + " was not told that the history is gone");
    u.epoch = m.epoch;
    u.offset = 0;
  }
  if (m.offset != u.offset + 1)
    fail(who + " got offset " + std::to_string(m.offset) + " after " + std::to_string(u.offset));
  u.offset = m.offset;
}

task<> listen(std::shared_ptr<chorus::client> line, user &u) {
  for (;;) {
    auto m = co_await line->receive_placed();
    if (!m)
      break;
    hear(u, *m);
  }
  u.over = true;
}

chorus::client_options options_of(user &u, const std::string &url, attempts &when) {
  chorus::client_options o;
  o.urls = {url + (u.plain ? "/plain/" : "/room/") + std::to_string(u.number)};
  o.backoff.initial = first_delay;
  o.backoff.cap = 1s;
  o.session.heartbeat.ping_interval = 200ms; // confirms
  o.proven_after = 100ms;
  o.on_state = [&u, &when](chorus::client_state s) {
    if (s == chorus::client_state::connecting)
      when.add(u.last_kill, std::exchange(u.lost_at, {}));
  };
  o.on_disconnect = [&u](const chorus::failure &) { u.lost_at = steady::now(); };
  if (!u.plain) {
    o.resume = chorus::resume_mode::require;
    o.on_recovery = [&u](const chorus::recovery &r) {
      if (!r.recovered && r.why != "epoch")
        fail("client " + std::to_string(u.number) + " lost its room: " + r.why);
      ++(r.recovered ? u.recovered : u.lost);
    };
  }
  return o;
}

// Until `done`; what does not happen within minutes does not happen.
template <class F> task<> until(const char *what, F done) {
  for (const auto end = steady::now() + 120s; !done();) {
    if (steady::now() > end)
      fail(std::string("in vain waited for: ") + what);
    co_await chorus::sleep(10ms);
  }
}

using lines = std::vector<std::shared_ptr<chorus::client>>;

// Plain clients ten times a second, the others twice.
task<> chatter(const crowd &users, const lines &all, const bool &enough, bool &over) {
  for (std::size_t turn = 0; !enough; ++turn) {
    co_await chorus::sleep(20ms); // the pace
    for (std::size_t i = 0; i < users.size(); ++i) {
      auto &u = *users[i];
      const std::size_t every = u.plain ? 5 : 25;
      if ((turn + i) % every == 0 && all[i]->try_send(std::to_string(u.said + 1)))
        ++u.said;
    }
  }
  over = true;
}

// Open, on a connection that has outlived all cuts, with nothing queued.
task<> settle(chorus::client &c) {
  for (;;) {
    const auto open = co_await c.connected();
    if (!open)
      fail("a client gave up: " + open.error().message());
    (void)co_await c.flush();
    const auto answered = co_await c.current().ping();
    if (answered)
      co_return;
  }
}

task<> storm(chorus::runtime &rt, std::size_t count, std::size_t kills) {
  const int fd = ::memfd_create("account", 0);
  if (fd < 0 || ::ftruncate(fd, sizeof(account)) != 0)
    fail("can't share memory");
  auto &shared = map_account(fd);
  const test_support::reserved_port keeper;
  const auto url = "ws://127.0.0.1:" + std::to_string(keeper.number());
  attempts when;
  crowd users;
  chorus::client_group group(rt);
  const auto name_of = [](std::size_t i) { return std::to_string(10'000 + i); };
  for (std::size_t i = 0; i < count; ++i) {
    users.push_back(std::make_unique<user>());
    users[i]->number = i;
    users[i]->plain = i < count / 2;
    if (!group.create(name_of(i), options_of(*users[i], url, when)))
      fail("can't create a client");
  }

  std::size_t life = 0;
  auto server = std::make_unique<process>(keeper.number(), fd, life, count);
  // The first may come before the server does.
  const auto opened = co_await group.connect_all(
      {.concurrency = 64, .jitter = 100ms, .attempts = 0, .deadline = 60s});
  for (const auto &one : opened.value())
    if (!one.outcome)
      fail(one.name + " did not connect: " + one.outcome.error().message());
  lines all;
  for (std::size_t i = 0; i < count; ++i) {
    all.push_back(group.find(name_of(i)));
    rt.spawn(listen(all[i], *users[i]));
  }
  bool enough = false, over = false;
  rt.spawn(chatter(users, all, enough, over));

  std::vector<std::uint64_t> connects(count);
  const auto began = steady::now();
  for (std::size_t i = 0; i < kills; ++i) {
    co_await chorus::sleep(500ms); // something to say
    for (std::size_t k = 0; k < count; ++k)
      connects[k] = all[k]->stats().connects;
    server->kill();
    when.killed();
    co_await chorus::sleep(200ms); // as if it were restarted by somebody
    server = std::make_unique<process>(keeper.number(), fd, ++life, count);
    const auto everybody_is_back = [&] {
      for (std::size_t k = 0; k < count; ++k)
        if (all[k]->stats().connects <= connects[k])
          return false;
      return true;
    };
    co_await until("everybody to come back", everybody_is_back);
  }
  const auto took = steady::now() - began;
  enough = true;
  co_await until("the chatter to end", [&over] { return over; });
  shared.calm = true;
  co_await until("the server to be calm", [&] { return shared.calmed.load(); });
  for (std::size_t i = 0; i < count; ++i) {
    co_await settle(*all[i]);
    // So that each room has a message of the last server.
    if (!all[i]->try_send(std::to_string(++users[i]->said)))
      fail("the last word is not taken");
    co_await settle(*all[i]);
  }
  // To the last message of the rooms of the last server.
  const auto room_heard = [&] {
    return std::all_of(users.begin(), users.end(), [&](const auto &u) {
      return u->plain || u->offset == shared.published[life][u->number / room_size];
    });
  };
  co_await until("the last messages of the rooms", room_heard);
  const auto closed = co_await group.close_all();
  const auto all_over = [&] {
    return std::all_of(users.begin(), users.end(), [](const auto &u) { return u->over; });
  };
  co_await until("all to have ended", all_over);
  if (!room_heard())
    fail("a room went on after its end");
  server->kill();

  std::uint64_t said = 0, received = 0, unconfirmed = 0, answered = 0, answers = 0, tries = 0;
  std::uint64_t heard = 0, recovered = 0, told = 0, dropped_doubles = 0, comebacks = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto &u = *users[i];
    const auto &s = shared.clients[i];
    const auto stats = all[i]->stats();
    const auto who = "client " + std::to_string(i);
    if (s.doubled != 0 || s.disorder != 0)
      fail(who + ": " + std::to_string(s.doubled) + " came twice, " + std::to_string(s.disorder) +
           " out of order");
    if (stats.messages_sent != u.said || stats.messages_dropped != 0)
      fail(who + " said " + std::to_string(u.said) + " and sent " +
           std::to_string(stats.messages_sent));
    if (s.received > u.said || u.said - s.received > stats.messages_unconfirmed)
      fail(who + ": the server got " + std::to_string(s.received) + " of " +
           std::to_string(u.said) + ", and only " + std::to_string(stats.messages_unconfirmed) +
           " are unconfirmed");
    if (stats.messages_unconfirmed > u.said)
      fail(who + " has more unconfirmed than it said");
    if (u.plain && u.heard > s.answered)
      fail(who + " got more answers than there were");
    if (!u.plain && (u.lost == 0 || u.lost > kills))
      fail(who + " was told " + std::to_string(u.lost) + " times that the history is gone, after " +
           std::to_string(kills) + " kills");
    if (!u.plain && (stats.rooms_lost != u.lost || stats.rooms_recovered != u.recovered))
      fail(who + " counts other recoveries than it was told");
    said += u.said;
    received += s.received;
    unconfirmed += stats.messages_unconfirmed;
    tries += stats.attempts;
    comebacks += stats.reconnects;
    dropped_doubles += stats.messages_doubled;
    (u.plain ? answers : heard) += u.heard;
    if (u.plain)
      answered += s.answered;
    recovered += u.recovered;
    told += u.lost;
  }
  const auto n = [](std::uint64_t v) { return static_cast<unsigned long long>(v); };
  std::printf("%zu clients, %zu kills in %lld ms, %llu cut off besides: %llu attempts, %llu "
              "reconnects\n",
              count, kills, static_cast<long long>(took / 1ms), n(shared.cut_off), n(tries),
              n(comebacks));
  std::printf("up: %llu sent, %llu received, %llu lost, all of them among %llu unconfirmed\n",
              n(said), n(received), n(said - received), n(unconfirmed));
  std::printf("plain, down: %llu sent, %llu received, in order\n", n(answered), n(answers));
  std::uint64_t due = 0;
  for (const auto &u : users)
    for (std::size_t l = 0; !u->plain && l <= life; ++l)
      due += shared.published[l][u->number / room_size];
  std::printf("rooms: %llu of %llu received, without a gap while a server lived, %llu times "
              "recovered, %llu times told that the history is gone, %llu doubles dropped\n",
              n(heard), n(due), n(recovered), n(told), n(dropped_doubles));
  when.print();
  std::printf("%zu%% of the first attempts were in the first half of the %lld ms after the loss\n",
              when.early(), static_cast<long long>(first_delay / 1ms));
  if (unconfirmed == 0 || unconfirmed == said || recovered == 0 || heard > due)
    fail("the storm was none");
  if (when.early() < 2 || when.early() > 98)
    fail("the attempts come in a herd");
}

} // namespace

int main(int argc, char **argv) {
  if (argc == 6 && std::strcmp(argv[1], "serve") == 0)
    return serve(argv[2], std::atoi(argv[3]), number_in(argv[4]), number_in(argv[5]));
  const std::size_t count = argc == 3 ? number_in(argv[1]) : 0;
  const std::size_t kills = argc == 3 ? number_in(argv[2]) : 0;
  if (count < 2 || count > max_clients || kills == 0 || kills >= max_lives)
    fail("usage: restart_storm CLIENTS KILLS");
  chorus::runtime rt;
  rt.run(storm(rt, count, kills));
}
