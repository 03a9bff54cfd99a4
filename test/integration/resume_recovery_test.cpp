// What a client that lost its connection finds when it comes back.

#include "integration/resume_support.hpp"

#include <chorus/server/room_core.hpp>

#include <boost/asio/bind_cancellation_slot.hpp>
#include <boost/asio/cancellation_signal.hpp>

#include <algorithm>
#include <future>
#include <mutex>
#include <thread>

using namespace resume_test;

BOOST_AUTO_TEST_SUITE(resume_recovery)

BOOST_AUTO_TEST_CASE(a_gap_is_filled) {
  rooms_server s(keeping(100));
  client c("b2d0c7f3a91e4d55");
  c.connect(s.port(), "/r/lobby");
  auto j = c.joined();
  BOOST_CHECK_EQUAL(j.room, "lobby");
  BOOST_CHECK_EQUAL(j.offset, 0);
  BOOST_CHECK_EQUAL(j.recovered, -1);
  BOOST_CHECK_EQUAL(j.missed, 0);
  auto room = s.server.room("lobby");
  room.publish("0");
  BOOST_CHECK_EQUAL(c.take().payload, "0");
  c.vanish();
  BOOST_REQUIRE(comes_true([&] { return room.size() == 0; }));
  for (int i = 1; i < 4; ++i)
    room.publish(std::to_string(i));
  c.connect(s.port(), "/r/lobby");
  j = c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.offset, 1);
  BOOST_CHECK_EQUAL(j.missed, 3);
  for (int i = 1; i < 4; ++i)
    c.take();
  room.publish(chorus::binary(std::string_view("4")));
  const auto last = c.take();
  BOOST_CHECK(last.binary);
  BOOST_CHECK_EQUAL(last.offset, 5);
  same(c.seen["lobby"], numbers(0, 5));
  BOOST_CHECK_EQUAL(room.stats().resume.recovered, 1);
  BOOST_CHECK_EQUAL(s.server.stats().resume.recovered, 1);
}

