// The pool on one Redis.

#include "pool_support.hpp"

#include <chorus/cluster/redis_protocol.hpp>

#include <poll.h>
#include <unistd.h>

using namespace pool_test;

namespace {

BOOST_AUTO_TEST_SUITE(redis_pool_single)

BOOST_AUTO_TEST_CASE(commands_are_answered_in_order) {
  redis_process server;
  living_pool p(server.url());
  BOOST_TEST((p.ask("k", {"PING"}).is == kind::not_done));
  BOOST_REQUIRE(p.comes_up());
  BOOST_TEST(p.pool().up());
  BOOST_TEST(!p.pool().clustered());
  BOOST_TEST(p.say("k", {"SET", "k", "v"}) == "OK");
  BOOST_TEST(p.say("k", {"GET", "k"}) == "v");
  BOOST_TEST(p.say("k", {"GET", "other"}) == "(nil)");
  std::vector<std::future<redis_outcome>> all;
  for (int i = 0; i != 2000; ++i)
    all.push_back(p.start("n", {"INCR", "n"}));
  for (int i = 0; i != 2000; ++i) {
    const auto said =
        living_pool::text_of(living_pool::get(std::move(all[static_cast<std::size_t>(i)])));
    if (said != std::to_string(i + 1))
      BOOST_REQUIRE_EQUAL(said, std::to_string(i + 1));
  }
  const auto wrong = p.ask("n", {"LPUSH", "n", "x"});
  BOOST_TEST((wrong.is == kind::answered));
  BOOST_TEST((wrong.reply.is == redis_reply::type::error));
  const auto stats = p.pool().stats();
  BOOST_TEST(stats.commands == 2004U);
  BOOST_TEST(stats.connects == 1U);
  BOOST_TEST(stats.waiting == 0U);
  BOOST_TEST(stats.waiting_bytes == 0U);
  BOOST_TEST(server.ask({"CLIENT", "LIST"}).find("name=test ") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(large_values_and_any_bytes_pass) {
  redis_process server;
  living_pool p(server.unix_url());
  BOOST_REQUIRE(p.comes_up());
  std::string large;
  for (int i = 0; i != 9'000'000; ++i)
    large += static_cast<char>(i * 31);
  BOOST_TEST(p.say("k", {"SET", "k", large}) == "OK");
  BOOST_TEST((p.say("k", {"GET", "k"}) == large));
  BOOST_TEST(p.say("k", {"SET", std::string("a\0\r\n", 4), ""}) == "OK");
  BOOST_TEST(p.say("k", {"STRLEN", std::string("a\0\r\n", 4)}) == "0");
}

BOOST_AUTO_TEST_CASE(scripts_are_sent_by_text_once_and_by_their_sum_afterwards) {
  redis_process server;
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  const auto add =
      chorus::detail::make_redis_script("return redis.call('RPUSH', KEYS[1], ARGV[1])");
  BOOST_TEST(add.sha == server.ask({"SCRIPT", "LOAD", add.text}));
  server.ask({"SCRIPT", "FLUSH"});
  server.ask({"CONFIG", "RESETSTAT"});
  std::vector<std::future<redis_outcome>> all;
  for (int i = 0; i != 100; ++i)
    all.push_back(p.start(add, {"list"}, {std::to_string(i)}));
  for (auto &one : all)
    BOOST_TEST((living_pool::get(std::move(one)).reply.is == redis_reply::type::number));
  auto counts = server.ask({"INFO", "commandstats"});
  BOOST_TEST(counts.find("cmdstat_eval:calls=1,") != std::string::npos);
  BOOST_TEST(counts.find("cmdstat_evalsha:calls=99,") != std::string::npos);
  // Redis forgets it: what it refuses goes again, in order, and before what is called later.
  server.ask({"DEL", "list"});
  server.ask({"SCRIPT", "FLUSH"});
  all.clear();
  for (int i = 0; i != 300; ++i) {
    all.push_back(p.start(add, {"list"}, {std::to_string(i)}));
    if (i % 50 == 7) // so that some are called while others come back
      living_pool::get(p.start("other", {"PING"}));
  }
  for (int i = 0; i != 300; ++i)
    BOOST_TEST(living_pool::text_of(living_pool::get(
                   std::move(all[static_cast<std::size_t>(i)]))) == std::to_string(i + 1));
  std::string expected;
  for (int i = 0; i != 300; ++i)
    expected += (i ? "\n" : "") + std::to_string(i);
  BOOST_TEST(server.ask({"LRANGE", "list", "0", "-1"}) == expected);
}

BOOST_AUTO_TEST_CASE(channels_are_told_and_told_again_after_a_loss) {
  redis_process server;
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  for (int i = 0; i != 200; ++i)
    p.subscribe("c" + std::to_string(i));
  BOOST_TEST(comes_true([&] { return p.confirmed("c199") == std::pair(1, 0); }));
  BOOST_TEST(server.ask({"PUBLISH", "c7", "one"}) == "1");
  BOOST_TEST(comes_true([&] { return p.has_message("c7", "one"); }));
  p.unsubscribe("c8");
  BOOST_TEST(comes_true([&] { return server.ask({"PUBLISH", "c8", "none"}) == "0"; }));
  BOOST_TEST(server.ask({"CLIENT", "KILL", "TYPE", "pubsub"}) == "1");
  for (int i = 0; i != 200; ++i)
    if (i != 8)
      BOOST_TEST(
          comes_true([&] { return p.confirmed("c" + std::to_string(i)) == std::pair(1, 1); }));
  BOOST_TEST(server.ask({"PUBLISH", "c9", "two"}) == "1");
  BOOST_TEST(comes_true([&] { return p.has_message("c9", "two"); }));
  BOOST_TEST((p.confirmed("c8") == std::pair(1, 0)));
  BOOST_TEST(!p.has_message("c8", "none"));
  // Once more from the beginning: it was not lost in between.
  p.subscribe("c8");
  BOOST_TEST(comes_true([&] { return p.confirmed("c8") == std::pair(2, 0); }));
}

BOOST_AUTO_TEST_CASE(a_restart_is_told_and_overcome) {
  redis_process server({"appendonly yes", "appendfsync always"});
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  p.subscribe("c");
  BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 0); }));
  BOOST_TEST(p.say("k", {"SET", "k", "v"}) == "OK");
  server.kill();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST(!p.pool().up());
  const auto away = p.ask("k", {"GET", "k"});
  BOOST_TEST((away.is == kind::not_done));
  BOOST_TEST(away.why.message().find("127.0.0.1:" + std::to_string(server.port())) !=
             std::string::npos);
  server.restart();
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST(p.say("k", {"GET", "k"}) == "v");
  BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 1); }));
  BOOST_TEST(p.has_event("restarted"));
  BOOST_TEST(p.down_count() == 1U);
  BOOST_TEST(p.pool().stats().disconnects == 2U);
}

// Else the other end of a connection of this test would not see it end.
BOOST_AUTO_TEST_CASE(a_server_of_a_test_inherits_nothing) {
  int ends[2];
  BOOST_REQUIRE(::pipe(ends) == 0); // without O_CLOEXEC
  redis_process server;
  ::close(ends[1]);
  pollfd end{ends[0], POLLIN, 0};
  BOOST_TEST(::poll(&end, 1, 0) == 1);
  BOOST_TEST((end.revents & POLLHUP) != 0);
  ::close(ends[0]);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
