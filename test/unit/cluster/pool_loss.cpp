// What becomes of calls when the connection is lost, and of a pool that is asked too much or closed.

#include "fake_redis.hpp"
#include "pool_support.hpp"

#include <future>

using namespace pool_test;

namespace {

BOOST_AUTO_TEST_SUITE(redis_pool_loss)

// The bytes of the lost connection come to Redis after the new connection is up: nothing of them may be
// executed any more once the pool has said `unknown`.
BOOST_AUTO_TEST_CASE(what_was_sent_on_a_lost_connection_is_not_executed_late) {
  redis_process server;
  relay between(server.port());
  auto o = quick_options();
  o.answer_timeout = 3s; // enough for what is answered
  living_pool p(between.url(), o);
  BOOST_REQUIRE(p.comes_up());
  between.hold();
  std::vector<std::future<redis_outcome>> all;
  for (int i = 0; i != 10; ++i)
    all.push_back(p.start("list", {"RPUSH", "list", std::to_string(i)}));
  for (auto &one : all) {
    const auto what = living_pool::get(std::move(one));
    BOOST_TEST((what.is == kind::unknown), living_pool::name_of(what.is));
    BOOST_TEST((what.why == chorus::error::unconfirmed));
  }
  BOOST_TEST(between.held() > 0U);
  BOOST_TEST(server.ask({"LLEN", "list"}) == "0");
  between.release(); // now they arrive
  BOOST_TEST(between.passed() > 0U);
  BOOST_TEST(comes_true([&] { return p.ups.load() >= 2; }));
  BOOST_TEST(p.say("list", {"RPUSH", "list", "after"}) == "1");
  BOOST_TEST(server.ask({"LRANGE", "list", "0", "-1"}) == "after");
}

BOOST_AUTO_TEST_CASE(a_user_that_may_not_kill_leaves_it_doubtful) {
  redis_process server({"user default off", "user worker on >sesame ~* &* +@all -client|kill"});
  relay between(server.port());
  auto o = quick_options();
  o.answer_timeout = 3s; // enough for what is answered
  living_pool p("redis://worker:sesame@" + between.url().substr(8), o);
  BOOST_REQUIRE(p.comes_up());
  between.hold();
  auto lost = p.start("list", {"RPUSH", "list", "late"});
  const auto what = living_pool::get(std::move(lost));
  BOOST_TEST((what.is == kind::doubtful), living_pool::name_of(what.is));
  BOOST_TEST(p.say("list", {"LLEN", "list"}) == "0");
  between.release();
  // And so it was.
  BOOST_TEST(comes_true([&] { return p.say("list", {"LLEN", "list"}) == "1"; }));
}

BOOST_AUTO_TEST_CASE(a_stopped_redis_is_doubtful_after_the_look_up_time) {
  redis_process server;
  auto o = quick_options();
  o.answer_timeout = 200ms;
  o.look_up_timeout = 500ms;
  living_pool p(server.url(), o);
  BOOST_REQUIRE(p.comes_up());
  server.pause();
  auto lost = p.start("list", {"RPUSH", "list", "late"});
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST((p.first_down() == chorus::error::timed_out));
  BOOST_TEST((p.ask("list", {"PING"}).is == kind::not_done)); // at once
  const auto what = living_pool::get(std::move(lost));
  BOOST_TEST((what.is == kind::doubtful), living_pool::name_of(what.is));
  server.resume();
  BOOST_TEST(comes_true([&] { return p.ups.load() >= 2; }));
  BOOST_TEST(comes_true([&] { return p.say("k", {"SET", "k", "v"}) == "OK"; }));
}

BOOST_AUTO_TEST_CASE(a_restart_makes_it_unknown) {
  redis_process server;
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  auto waits = p.start("list", {"BLPOP", "list", "0"});
  BOOST_TEST(comes_true([&] {
    return server.ask({"INFO", "clients"}).find("blocked_clients:1") != std::string::npos;
  }));
  // Within the answer the pool is up already, and what is asked there goes first.
  server.restart(false);
  BOOST_TEST((living_pool::get(std::move(waits)).is == kind::unknown));
  BOOST_TEST(p.say("k", {"PING"}) == "PONG");
}

// More than the system takes: what was not sent is not done, and never will be.
BOOST_AUTO_TEST_CASE(what_was_not_sent_is_not_done) {
  redis_process server;
  auto o = quick_options();
  o.answer_timeout = 3s; // enough for what is answered
  living_pool p(server.url(), o);
  BOOST_REQUIRE(p.comes_up());
  server.pause();
  const std::string large(500'000, 'x');
  std::vector<std::future<redis_outcome>> all;
  for (int i = 0; i != 60; ++i)
    all.push_back(p.start("k", {"SET", "k" + std::to_string(i), large}));
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  server.resume();
  int unsent = 0;
  int unknown = 0;
  std::vector<bool> never;
  std::vector<std::string> there;
  for (int i = 0; i != 60; ++i) {
    const auto what = living_pool::get(std::move(all[static_cast<std::size_t>(i)]));
    BOOST_TEST((what.is == kind::unknown || what.is == kind::not_done));
    ++(what.is == kind::unknown ? unknown : unsent);
    never.push_back(what.is == kind::not_done);
  }
  BOOST_TEST(unsent > 0);
  BOOST_TEST(unknown > 0);
  for (int i = 0; i != 60; ++i) {
    there.push_back(server.ask({"EXISTS", "k" + std::to_string(i)}));
    if (never[static_cast<std::size_t>(i)])
      BOOST_TEST(there.back() == "0");
  }
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  for (int i = 0; i != 10; ++i)
    BOOST_TEST(p.say("k", {"PING"}) == "PONG");
  for (int i = 0; i != 60; ++i)
    BOOST_TEST(server.ask({"EXISTS", "k" + std::to_string(i)}) ==
               there[static_cast<std::size_t>(i)]);
}

BOOST_AUTO_TEST_CASE(a_silent_connection_is_found_by_pings) {
  redis_process server;
  relay between(server.port());
  auto o = quick_options();
  o.ping_interval = 100ms;
  o.answer_timeout = 400ms;
  living_pool p(between.url(), o);
  BOOST_REQUIRE(p.comes_up());
  p.subscribe("c");
  BOOST_TEST(comes_true([&] { return p.confirmed("c").first == 1; }));
  between.hold(); // both of them, and nobody asks anything
  BOOST_TEST(comes_true([&] { return p.ups.load() >= 2; }));
  BOOST_TEST(comes_true([&] { return p.confirmed("c").second >= 1; }));
  BOOST_TEST(comes_true([&] {
    return server.ask({"PUBLISH", "c", "now"}) != "0" && p.has_message("c", "now");
  }));
}

BOOST_AUTO_TEST_CASE(too_many_calls_are_refused) {
  redis_process server;
  auto o = quick_options();
  o.max_waiting = 10;
  o.max_waiting_bytes = 10'000;
  living_pool p(server.url(), o);
  BOOST_REQUIRE(p.comes_up());
  std::vector<std::future<redis_outcome>> all;
  all.push_back(p.start("list", {"BLPOP", "list", "0"}));
  for (int i = 0; i != 9; ++i)
    all.push_back(p.start("list", {"ECHO", std::to_string(i)}));
  const auto refused = p.ask("list", {"PING"});
  BOOST_TEST((refused.is == kind::not_done));
  BOOST_TEST((refused.why == chorus::error::queue_full));
  BOOST_TEST(p.pool().stats().waiting == 10U);
  server.ask({"RPUSH", "list", "x"});
  for (auto &one : all)
    BOOST_TEST((living_pool::get(std::move(one)).is == kind::answered));
  BOOST_TEST(p.pool().stats().waiting == 0U);
  const auto large = p.ask("k", {"SET", "k", std::string(10'001, 'x')});
  BOOST_TEST((large.why == chorus::error::queue_full));
  BOOST_TEST(p.say("k", {"PING"}) == "PONG");
}

BOOST_AUTO_TEST_CASE(a_closed_pool_answers_what_waits) {
  redis_process server;
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  auto sent = p.start("list", {"BLPOP", "list", "0"});
  BOOST_TEST(comes_true([&] {
    return server.ask({"INFO", "clients"}).find("blocked_clients:1") != std::string::npos;
  }));
  p.on_shard([&] {
    p.pool().command("k", {"SET", "k", "v"}, [](redis_outcome) {});
    p.pool().close();
  });
  BOOST_TEST((living_pool::get(std::move(sent)).is == kind::doubtful));
  const auto after = p.ask("k", {"PING"});
  BOOST_TEST((after.is == kind::not_done));
  BOOST_TEST((after.why == chorus::error::not_open));
  BOOST_TEST(p.pool().stats().waiting == 0U);
  BOOST_TEST(server.ask({"EXISTS", "k"}) == "0"); // it was never sent
  BOOST_TEST(p.down_count() == 0U);               // nothing is told any more
}

BOOST_AUTO_TEST_CASE(it_can_be_closed_from_within_what_it_tells) {
  redis_process server;
  for (int way = 0; way != 3; ++way) {
    living_pool p(server.url());
    if (way == 0)
      p.at_up = [](redis_pool &pool) { pool.close(); };
    BOOST_REQUIRE(p.comes_up());
    std::promise<void> told;
    if (way == 1) {
      p.on_shard([&] {
        for (int i = 0; i != 3; ++i)
          p.pool().command("k", {"PING"}, [&, i](redis_outcome what) {
            BOOST_TEST_MESSAGE(living_pool::name_of(what.is));
            if (i == 0)
              p.pool().close();
            if (i == 2)
              told.set_value();
          });
      });
      told.get_future().wait();
    } else if (way == 2) {
      server.kill();
      auto waits = p.start("k", {"PING"});
      BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
      p.on_shard([&] { p.pool().close(); }); // in the middle of an attempt
      BOOST_TEST((living_pool::get(std::move(waits)).is != kind::answered));
    }
    BOOST_TEST((p.ask("k", {"PING"}).is == kind::not_done));
  }
}

BOOST_AUTO_TEST_CASE(a_runtime_that_ends_answers_what_waits) {
  redis_process server;
  const auto target = chorus::detail::parse_redis_url(server.url());
  std::promise<redis_outcome> outcome;
  std::promise<void> up;
  std::shared_ptr<redis_pool> pool;
  {
    chorus::runtime rt;
    std::thread thread([&] { rt.run(); });
    const auto home = rt.core()->shards[0];
    redis_pool::listener told;
    told.on_up = [&] { up.set_value(); };
    pool = redis_pool::make(home, *target, quick_options(), told);
    home->post([&] { pool->begin(); });
    up.get_future().wait();
    home->post([&] {
      pool->command("list", {"BLPOP", "list", "0"},
                    [&](redis_outcome what) { outcome.set_value(std::move(what)); });
      pool->subscribe("c"); // and one attempt is under way
    });
    BOOST_TEST(comes_true([&] {
      return server.ask({"INFO", "clients"}).find("blocked_clients:1") != std::string::npos;
    }));
    rt.stop();
    thread.join();
  }
  BOOST_TEST((outcome.get_future().get().is == kind::doubtful));
  BOOST_TEST(!pool->up());
  pool->command("k", {"PING"}, [](redis_outcome what) { BOOST_TEST((what.is == kind::not_done)); });
}

BOOST_AUTO_TEST_CASE(a_master_that_becomes_a_replica_is_left) {
  redis_process server;
  redis_process other;
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  BOOST_TEST(server.ask({"REPLICAOF", "127.0.0.1", std::to_string(other.port())}) == "OK");
  const auto refused = p.ask("k", {"SET", "k", "v"});
  BOOST_TEST((refused.is == kind::not_done), living_pool::text_of(refused));
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST(comes_true([&] { return p.has_event("is a replica"); }));
  server.ask({"REPLICAOF", "NO", "ONE"});
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST(p.say("k", {"SET", "k", "v"}) == "OK");
}

// Redis ends a subscriber that does not keep up; it comes back by itself.
BOOST_AUTO_TEST_CASE(an_overrun_of_the_output_buffer_is_a_loss) {
  redis_process server({"client-output-buffer-limit pubsub 100kb 50kb 1"});
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  p.subscribe("c");
  BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 0); }));
  std::promise<void> end;
  auto until = end.get_future().share();
  std::thread busy([&] { p.on_shard([until] { until.wait(); }); }); // the shard reads nothing
  const std::string large(90'000, 'x');
  BOOST_TEST(comes_true([&] { return server.ask({"PUBLISH", "c", large}) == "0"; }));
  end.set_value();
  busy.join();
  BOOST_TEST(comes_true([&] { return p.confirmed("c").second == 1; }));
  BOOST_TEST(server.ask({"PUBLISH", "c", "after"}) == "1");
  BOOST_TEST(comes_true([&] { return p.has_message("c", "after"); }));
  BOOST_TEST(p.down_count() == 0U);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
