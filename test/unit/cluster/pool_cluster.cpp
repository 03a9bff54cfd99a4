// A Redis Cluster: slots that move while they are used, and a master that goes.

#include "pool_support.hpp"

#include <chorus/cluster/redis_protocol.hpp>

using namespace pool_test;
using chorus::detail::redis_slot;
using test_support::redis_cluster;

namespace {

BOOST_AUTO_TEST_SUITE(redis_pool_cluster)

std::string key_on(const redis_cluster &cluster, std::size_t owner, const std::string &stem) {
  for (int i = 0;; ++i)
    if (auto key = "{" + stem + std::to_string(i) + "}"; cluster.owner(redis_slot(key)) == owner)
      return key;
}

BOOST_AUTO_TEST_CASE(each_key_goes_to_its_master) {
  redis_cluster cluster(3);
  living_pool p(cluster.url());
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  BOOST_TEST(p.pool().clustered());
  for (int i = 0; i != 60; ++i) {
    const auto key = "{k" + std::to_string(i) + "}:s";
    BOOST_TEST(p.say(key, {"SET", key, std::to_string(i)}) == "OK");
    BOOST_TEST(cluster[cluster.owner(redis_slot(key))].ask({"GET", key}) == std::to_string(i));
  }
  const auto script = chorus::detail::make_redis_script(
      "redis.call('SET', KEYS[1], ARGV[1]) redis.call('SPUBLISH', KEYS[2], ARGV[1]) return 'done'");
  for (std::size_t i = 0; i != 3; ++i) {
    const auto room = key_on(cluster, i, "room");
    p.subscribe(room);
    BOOST_TEST(comes_true([&] { return p.confirmed(room) == std::pair(1, 0); }));
    BOOST_TEST(living_pool::text_of(
                   living_pool::get(p.start(script, {room + ":s", room}, {"hi"}))) == "done");
    BOOST_TEST(comes_true([&] { return p.has_message(room, "hi"); }));
  }
}

// A slot goes from master to master under a load of scripts: each is executed once, in order.
BOOST_AUTO_TEST_CASE(a_slot_that_moves_loses_and_doubles_nothing) {
  redis_cluster cluster(3);
  living_pool p(cluster.url());
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  const auto room = key_on(cluster, 0, "room");
  p.subscribe(room);
  BOOST_TEST(comes_true([&] { return p.confirmed(room) == std::pair(1, 0); }));
  const auto add = chorus::detail::make_redis_script(
      "redis.call('INCR', KEYS[2]) return redis.call('RPUSH', KEYS[1], ARGV[1])");
  std::vector<std::future<redis_outcome>> all;
  int next = 0;
  const auto some = [&](int n) {
    for (int i = 0; i != n; ++i)
      all.push_back(p.start(add, {room + ":l", room + ":n"}, {std::to_string(next++)}));
  };
  some(100);
  for (std::size_t from = 0; from != 3; ++from) {
    std::thread mover([&] {
      cluster.move_slot(redis_slot(room), from, (from + 1) % 3, [&] {
        // Half of its keys are there, half here: TRYAGAIN, until the rest follows.
        cluster[from].ask({"DEL", room + ":none"});
      });
    });
    for (int i = 0; i != 50; ++i) {
      some(4);
      p.ask(room, {"EXISTS", room + ":l"});
    }
    mover.join();
    some(20);
    // And who listens is moved as well.
    BOOST_TEST(comes_true([&] { return p.confirmed(room).second > static_cast<int>(from); }));
  }
  int doubtful = 0;
  for (std::size_t i = 0; i != all.size(); ++i) {
    const auto what = living_pool::get(std::move(all[i]));
    if (living_pool::text_of(what) != std::to_string(i + 1) && ++doubtful < 5)
      BOOST_TEST(living_pool::text_of(what) == std::to_string(i + 1));
  }
  std::string expected;
  for (int i = 0; i != next; ++i)
    expected += (i ? "\n" : "") + std::to_string(i);
  BOOST_TEST((cluster[0].ask({"LRANGE", room + ":l", "0", "-1"}) == expected));
  BOOST_TEST(comes_true([&] { return cluster[0].ask({"SPUBLISH", room, "moved"}) == "1"; }));
  BOOST_TEST(comes_true([&] { return p.has_message(room, "moved"); }));
  BOOST_TEST(p.down_count() == 0U);
}

BOOST_AUTO_TEST_CASE(a_key_that_is_asked_for_elsewhere) {
  redis_cluster cluster(2);
  living_pool p(cluster.url());
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  const auto room = key_on(cluster, 0, "room");
  BOOST_TEST(p.say(room, {"SET", room + "old", "1"}) == "OK");
  cluster.move_slot(redis_slot(room), 0, 1, [&] {
    // Migrating: what is not here is asked for there.
    BOOST_TEST(p.say(room, {"GET", room + "old"}) == "1");
    BOOST_TEST(p.say(room, {"SET", room + "new", "2"}) == "OK");
    BOOST_TEST(p.say(room, {"GET", room + "new"}) == "2");
  });
  BOOST_TEST(p.say(room, {"GET", room + "new"}) == "2");
  BOOST_TEST(p.say(room, {"GET", room + "old"}) == "1");
  BOOST_TEST(cluster[1].ask({"GET", room + "new"}) == "2");
}

BOOST_AUTO_TEST_CASE(a_master_that_goes_takes_only_its_slots) {
  redis_cluster cluster(3, {"appendonly yes", "cluster-require-full-coverage no"});
  living_pool p(cluster.url());
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  const auto gone = key_on(cluster, 1, "a");
  const auto stays = key_on(cluster, 2, "b");
  p.subscribe(gone);
  BOOST_TEST(comes_true([&] { return p.confirmed(gone) == std::pair(1, 0); }));
  cluster[1].kill();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST((p.ask(gone, {"SET", gone, "v"}).is == kind::not_done));
  BOOST_TEST(p.say(stays, {"SET", stays, "v"}) == "OK");
  cluster[1].restart();
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST(comes_true([&] { return p.say(gone, {"SET", gone, "v"}) == "OK"; }));
  BOOST_TEST(comes_true([&] { return p.confirmed(gone).second >= 1; }));
}

BOOST_AUTO_TEST_CASE(the_wrong_kind_of_url_is_said) {
  redis_cluster cluster(1);
  redis_process single;
  living_pool p(cluster[0].url());
  p.begin();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST(p.first_down().message().find("redis+cluster://") != std::string::npos);
  living_pool q("redis+cluster://127.0.0.1:" + std::to_string(single.port()));
  q.begin();
  BOOST_TEST(comes_true([&] { return q.down_count() == 1; }));
  BOOST_TEST(q.first_down().message().find("CLUSTER") != std::string::npos,
             q.first_down().message());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
