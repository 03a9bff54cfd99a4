// A storm over a chat, in one process over loopback: chat_storm USERS ROOMS SECONDS
//
// Users say things in the room that is theirs, come and go in others, type, read slowly, and are cut
// off all the time. In the end, what each user has seen of its room has to be that room's history,
// message for message, and whom each takes for present has to be who is.

#include <chorus/client/client.hpp>
#include <chorus/server/server.hpp>

#include <boost/json/parse.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
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

chorus::server_options storm_options() {
  chorus::server_options options;
  options.session.queue_bytes = 64 * 1024;
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

// "say TEXT", "typing", "join ROOM", "leave ROOM"
task<> chat(chorus::server &srv, chorus::session s, chorus::request r) {
  auto own = co_await srv.room(r.param("room")).join(s, {.history = SIZE_MAX});
  if (!own)
    co_return;
  std::map<std::string, chorus::seat> others;
  while (auto m = co_await s.receive()) {
    const auto text = m->text();
    if (text.starts_with("say "))
      own->publish(chorus::text(text.substr(4)));
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

struct seen {
  std::uint64_t offset;
  std::string text;
  friend bool operator==(const seen &, const seen &) = default;
};

class user {
public:
  user(chorus::runtime &rt, const std::string &url, int number, int rooms, bool slow)
      : name_("u" + std::to_string(number)), room_(room_of(number % rooms)), slow_(slow) {
    chorus::client_options options;
    options.urls = {url + "/chat/" + room_ + "?user=" + name_};
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
  bool slow() const { return slow_; }
  void hurry() { slow_ = false; }
  bool heard_the_end() const { return over_; }

private:
  static task<> listen(user &self) {
    for (;;) {
      auto m = co_await self.client_->receive_placed();
      if (!m)
        break;
      self.take(*m);
      if (self.slow_)
        co_await chorus::sleep(20ms);
    }
    self.over_ = true;
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
      view_.push_back({m.offset, text});
      if (text.starts_with("fin "))
        done_.insert(text.substr(4));
      return;
    }
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

  std::string name_;
  std::string room_;
  bool slow_;
  bool over_ = false;
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

task<> talk(user &u, int rooms, steady::time_point end, unsigned seed) {
  std::mt19937 random(seed);
  int said = 0;
  const auto pause = [&] { return std::chrono::milliseconds(200 + random() % 800); };
  std::string elsewhere;
  while (steady::now() < end) {
    const auto wait = pause();
    co_await chorus::sleep(wait);
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
}

task<> cut(chorus::server &srv, std::size_t users, steady::time_point end, std::uint64_t &kills) {
  std::mt19937 random(7);
  while (steady::now() < end) {
    co_await chorus::sleep(100ms);
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

task<> storm(chorus::runtime &rt, chorus::server &srv, int count, int rooms,
             std::chrono::seconds time) {
  const auto url = srv.url();
  crowd users;
  std::map<std::string, std::set<std::string>> members;
  for (int i = 0; i < count; ++i) {
    users.push_back(std::make_unique<user>(rt, url, i, rooms, i % 20 == 0));
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
  for (std::size_t i = 0; i < users.size(); ++i)
    rt.spawn(talk(*users[i], rooms, end, static_cast<unsigned>(i)));
  co_await cut(srv, users.size(), end, kills);
  co_await chorus::sleep(2s); // the last pause of a talker

  for (const auto &u : users)
    u->hurry();
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
    auto one = std::make_unique<user>(rt, url, number, rooms, false);
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

  int recovered = 0, lost = 0;
  std::size_t seen_in_all = 0;
  for (const auto &u : users) {
    recovered += u->recovered();
    lost += u->lost();
    seen_in_all += u->view().size();
  }
  const auto stats = srv.stats();
  std::printf("%d users, %d rooms: %llu cut off, %d recovered, %d not, %zu messages seen, "
              "%llu evicted; every view is the history, presence is exact\n",
              count, rooms, static_cast<unsigned long long>(kills), recovered, lost, seen_in_all,
              static_cast<unsigned long long>(stats.evicted));
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
  srv.route("/chat/{room}", [&srv](chorus::session s, chorus::request r) {
    return chat(srv, std::move(s), std::move(r));
  });
  std::thread server_thread([&] { serving.run(); });
  chorus::runtime rt;
  auto work = [&]() -> task<> {
    if (auto up = co_await srv.start(); !up)
      fail(up.error().message());
    co_await storm(rt, srv, count, rooms, time);
    (void)co_await srv.stop(5s);
  };
  rt.run(work());
  serving.stop();
  server_thread.join();
}
