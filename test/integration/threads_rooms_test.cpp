// Rooms over two shards, published to from everywhere at once.

#include "unit/server/room_support.hpp"

#include <boost/asio/io_context.hpp>
#include <boost/asio/use_future.hpp>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>
#include <unordered_map>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(room_threads)

constexpr unsigned shards = 2;

// A runtime on threads of its own.
class running_runtime {
public:
  running_runtime() : rt_(std::in_place, runtime_options{.threads = shards, .tick = 5ms}) {
    rooms = std::make_shared<hub>(rt_->core());
    thread_ = std::thread([this] { rt_->run(); });
  }
  ~running_runtime() { end(); }
  template <class T> std::future<T> start(unsigned at, task<T> work) {
    return asio::co_spawn(rt_->executor(at), std::move(work), asio::use_future);
  }
  shard &home(unsigned at) { return *rt_->core()->shards[at]; }
  void end() {
    if (!rt_)
      return;
    rt_->stop();
    thread_.join();
    rt_.reset();
  }
  std::shared_ptr<hub> rooms;

private:
  std::optional<runtime> rt_;
  std::thread thread_;
};

template <class T> T get(std::future<T> &f) {
  if (f.wait_for(90s) != std::future_status::ready) {
    std::fprintf(stderr, "a task did not end\n");
    std::abort(); // it refers to what would be destroyed
  }
  return f.get();
}

// Boost.Test's checks belong to one thread; what runs elsewhere throws through its future.
void must(bool holds, const char *what) {
  if (!holds)
    throw std::runtime_error(what);
}
task<seat> take_seat(room r, session s) {
  auto joined = co_await r.join(std::move(s));
  must(joined.has_value(), "a join failed");
  co_return std::move(*joined);
}

// Reads up to the message "end".
task<std::vector<std::string>> read_all(session s) {
  std::vector<std::string> all;
  while (auto m = co_await s.receive()) {
    all.push_back(m->str());
    if (all.back() == "end")
      break;
  }
  co_return all;
}

task<sessions> connected(shard &home) {
  auto [near, far] = transport::make_memory_pair(home, home);
  sessions both;
  both.server = open(std::move(near), role::server, quiet());
  both.client = open(std::move(far), role::client, quiet());
  co_return both;
}

task<std::vector<std::string>> stays(shard &home, room r, std::promise<void> joined) {
  auto both = co_await connected(home);
  auto held = co_await take_seat(r, both.server);
  joined.set_value();
  auto work = read_all(both.client);
  co_return co_await std::move(work);
}

// Joins and leaves again and again while it reads.
task<std::vector<std::string>> comes_and_goes(shard &home, room r, std::atomic<bool> *over) {
  auto both = co_await connected(home);
  running<std::vector<std::string>> reading(home, read_all(both.client));
  while (!*over) {
    auto held = co_await take_seat(r, both.server);
    co_await rounds(3);
    if (both.server.id() % 2 == 0)
      std::thread([gone = std::move(held)]() mutable { gone = seat(); }).join();
    else
      held.leave();
    co_await once_round();
  }
  auto last = co_await both.server.send("end");
  must(last.has_value(), "the last message was refused");
  auto work = reading.end();
  co_return co_await std::move(work);
}

task<int> publishes(room r, int who, int count) {
  for (int i = 0; i < count; ++i) {
    r.publish(std::to_string(who) + ":" + std::to_string(i));
    if (i % 8 == 7)
      co_await once_round();
  }
  co_return count;
}

task<int> broadcasts(room r, int who, int count) {
  int answered = 0;
  for (int i = 0; i < count; ++i) {
    auto work = r.broadcast(std::to_string(who) + ":" + std::to_string(i), {.deadline = 60s});
    const auto report = co_await std::move(work);
    must(report.pending == 0, "a broadcast was late");
    answered += report.delivered >= 4 ? 1 : 0; // those who stay
  }
  co_return answered;
}

