// Presence over two shards, in a storm of joins, leaves and reconnects: what each member has built
// from its list and the news after it is what the server knows.

#include "unit/server/room_support.hpp"

#include <boost/asio/use_future.hpp>

#include <atomic>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <set>
#include <stdexcept>
#include <thread>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(presence_threads)

constexpr unsigned shards = 2;

class running_runtime {
public:
  explicit running_runtime(const room_options &options)
      : rt_(std::in_place, runtime_options{.threads = shards, .tick = 5ms}) {
    rooms = std::make_shared<hub>(rt_->core(), detail::room_complaints(),
                                  [options](std::string_view) { return options; });
    thread_ = std::thread([this] { rt_->run(); });
  }
  ~running_runtime() {
    rt_->stop();
    thread_.join();
    rt_.reset();
  }
  template <class T> std::future<T> start(unsigned at, task<T> work) {
    return asio::co_spawn(rt_->executor(at), std::move(work), asio::use_future);
  }
  shard &home(unsigned at) { return *rt_->core()->shards[at]; }
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

void must(bool holds, const std::string &what) {
  if (!holds)
    throw std::runtime_error(what);
}

using view = std::map<std::string, std::string>; // data by user, or by "#" and session

std::string key_of(const presence_entry &e) {
  return e.user.empty() ? "#" + std::to_string(e.id) : e.user;
}
std::string member_text(const presence_entry &e) { return key_of(e) + " " + e.data; }
message in_lines(const presence_event &event) {
  switch (event.what) {
  case presence_change::joined:
    return "+" + member_text(event.who);
  case presence_change::left:
    return "-" + member_text(event.who);
  case presence_change::changed:
    return "~" + member_text(event.who);
  case presence_change::list:
    break;
  }
  std::string out = "[";
  for (const auto &e : event.everybody)
    out += member_text(e) + "\n";
  return out;
}

// Applies one message; what cannot be is an error.
void apply(view &v, bool &listed, std::string_view text) {
  const char what = text.at(0);
  text.remove_prefix(1);
  must(listed != (what == '['), "the list came late, twice or never");
  const auto split = [](std::string_view line) {
    const auto blank = line.find(' ');
    return std::pair(std::string(line.substr(0, blank)), std::string(line.substr(blank + 1)));
  };
  if (what == '[') {
    listed = true;
    for (; !text.empty(); text.remove_prefix(text.find('\n') + 1))
      must(v.insert(split(text.substr(0, text.find('\n')))).second, "listed twice");
    return;
  }
  const auto [key, data] = split(text);
  if (what == '+')
    must(v.emplace(key, data).second, key + " joined, but was there");
  else if (what == '-')
    must(v.erase(key) == 1, key + " left, but was not there");
  else
    must(std::exchange(v.at(key), data) != data, key + " changed to what it was");
}

// Up to the message "end", or the end of the session.
task<view> watch(session s) {
  view v;
  bool listed = false;
  while (auto m = co_await s.receive()) {
    if (m->text() == "end")
      co_return v;
    apply(v, listed, m->text());
  }
  co_return v;
}

task<sessions> connected(shard &home) {
  auto [near, far] = tcp_streams(home);
  sessions both;
  both.server = open(std::move(near), role::server, quiet());
  both.client = open(std::move(far), role::client, quiet());
  co_return both;
}

task<> pause(std::chrono::milliseconds t) {
  asio::steady_timer timer(co_await asio::this_coro::executor, t);
  co_await timer.async_wait(asio::use_awaitable);
}

struct storm {
  room lobby;
  std::atomic<int> settled{0};
};

// Comes and goes `times` times, then stays to the end.
task<view> guest(shard &home, std::shared_ptr<storm> world, std::string user, unsigned seed,
                 int times) {
  std::mt19937 random(seed);
  const auto dice = [&](unsigned sides) { return static_cast<unsigned>(random()) % sides; };
  for (int i = 0; i <= times; ++i) {
    auto both = co_await connected(home);
    running<view> watching(home, watch(both.client));
    const auto data = std::to_string(dice(1000));
    auto joined = co_await world->lobby.join(both.server, {.user = user, .data = data});
    must(joined.has_value(), "a join failed");
    auto held = std::move(*joined);
    for (unsigned k = dice(4); k > 0; --k) {
      must(held.update(std::to_string(dice(1000))).has_value(), "an update failed");
      co_await rounds(static_cast<int>(dice(3)));
    }
    if (i == times) {
      ++world->settled;
      auto last = watching.end();
      co_return co_await std::move(last);
    }
    switch (dice(4)) {
    case 0:
      held.leave();
      break;
    case 1:
      std::thread([gone = std::move(held)]() mutable { gone = seat(); }).join();
      break;
    case 2:
      both.client.abort();
      break;
    default:
      break;
    }
    both.server.abort();
    co_await both.server.wait_closed();
    both.client.abort();
    co_await watching.ended();
    watching.value(); // throws what it threw
    if (const auto how = dice(4); how != 0)
      co_await pause(std::chrono::milliseconds(how == 3 ? 80 : dice(10)));
  }
  co_return view();
}

task<std::vector<presence_entry>> who_is_there(room r) {
  auto work = r.presence();
  co_return co_await std::move(work);
}

BOOST_AUTO_TEST_CASE(every_view_is_exact_after_a_storm) {
  std::mutex mutex;
  view told; // by on_presence
  std::string impossible;
  room_options options;
  options.presence = true;
  options.presence_grace = 30ms;
  options.presence_message = in_lines;
  options.on_presence = [&](const presence_event &e) {
    std::lock_guard lock(mutex);
    bool listed = true;
    try {
      apply(told, listed, in_lines(e).text());
    } catch (const std::exception &x) {
      impossible = x.what();
    }
  };
  running_runtime world(options);
  auto shared = std::make_shared<storm>();
  shared->lobby = world.rooms->get("lobby");
  std::vector<std::future<view>> guests;
  constexpr unsigned count = 18;
  for (unsigned i = 0; i < count; ++i) {
    const std::string user =
        i < 12 ? "user" + std::to_string(i % 8) : ""; // four have two connections
    guests.push_back(
        world.start(i % shards, guest(world.home(i % shards), shared, user, 77 + i, 15)));
  }
  const auto all_have_settled = [&] {
    if (shared->settled < static_cast<int>(count))
      return false;
    auto list = world.start(0, who_is_there(shared->lobby));
    for (const auto &e : get(list))
      if (e.connections == 0)
        return false;
    return true;
  };
  const auto until = std::chrono::steady_clock::now() + 80s;
  bool failed = false;
  while (!failed && !all_have_settled()) {
    std::this_thread::sleep_for(5ms);
    failed = std::chrono::steady_clock::now() > until;
    for (auto &g : guests)
      failed = failed || g.wait_for(0s) == std::future_status::ready; // it threw
  }
  BOOST_CHECK(!failed);
  auto list = world.start(1, who_is_there(shared->lobby));
  view truth;
  for (const auto &e : get(list))
    truth.emplace(key_of(e), e.data);
  shared->lobby.publish("end");
  if (!failed)
    BOOST_CHECK_EQUAL(truth.size(), 8u + 6u);
  for (unsigned i = 0; i < count; ++i) {
    if (failed && guests[i].wait_for(1s) != std::future_status::ready)
      continue;
    try {
      const auto seen = get(guests[i]);
      BOOST_CHECK_MESSAGE(seen == truth, "guest " << i << " has another view");
    } catch (const std::exception &x) {
      BOOST_ERROR("guest " << i << ": " << x.what());
    }
  }
  BOOST_CHECK_EQUAL(shared->lobby.stats().refused, 0u);
  shared->lobby = room();
  // And with all gone, all are told to be gone, and the room is.
  const auto end = std::chrono::steady_clock::now() + 30s;
  const auto empty = [&] {
    std::lock_guard lock(mutex);
    return told.empty() && world.rooms->size() == 0;
  };
  while (!empty() && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(2ms);
  BOOST_CHECK(empty());
  BOOST_CHECK_EQUAL(impossible, "");
}

task<int> visits(shard &home, std::shared_ptr<hub> rooms, unsigned seed, int times) {
  std::mt19937 random(seed);
  auto both = co_await connected(home);
  both.client.ignore_input();
  for (int i = 0; i < times; ++i) {
    const auto name = "room" + std::to_string(random() % 3);
    auto r = rooms->get(name);
    auto joined = co_await r.join(both.server, {.user = "user"});
    must(joined.has_value(), "a join failed");
    r = room();
    if (i % 3 == 0)
      co_await once_round();
    if (i % 4 == 0)
      std::thread([gone = std::move(*joined)]() mutable { gone = seat(); }).join();
  }
  both.server.abort();
  both.client.abort();
  co_return times;
}

BOOST_AUTO_TEST_CASE(rooms_with_hooks_and_presence_come_and_vanish_in_many_threads) {
  room_options options;
  options.presence = true;
  options.on_join = [](join_request r) -> task<result<>> {
    if (r.room == "room2")
      co_await once_round();
    co_return result<>();
  };
  running_runtime world(options);
  std::vector<std::future<int>> visitors;
  for (unsigned i = 0; i < 6; ++i)
    visitors.push_back(world.start(i % shards, visits(world.home(i % shards), world.rooms, i, 60)));
  std::vector<std::thread> foreign;
  for (unsigned i = 0; i < 3; ++i)
    foreign.emplace_back([&, i] {
      for (int k = 0; k < 300; ++k) {
        auto r = world.rooms->get("room" + std::to_string((k + static_cast<int>(i)) % 3));
        r.publish("hello");
        if (k % 16 == 0)
          std::this_thread::yield();
      }
    });
  for (auto &t : foreign)
    t.join();
  for (auto &v : visitors)
    BOOST_CHECK_EQUAL(get(v), 60);
  const auto end = std::chrono::steady_clock::now() + 30s;
  while (world.rooms->size() != 0 && std::chrono::steady_clock::now() < end)
    std::this_thread::sleep_for(2ms);
  BOOST_CHECK_EQUAL(world.rooms->size(), 0u);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
