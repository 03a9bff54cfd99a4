// The master that Sentinel names, and the one that it names after a failover.

#include "pool_support.hpp"

using namespace pool_test;

namespace {

BOOST_AUTO_TEST_SUITE(redis_pool_sentinel)

struct failing_over {
  redis_process master;
  redis_process replica;
  std::unique_ptr<redis_process> sentinel;

  explicit failing_over(std::vector<std::string> lines = {}, const std::string &password = "")
      : master(lines), replica(lines) {
    replica.ask({"REPLICAOF", "127.0.0.1", std::to_string(master.port())});
    BOOST_REQUIRE(comes_true([&] {
      return replica.ask({"INFO", "replication"}).find("master_link_status:up") !=
             std::string::npos;
    }));
    test_support::redis_process_options o;
    o.sentinel = true;
    o.lines = {"sentinel monitor mine 127.0.0.1 " + std::to_string(master.port()) + " 1",
               // Nobody is taken for down because the machine is slow.
               "sentinel down-after-milliseconds mine 5000", "sentinel failover-timeout mine 3000"};
    if (!password.empty())
      o.lines.push_back("sentinel auth-pass mine " + password);
    sentinel = std::make_unique<redis_process>(o);
    // Without knowing the replica it can't promote it.
    BOOST_REQUIRE(comes_true([&] {
      return sentinel->ask({"SENTINEL", "replicas", "mine"}).find(std::to_string(replica.port())) !=
             std::string::npos;
    }));
  }
  std::string url(const std::string &who = "", const std::string &before = "") const {
    return "redis+sentinel://" + who + before + "127.0.0.1:" + std::to_string(sentinel->port()) +
           "?master=mine";
  }
};

BOOST_AUTO_TEST_CASE(a_failover_is_followed) {
  failing_over three;
  // The first of the Sentinels is not there.
  living_pool p(three.url("", "127.0.0.1:1,"));
  BOOST_REQUIRE(p.comes_up());
  p.subscribe("c");
  BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 0); }));
  BOOST_TEST(p.say("k", {"SET", "k", "v"}) == "OK");
  BOOST_TEST(p.say("k", {"WAIT", "1", "10000"}) == "1");
  auto waits = p.start("list", {"BLPOP", "list", "0"});
  three.master.kill();
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST((living_pool::get(std::move(waits)).is == kind::unknown));
  BOOST_TEST(p.say("k", {"GET", "k"}) == "v");
  BOOST_TEST(p.say("k", {"SET", "k", "w"}) == "OK");
  BOOST_TEST(three.replica.ask({"GET", "k"}) == "w");
  BOOST_TEST(comes_true([&] { return p.confirmed("c").second >= 1; }));
  BOOST_TEST(comes_true([&] { return three.replica.ask({"PUBLISH", "c", "there"}) == "1"; }));
  BOOST_TEST(comes_true([&] { return p.has_message("c", "there"); }));
  BOOST_TEST(
      p.has_event("the master is now Redis at 127.0.0.1:" + std::to_string(three.replica.port())));
}

// A failover by hand, while both stay there: the old one becomes a replica under the pool's feet.
BOOST_AUTO_TEST_CASE(a_demoted_master_is_not_used) {
  failing_over three({"requirepass sesame", "masterauth sesame"}, "sesame");
  living_pool p(three.url(":sesame@"));
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  p.subscribe("c");
  BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 0); }));
  BOOST_TEST(comes_true([&] {
    return three.sentinel->ask({"SENTINEL", "FAILOVER", "mine"}) == "OK";
  }));
  int executed = 0;
  int unknown = 0; // whether they were
  BOOST_TEST(comes_true([&] {
    const auto what = p.ask("n", {"INCR", "n"});
    if (what.is == kind::answered) {
      BOOST_TEST((what.reply.is == redis_reply::type::number), what.reply.text);
      ++executed;
    }
    unknown += what.is == kind::unknown || what.is == kind::doubtful;
    return p.has_event("the master is now Redis at");
  }));
  std::string last;
  BOOST_TEST(comes_true([&] {
    last = p.say("n", {"INCR", "n"});
    return last.find_first_not_of("0123456789") == std::string::npos;
  }));
  ++executed;
  // By the new master; and nothing was done twice. What the old one did last the new one may lack.
  BOOST_TEST(three.replica.ask({"GET", "n"}) == last);
  BOOST_TEST(std::stoi(last) <= executed + unknown, last);
  BOOST_TEST(comes_true([&] {
    return three.replica.ask({"PUBLISH", "c", "there"}) == "1" && p.has_message("c", "there");
  }));
}

BOOST_AUTO_TEST_CASE(a_sentinel_that_knows_no_such_master_says_so) {
  test_support::redis_process_options o;
  o.sentinel = true;
  redis_process sentinel(o);
  living_pool p("redis+sentinel://127.0.0.1:" + std::to_string(sentinel.port()) + "?master=yours");
  p.begin();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST(p.first_down().message().find("knows no master \"yours\"") != std::string::npos);
  living_pool q("redis://127.0.0.1:" + std::to_string(sentinel.port()));
  q.begin();
  BOOST_TEST(comes_true([&] { return q.down_count() == 1; }));
  BOOST_TEST_MESSAGE(q.first_down().message());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
