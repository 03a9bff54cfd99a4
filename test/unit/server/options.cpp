#include <chorus/async/runtime.hpp>
#include <chorus/server/server.hpp>

#include <boost/test/unit_test.hpp>

#include <stdexcept>
#include <string_view>

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

BOOST_AUTO_TEST_SUITE_END()