// Cut after any message of a burst, once or again and again: what it saw is what the room has kept.
BOOST_AUTO_TEST_CASE(cut_in_the_midst_of_a_burst) {
  constexpr int messages = 1500;
  for (const int step : {1, 7, 64, 500}) {
    BOOST_TEST_CONTEXT("cut after every " << step << " messages") {
      rooms_server s(keeping(100'000));
      client c("b2d0c7f3a91e4d55");
      c.connect(s.port(), "/r/lobby");
      c.joined();
      auto room = s.server.room("lobby");
      std::thread publisher([room]() mutable {
        for (int i = 0; i < messages; ++i) {
          room.publish(std::to_string(i) + std::string(static_cast<std::size_t>(i % 300), '.'));
          if (i % 16 == 15)
            std::this_thread::yield();
        }
      });
      int recovered = 0;
      int cuts = 0;
      for (int n = 0; static_cast<int>(c.seen["lobby"].size()) < messages;) {
        const auto h = c.take();
        BOOST_REQUIRE(h.t == "msg" || h.t == "joined");
        if (h.t == "joined") {
          BOOST_REQUIRE_EQUAL(h.recovered, 1);
          ++recovered;
        } else if (++n % step == 0 && cuts < 100) {
          ++cuts;
          c.vanish();
          c.connect(s.port(), "/r/lobby");
        }
      }
      publisher.join();
      // It may have been cut behind the last one.
      BOOST_CHECK_GE(recovered, cuts - 1);
      BOOST_CHECK_GT(recovered, 0);
      BOOST_CHECK_EQUAL(c.doubled, 0);
      std::vector<std::string> want;
      for (int i = 0; i < messages; ++i)
        want.push_back(std::to_string(i) + std::string(static_cast<std::size_t>(i % 300), '.'));
      same(c.seen["lobby"], want);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_sender_is_not_sent_its_own) {
  rooms_server s(keeping(100));
  client a("aaaaaaaaaaaaaaaa");
  client b("bbbbbbbbbbbbbbbb");
  a.connect(s.port(), "/r/lobby");
  b.connect(s.port(), "/r/lobby");
  a.joined();
  b.joined();
  a.send("from a");
  BOOST_CHECK_EQUAL(b.take().payload, "from a");
  b.send("from b");
  BOOST_CHECK_EQUAL(a.take().payload, "from b");
  a.send("again from a");
  a.vanish(); // and its handler may read that after the end
  BOOST_CHECK_EQUAL(b.take().payload, "again from a");
  b.send("again from b");
  auto room = s.server.room("lobby");
  BOOST_REQUIRE(comes_true([&] { return room.stats().published == 4; }));
  a.positions["lobby"].offset = 0; // as if nothing had arrived
  a.connect(s.port(), "/r/lobby");
  const auto j = a.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, 2);
  BOOST_CHECK_EQUAL(a.take().payload, "from b");
  BOOST_CHECK_EQUAL(a.take().payload, "again from b");
  room.publish("end");
  BOOST_CHECK_EQUAL(a.take().payload, "end");
}

// A handler that is behind publishes for a connection that its client has replaced meanwhile.
BOOST_AUTO_TEST_CASE(what_the_old_connection_says_is_not_for_the_new_one) {
  running loop(2);
  chorus::server srv(loop.rt(), keeping(100));
  std::mutex mutex;
  std::vector<chorus::session> met;
  srv.route("/", [&](chorus::session s, chorus::request) -> chorus::task<> {
    auto held = co_await srv.room("lobby").join(s);
    {
      std::lock_guard lock(mutex);
      met.push_back(s);
    }
    co_await s.wait_closed();
  });
  BOOST_REQUIRE(loop.wait(srv.start()));
  client c("b2d0c7f3a91e4d55");
  c.connect(srv.port(), "/");
  c.joined();
  c.vanish();
  c.connect(srv.port(), "/");
  c.joined();
  auto room = srv.room("lobby");
  BOOST_REQUIRE(comes_true([&] { return room.size() == 1; }));
  chorus::session old;
  {
    std::lock_guard lock(mutex);
    old = met.front();
  }
  room.publish("its own", {.except = old});
  room.publish("end");
  BOOST_CHECK_EQUAL(c.take().payload, "end");
  met.clear();
  loop.wait(srv.stop(5s));
}

BOOST_AUTO_TEST_CASE(a_gap_that_cant_be_filled_is_told) {
  auto options = keeping(3);
  options.rooms = [](std::string_view name) {
    chorus::room_options r;
    r.history_messages = name == "plain" ? 0 : 3;
    return r;
  };
  rooms_server s(options, 2, 2);
  client c("b2d0c7f3a91e4d55");
  c.connect(s.port(), "/r/lobby");
  const auto first = c.joined();
  auto room = s.server.room("lobby");
  for (int i = 0; i < 5; ++i)
    room.publish(std::to_string(i));
  for (int i = 0; i < 5; ++i)
    c.take();
  struct one {
    std::string room, epoch;
    std::int64_t offset;
    const char *why;
    std::int64_t missed;
  };
  const one ways[] = {
      {"lobby", first.epoch, 1, "trimmed", 2}, // 3, 4 and 5 are kept
      {"lobby", first.epoch, 6, "ahead", 2},
      {"lobby", "0123456789abcdef", 5, "epoch", 2},
      {"plain", "0123456789abcdef", 5, "no_history", -1},
  };
  for (const auto &w : ways) {
    BOOST_TEST_CONTEXT(w.why) {
      client again("b2d0c7f3a91e4d55");
      again.positions[w.room] = {w.epoch, w.offset};
      again.connect(s.port(), "/r/" + w.room);
      const auto j = again.joined();
      BOOST_CHECK_EQUAL(j.recovered, 0);
      BOOST_CHECK_EQUAL(j.why, w.why);
      BOOST_CHECK_EQUAL(j.missed, w.missed);
      if (w.missed > 0) {
        BOOST_CHECK_EQUAL(j.offset, 3);
        same({again.take().payload, again.take().payload}, {"3", "4"});
      } else {
        BOOST_CHECK(j.epoch.empty());
      }
    }
  }
  client exact("b2d0c7f3a91e4d55");
  exact.positions["lobby"] = {first.epoch, 2}; // right before what is kept
  exact.connect(s.port(), "/r/lobby");
  BOOST_CHECK_EQUAL(exact.joined().missed, 3);
  const auto r = s.server.stats().resume;
  BOOST_CHECK_EQUAL(r.recovered, 1);
  BOOST_CHECK_EQUAL(r.lost_trimmed, 1);
  BOOST_CHECK_EQUAL(r.lost_ahead, 1);
  BOOST_CHECK_EQUAL(r.lost_epoch, 1);
  BOOST_CHECK_EQUAL(r.lost_no_history, 1);
  BOOST_CHECK_EQUAL(room.stats().resume.lost_trimmed, 1);
}

BOOST_AUTO_TEST_CASE(another_server_is_another_epoch) {
  client c("b2d0c7f3a91e4d55");
  for (int life = 0; life < 2; ++life) {
    rooms_server s(keeping(100));
    c.connect(s.port(), "/r/lobby");
    const auto j = c.joined();
    BOOST_CHECK_EQUAL(j.recovered, life == 0 ? -1 : 0);
    BOOST_CHECK_EQUAL(j.why, life == 0 ? "" : "epoch");
    s.server.room("lobby").publish("x");
    BOOST_CHECK_EQUAL(c.take().offset, 1);
  }
}

// A member under the protocol that does not keep up loses its connection, whatever the policy, and no
// message.
BOOST_AUTO_TEST_CASE(who_falls_behind_catches_up) {
  for (const auto policy :
       {chorus::overflow::drop_oldest, chorus::overflow::drop_newest, chorus::overflow::latest,
        chorus::overflow::wait, chorus::overflow::close}) {
    BOOST_TEST_CONTEXT(to_string(policy)) {
      chorus::server_options options;
      options.session.on_overflow = policy;
      options.session.queue_bytes = 64 * 1024;
      options.session.heartbeat.write_wait = 0ms;
      options.session.close_timeout = 10min; // it is read when all has been published
      options.rooms = [](std::string_view) {
        chorus::room_options r;
        r.history_messages = 10'000;
        r.history_bytes = 64 << 20;
        return r;
      };
      rooms_server s(options);
      client c("b2d0c7f3a91e4d55");
      c.connect(s.port(), "/r/lobby");
      c.joined();
      auto room = s.server.room("lobby");
      constexpr int messages = 1000;
      const std::string filler(16 * 1024, 'x');
      for (int i = 0; i < messages; ++i)
        while (room.stats().published == static_cast<std::uint64_t>(i)) {
          room.publish(std::to_string(i) + ":" + filler, {.key = "k"});
          comes_true([&] { return room.stats().published > static_cast<std::uint64_t>(i); });
        }
      int lost = 0;
      for (auto h = c.take(); h.t != "msg" || !h.payload.starts_with("999:"); h = c.take())
        if (h.t.empty()) {
          BOOST_REQUIRE_EQUAL(h.closed, 1013);
          BOOST_REQUIRE_LT(++lost, 100);
          c.connect(s.port(), "/r/lobby");
          BOOST_REQUIRE_EQUAL(c.joined().recovered, 1);
        }
      BOOST_CHECK_GT(lost, 0);
      const auto &seen = c.seen["lobby"];
      BOOST_REQUIRE_EQUAL(seen.size(), messages);
      for (int i = 0; i < messages; ++i)
        BOOST_REQUIRE(seen[static_cast<std::size_t>(i)].starts_with(std::to_string(i) + ":"));
      BOOST_CHECK(
          comes_true([&] { return s.server.stats().evicted == static_cast<std::uint64_t>(lost); }));
    }
  }
}

// Two joins of one session, of which the first is cancelled on its way.
BOOST_AUTO_TEST_CASE(a_position_outlives_a_join_that_came_to_nothing) {
  running loop(2);
  chorus::server srv(loop.rt(), keeping(100));
  const auto name_of = [](int i) { return "r" + std::to_string(i); };
  constexpr int rooms = 16;
  std::atomic<bool> released{false};
  srv.route("/all", [&](chorus::session s, chorus::request) -> chorus::task<> {
    std::vector<chorus::seat> seats;
    for (int i = 0; i < rooms; ++i) {
      auto held = co_await srv.room(name_of(i)).join(s);
      seats.push_back(std::move(*held));
    }
    co_await s.wait_closed();
  });
  srv.route("/twice", [&](chorus::session s, chorus::request) -> chorus::task<> {
    auto asked = co_await s.receive(); // so the hello has come
    auto room = srv.room(name_of(0));
    for (int i = 0; i < rooms && room.core()->home() == s.core()->home_ptr(); ++i)
      room = srv.room(name_of(i));
    std::promise<void> stuck;
    room.core()->home()->post([&] {
      stuck.set_value();
      while (!released)
        std::this_thread::yield();
    });
    stuck.get_future().wait();
    boost::asio::cancellation_signal cancel;
    bool ended = false;
    auto first = room.join(s);
    auto told = [&ended](std::exception_ptr, chorus::result<chorus::seat>) { ended = true; };
    boost::asio::co_spawn(s.core()->home().executor(), std::move(first),
                          boost::asio::bind_cancellation_slot(cancel.slot(), told));
    auto second =
        boost::asio::co_spawn(s.core()->home().executor(), room.join(s), boost::asio::use_future);
    for (int i = 0; i < 3; ++i)
      co_await chorus::sleep(1ms); // both are on their way
    cancel.emit(boost::asio::cancellation_type::all);
    while (!ended)
      co_await chorus::sleep(1ms);
    released = true;
    while (second.wait_for(0s) != std::future_status::ready)
      co_await chorus::sleep(1ms);
    auto held = second.get();
    co_await s.wait_closed();
  });
  BOOST_REQUIRE(loop.wait(srv.start()));
  client c("b2d0c7f3a91e4d55");
  c.connect(srv.port(), "/all");
  for (int i = 0; i < rooms; ++i)
    c.joined();
  c.connect(srv.port(), "/twice");
  c.send("go");
  auto h = c.take();
  while (h.t != "joined")
    h = c.take();
  BOOST_CHECK_EQUAL(h.recovered, 1);
  c.vanish();
  loop.wait(srv.stop(5s));
}

// More history than the queue may hold is sent at the reader's pace; what comes meanwhile has a queue
// of its own.
BOOST_AUTO_TEST_CASE(a_long_history_does_not_count_against_the_queue) {
  chorus::server_options options;
  options.session.queue_bytes = 128 * 1024;
  options.queue_budget_bytes = std::size_t{1} << 30; // so that what waits is summed up
  options.rooms = [](std::string_view) {
    chorus::room_options r;
    r.history_messages = 10'000;
    r.history_bytes = 64 << 20;
    r.presence = true; // the list comes right behind the history
    return r;
  };
  rooms_server s(options);
  client c("b2d0c7f3a91e4d55");
  c.connect(s.port(), "/r/lobby");
  c.joined();
  auto room = s.server.room("lobby");
  room.publish("0");
  while (c.take().offset != 1) {
  }
  c.vanish();
  BOOST_REQUIRE(comes_true([&] { return room.size() == 0; }));
  constexpr int messages = 1000;
  const std::string filler(16 * 1024, 'x'); // more than the kernel takes
  for (int i = 1; i <= messages; ++i) {
    room.publish(std::to_string(i) + ":" + filler);
    BOOST_REQUIRE(
        comes_true([&] { return room.stats().published > static_cast<std::uint64_t>(i); }));
  }
  c.connect(s.port(), "/r/lobby");
  const auto j = c.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(j.missed, messages);
  for (int i = 0; i < 3; ++i)
    room.publish("now " + std::to_string(i), {.time_to_live = 60s});
  // Each of these waits, and is told of.
  BOOST_REQUIRE(comes_true([&] { return room.stats().published == messages + 4; }));
  BOOST_CHECK(comes_true([&] { return s.server.stats().queued_bytes_waiting > 1U << 20; }));
  std::vector<std::string> others;
  while (c.seen["lobby"].size() < messages + 1 || others.size() < 4) {
    const auto h = c.take();
    BOOST_REQUIRE_EQUAL(h.t, "msg");
    if (h.offset < 0)
      others.push_back(h.payload);
  }
  for (const char *one : {"now 0", "now 1", "now 2"}) // and the list somewhere
    BOOST_CHECK_EQUAL(std::count(others.begin(), others.end(), one), 1);
  BOOST_CHECK_EQUAL(s.server.stats().evicted, 0);
  // What follows has the bound that it always had.
  for (int i = 0; i < messages; ++i) {
    room.publish("more" + filler);
    BOOST_REQUIRE(comes_true(
        [&] { return room.stats().published == static_cast<std::uint64_t>(messages + 5 + i); }));
  }
  BOOST_CHECK(comes_true([&] { return s.server.stats().evicted == 1; }));
}

BOOST_AUTO_TEST_SUITE_END()