BOOST_AUTO_TEST_CASE(every_member_sees_one_order) {
  asio::io_context own; // outlives whoever may still post to it
  running_runtime world;
  auto lobby = world.rooms->get("lobby");
  std::vector<std::future<std::vector<std::string>>> steady, fickle;
  for (unsigned i = 0; i < 4; ++i) {
    std::promise<void> joined;
    auto ready = joined.get_future();
    const unsigned at = i % shards;
    steady.push_back(world.start(at, stays(world.home(at), lobby, std::move(joined))));
    get(ready);
  }
  std::atomic<bool> over{false};
  for (unsigned i = 0; i < 4; ++i)
    fickle.push_back(world.start(i % shards, comes_and_goes(world.home(i % shards), lobby, &over)));

  std::promise<int> broadcasts_answered;
  constexpr int each = 300;
  constexpr int gathers = 60;
  std::vector<std::thread> foreign;
  for (int who = 0; who < 3; ++who)
    foreign.emplace_back([&, who] {
      for (int i = 0; i < each; ++i)
        lobby.publish(std::to_string(who) + ":" + std::to_string(i));
    });
  foreign.emplace_back([&] {
    auto answered = asio::co_spawn(own, broadcasts(lobby, 3, gathers), asio::use_future);
    own.run();
    broadcasts_answered.set_value(answered.get());
  });
  std::vector<std::future<int>> local;
  for (unsigned at = 0; at < shards; ++at)
    local.push_back(world.start(at, publishes(lobby, 4 + static_cast<int>(at), each)));
  local.push_back(world.start(1, broadcasts(lobby, 6, gathers)));
  for (auto &t : foreign)
    t.join();
  for (auto &l : local)
    (void)get(l);
  BOOST_CHECK_EQUAL(broadcasts_answered.get_future().get(), gathers);
  over = true;
  std::vector<std::vector<std::string>> parts;
  for (auto &f : fickle)
    parts.push_back(get(f));
  lobby.publish("end");
  const auto order = get(steady.front());
  BOOST_CHECK_EQUAL(order.size(), 5 * each + 2 * gathers + 1);
  for (std::size_t i = 1; i < steady.size(); ++i)
    BOOST_CHECK(get(steady[i]) == order);
  // Each publisher's own order holds within it.
  std::unordered_map<std::string, std::size_t> place;
  std::unordered_map<std::string, int> last;
  for (std::size_t i = 0; i + 1 < order.size(); ++i) {
    BOOST_CHECK(place.emplace(order[i], i).second);
    const auto colon = order[i].find(':');
    const int number = std::stoi(order[i].substr(colon + 1));
    auto &before = last.try_emplace(order[i].substr(0, colon), -1).first->second;
    BOOST_CHECK_EQUAL(number, before + 1);
    before = number;
  }
  // Who came and went saw parts of that order, each message at most once.
  for (auto &part : parts) {
    BOOST_REQUIRE(!part.empty());
    BOOST_CHECK_EQUAL(part.back(), "end");
    part.pop_back();
    for (std::size_t i = 1; i < part.size(); ++i)
      BOOST_CHECK_LT(place.at(part[i - 1]), place.at(part[i]));
  }
  const auto stats = lobby.stats();
  BOOST_CHECK_EQUAL(stats.published, order.size());
  BOOST_CHECK_EQUAL(stats.dropped, 0);
  BOOST_CHECK_EQUAL(stats.evicted, 0);
}

// Keeps a shard from doing anything else for as long as it exists.
class held {
public:
  explicit held(shard &home) {
    const auto begun = std::make_shared<std::promise<void>>();
    auto holds = begun->get_future();
    home.post([begun, over = release_.get_future().share()] {
      begun->set_value();
      over.wait();
    });
    holds.wait();
  }
  held(const held &) = delete;
  held &operator=(const held &) = delete;
  ~held() { release_.set_value(); }

private:
  std::promise<void> release_;
};

room room_at(running_runtime &world, unsigned at) {
  for (int i = 0;; ++i)
    if (auto r = world.rooms->get("room" + std::to_string(i));
        r.core()->home().get() == &world.home(at))
      return r;
}

task<int> nothing() { co_return 0; }
// Everything that was posted to the shard has run.
void pass(running_runtime &world, unsigned at) {
  auto passed = world.start(at, nothing());
  (void)get(passed);
}

constexpr std::size_t mebibyte = 1024 * 1024;
constexpr std::size_t apiece = 512; // what a message weighs besides its bytes

BOOST_AUTO_TEST_CASE(what_is_on_its_way_to_a_busy_home_shard_is_bounded) {
  running_runtime world;
  auto lobby = room_at(world, 0);
  const message big(std::string(mebibyte, 'x'));
  for (std::uint64_t round = 0; round < 2; ++round) {
    {
      held busy(world.home(0));
      for (int i = 0; i < 20; ++i)
        lobby.publish(big);
      BOOST_CHECK_EQUAL(lobby.stats().refused, round * 6 + 5);
      lobby.publish(std::string(mebibyte - 16 * apiece, 'x')); // fits exactly
      lobby.publish("");
      BOOST_CHECK_EQUAL(lobby.stats().refused, round * 6 + 6);
    }
    pass(world, 0);
    BOOST_CHECK_EQUAL(lobby.stats().published, (round + 1) * 16);
  }
  lobby.publish(std::string(room_transit_bytes + 1, 'x')); // alone
  pass(world, 0);
  BOOST_CHECK_EQUAL(lobby.stats().published, 33);
  // Many empty ones are bounded as well.
  held busy(world.home(0));
  for (std::size_t i = 0; i < room_transit_bytes / apiece + 10; ++i)
    lobby.publish("");
  BOOST_CHECK_EQUAL(lobby.stats().refused, 12 + 10);
}

