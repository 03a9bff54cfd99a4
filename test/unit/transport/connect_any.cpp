// The time that each of several addresses is given, by a clock that the test moves.

#include "ports.hpp"
#include "support.hpp"

#include <chorus/transport/address.hpp>

#include <netinet/tcp.h>

using namespace chorus;
using namespace chorus::test;
using transport::connect_any;
using transport::descriptor;
using transport::endpoint;

namespace {

// A port whose listener the kernel answers for.
struct open_port : dead_port {
  open_port() { BOOST_REQUIRE_EQUAL(::listen(socket.get(), 8), 0); }
};

// One call in the background.
struct connecting {
  connecting(detail::shard &home, std::vector<endpoint> to, std::chrono::milliseconds limit) {
    namespace asio = boost::asio;
    auto body = [](detail::shard &at, std::vector<endpoint> addresses, std::chrono::milliseconds d,
                   connecting &out) -> task<> {
      auto trying = connect_any(at, std::move(addresses), d, true);
      auto tried = co_await std::move(trying);
      if (tried)
        out.reached = transport::remote_address_of(tried->get());
      else
        out.why = tried.error();
      out.over = true;
    };
    asio::co_spawn(home.executor(), body(home, std::move(to), limit, *this),
                   [](std::exception_ptr) {});
  }
  std::string reached;
  failure why;
  bool over = false;
};

// Time that passes without an answer.
task<> pass(detail::shard &home, detail::duration d) {
  home.advance(d);
  for (int i = 0; i < 10; ++i)
    co_await chorus::sleep(0ms);
}

task<> until_over(connecting &c) {
  const auto give_up = patience();
  while (!c.over && detail::clock::now() < give_up)
    co_await chorus::sleep(0ms);
  BOOST_REQUIRE(c.over);
}

} // namespace

BOOST_AUTO_TEST_SUITE(connecting_to_several_addresses)

BOOST_AUTO_TEST_CASE(one_that_swallows_packets_costs_only_its_share) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    full_port second;
    open_port third;
    std::vector<endpoint> all{first.here, second.here, third.here};
    connecting c(home, std::move(all), 900ms);
    co_await pass(home, 0ms);
    co_await pass(home, 290ms);
    co_await pass(home, 20ms); // on to the second
    co_await pass(home, 280ms);
    BOOST_TEST(!c.over);
    co_await pass(home, 20ms);
    co_await until_over(c);
    BOOST_TEST(c.reached == third.here.text());
  });
}

BOOST_AUTO_TEST_CASE(what_one_did_not_need_is_shared_by_the_rest) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    dead_port refuses;
    full_port full;
    open_port last;
    std::vector<endpoint> all{refuses.here, full.here, last.here};
    connecting c(home, std::move(all), 900ms);
    co_await pass(home, 0ms);
    co_await pass(home, 440ms);
    BOOST_TEST(!c.over);
    co_await pass(home, 20ms);
    co_await until_over(c);
    BOOST_TEST(c.reached == last.here.text());
  });
}

BOOST_AUTO_TEST_CASE(the_last_one_has_all_that_is_left) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    full_port last;
    std::vector<endpoint> all{first.here, last.here};
    connecting c(home, std::move(all), 800ms);
    co_await pass(home, 0ms);
    co_await pass(home, 410ms);
    co_await pass(home, 370ms);
    BOOST_TEST(!c.over);
    co_await pass(home, 40ms);
    co_await until_over(c);
    BOOST_TEST(c.why == error::connect_timeout);
    BOOST_TEST(c.why.detail().address == last.here.text());
    BOOST_TEST(c.why.message().find("800 ms") != std::string::npos);
  });
}

BOOST_AUTO_TEST_CASE(sockets_are_set_up_for_messages) {
  run([](detail::shard &home) -> task<> {
    open_port port;
    for (const bool keep_alive : {true, false}) {
      std::vector<endpoint> all{port.here};
      auto trying = connect_any(home, std::move(all), 20s, keep_alive);
      auto got = co_await std::move(trying);
      BOOST_REQUIRE(got.has_value());
      const auto value = [fd = got->get()](int level, int name) {
        int on = -1;
        socklen_t size = sizeof on;
        ::getsockopt(fd, level, name, &on, &size);
        return on;
      };
      BOOST_TEST((value(IPPROTO_TCP, TCP_NODELAY) != 0));
      BOOST_TEST((value(SOL_SOCKET, SO_KEEPALIVE) != 0) == keep_alive);
    }
  });
}

BOOST_AUTO_TEST_CASE(a_refusal_after_a_silence_is_told_as_itself) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    dead_port last;
    std::vector<endpoint> all{first.here, last.here};
    connecting c(home, std::move(all), 800ms);
    co_await pass(home, 0ms);
    co_await pass(home, 410ms);
    co_await until_over(c);
    BOOST_TEST(c.why == error::connect_failed);
    BOOST_TEST(c.why.detail().address == last.here.text());
  });
}

BOOST_AUTO_TEST_SUITE_END()
