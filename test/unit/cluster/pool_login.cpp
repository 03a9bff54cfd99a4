// Getting in: passwords, TLS, sockets of either kind, and a server that fails at each step.

#include "fake_redis.hpp"
#include "pool_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <algorithm>
#include <array>

using namespace pool_test;

namespace {

BOOST_AUTO_TEST_SUITE(redis_pool_login)

// Closes, says nothing, or nonsense, at the n-th command of a connection, as often as it is told; then it is
// a working Redis.
BOOST_AUTO_TEST_CASE(a_loss_at_each_step_is_overcome) {
  const std::vector<std::optional<std::string>> ways{
      std::nullopt, "", "$5\r\nab", "-LOADING Redis is loading the dataset in memory\r\n",
      "nonsense\r\n"};
  constexpr unsigned steps = 5; // CLIENT SETNAME, CLIENT ID, INFO, ROLE, PING
  for (std::size_t way = 0; way != ways.size(); ++way) {
    std::atomic<unsigned> at{0};
    std::atomic<unsigned> last{~0U};
    fake_redis server(
        [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
          if (last.exchange(connection) != connection)
            at = 0;
          const auto step = at++;
          // Connection n fails at its step n.
          if (connection < steps && step == connection)
            return ways[way];
          return good_answer(command);
        });
    auto o = quick_options();
    if (way == 1 || way == 2)
      o.connect_timeout = 300ms; // the only way out of a silence
    living_pool p(server.url(), o);
    BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
    BOOST_TEST(server.connections() > steps - 1);
    BOOST_TEST(p.down_count() == 1U);
    BOOST_TEST(p.say("k", {"PING"}) == "OK");
  }
}

BOOST_AUTO_TEST_CASE(a_loss_while_the_connection_before_is_ended_leaves_nothing_unanswered) {
  std::atomic<unsigned> kills{0};
  fake_redis server(
      [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (command[0] == "SET")
          return std::nullopt; // the first connection is lost with it
        if (command[0] == "CLIENT" && command[1] == "KILL" && ++kills < 4)
          return std::nullopt;
        if (command[0] == "CLIENT" && command[1] == "ID")
          return ":" + std::to_string(connection + 100) + "\r\n";
        if (command[0] == "CLIENT" && command[1] == "KILL" && command[3] != "100")
          return "-ERR the first one was to be ended\r\n";
        return good_answer(command);
      });
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  const auto what = p.ask("k", {"SET", "k", "v"});
  BOOST_TEST((what.is == kind::unknown), living_pool::name_of(what.is));
  BOOST_TEST(kills.load() == 4U);
  BOOST_TEST(p.say("k", {"GET", "k"}) == "OK");
}

// Redis has forgotten a script; a call that comes while the refusals are still on their way waits behind them.
BOOST_AUTO_TEST_CASE(what_is_called_later_does_not_overtake_what_goes_again) {
  std::mutex mutex;
  std::vector<std::string> seen;
  fake_redis server([&](unsigned, const fake_redis::words &command) -> std::optional<std::string> {
    const std::string refusal = "-NOSCRIPT No matching script.\r\n";
    if (command[0] == "ECHO")
      return refusal + "+echo\r\n"; // the second one's, late
    if (command[0] == "GET")
      return "";
    if (!command[0].starts_with("EVAL"))
      return good_answer(command);
    std::lock_guard lock(mutex);
    seen.push_back(command[0] + " " + command.back());
    if (seen.size() == 2)
      return "";
    return seen.size() == 3 ? "+mark\r\n" + refusal : "+done\r\n"; // both are read together
  });
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  const auto script = chorus::detail::make_redis_script("return 1");
  BOOST_TEST(living_pool::text_of(living_pool::get(p.start(script, {"k"}, {"0"}))) == "done");
  auto mark = p.start("another", {"GET", "mark"});
  auto first = p.start(script, {"k"}, {"1"});
  auto second = p.start(script, {"k"}, {"2"});
  BOOST_TEST(living_pool::text_of(living_pool::get(std::move(mark))) == "mark");
  auto third = p.start(script, {"k"}, {"3"});
  BOOST_TEST(p.say("another", {"ECHO", "x"}) == "echo");
  for (auto *one : {&first, &second, &third})
    BOOST_TEST(living_pool::text_of(living_pool::get(std::move(*one))) == "done");
  const std::vector<std::string> expected{"EVAL 0", "EVALSHA 1", "EVALSHA 2",
                                          "EVAL 1", "EVALSHA 2", "EVALSHA 3"};
  BOOST_TEST(seen == expected, boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(an_answer_to_nothing_ends_the_connection) {
  fake_redis server([&](unsigned, const fake_redis::words &command) -> std::optional<std::string> {
    if (command[0] == "GET")
      return "+one\r\n+two\r\n";
    return good_answer(command);
  });
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  BOOST_TEST(p.say("k", {"GET", "k"}) == "one");
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST((p.first_down() == chorus::error::protocol));
}

BOOST_AUTO_TEST_CASE(an_http_server_is_told_apart) {
  fake_redis server([](unsigned, const fake_redis::words &) -> std::optional<std::string> {
    return "HTTP/1.1 400 Bad Request\r\n\r\n";
  });
  living_pool p(server.url());
  p.begin();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST((p.first_down() == chorus::error::protocol));
  BOOST_TEST(p.first_down().message().find("no Redis") != std::string::npos);
}

BOOST_AUTO_TEST_CASE(users_and_passwords) {
  redis_process server({"requirepass sesame", "user ann on >hunter2 ~* &* +@all", "databases 4"});
  const auto with = [&](const std::string &who, const std::string &database) {
    return "redis://" + who + "127.0.0.1:" + std::to_string(server.port()) + database;
  };
  for (const auto *who : {":sesame@", "ann:hunter2@"}) {
    living_pool p(with(who, "/3"));
    BOOST_REQUIRE(p.comes_up());
    BOOST_TEST(p.say("k", {"SET", "k", who}) == "OK");
    BOOST_TEST(server.ask({"GET", "k"}) == "(nil)");
    BOOST_TEST(server.ask_all({{"SELECT", "3"}, {"GET", "k"}}) == who);
  }
  const std::array<std::pair<std::string, std::string>, 5> wrong{
      {{"", "wants a password"},
       {":hunter3@", "does not accept"},
       {"ann:hunter3@", "does not accept"},
       {"bob:hunter3@", "does not accept"},
       {"ann:hunter2@", "SELECT"}}};
  for (const auto &[who, part] : wrong) {
    living_pool p(with(who, part == "SELECT" ? "/4" : "/0"));
    p.begin();
    BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
    const auto said = p.first_down().message();
    BOOST_TEST(said.find(part) != said.npos, said);
    BOOST_TEST(said.find("hunter") == said.npos, said);
    BOOST_TEST(said.find("127.0.0.1:") != said.npos, said);
    BOOST_TEST(p.all_events().find("hunter") == said.npos);
    if (part != "SELECT")
      BOOST_TEST((p.first_down() == chorus::error::auth_refused));
    if (who == ":hunter3@") { // and it goes on trying
      server.ask({"CONFIG", "SET", "requirepass", "hunter3"});
      BOOST_TEST(comes_true([&] { return p.ups.load() == 1; }));
    }
  }
}

BOOST_AUTO_TEST_CASE(a_redis_that_loads_is_waited_for) {
  redis_process server({"appendonly yes", "key-load-delay 500"});
  for (int i = 0; i != 3000; ++i)
    server.ask({"SET", "k" + std::to_string(i), "v"});
  living_pool p(server.url());
  BOOST_REQUIRE(p.comes_up());
  server.restart(); // returns when it has loaded all
  BOOST_TEST(comes_true([&] { return p.ups.load() == 2; }));
  BOOST_TEST(p.say("k", {"DBSIZE"}) == "3000");
}

BOOST_AUTO_TEST_CASE(tls_is_verified) {
  using chorus::test::certificates;
  test_support::redis_process_options so;
  so.certificate_file = certificates::file("server.pem");
  so.key_file = certificates::file("server.key");
  so.ca_file = certificates::file("ca.pem");
  so.client_certificate = true;
  redis_process server(so);
  auto o = quick_options();
  o.tls.ca_file = certificates::file("ca.pem");
  o.tls.certificate_file = certificates::file("client.pem");
  o.tls.key_file = certificates::file("client.key");
  {
    living_pool p(server.url(), o);
    BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
    const std::string large(3'000'000, 'x');
    BOOST_TEST(p.say("k", {"SET", "k", large}) == "OK");
    BOOST_TEST((p.say("k", {"GET", "k"}) == large));
    p.subscribe("c");
    BOOST_TEST(comes_true([&] { return p.confirmed("c") == std::pair(1, 0); }));
    server.ask({"CLIENT", "KILL", "TYPE", "normal"});
    BOOST_TEST(comes_true([&] { return p.say("k", {"STRLEN", "k"}) == "3000000"; }));
  }
  auto stranger = o;
  stranger.tls.ca_file = certificates::file("stranger_ca.pem");
  living_pool p(server.url(), stranger);
  p.begin();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST((p.first_down() == chorus::condition::tls), p.first_down().message());
  auto missing = o;
  missing.tls.ca_file = "/nonexistent.pem";
  living_pool q(server.url(), missing);
  q.begin();
  BOOST_TEST(comes_true([&] { return q.down_count() == 1; }));
  BOOST_TEST((q.first_down() == chorus::error::tls_bad_configuration));
  BOOST_TEST((q.ask("k", {"PING"}).is == kind::not_done));
}

BOOST_AUTO_TEST_CASE(nobody_there_is_said_once) {
  test_support::reserved_port nobody; // bound, and nobody listens
  living_pool p("redis://127.0.0.1:" + std::to_string(nobody.number()));
  p.begin();
  BOOST_TEST(comes_true([&] { return p.down_count() == 1; }));
  BOOST_TEST((p.ask("k", {"PING"}).is == kind::not_done));
  // Several attempts later.
  BOOST_TEST(comes_true([&] { return p.pool().stats().away > 300ms; }));
  BOOST_TEST(p.down_count() == 1U);
  const auto events = p.all_events();
  BOOST_TEST(std::count(events.begin(), events.end(), '\n') == 1);
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
