// Who joins while others publish from everywhere gets the history and then what is new, with nothing
// between and nothing twice.

#include "unit/server/room_support.hpp"

#include <chorus/server/room_core.hpp>

#include <boost/asio/use_future.hpp>

#include <atomic>
#include <future>
#include <stdexcept>
#include <thread>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(history_joins)

constexpr unsigned shards = 3;

room_options everything(std::string_view) {
  room_options r;
  r.history_messages = 100'000;
  r.history_bytes = std::size_t{64} << 20;
  return r;
}

class world {
public:
  world() : rt_(std::in_place, runtime_options{.threads = shards, .tick = 5ms}) {
    rooms = std::make_shared<hub>(rt_->core(), detail::room_complaints(), everything);
    thread_ = std::thread([this] { rt_->run(); });
  }
  ~world() {
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

void must(bool holds, const char *what) {
  if (!holds)
    throw std::runtime_error(what);
}

using texts_seen = std::vector<std::string>;

task<texts_seen> read_all(session s) {
  texts_seen all;
  while (auto m = co_await s.receive()) {
    all.push_back(m->str());
    if (all.back() == "end")
      break;
  }
  co_return all;
}

session_options roomy() {
  auto options = quiet();
  options.queue_bytes = std::size_t{64} << 20;
  return options;
}

task<texts_seen> joins(shard &home, room r, std::atomic<int> *in) {
  auto [near, far] = transport::make_memory_pair(home, home);
  auto s = open(std::move(near), role::server, roomy());
  auto c = open(std::move(far), role::client, roomy());
  auto held = co_await r.join(s, {.history = 1'000'000});
  must(held.has_value(), "a join failed");
  ++*in;
  auto work = read_all(c);
  co_return co_await std::move(work);
}

// One after another, so that there is always somebody on the way in.
task<std::vector<texts_seen>> joins_again(shard &home, room r, int times, std::atomic<int> *in) {
  std::vector<running<texts_seen>> all;
  for (int i = 0; i < times; ++i) {
    all.emplace_back(home, joins(home, r, in));
    co_await rounds(3);
  }
  std::vector<texts_seen> seen;
  for (auto &one : all) {
    auto work = one.end();
    seen.push_back(co_await std::move(work));
  }
  co_return seen;
}

// Never so far ahead of the home shard that a message would be refused.
task<int> publishes(room r, int who, std::atomic<bool> *over, std::atomic<std::uint64_t> *issued) {
  int count = 0;
  while (!*over && count < 20'000) {
    for (int i = 0; i < 3; ++i) {
      ++*issued;
      r.publish(std::to_string(who) + ":" + std::to_string(count++));
    }
    co_await once_round();
    while (r.stats().published + 2000 < *issued)
      co_await once_round();
  }
  co_return count;
}

BOOST_AUTO_TEST_CASE(history_ends_where_the_new_begins) {
  world w;
  constexpr int times = 25;
  for (const char *name : {"lobby", "hall", "attic"}) { // with different homes
    auto r = w.rooms->get(name);
    std::atomic<bool> over{false};
    std::atomic<int> in{0};
    std::atomic<std::uint64_t> issued{0};
    std::vector<std::future<int>> publishing;
    for (unsigned at = 0; at < shards; ++at)
      publishing.push_back(w.start(at, publishes(r, static_cast<int>(at), &over, &issued)));
    std::vector<std::future<std::vector<texts_seen>>> joining;
    for (unsigned at = 0; at < shards; ++at)
      joining.push_back(w.start(at, joins_again(w.home(at), r, times, &in)));
    while (in != static_cast<int>(shards) * times)
      std::this_thread::yield();
    over = true;
    std::size_t published = 1;
    for (auto &p : publishing)
      published += static_cast<std::size_t>(get(p));
    r.publish("end");
    std::vector<texts_seen> all;
    for (auto &j : joining)
      for (auto &seen : get(j))
        all.push_back(std::move(seen));
    BOOST_REQUIRE_EQUAL(all.size(), shards * times);
    BOOST_CHECK_EQUAL(all[0].size(), published);
    for (const auto &seen : all)
      BOOST_CHECK_MESSAGE(seen == all[0], name << ": somebody saw " << seen.size() << " of "
                                               << all[0].size() << " messages, or another order");
  }
}

// Who has come in is known by its name at once, before the one who waits for it goes on.
task<texts_seen> joins_as(shard &home, room r, std::promise<void> *stuck,
                          std::shared_future<void> go_on) {
  auto [near, far] = transport::make_memory_pair(home, home);
  auto s = open(std::move(near), role::server, roomy());
  auto c = open(std::move(far), role::client, roomy());
  home.post([stuck, go_on] { // behind what is sent home from here
    stuck->set_value();
    go_on.wait();
  });
  r.publish("earlier"); // its run is open here when ann comes in, and takes what follows
  auto held = co_await r.join(s, {.user = "ann"});
  must(held.has_value(), "a join failed");
  auto work = read_all(c);
  co_return co_await std::move(work);
}

BOOST_AUTO_TEST_CASE(a_member_is_known_from_the_first_message_on) {
  world w;
  auto r = w.rooms->get("lobby");
  auto &there = *r.core()->home();
  auto &here = &there == &w.home(0) ? w.home(1) : w.home(0);
  std::promise<void> held;
  there.post([wait = held.get_future().share()] { wait.wait(); });
  std::promise<void> stuck;
  std::promise<void> go_on;
  auto seen = w.start(here.index(), joins_as(here, r, &stuck, go_on.get_future().share()));
  stuck.get_future().wait(); // so "earlier" finds somebody expected
  held.set_value();
  const auto all_done_there = [&] {
    std::promise<void> done;
    there.post([&] { done.set_value(); });
    done.get_future().wait();
  };
  all_done_there();
  r.publish("not for ann", {.except_user = "ann"});
  r.publish("for all");
  all_done_there();
  go_on.set_value();
  r.publish("end");
  BOOST_CHECK((get(seen) == texts_seen{"for all", "end"}));
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
