// A storm over a chat, in one process over loopback: chat_storm USERS ROOMS SECONDS
//
// Users say things in the room that is theirs, come and go in others, type, and are cut off all the
// time. In every fourth room one cries, and some read far less than is said or nothing at all, until the
// server puts them out. In the end, what each user has seen of its room has to be that room's history,
// message for message, whom each takes for present has to be who is, and nobody but those who did not
// keep up has been put out.

#include <chorus/client/client.hpp>
#include <chorus/server/server.hpp>

#include <boost/json/parse.hpp>

#include <netinet/in.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace {

using chorus::client;
using chorus::task;
using namespace std::chrono_literals;
using steady = std::chrono::steady_clock;

[[noreturn]] void fail(const std::string &what) {
  std::printf("chat_storm: %s\n", what.c_str());
  std::fflush(stdout);
  std::_Exit(1);
}

std::string room_of(int number) { return "room" + std::to_string(number); }

// --- the server ---------------------------------------------------------------------------------------

// Listens; what it accepts has little room in the kernel, so that a reader who does not read is noticed.
int narrow_listener() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int bytes = 16 * 1024;
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (fd < 0 || ::setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes) != 0 ||
      ::bind(fd, reinterpret_cast<sockaddr *>(&any), sizeof any) != 0 || ::listen(fd, 4096) != 0)
    fail("can't listen");
  return fd;
}

chorus::server_options storm_options() {
  chorus::server_options options;
  options.listen = "fd:" + std::to_string(narrow_listener());
  options.session.queue_bytes = 256 * 1024;
  options.session.close_timeout = 1s;
  options.authorize = [](chorus::request r) -> task<chorus::admission> {
    co_return chorus::admission::accept(std::string(r.query_param("user")));
  };
  options.rooms = [](std::string_view) {
    chorus::room_options room;
    room.history_messages = 1'000'000;
    room.history_bytes = std::size_t{256} << 20;
    room.presence = true;
    room.presence_grace = 1s;
    return room;
  };
  options.max_handshakes = 4096;
  return options;
}

// Whose sessions have ended because they did not keep up, and how often.
class put_out {
public:
  void add(const std::string &name) {
    const std::lock_guard lock(mutex_);
    ++times_[name];
  }
  int times(const std::string &name) const {
    const std::lock_guard lock(mutex_);
    const auto at = times_.find(name);
    return at == times_.end() ? 0 : at->second;
  }

private:
  mutable std::mutex mutex_;
  std::map<std::string, int> times_;
};

// "say TEXT", "cry N NOISE", "typing", "join ROOM", "leave ROOM". What is cried is no part of the history.
task<> chat(chorus::server &srv, put_out &out, chorus::session s, chorus::request r) {
  auto own = co_await srv.room(r.param("room")).join(s, {.history = SIZE_MAX});
  if (!own) {
    if (own.error() == chorus::error::evicted)
      out.add(s.user());
    co_return;
  }
  std::map<std::string, chorus::seat> others;
  for (;;) {
    auto m = co_await s.receive();
    if (!m) {
      if (m.error() == chorus::error::evicted)
        out.add(s.user());
      co_return;
    }
    const auto text = m->text();
    if (text.starts_with("say "))
      own->publish(chorus::text(text.substr(4)));
    else if (text.starts_with("cry "))
      own->publish(*m, {.time_to_live = 10min});
    else if (text == "typing")
      own->publish("typing", {.except = s, .time_to_live = 1s});
    else if (text.starts_with("join ")) {
      const std::string name(text.substr(5));
      auto seat = co_await srv.room(name).join(s, {.history = 5});
      if (seat)
        others.insert_or_assign(name, std::move(*seat));
    } else if (text.starts_with("leave "))
      others.erase(std::string(text.substr(6)));
  }
}

// --- users --------------------------------------------------------------------------------------------

enum class reader {
  quick,
  dripping, // takes a message now and then
  deaf,     // takes none for as long as it is connected, again and again
};

struct seen {
  std::uint64_t offset;
  std::string text; // how it begins
  std::size_t hash; // of all of it
  friend bool operator==(const seen &, const seen &) = default;
};

class user {
public:
  user(chorus::runtime &rt, chorus::server &srv, int number, int rooms, reader how)
      : server_(srv), name_("u" + std::to_string(number)), room_(room_of(number % rooms)),
        how_(how) {
    chorus::client_options options;
    options.urls = {srv.url() + "/chat/" + room_ + "?user=" + name_};
    options.resume = chorus::resume_mode::require;
    options.backoff.initial = 20ms;
    options.backoff.cap = 500ms;
    options.session.inbox_bytes = 16 * 1024;
    options.outbox_bytes = std::size_t{16} << 20;
    options.on_recovery = [this](const chorus::recovery &r) {
      if (r.room == room_)
        ++(r.recovered ? recovered_ : lost_);
    };
    client_ = std::make_unique<client>(rt, std::move(options));
    rt.spawn(listen(*this));
  }

