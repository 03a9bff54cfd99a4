// The one limit of all that it takes to reach a Redis.

#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/cluster/redis_connect.hpp>
#include <chorus/transport/resolve.hpp>
#include <chorus/transport/tls.hpp>

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/test/unit_test.hpp>

#include <future>
#include <netdb.h>
#include <string>

namespace {

using namespace std::chrono_literals;
using namespace chorus;
using boost::asio::ip::tcp;

std::promise<void> known; // the slow resolver may answer
std::string ended;        // in what order
failure why_slow;

int slow_resolver(const char *, const char *service, const addrinfo *hints, addrinfo **found) {
  known.get_future().wait();
  return ::getaddrinfo("127.0.0.1", service, hints, found);
}

task<> reach(std::shared_ptr<detail::shard> home, detail::redis_dial to, char name) {
  auto connecting = detail::redis_connect(std::move(home), std::move(to), {});
  auto made = co_await std::move(connecting);
  ended += name;
  if (name == 's' && !made)
    why_slow = made.error();
}

BOOST_AUTO_TEST_SUITE(redis_connects)

// A look-up that takes most of it leaves little for TLS: another one, begun later, ends later.
BOOST_AUTO_TEST_CASE(the_limit_is_of_all_steps_together) {
  boost::asio::io_context unused;
  tcp::acceptor mute(unused,
                     {boost::asio::ip::address_v4::loopback(), 0}); // connects, says nothing
  const auto port = std::to_string(mute.local_endpoint().port());
  const auto before = transport::system_resolver.exchange(slow_resolver);
  runtime rt({.threads = 1});
  const auto limit = 1000ms;
  const auto home = rt.core()->shards[0];
  const auto context = transport::make_client_context({}).value();
  auto work = [&]() -> task<> {
    detail::redis_dial slow{{}, context, limit};
    slow.where.host = "slow.example";
    slow.where.port = port;
    rt.spawn(reach(home, std::move(slow), 's'));
    co_await sleep(limit * 5 / 10);
    detail::redis_dial late{{}, nullptr, limit};
    late.where.host = "127.0.0.1";
    late.where.port = port;
    rt.spawn(reach(home, std::move(late), 'l'));
    co_await sleep(limit * 2 / 10);
    known.set_value();
    while (ended.size() != 2)
      co_await sleep(5ms);
    rt.stop();
  };
  rt.spawn(work());
  rt.run();
  transport::system_resolver = before;
  BOOST_CHECK_EQUAL(ended, "sl");
  BOOST_CHECK_MESSAGE(why_slow == error::connect_timeout, why_slow.message());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
