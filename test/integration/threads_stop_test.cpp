// What was published before `stop` reaches every member, on every shard, before the close does.

#include "server_support.hpp"

#include <chorus/base/error.hpp>

#include <boost/asio/detached.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>

#include <algorithm>
#include <array>
#include <map>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(stop_fence)

namespace {

// Enough rooms for both shards to be the home of some.
constexpr int rooms = 8;
constexpr int copies = 3; // published to each room

std::string room_name(int i) { return "room" + std::to_string(i); }

// A server on two shards with members of all rooms on both of them.
class house {
public:
  explicit house(running &loop) : loop_(loop), server_(loop.rt(), {}) {
    server_.route("/", [this](session s, request) { return stay(std::move(s)); });
    const auto up = loop.wait(server_.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
    // The kernel deals the connections out among the listeners of the two shards.
    while (!on_both_shards() && peers_.size() < 64) {
      peers_.push_back(open_session(server_.port(), "/"));
      BOOST_REQUIRE(comes_true([this] { return seated() == peers_.size(); }));
    }
    BOOST_REQUIRE(on_both_shards());
  }

  chorus::server &server() { return server_; }

  void publish() {
    for (int i = 0; i < copies; ++i)
      for (int r = 0; r < rooms; ++r)
        server_.room(room_name(r)).publish(room_name(r));
  }

  // Reads and answers for every peer, and checks what it got. Returns when all have been closed.
  void check_peers() {
    for (auto &peer : peers_) {
      std::map<std::string, int> got;
      auto f = peer.read_frame();
      for (; f.opcode == 1; f = peer.read_frame())
        ++got[f.payload];
      BOOST_TEST(f.close_code() == 1001u);
      peer.send(close_frame(1001));
      for (int r = 0; r < rooms; ++r)
        BOOST_TEST(got[room_name(r)] == copies);
    }
  }

private:
  task<> stay(session s) {
    std::vector<chorus::seat> seats;
    for (int r = 0; r < rooms; ++r) {
      auto joined = co_await server_.room(room_name(r)).join(s);
      if (joined)
        seats.push_back(std::move(*joined));
    }
    note_member();
    co_await s.wait_closed();
  }
  void note_member() {
    std::lock_guard lock(mutex_);
    ++members_[std::this_thread::get_id()];
  }
  std::size_t seated() {
    std::lock_guard lock(mutex_);
    std::size_t sum = 0;
    for (const auto &[thread, count] : members_)
      sum += count;
    return sum;
  }
  bool on_both_shards() {
    std::lock_guard lock(mutex_);
    return members_.size() == 2 && std::all_of(members_.begin(), members_.end(),
                                               [](const auto &m) { return m.second > 1; });
  }

  running &loop_;
  std::mutex mutex_;
  std::map<std::thread::id, std::size_t> members_; // a shard is a thread
  std::vector<wire> peers_;
  chorus::server server_;
};

task<chorus::stop_report> publish_and_stop(house *h) {
  h->publish();
  auto work = h->server().stop(1h);
  co_return co_await std::move(work);
}

// Sets `done` once everything has run that is posted here by now, and what that posts in turn.
task<> some_turns_later(event *done) {
  const auto here = co_await boost::asio::this_coro::executor;
  for (int i = 0; i < 32; ++i)
    co_await boost::asio::post(here, boost::asio::use_awaitable);
  done->set();
}

} // namespace

BOOST_AUTO_TEST_CASE(a_shard_that_lags_behind_is_waited_for) {
  // Shard 1 does nothing until shard 0, which conducts the stop, has done all it can without it.
  // Copies from rooms at home on shard 1 set out for shard 0 only then.
  running loop(2);
  for (int round = 0; round < 3; ++round) {
    house h(loop);
    event held, release;
    boost::asio::post(loop.rt().executor(1), [&] {
      held.set();
      release.wait();
    });
    BOOST_REQUIRE(held.wait());
    auto stopped =
        boost::asio::co_spawn(loop.rt().executor(0), publish_and_stop(&h), boost::asio::use_future);
    boost::asio::co_spawn(loop.rt().executor(0), some_turns_later(&release), boost::asio::detached);
    h.check_peers();
    BOOST_REQUIRE((stopped.wait_for(patience) == std::future_status::ready));
    BOOST_TEST(stopped.get().sessions_aborted == 0u);
  }
}

BOOST_AUTO_TEST_CASE(publishes_before_a_stop_arrive_before_the_close) {
  running loop(2);
  for (int round = 0; round < 24; ++round) {
    house h(loop);
    std::future<chorus::stop_report> stopped;
    if (round % 3 == 2) { // from a thread that is no shard
      h.publish();
      stopped = boost::asio::co_spawn(loop.rt().executor(0), h.server().stop(1h),
                                      boost::asio::use_future);
    } else {
      stopped = boost::asio::co_spawn(loop.rt().executor(round % 3 == 1), publish_and_stop(&h),
                                      boost::asio::use_future);
    }
    h.check_peers();
    BOOST_REQUIRE((stopped.wait_for(patience) == std::future_status::ready));
    BOOST_TEST(stopped.get().sessions_aborted == 0u);
  }
}

BOOST_AUTO_TEST_CASE(a_shard_that_does_not_answer_is_in_the_report) {
  // Shard 1 is busy from before the stop until after its report.
  running loop(2);
  house h(loop);
  event held, release;
  boost::asio::post(loop.rt().executor(1), [&] {
    held.set();
    release.wait();
  });
  BOOST_REQUIRE(held.wait());
  const auto open = h.server().size();
  const auto report = loop.wait(h.server().stop(0ms));
  BOOST_TEST(report.sessions_aborted == open);
  BOOST_TEST(report.handlers_cancelled == open);
  release.set();
  BOOST_TEST(comes_true([&] { return h.server().stats().handlers == 0; }));
  const auto again = loop.wait(h.server().stop(0ms));
  BOOST_TEST(again.sessions_aborted == open); // once said, it stays
}

// Joins with every session again and again, from a thread that is no shard, until the server refuses.
// Rooms and reasons go to the counts.
struct join_counts {
  std::atomic<int> joined{0}, refused{0}, astray{0};
};
task<> joins_until_refused(chorus::server *server, std::vector<session> members, unsigned who,
                           join_counts *counts) {
  for (unsigned i = who;; ++i) {
    auto room = server->room(room_name(static_cast<int>(i % rooms)));
    auto seat = co_await room.join(members[i % members.size()]);
    if (seat) {
      ++counts->joined;
      seat->publish("hello");
      continue; // and leaves at once
    }
    if (seat.error() == chorus::error::room_closed) {
      ++counts->refused;
      co_return;
    }
    if (seat.error() != chorus::error::not_open && seat.error() != chorus::error::closed &&
        seat.error() != chorus::error::lost)
      ++counts->astray;
  }
}

BOOST_AUTO_TEST_CASE(members_may_join_from_anywhere_while_the_server_stops) {
  constexpr int joiners = 3;
  for (int round = 0; round < 6; ++round) {
    std::array<boost::asio::io_context, joiners> contexts; // outlive the threads that post to them
    running loop(2);
    chorus::server server(loop.rt(), {});
    std::mutex mutex;
    std::vector<session> members;
    server.route("/", [&](session s, request) -> task<> {
      {
        std::lock_guard lock(mutex);
        members.push_back(s);
      }
      co_await s.wait_closed();
    });
    BOOST_REQUIRE(loop.wait(server.start()));
    constexpr std::size_t peers = 8;
    std::vector<wire> open;
    while (open.size() < peers)
      open.push_back(open_session(server.port(), "/"));
    BOOST_REQUIRE(comes_true([&] {
      std::lock_guard lock(mutex);
      return members.size() == peers;
    }));
    // Half of the peers answer the close and read on; the others are cut at the deadline.
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < peers / 2; ++i)
      threads.emplace_back([peer = &open[i]] {
        while (peer->read_frame().opcode == 1) {
        }
        peer->send(close_frame(1001));
      });
    join_counts counts;
    for (unsigned who = 0; who < joiners; ++who)
      threads.emplace_back([&, who] {
        auto &own = contexts[who];
        auto done = boost::asio::co_spawn(own, joins_until_refused(&server, members, who, &counts),
                                          boost::asio::use_future);
        own.run();
        done.get();
      });
    BOOST_TEST(comes_true([&] { return counts.joined > 100; }));
    const auto report = loop.wait(server.stop(20ms));
    for (auto &t : threads)
      t.join();
    BOOST_TEST(report.handlers_cancelled <=
               peers); // a busy machine may not get to those who answer
    BOOST_TEST(counts.refused == joiners);
    BOOST_TEST(counts.astray == 0);
    // A shard whose thread was busy at the deadline cuts its sessions when it comes to it.
    BOOST_TEST(comes_true([&] { return server.size() == 0; }));
    for (int r = 0; r < rooms; ++r)
      BOOST_TEST(comes_true([&] { return server.room(room_name(r)).size() == 0; }));
  }
}

BOOST_AUTO_TEST_SUITE_END()