  client &line() { return *client_; }
  const std::string &name() const { return name_; }
  const std::string &room() const { return room_; }
  const std::vector<seen> &view() const { return view_; }
  const std::set<std::string> &present() const { return present_; }
  const std::set<std::string> &done() const { return done_; }
  int recovered() const { return recovered_; }
  int lost() const { return lost_; }
  reader how() const { return how_; }
  void dawdle() { patient_ = how_ != reader::quick; }
  void hurry() { patient_ = false; }
  bool heard_the_end() const { return over_; }
  int last_cry() const { return last_cry_; }
  bool heard_itself() const { return heard_itself_; }

private:
  static constexpr int heard_between_spells = 20;

  static task<> listen(user &self) {
    for (;;) {
      auto m = co_await self.client_->receive_placed();
      if (!m)
        break;
      self.take(*m);
      if (self.patient_ && self.how_ == reader::dripping)
        co_await chorus::sleep(100ms); // what makes it slow
      if (self.how_ == reader::deaf && ++self.heard_ % heard_between_spells == 0)
        co_await spell(self);
    }
    self.over_ = true;
  }

  // Reads nothing until the server has let it go.
  static task<> spell(user &self) {
    while (self.patient_ && self.server_.user(self.name_).size() != 0)
      co_await chorus::sleep(20ms);
  }

  void take(const chorus::placed_message &m) {
    const std::string text(m.content.text());
    if (m.room != room_) {
      if (m.offset != 0) {
        auto &last = elsewhere_[m.room + " " + m.epoch];
        if (m.offset <= last && last != 0)
          ++out_of_order_;
        last = m.offset;
      }
      return;
    }
    if (m.offset != 0) {
      if (!view_.empty() && m.offset <= view_.back().offset)
        fail(name_ + " got " + std::to_string(m.offset) + " after " +
             std::to_string(view_.back().offset));
      view_.push_back({m.offset, text.substr(0, 24), std::hash<std::string>()(text)});
      heard_itself_ |= text == "here " + name_;
      if (text.starts_with("fin "))
        done_.insert(text.substr(4));
      return;
    }
    if (text.starts_with("cry "))
      last_cry_ = std::atoi(text.c_str() + 4);
    if (!text.starts_with("{"))
      return;
    const auto told = boost::json::parse(text).as_object();
    const auto what = told.at("event").as_string();
    if (what == "list") {
      present_.clear();
      for (const auto &one : told.at("members").as_array())
        present_.insert(std::string(one.at("user").as_string()));
    } else if (what == "joined") {
      present_.insert(std::string(told.at("member").at("user").as_string()));
    } else if (what == "left") {
      present_.erase(std::string(told.at("member").at("user").as_string()));
    }
  }

  chorus::server &server_;
  std::string name_;
  std::string room_;
  reader how_;
  bool patient_ = false;
  bool over_ = false;
  bool heard_itself_ = false;
  int heard_ = 0;
  int last_cry_ = 0;
  int recovered_ = 0;
  int lost_ = 0;
  int out_of_order_ = 0;
  std::vector<seen> view_;
  std::set<std::string> present_;
  std::set<std::string> done_;
  std::map<std::string, std::uint64_t> elsewhere_;
  std::unique_ptr<client> client_;
};

using crowd = std::vector<std::unique_ptr<user>>;

// Until `done`; what does not happen within minutes does not happen.
template <class F> task<> until(const char *what, F done) {
  for (const auto end = steady::now() + 240s; !done();) {
    if (steady::now() > end)
      fail(std::string("in vain waited for: ") + what);
    co_await chorus::sleep(20ms);
  }
}

task<> talk(user &u, int rooms, steady::time_point end, unsigned seed, int &at_it) {
  std::mt19937 random(seed);
  int said = 0;
  const auto pause = [&] { return std::chrono::milliseconds(200 + random() % 800); };
  std::string elsewhere;
  while (steady::now() < end) {
    const auto wait = pause();
    co_await chorus::sleep(wait); // the pace
    auto &line = u.line();
    const auto what = random() % 10;
    if (what < 6) {
      const auto text =
          "say " + u.name() + " " + std::to_string(said++) + " " + std::string(random() % 400, '.');
      (void)line.try_send(text);
    } else if (what < 8) {
      (void)line.try_send("typing");
    } else if (elsewhere.empty()) {
      elsewhere = room_of(static_cast<int>(random() % static_cast<unsigned>(rooms)));
      if (elsewhere != u.room())
        (void)line.try_send("join " + elsewhere);
    } else {
      if (elsewhere != u.room())
        (void)line.try_send("leave " + elsewhere);
      elsewhere.clear();
    }
  }
  if (!elsewhere.empty() && elsewhere != u.room())
    (void)u.line().try_send("leave " + elsewhere);
  --at_it;
}