// From the room's home shard, to members on another one that is busy.
task<int> fills(room r) {
  const message big(std::string(mebibyte, 'x'));
  const auto nobody = [](const session &) { return false; };
  for (int i = 0; i < 15; ++i)
    r.publish(big, {.only = nobody});
  r.publish(std::string(mebibyte - 16 * apiece, 'x'), {.only = nobody});
  r.publish("refused");
  co_return 0;
}
task<broadcast_report> asks(room r) {
  auto work = r.broadcast("refused, too");
  co_return co_await std::move(work);
}

BOOST_AUTO_TEST_CASE(what_is_on_its_way_to_a_busy_member_shard_is_bounded) {
  running_runtime world;
  auto lobby = room_at(world, 0);
  std::vector<std::future<std::vector<std::string>>> members;
  for (unsigned at = 0; at < shards; ++at) {
    std::promise<void> joined;
    auto ready = joined.get_future();
    members.push_back(world.start(at, stays(world.home(at), lobby, std::move(joined))));
    ready.wait();
  }
  std::future<broadcast_report> here, foreign;
  asio::io_context own;
  {
    held busy(world.home(1));
    auto filled = world.start(0, fills(lobby));
    (void)get(filled);
    BOOST_CHECK_EQUAL(lobby.stats().published, 16);
    BOOST_CHECK_EQUAL(lobby.stats().refused, 1);
    here = world.start(0, asks(lobby));
    foreign = asio::co_spawn(own, asks(lobby), asio::use_future);
    own.poll(); // up to where it waits for the home shard
    pass(world, 0);
    BOOST_CHECK_EQUAL(lobby.stats().refused, 3);
  }
  own.restart();
  std::thread runner([&] { own.run(); });
  for (auto *one : {&here, &foreign}) {
    const auto report = get(*one);
    BOOST_CHECK_EQUAL(report.dropped, shards);
    BOOST_CHECK_EQUAL(report.total(), shards);
    for (const auto &m : report.members)
      BOOST_CHECK(m.why == error::queue_full);
  }
  runner.join();
  BOOST_CHECK_EQUAL(lobby.stats().published, 16);
  BOOST_CHECK_EQUAL(lobby.stats().dropped, 0);
  pass(world, 1);
  lobby.publish("end"); // there is room again
  for (auto &m : members)
    BOOST_CHECK(get(m) == std::vector<std::string>{"end"});
}

task<int> broadcast_forever(room r, std::atomic<int> *begun) {
  for (int i = 0;; ++i) {
    ++*begun;
    auto work = r.broadcast("x");
    if ((co_await std::move(work)).total() == 0)
      co_return i; // the runtime has gone
  }
}
task<session> open_member(shard &home, room r, std::vector<seat> *seats, std::mutex *mutex,
                          std::vector<stream_ptr> *peers) {
  auto [near, far] = transport::make_memory_pair(home, home, {.capacity = 1024});
  auto s = open(std::move(near), role::server, quiet());
  auto held = co_await take_seat(r, s);
  std::lock_guard lock(*mutex);
  seats->push_back(std::move(held));
  peers->push_back(std::move(far));
  co_return s;
}

BOOST_AUTO_TEST_CASE(the_runtime_may_end_under_publishers) {
  for (int turn = 0; turn < 5; ++turn) {
    std::vector<stream_ptr> peers;
    std::vector<seat> seats;
    std::mutex mutex;
    room lobby;
    std::atomic<int> begun{0};
    std::atomic<bool> over{false};
    asio::io_context own; // outlives whoever may still post to it
    std::vector<std::thread> foreign;
    {
      running_runtime world;
      lobby = world.rooms->get("lobby");
      for (unsigned i = 0; i < 4; ++i) {
        auto opened = world.start(
            i % shards, open_member(world.home(i % shards), lobby, &seats, &mutex, &peers));
        (void)get(opened);
      }
      for (int i = 0; i < 2; ++i)
        foreign.emplace_back([&] {
          while (!over)
            lobby.publish("y", {.time_to_live = 1s});
        });
      foreign.emplace_back([&] {
        auto done = asio::co_spawn(own, broadcast_forever(lobby, &begun), asio::use_future);
        own.run();
        (void)done.get();
      });
      while (begun == 0)
        std::this_thread::yield();
      if (turn % 2 == 0)
        seats.clear();
    }
    over = true;
    for (auto &t : foreign)
      t.join();
    seats.clear();
    BOOST_CHECK_EQUAL(lobby.size(), 0);
  }
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
