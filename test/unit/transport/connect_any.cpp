// The race of several addresses, by a clock that the test moves.

#include "cancellable.hpp"
#include "ports.hpp"
#include "support.hpp"

#include <chorus/transport/address.hpp>

#include <netinet/tcp.h>
#include <poll.h>

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
  connecting(detail::shard &home, std::vector<endpoint> to, std::chrono::milliseconds limit,
             std::chrono::milliseconds stagger = 250ms) {
    namespace asio = boost::asio;
    auto body = [](detail::shard &at, std::vector<endpoint> addresses,
                   transport::race_options options, connecting &out) -> task<> {
      auto trying = connect_any(at, std::move(addresses), options);
      auto tried = co_await std::move(trying);
      if (tried)
        out.reached = transport::remote_address_of(tried->get());
      else
        out.why = tried.error();
      out.over = true;
    };
    transport::race_options options;
    options.limit = limit;
    options.stagger = stagger;
    asio::co_spawn(home.executor(), body(home, std::move(to), options, *this),
                   [](std::exception_ptr) {});
  }
  std::string reached;
  failure why;
  bool over = false;
};

// Made for the order alone.
endpoint v4(unsigned last) {
  sockaddr_in a{};
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(0x7f000000U + last);
  return {&a, sizeof a};
}
endpoint v6(unsigned char last) {
  sockaddr_in6 a{};
  a.sin6_family = AF_INET6;
  a.sin6_addr.s6_addr[15] = last;
  return {&a, sizeof a};
}
std::string texts(const std::vector<endpoint> &all) {
  std::string out;
  for (const auto &e : all)
    out += (out.empty() ? "" : " ") + e.text();
  return out;
}

// The connections that wait in a listener's queue, of which the full one has filled its own before.
// A client may know of its connection a moment before the queue has it: so long the first may take.
int arrived(const dead_port &port, int first_ms = 0) {
  int n = 0;
  for (pollfd waiting{port.socket.get(), POLLIN, 0};
       ::poll(&waiting, 1, n == 0 ? first_ms : 0) == 1; ++n)
    const transport::descriptor gone(::accept(port.socket.get(), nullptr, nullptr));
  return n;
}

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

BOOST_AUTO_TEST_CASE(families_take_turns_and_keep_their_order) {
  using transport::interleave;
  BOOST_TEST(texts(interleave({})).empty());
  BOOST_TEST(texts(interleave({v6(1), v6(2), v6(3), v4(1), v4(2)})) ==
             "[::1]:0 127.0.0.1:0 [::2]:0 127.0.0.2:0 [::3]:0");
  BOOST_TEST(texts(interleave({v4(1), v6(1), v6(2), v6(3)})) ==
             "127.0.0.1:0 [::1]:0 [::2]:0 [::3]:0");
  BOOST_TEST(texts(interleave({v4(3), v4(1), v4(2)})) == "127.0.0.3:0 127.0.0.1:0 127.0.0.2:0");
}

BOOST_AUTO_TEST_CASE(the_next_starts_when_the_stagger_has_passed) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port silent;
    open_port second;
    open_port third;
    std::vector<endpoint> all{silent.here, second.here, third.here};
    connecting c(home, std::move(all), 10s);
    co_await pass(home, 0ms);
    co_await pass(home, 240ms);
    BOOST_TEST(!c.over);
    BOOST_TEST(arrived(second) == 0);
    co_await pass(home, 20ms);
    co_await until_over(c);
    BOOST_TEST(c.reached == second.here.text());
    BOOST_TEST(arrived(second, 120'000) == 1);
    BOOST_TEST(arrived(third) == 0);
    BOOST_TEST(home.poll().size() == 0U); // the silent one was given up
  });
}

BOOST_AUTO_TEST_CASE(a_refusal_starts_the_next_at_once) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock(); // which stands still
    dead_port refuses;
    dead_port refuses_too;
    open_port answers;
    std::vector<endpoint> all{refuses.here, refuses_too.here, answers.here};
    connecting c(home, std::move(all), 10s);
    co_await until_over(c);
    BOOST_TEST(c.reached == answers.here.text());
  });
}

BOOST_AUTO_TEST_CASE(a_silent_one_stays_in_the_race) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port late;
    full_port silent;
    std::vector<endpoint> all{late.here, silent.here};
    connecting c(home, std::move(all), 600s);
    co_await pass(home, 0ms);
    co_await pass(home, 260ms); // both are under way
    BOOST_TEST(!c.over);
    // Room in the first one's queue: the kernel's next attempt gets through.
    const auto give_up = patience();
    while (!c.over && detail::clock::now() < give_up) {
      arrived(late);
      co_await chorus::sleep(1ms);
    }
    BOOST_TEST(c.reached == late.here.text());
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(every_address_gets_a_start_within_the_limit) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    full_port second;
    open_port third;
    std::vector<endpoint> all{first.here, second.here, third.here};
    connecting c(home, std::move(all), 200ms);
    co_await pass(home, 0ms);
    co_await pass(home, 55ms); // a quarter: on to the second
    co_await pass(home, 55ms);
    co_await until_over(c);
    BOOST_TEST(c.reached == third.here.text());
  });
}

