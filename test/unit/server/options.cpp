#include <chorus/async/runtime.hpp>
#include <chorus/server/room_core.hpp>
#include <chorus/server/server.hpp>

#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

using namespace std::chrono_literals;

BOOST_AUTO_TEST_SUITE(server_options)

BOOST_AUTO_TEST_CASE(pong_wait_exceeds_ping_interval) {
  chorus::runtime rt;
  const auto with = [&](std::chrono::milliseconds ping, std::chrono::milliseconds pong) {
    chorus::server_options o;
    o.session.heartbeat.ping_interval = ping;
    o.session.heartbeat.pong_wait = pong;
    chorus::server made(rt, o);
  };
  const auto names_both = [](const std::invalid_argument &e) {
    const std::string_view sentence = e.what();
    return sentence.find("ping_interval") != sentence.npos &&
           sentence.find("pong_wait") != sentence.npos;
  };
  BOOST_CHECK_NO_THROW(with(1000ms, 1001ms));
  BOOST_CHECK_EXCEPTION(with(1000ms, 1000ms), std::invalid_argument, names_both);
  BOOST_CHECK_EXCEPTION(with(1000ms, 1ms), std::invalid_argument, names_both);
  BOOST_CHECK_NO_THROW(with(1000ms, 0ms));
  BOOST_CHECK_NO_THROW(with(0ms, 1ms));
  BOOST_CHECK_NO_THROW(with(0ms, 0ms));
}

// A name with no good answer gets a room all the same, and on_error is told why.
BOOST_AUTO_TEST_CASE(rooms_are_made_as_they_were_asked_for) {
  chorus::runtime rt;
  std::vector<std::string> complaints;
  std::vector<std::string> asked;
  chorus::server_options o;
  o.on_error = [&](std::string_view what, const chorus::session *s) {
    BOOST_CHECK(!s);
    complaints.emplace_back(what);
  };
  o.rooms = [&](std::string_view name) {
    asked.emplace_back(name);
    chorus::room_options r;
    r.history_messages = 7;
    if (name == "throws")
      throw std::runtime_error("no such kind of room");
    if (name == "age")
      r.history_age = -1ms;
    if (name == "linger")
      r.history_linger = std::chrono::hours(9000);
    if (name == "bytes")
      r.history_bytes = 0;
    return r;
  };
  chorus::server srv(rt, o);
  const auto made_with = [&](std::string_view name) {
    return srv.room(name).core()->options().history_messages;
  };
  const auto good = srv.room("good");
  BOOST_CHECK_EQUAL(made_with("good"), 7);
  BOOST_CHECK_EQUAL(asked.size(), 1);
  BOOST_CHECK(complaints.empty());
  const std::pair<const char *, const char *> bad[] = {{"throws", "no such kind of room"},
                                                       {"age", "history_age"},
                                                       {"linger", "history_linger"},
                                                       {"bytes", "history_bytes"}};
  for (const auto &[name, named] : bad) {
    BOOST_CHECK_EQUAL(made_with(name), 0);
    BOOST_REQUIRE_EQUAL(complaints.size(), 1);
    BOOST_CHECK_MESSAGE(complaints[0].find(named) != std::string::npos, complaints[0]);
    complaints.clear();
  }
}

BOOST_AUTO_TEST_SUITE_END()
