#pragma once
// Servers of one process as nodes of a cluster, each with a handle of its own to the engine that the
// test program was told to use: -- --engine memory|redis|nats

#include "integration/presence_support.hpp"
#include "integration/resume_support.hpp"

#include <chorus/client/client.hpp>

#include <cstdio>
#include <cstdlib>
#include <future>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

namespace cluster_test {

using namespace resume_test;

// A handle to the engine, as a process would make it. Handles of one `cluster` share rooms.
std::shared_ptr<chorus::broker> make_handle(const std::string &cluster);
// One that no test before has used.
std::string fresh_cluster();

// Between a server and its handle. When it is cut, as when the machine dies, nothing goes out any more
// and nothing is answered.
class tap final : public chorus::broker {
public:
  explicit tap(std::shared_ptr<chorus::broker> engine) : engine_(std::move(engine)) {}

  std::atomic<bool> cut{false};
  // Told what became of each message that the server published for members; set before it is started.
  std::function<void(const chorus::broker_message &,
                     const chorus::result<chorus::broker_position> &)>
      on_outcome{};

  // Whether the engine has confirmed it.
  bool listens(const std::string &room) const {
    std::lock_guard lock(notes_->mutex);
    return notes_->rooms.contains(room);
  }
  bool has_lease() const { return notes_->renewed; }
  // Messages that the engine gave when it was asked for the history, of all rooms.
  std::size_t read_again() const { return notes_->read; }
  // How many are there by the engine's word; none while it can't say.
  std::size_t present(const std::string &room) const {
    auto answer = std::make_shared<std::promise<std::size_t>>();
    engine_->members(
        room, [answer](const auto &all) { answer->set_value(all ? all->members.size() : 0); });
    auto count = answer->get_future();
    return count.wait_for(patience) == std::future_status::ready ? count.get() : 0;
  }

  chorus::result<> attach(boost::asio::any_io_executor e) override {
    return engine_->attach(std::move(e));
  }
  void publish(chorus::broker_message m, published answer) override {
    if (cut)
      return;
    if (!on_outcome || !m.command.empty())
      return engine_->publish(std::move(m), std::move(answer));
    auto copy = m;
    engine_->publish(std::move(m), [told = on_outcome, m = std::move(copy),
                                    answer = std::move(answer)](const auto &outcome) {
      told(m, outcome);
      answer(outcome);
    });
  }
  void subscribe(std::string room, std::weak_ptr<chorus::broker_listener> to,
                 done answer) override {
    if (cut)
      return;
    auto noted = [notes = notes_, room, answer = std::move(answer)](const auto &outcome) {
      if (outcome) {
        std::lock_guard lock(notes->mutex);
        notes->rooms.insert(room);
      }
      answer(outcome);
    };
    engine_->subscribe(std::move(room), std::move(to), std::move(noted));
  }
  void unsubscribe(std::string room, const chorus::broker_listener *who) override {
    {
      std::lock_guard lock(notes_->mutex);
      notes_->rooms.erase(room);
    }
    if (!cut)
      engine_->unsubscribe(std::move(room), who);
  }
  void history(std::string room, chorus::broker_position since, page_read answer) override {
    if (cut)
      return;
    auto noted = [notes = notes_, answer = std::move(answer)](const auto &page) {
      if (page)
        notes->read += page->messages.size();
      answer(page);
    };
    engine_->history(std::move(room), std::move(since), std::move(noted));
  }
  void enter(std::string room, chorus::broker_member who, std::size_t most, done answer) override {
    if (!cut)
      engine_->enter(std::move(room), std::move(who), most, std::move(answer));
  }
  void leave(std::string room, std::string who, std::string id, done answer) override {
    if (!cut)
      engine_->leave(std::move(room), std::move(who), std::move(id), std::move(answer));
  }
  void members(std::string room, members_read answer) override {
    if (!cut)
      engine_->members(std::move(room), std::move(answer));
  }
  void renew(std::string who, std::chrono::milliseconds alive, renewed answer) override {
    if (cut)
      return;
    auto noted = [notes = notes_, answer = std::move(answer)](const auto &had) {
      notes->renewed = had.has_value();
      answer(had);
    };
    engine_->renew(std::move(who), alive, std::move(noted));
  }
  void begin_epoch(std::string room, std::string ended, done answer) override {
    if (!cut)
      engine_->begin_epoch(std::move(room), std::move(ended), std::move(answer));
  }
  chorus::broker_status status() const override { return engine_->status(); }
  chorus::broker_stats stats() const override { return engine_->stats(); }

private:
  struct notes {
    std::mutex mutex;
    std::set<std::string> rooms;
    std::atomic<bool> renewed{false};
    std::atomic<std::size_t> read{0};
  };
  const std::shared_ptr<chorus::broker> engine_;
  const std::shared_ptr<notes> notes_ = std::make_shared<notes>();
};

// The service. What rooms are like says their name: "kept…" remember, "few…" the last hundred, "hall…"
// tell who is there, "garden…" wait an hour for those who left; others are only passed on.
inline chorus::server_options service(std::shared_ptr<chorus::broker> engine,
                                      std::chrono::milliseconds lease) {
  chorus::server_options options;
  options.broker = std::move(engine);
  options.broker_lease = lease;
  options.on_error = [](std::string_view what, const chorus::session *) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
  };
  options.authorize = [](chorus::request r) -> chorus::task<chorus::admission> {
    co_return chorus::admission::accept(std::string(r.query_param("name")));
  };
  options.rooms = [](std::string_view name) {
    chorus::room_options r;
    r.history_messages = name.starts_with("kept") ? 100'000 : name.starts_with("few") ? 100 : 0;
    r.history_bytes = std::size_t{64} << 20;
    r.presence = name.starts_with("hall") || name.starts_with("garden");
    r.presence_grace = name.starts_with("garden") ? 1h : 0ms;
    r.presence_message = presence_test::brief;
    return r;
  };
  return options;
}

