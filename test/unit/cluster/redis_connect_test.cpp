// The one limit of all that it takes to reach a Redis.

#include <chorus/async/runtime.hpp>
#include <chorus/async/runtime_core.hpp>
#include <chorus/cluster/redis_connect.hpp>
#include <chorus/transport/resolve.hpp>
#include <chorus/transport/tls.hpp>

#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/this_coro.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/test/unit_test.hpp>

#include <functional>
#include <future>
#include <list>
#include <netdb.h>
#include <string>

namespace {

using namespace std::chrono_literals;
using namespace chorus;
using boost::asio::ip::tcp;

// Something that happens once, for a coroutine to wait for.
class event {
public:
  explicit event(const boost::asio::any_io_executor &home)
      : happened_(home, boost::asio::steady_timer::time_point::max()) {}
  void happens() {
    yes_ = true;
    happened_.cancel();
  }
  task<> wait() {
    boost::system::error_code ec;
    if (!yes_)
      co_await happened_.async_wait(boost::asio::redirect_error(boost::asio::use_awaitable, ec));
  }

private:
  bool yes_ = false;
  boost::asio::steady_timer happened_;
};

struct looking_up {
  std::function<void()> asked;
  std::promise<void> may_answer;
};
looking_up *slow = nullptr;

int slow_resolver(const char *, const char *service, const addrinfo *hints, addrinfo **found) {
  slow->asked();
  slow->may_answer.get_future().wait();
  return ::getaddrinfo("127.0.0.1", service, hints, found);
}

// Lets everything else that is ready have its turn.
task<> turns() {
  for (int i = 0; i < 100; ++i)
    co_await boost::asio::post(co_await boost::asio::this_coro::executor,
                               boost::asio::use_awaitable);
}

// A server that connects, and says nothing.
struct mute {
  explicit mute(const boost::asio::any_io_executor &home)
      : door(home, {boost::asio::ip::address_v4::loopback(), 0}) {}
  // Another has connected, and has said something.
  task<> hear() {
    auto &one = open.emplace_back(co_await door.async_accept(boost::asio::use_awaitable));
    co_await one.async_wait(tcp::socket::wait_read, boost::asio::use_awaitable);
  }
  detail::redis_address where(const std::string &host) const {
    detail::redis_address all;
    all.host = host;
    all.port = std::to_string(door.local_endpoint().port());
    return all;
  }
  tcp::acceptor door;
  std::list<tcp::socket> open{};
};

struct outcome {
  bool over = false;
  failure why{};
};

task<> reach(std::shared_ptr<detail::shard> home, detail::redis_dial to, outcome &how) {
  auto connecting = detail::redis_connect(std::move(home), std::move(to), {});
  auto made = co_await std::move(connecting);
  how.over = true;
  if (!made)
    how.why = made.error();
}

BOOST_AUTO_TEST_SUITE(redis_connects)

// A look-up that takes most of it leaves little for TLS.
BOOST_AUTO_TEST_CASE(the_limit_is_of_all_steps_together) {
  runtime rt({.threads = 1});
  const auto home = rt.core()->shards[0];
  home->use_manual_clock();
  event asked(home->executor());
  looking_up look_up{[&] { home->post([&] { asked.happens(); }); }, {}};
  slow = &look_up;
  const auto before = transport::system_resolver.exchange(slow_resolver);
  mute server(home->executor());
  const auto context = transport::make_client_context({}).value();
  outcome early, late;
  std::string said;
  auto work = [&]() -> task<> {
    detail::redis_dial by_name{server.where("slow.example"), context, 1000ms};
    rt.spawn(reach(home, std::move(by_name), early));
    co_await asked.wait();
    home->advance(700ms);
    look_up.may_answer.set_value();
    co_await server.hear();
    detail::redis_dial by_address{server.where("127.0.0.1"), context, 1000ms};
    rt.spawn(reach(home, std::move(by_address), late));
    co_await server.hear();
    for (const auto step : {250ms, 100ms, 600ms, 100ms}) {
      home->advance(step);
      co_await turns();
      said += std::string(early.over ? "early " : "") + (late.over ? "late " : "") + "| ";
    }
    rt.stop();
  };
  rt.spawn(work());
  rt.run();
  transport::system_resolver = before;
  BOOST_CHECK_EQUAL(said, "| early | early | early late | ");
  for (const auto &why : {early.why, late.why})
    BOOST_CHECK_MESSAGE(why == error::connect_timeout, why.message());
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
