// The login as a state machine: each answer that it may get, and a failure at each of its steps.

#include <chorus/cluster/redis_login.hpp>
#include <chorus/cluster/redis_protocol.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <vector>

using namespace chorus::detail;
using type = redis_reply::type;

namespace {

BOOST_AUTO_TEST_SUITE(redis_logins)

redis_reply of(type is, std::string text, std::int64_t number = 0) {
  redis_reply r;
  r.is = is;
  r.text = std::move(text);
  r.number = number;
  return r;
}
redis_reply ok() { return of(type::status, "OK"); }
redis_reply error(std::string text) { return of(type::error, std::move(text)); }
redis_reply info(const std::string &run = "me", const std::string &version = "7.0.15",
                 const std::string &mode = "standalone") {
  return of(type::text, "# Server\r\nredis_version:" + version + "\r\nredis_mode:" + mode +
                            "\r\nrun_id:" + run + "\r\n");
}
redis_reply role(const std::string &is = "master") {
  auto r = of(type::list, "");
  r.items.push_back(of(type::text, is));
  return r;
}

redis_login_options full() {
  redis_login_options o;
  o.user = "ann";
  o.password = "hunter2";
  o.name = "test";
  o.database = 3;
  o.before = {"me", 41};
  return o;
}
std::vector<redis_reply> good() {
  return {ok(),   ok(),   of(type::number, "", 42), ok(),
          info(), role(), of(type::status, "PONG"), of(type::number, "", 1)};
}

BOOST_AUTO_TEST_CASE(one_round_and_another_for_the_connection_before) {
  redis_login login(full());
  const auto out = login.take_output();
  std::string expected;
  write_redis_command(expected, {"AUTH", "ann", "hunter2"});
  write_redis_command(expected, {"CLIENT", "SETNAME", "test"});
  write_redis_command(expected, {"CLIENT", "ID"});
  write_redis_command(expected, {"SELECT", "3"});
  write_redis_command(expected, {"INFO", "server"});
  write_redis_command(expected, {"ROLE"});
  write_redis_command(expected, {"PING"});
  BOOST_TEST(out == expected);
  for (const auto &r : good()) {
    BOOST_TEST(!login.done());
    BOOST_TEST(login.take(r).has_value());
  }
  std::string kill;
  write_redis_command(kill, {"CLIENT", "KILL", "ID", "41"});
  BOOST_TEST(login.take_output() == kill);
  BOOST_TEST(login.done());
  BOOST_TEST(login.welcome().before_ended);
  BOOST_TEST(login.welcome().id.number == 42);
  BOOST_TEST(login.welcome().id.run == "me");
  BOOST_TEST(!login.take(ok()).has_value());
}

BOOST_AUTO_TEST_CASE(the_connection_before_has_ended_or_not) {
  const auto after = [](redis_login_options o, const redis_reply &information,
                        const redis_reply *kill) {
    o.user = o.password = o.name = "";
    o.database = 0;
    redis_login login(o);
    for (const auto &r : {of(type::number, "", 1), information, role(), ok()})
      BOOST_TEST(login.take(r).has_value());
    if (kill)
      BOOST_TEST(login.take(*kill).has_value());
    BOOST_TEST(login.done());
    return login.welcome().before_ended;
  };
  const auto killed = of(type::number, "", 1);
  const auto gone = of(type::number, "", 0);
  const auto refused =
      error("NOPERM this user has no permissions to run the 'client|kill' command");
  BOOST_TEST(after(full(), info(), &killed));
  BOOST_TEST(after(full(), info(), &gone));
  BOOST_TEST(!after(full(), info(), &refused));
  BOOST_TEST(after(full(), info("another process"), nullptr));
  auto unknown = full();
  unknown.before.number = 0;
  BOOST_TEST(!after(unknown, info(), nullptr));
  auto none = full();
  none.before = {};
  BOOST_TEST(after(none, info(), nullptr));
}

BOOST_AUTO_TEST_CASE(a_failure_at_each_step_is_typed_and_final) {
  struct bad {
    redis_reply said;
    chorus::error as;
  };
  const std::vector<bad> each{
      {error("NOAUTH Authentication required."), chorus::error::auth_refused},
      {error("WRONGPASS invalid username-password pair for hunter2"), chorus::error::auth_refused},
      {error("LOADING Redis is loading the dataset in memory"), chorus::error::not_open},
      {error("MASTERDOWN Link with MASTER is down"), chorus::error::not_open},
      {error("BUSY Redis is busy running a script."), chorus::error::not_open},
      {error("ERR max number of clients reached"), chorus::error::limit_reached},
      {of(type::nil, ""), chorus::error::protocol},
      {of(type::list, ""), chorus::error::protocol},
  };
  const auto steps = good();
  for (std::size_t step = 0; step + 1 != steps.size(); ++step)
    for (const auto &wrong : each) {
      redis_login login(full());
      for (std::size_t i = 0; i != step; ++i)
        BOOST_REQUIRE(login.take(steps[i]).has_value());
      const auto took = login.take(wrong.said);
      BOOST_REQUIRE(!took.has_value());
      const bool at_auth = step == 0 && wrong.said.is == type::error;
      if (!at_auth || wrong.as == chorus::error::limit_reached)
        BOOST_TEST((took.error() == wrong.as), "step " << step << ": " << took.error().message());
      BOOST_TEST(took.error().message().find("hunter2") == std::string::npos);
      BOOST_TEST(!login.done());
    }
}

BOOST_AUTO_TEST_CASE(permissions_are_named) {
  const auto steps = good();
  for (std::size_t step = 0; step + 1 != steps.size(); ++step) {
    redis_login login(full());
    for (std::size_t i = 0; i != step; ++i)
      BOOST_REQUIRE(login.take(steps[i]).has_value());
    const auto took = login.take(error("NOPERM this user has no permissions"));
    if (step == 1) { // the name is only shown
      BOOST_TEST(took.has_value());
      continue;
    }
    BOOST_REQUIRE(!took.has_value());
    BOOST_TEST((took.error() == chorus::error::auth_refused));
  }
}

BOOST_AUTO_TEST_CASE(a_redis_of_no_use_is_refused_with_a_sentence) {
  const auto said = [](const redis_reply &information, const redis_reply &its_role,
                       bool clustered) {
    redis_login_options o;
    o.clustered = clustered;
    redis_login login(o);
    for (const auto &r : {of(type::number, "", 1), information, its_role, ok()})
      if (const auto took = login.take(r); !took)
        return took.error().message();
    return std::string();
  };
  const auto has = [](const std::string &text, const char *part) {
    BOOST_TEST(text.find(part) != text.npos, text);
  };
  has(said(info("r", "6.2.7"), role(), false), "7.0 or later");
  has(said(info("r", "7.2.0", "cluster"), role(), false), "redis+cluster://");
  has(said(info("r", "7.2.0"), role(), true), "not in cluster mode");
  has(said(info("r", "7.2.0", "sentinel"), role(), false), "redis+sentinel://");
  has(said(info(), role("slave"), false), "replica");
  has(said(of(type::text, "nothing"), role(), false), "no Redis");
  BOOST_TEST(said(info("r", "10.1.0"), role(), false) == "");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