// One node: what comes in is published to the others of the room; "!data" is the member's own.
class node {
public:
  explicit node(const std::string &cluster, std::chrono::milliseconds lease = 1h,
                const std::function<void(chorus::server_options &)> &also = {})
      : node(std::make_shared<tap>(make_handle(cluster)), lease, also) {}
  node(std::shared_ptr<tap> handle, std::chrono::milliseconds lease,
       const std::function<void(chorus::server_options &)> &also)
      : engine(std::move(handle)) {
    auto options = service(engine, lease);
    if (also)
      also(options);
    server_.emplace(loop.rt(), std::move(options));
    server_->route("/{room}", [this](chorus::session s, chorus::request r) {
      return visit(std::move(s), std::move(r), *server_);
    });
    server_->route("/", [this](chorus::session s, chorus::request) { return sit(s, *server_); });
    auto up = loop.wait(server_->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
    BOOST_REQUIRE(comes_true([&] { return engine->has_lease() && engine->listens("node/"); }));
    name = server_->node();
  }
  node(const node &) = delete;
  node &operator=(const node &) = delete;
  ~node() { stop(); }

  chorus::server &server() { return *server_; }
  chorus::room room(std::string_view r) { return server_->room(r); }
  std::uint16_t port() const { return server_->port(); }
  // A plain member.
  wire enter(const std::string &target) { return open_session(port(), target); }
  // In good order.
  void stop() {
    if (server_)
      loop.wait(server_->stop(2s));
    server_.reset();
    loop.end();
  }
  // Without a word to anybody.
  void die() {
    engine->cut = true;
    server_.reset();
    loop.end();
    engine.reset();
  }
  // Who is there, by this node's word, with "(away)" behind those who are expected back.
  std::string list(const char *where) {
    return presence_test::list(loop.wait(presence_test::who(server_->room(where))));
  }

  std::shared_ptr<tap> engine;
  std::string name;
  running loop{2};

private:
  static chorus::task<> visit(chorus::session s, chorus::request r, chorus::server &srv) {
    chorus::join_options how;
    how.history = std::strtoul(std::string(r.query_param("history")).c_str(), nullptr, 10);
    how.data = r.query_param("data");
    auto seat = co_await srv.room(r.param("room")).join(s, how);
    while (seat.has_value()) {
      auto m = co_await s.receive();
      if (!m)
        co_return;
      if (m->text().starts_with("!"))
        seat->update(m->text().substr(1));
      else
        seat->publish(*m, {.except = s});
    }
  }
  // Says its name over all nodes.
  static chorus::task<> sit(chorus::session s, chorus::server &srv) {
    const auto id = srv.id_of(s);
    co_await s.send(id);
    co_await s.wait_closed();
  }

  std::optional<chorus::server> server_;
};

// The next frame that is no ping, which these members do not answer.
inline frame next_frame(wire &w) {
  for (;;)
    if (auto f = w.read_frame(); f.opcode != 9)
      return f;
}

inline std::vector<std::string> texts(wire &w, std::size_t count) {
  std::vector<std::string> all;
  for (std::size_t i = 0; i < count; ++i)
    all.push_back(next_frame(w).payload);
  return all;
}

inline void expect(wire &w, std::initializer_list<const char *> want) {
  for (const char *one : want)
    BOOST_CHECK_EQUAL(next_frame(w).payload, one);
}

struct three {
  std::string cluster = fresh_cluster();
  std::optional<node> a, b, c;
  explicit three(std::chrono::milliseconds lease = 1h,
                 const std::function<void(chorus::server_options &)> &also = {}) {
    for (auto *n : all())
      n->emplace(cluster, lease, also);
  }
  std::vector<std::optional<node> *> all() { return {&a, &b, &c}; }
  std::vector<node *> nodes() { return {&*a, &*b, &*c}; }
};

// `each` messages of every node at once: "a0", "a1" … "b0" …
inline void publish_all(const std::vector<node *> &nodes, const std::string &room, int each) {
  std::vector<std::thread> threads;
  for (std::size_t i = 0; i < nodes.size(); ++i)
    threads.emplace_back(
        [r = nodes[i]->room(room), who = static_cast<char>('a' + i), each]() mutable {
          for (int n = 0; n < each; ++n)
            r.publish(who + std::to_string(n));
        });
  for (auto &t : threads)
    t.join();
}

// Of every publisher all, in its own order.
inline void in_order(const std::vector<std::string> &got, int each) {
  std::map<char, int> next;
  for (const auto &text : got)
    BOOST_REQUIRE_EQUAL(text, text.substr(0, 1) + std::to_string(next[text[0]]++));
  for (const auto &[who, count] : next)
    BOOST_CHECK_EQUAL(count, each);
}

// A program's client: what it heard, and what it was told of its rooms.
class listener_client {
public:
  listener_client(running &loop, std::vector<std::string> urls) {
    chorus::client_options options;
    options.urls = std::move(urls);
    options.order = chorus::url_order::shuffled;
    options.backoff = {1ms, 1.0, 1ms};
    options.max_retry_after = 0ms;
    options.resume = chorus::resume_mode::require;
    options.on_message = [this](const chorus::message &m) {
      std::lock_guard lock(mutex_);
      heard_.push_back(m.str());
    };
    options.on_recovery = [this](const chorus::recovery &r) {
      (r.recovered ? recovered : lost)++;
      if (!r.recovered) {
        std::lock_guard lock(mutex_);
        why_ += " " + r.why;
      }
    };
    client_.emplace(loop.rt(), std::move(options));
  }
  chorus::client &client() { return *client_; }
  std::vector<std::string> heard() const {
    std::lock_guard lock(mutex_);
    return heard_;
  }
  std::size_t count() const {
    std::lock_guard lock(mutex_);
    return heard_.size();
  }
  // Of each time that it was told of a loss.
  std::string why() const {
    std::lock_guard lock(mutex_);
    return why_;
  }
  std::atomic<int> recovered{0}, lost{0};

private:
  mutable std::mutex mutex_;
  std::vector<std::string> heard_;
  std::string why_;
  std::optional<chorus::client> client_;
};

// For the sentence of a test that fails.
inline std::string state_of(const std::vector<std::unique_ptr<listener_client>> &clients,
                            const std::vector<node *> &nodes, const std::string &room) {
  std::string text;
  for (const auto &one : clients) {
    const auto heard = one->heard();
    text += "client: " + std::to_string(heard.size()) + " messages" +
            (heard.empty() ? std::string() : ", the last " + heard.back()) + ", recovered " +
            std::to_string(one->recovered) + ", lost " + std::to_string(one->lost) + one->why() +
            (one->client().current().is_open() ? ", connected\n" : ", not connected\n");
  }
  for (auto *n : nodes) {
    const auto r = n->room(room);
    const auto s = r.stats();
    text += "node: " + std::to_string(r.size()) + " members, published " +
            std::to_string(s.published) + ", refused " + std::to_string(s.refused) + ", replayed " +
            std::to_string(s.replayed) + ", not taken by the engine " +
            std::to_string(s.broker_failures) + "\n";
  }
  return text;
}

inline void wait_for_members(const std::vector<node *> &nodes, const std::string &room,
                             std::size_t all) {
  BOOST_REQUIRE(comes_true([&] {
    std::size_t count = 0;
    for (auto *n : nodes)
      count += n->room(room).size();
    return count == all;
  }));
}

} // namespace cluster_test