// One of these for each room that has slow readers: more than they take, but hardly more than one ahead
// of the quick ones, so that it is nobody's fault but their own who is put out.
task<> cry(user &crier, std::vector<const user *> others, const bool &enough, int &at_it) {
  const std::string noise(4096, '!');
  for (int n = 1; !enough; ++n) {
    (void)crier.line().try_send("cry " + std::to_string(n) + " " + noise);
    const auto heard = [&](const user *u) {
      return u->how() != reader::quick || u->last_cry() >= n;
    };
    // Who is cut off does not hear it.
    const auto late = steady::now() + 100ms;
    do
      co_await chorus::sleep(5ms); // the pace, too
    while (!std::all_of(others.begin(), others.end(), heard) && steady::now() < late);
  }
  --at_it;
}

// Until it has heard itself, and so all that was said before. What it says may go to a connection that
// the server has given up while it did not read.
task<> catch_up(user &u, int &at_it) {
  u.hurry();
  while (!u.heard_itself()) {
    (void)co_await u.line().connected();
    (void)co_await u.line().send("say here " + u.name());
    for (const auto late = steady::now() + 2s; !u.heard_itself() && steady::now() < late;)
      co_await chorus::sleep(10ms);
  }
  --at_it;
}

task<> cut(chorus::server &srv, std::size_t users, steady::time_point end, std::uint64_t &kills) {
  std::mt19937 random(7);
  while (steady::now() < end) {
    co_await chorus::sleep(100ms); // the pace
    const auto all = co_await srv.sessions();
    for (std::size_t i = 0; i < users / 100 + 1 && !all.empty(); ++i) {
      auto victim = all[random() % all.size()];
      victim.abort();
      ++kills;
    }
  }
}

void compare_views(const crowd &users) {
  std::map<std::string, const user *> first;
  for (const auto &u : users) {
    const auto [at, fresh] = first.emplace(u->room(), u.get());
    if (!fresh && u->view() != at->second->view())
      fail(u->name() + " and " + at->second->name() +
           " have not seen the same: " + std::to_string(u->view().size()) + " and " +
           std::to_string(at->second->view().size()) + " messages");
  }
}

// A fifth of every fourth room.
reader manner_of(int number, int rooms) {
  const int seat = number / rooms;
  if (number % rooms % 4 != 0 || seat % 5 != 1)
    return reader::quick;
  return seat % 10 == 1 ? reader::deaf : reader::dripping;
}