BOOST_AUTO_TEST_CASE(silence_of_all_is_told_with_every_address) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    full_port last;
    std::vector<endpoint> all{first.here, last.here};
    connecting c(home, std::move(all), 800ms);
    co_await pass(home, 0ms);
    co_await pass(home, 260ms);
    co_await pass(home, 500ms);
    BOOST_TEST(!c.over);
    co_await pass(home, 45ms);
    co_await until_over(c);
    BOOST_TEST(c.why == error::connect_timeout);
    BOOST_TEST(c.why.detail().address == last.here.text());
    BOOST_TEST(c.why.message().find("800 ms") != std::string::npos);
    BOOST_REQUIRE(c.why.detail().tried.size() == 2U);
    BOOST_TEST(c.why.detail().tried[0].address == first.here.text());
    BOOST_TEST(c.why.detail().tried[0].why.value() == ETIMEDOUT);
    BOOST_TEST(c.why.detail().tried[1].address == last.here.text());
    BOOST_TEST(c.why.message().find(first.here.text() + ": no answer") != std::string::npos);
    BOOST_TEST(home.poll().size() == 0U);
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
    co_await pass(home, 260ms);
    const auto give_up = patience();
    while (home.poll().size() > 1 && detail::clock::now() < give_up)
      co_await chorus::sleep(0ms); // until the last has refused
    co_await pass(home, 0ms);
    BOOST_TEST(!c.over); // the first may still answer
    co_await pass(home, 560ms);
    co_await until_over(c);
    BOOST_TEST(c.why == error::connect_failed);
    BOOST_TEST(c.why.detail().address == last.here.text());
    BOOST_REQUIRE(c.why.detail().tried.size() == 2U);
    BOOST_TEST(c.why.detail().tried[0].address == last.here.text());
    BOOST_TEST(c.why.detail().tried[0].why.value() == ECONNREFUSED);
    BOOST_TEST(c.why.detail().tried[1].why.value() == ETIMEDOUT);
    BOOST_TEST(c.why.message().find("is the port right?") != std::string::npos);
  });
}

BOOST_AUTO_TEST_CASE(the_sentence_does_not_list_one_address_alone) {
  run([](detail::shard &home) -> task<> {
    dead_port nobody;
    std::vector<endpoint> all{nobody.here};
    connecting c(home, std::move(all), 10s);
    co_await until_over(c);
    BOOST_TEST(c.why == error::connect_failed);
    BOOST_REQUIRE(c.why.detail().tried.size() == 1U);
    BOOST_TEST(c.why.detail().tried[0].why.value() == ECONNREFUSED);
    BOOST_TEST(c.why.message().find("tried") == std::string::npos);
  });
}

BOOST_AUTO_TEST_CASE(only_so_many_addresses_are_tried) {
  run([](detail::shard &home) -> task<> {
    dead_port nobody;
    std::vector<endpoint> all(transport::most_addresses + 5, nobody.here);
    connecting c(home, std::move(all), 10s);
    co_await until_over(c);
    BOOST_TEST(c.why.detail().tried.size() == transport::most_addresses);
    BOOST_TEST(c.why.message().find("and 28 more") != std::string::npos);
    std::vector<endpoint> none;
    connecting nowhere(home, std::move(none), 10s);
    co_await until_over(nowhere);
    BOOST_TEST(nowhere.why == error::resolve_failed);
  });
}

BOOST_AUTO_TEST_CASE(cancelled_it_leaves_no_socket) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    full_port first;
    full_port second;
    auto body = [](detail::shard &at, std::vector<endpoint> to) -> task<> {
      const transport::race_options options;
      auto trying = connect_any(at, std::move(to), options);
      co_await std::move(trying);
    };
    std::vector<endpoint> all{first.here, second.here};
    cancellable racing(home, body(home, std::move(all)));
    co_await pass(home, 0ms);
    co_await pass(home, 260ms);
    BOOST_TEST(home.poll().size() == 2U);
    racing.cancel();
    home.advance(0ms);
    while (!racing.ended)
      co_await chorus::sleep(0ms);
    BOOST_CHECK(racing.thrown == boost::asio::error::operation_aborted);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(sockets_are_set_up_for_messages) {
  run([](detail::shard &home) -> task<> {
    open_port port;
    for (const bool keep_alive : {true, false}) {
      std::vector<endpoint> all{port.here};
      transport::race_options options;
      options.limit = 20s;
      options.keep_alive = keep_alive;
      auto trying = connect_any(home, std::move(all), options);
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

BOOST_AUTO_TEST_SUITE_END()