task<> storm(chorus::runtime &rt, chorus::server &srv, const put_out &out, int count, int rooms,
             std::chrono::seconds time) {
  crowd users;
  std::map<std::string, std::set<std::string>> members;
  for (int i = 0; i < count; ++i) {
    users.push_back(std::make_unique<user>(rt, srv, i, rooms, manner_of(i, rooms)));
    members[users.back()->room()].insert(users.back()->name());
  }
  for (const auto &u : users)
    (void)co_await u->line().connected();
  const auto all_there = [&] {
    return std::all_of(users.begin(), users.end(),
                       [&](const auto &u) { return u->present() == members[u->room()]; });
  };
  co_await until("everybody to see everybody", all_there);

  const auto end = steady::now() + time;
  std::uint64_t kills = 0;
  int at_it = 0;
  bool enough = false;
  for (const auto &u : users)
    u->dawdle();
  for (std::size_t i = 0; i < users.size(); ++i, ++at_it)
    rt.spawn(talk(*users[i], rooms, end, static_cast<unsigned>(i), at_it));
  for (int room = 0; room < rooms; room += 4, ++at_it) {
    std::vector<const user *> there;
    for (const auto &u : users)
      if (u->room() == room_of(room))
        there.push_back(u.get());
    rt.spawn(cry(*users[static_cast<std::size_t>(room)], std::move(there), enough, at_it));
  }
  co_await cut(srv, users.size(), end, kills);
  co_await until("the deaf to be put out", [&] {
    return std::all_of(users.begin(), users.end(), [&](const auto &u) {
      return u->how() != reader::deaf || out.times(u->name()) != 0;
    });
  });
  enough = true;
  co_await until("the talkers to end", [&] { return at_it == 0; });

  for (const auto &u : users) {
    ++at_it;
    rt.spawn(catch_up(*u, at_it));
  }
  co_await until("everybody to catch up", [&] { return at_it == 0; });
  for (const auto &u : users) {
    (void)co_await u->line().connected();
    (void)co_await u->line().send("say fin " + u->name());
  }
  co_await until("the end of all", [&] {
    return std::all_of(users.begin(), users.end(),
                       [&](const auto &u) { return u->done() == members[u->room()]; });
  });
  compare_views(users);
  co_await until("presence to be exact", all_there);

  // Whoever comes now gets the whole history, and it is what the others have seen.
  std::map<std::string, std::unique_ptr<user>> auditors;
  std::map<std::string, const user *> witnesses;
  for (const auto &u : users)
    witnesses.emplace(u->room(), u.get());
  for (const auto &[room, witness] : witnesses) {
    const int number = count * rooms + std::atoi(room.c_str() + 4); // one of this room
    auto one = std::make_unique<user>(rt, srv, number, rooms, reader::quick);
    const auto complete = [&] { return one->view().size() >= witness->view().size(); };
    co_await until("a newcomer to have the history", complete);
    if (one->view() != witness->view())
      fail("the history of " + room + " is not what " + witness->name() + " has seen");
    members[room].insert(one->name());
    auditors.emplace(room, std::move(one));
  }
  co_await until("the newcomers to be seen", all_there);

  // Half of them leave; the others see it after the time that they might come back in.
  for (std::size_t i = 0; i < users.size() / 2; ++i) {
    (void)co_await users[i]->line().close();
    members[users[i]->room()].erase(users[i]->name());
  }
  const auto rest_there = [&] {
    return std::all_of(users.begin() + static_cast<std::ptrdiff_t>(users.size() / 2), users.end(),
                       [&](const auto &u) { return u->present() == members[u->room()]; });
  };
  co_await until("those who left to be missed", rest_there);
  for (const auto &[room, names] : members) {
    std::set<std::string> truth;
    for (const auto &one : co_await srv.room(room).presence())
      truth.insert(one.user);
    if (truth != names)
      fail("the server takes others for present in " + room + " than there are");
  }

  int recovered = 0, lost = 0, slow = 0, put_out_slow = 0;
  std::size_t seen_in_all = 0;
  for (const auto &u : users) {
    recovered += u->recovered();
    lost += u->lost();
    seen_in_all += u->view().size();
    const int times = out.times(u->name());
    if (u->how() == reader::quick) {
      if (times != 0)
        fail(u->name() + ", who kept up, was put out");
      continue;
    }
    ++slow;
    put_out_slow += times;
    if (times != 0 && u->recovered() == 0)
      fail(u->name() + " was put out and did not resume");
  }
  const auto stats = srv.stats();
  std::printf(
      "%d users, %d rooms: %llu cut off, %d recovered, %d not, %zu messages seen, %d slow "
      "readers put out %d times (%llu evicted); every view is the history, presence is exact\n",
      count, rooms, static_cast<unsigned long long>(kills), recovered, lost, seen_in_all, slow,
      put_out_slow, static_cast<unsigned long long>(stats.evicted));
  std::uint64_t counted = 0;
  for (const auto &[room, witness] : witnesses)
    counted += srv.room(room).stats().evicted;
  if (put_out_slow == 0 || stats.evicted == 0 || counted == 0)
    fail("nobody was put out, or it was not counted");
  if (lost != 0)
    fail("a gap was not filled, although the history has all");
  if (recovered == 0 || kills == 0)
    fail("nobody was cut off");
  for (std::size_t i = users.size() / 2; i < users.size(); ++i)
    (void)co_await users[i]->line().close();
  for (const auto &[room, one] : auditors)
    (void)co_await one->line().close();
  co_await until("all to have ended", [&] {
    return std::all_of(users.begin(), users.end(),
                       [](const auto &u) { return u->heard_the_end(); }) &&
           std::all_of(auditors.begin(), auditors.end(),
                       [](const auto &one) { return one.second->heard_the_end(); });
  });
}

} // namespace

int main(int argc, char **argv) {
  if (argc != 4)
    fail("usage: chat_storm USERS ROOMS SECONDS");
  const int count = std::atoi(argv[1]), rooms = std::atoi(argv[2]);
  const std::chrono::seconds time(std::atoi(argv[3]));
  chorus::runtime serving{{.threads = 2}};
  chorus::server srv{serving, storm_options()};
  put_out out;
  srv.route("/chat/{room}", [&](chorus::session s, chorus::request r) {
    return chat(srv, out, std::move(s), std::move(r));
  });
  std::thread server_thread([&] { serving.run(); });
  chorus::runtime rt;
  auto work = [&]() -> task<> {
    if (auto up = co_await srv.start(); !up)
      fail(up.error().message());
    co_await storm(rt, srv, out, count, rooms, time);
    (void)co_await srv.stop(5s);
  };
  rt.run(work());
  serving.stop();
  server_thread.join();
}
