// Listening when descriptors run out.

#include "knock.hpp"
#include "support.hpp"

#include <sys/resource.h>

using namespace chorus;
using namespace chorus::test;
using transport::listener;

namespace {

// Lowers RLIMIT_NOFILE to what is open now plus `more`, for as long as it lives.
class few_descriptors {
public:
  explicit few_descriptors(rlim_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const transport::descriptor lowest(::dup(0));
    auto limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(lowest.get()) + more;
    BOOST_REQUIRE_EQUAL(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
};

// A client may know of its connection a moment before the listener has it.
template <class Done> void dispatch_until(detail::shard &home, Done done) {
  const auto give_up = patience();
  do
    home.poll().dispatch();
  while (!done() && detail::clock::now() < give_up);
}

} // namespace

BOOST_AUTO_TEST_SUITE(out_of_descriptors)

// With no descriptor left the peers are refused politely, and served again as soon as there is one.
BOOST_AUTO_TEST_CASE(it_refuses_politely) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 100; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    {
      few_descriptors limit(3);
      std::function<bool()> all = [&] { return a.waiting.size() + a.refused == 100; };
      const bool done = co_await a.changed.until(std::move(all));
      BOOST_TEST(done);
      BOOST_TEST(a.waiting.size() == 3U);
      BOOST_TEST(a.refused == 97U);
    }
    BOOST_TEST((*l)->stats().accepted == 3U);
    BOOST_TEST((*l)->stats().refused == 97U);
    BOOST_TEST((*l)->stats().errors == 97U);
    BOOST_TEST((*l)->stats().pauses == 0U);
    const transport::descriptor late(knock((*l)->local_address()));
    std::function<bool()> four = [&] { return a.waiting.size() == 4; };
    const bool served = co_await a.changed.until(std::move(four));
    BOOST_TEST(served);
  });
}

// The kernel reports the want of a descriptor even where nobody waits: that is no error, and costs
// the reserve only for a moment.
BOOST_AUTO_TEST_CASE(nobody_waiting_is_no_error) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 2; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    transport::descriptor third(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    {
      few_descriptors limit(2);
      dispatch_until(home, [&] { return a.waiting.size() >= 2; });
      for (int i = 0; i < 3; ++i) // each turn ends at the empty backlog
        home.poll().dispatch();
      BOOST_TEST(a.waiting.size() == 2U);
      BOOST_TEST((*l)->stats().errors == 0U);
      BOOST_TEST((*l)->stats().pauses == 0U);
      knock((*l)->local_address(), third.get());
      dispatch_until(home, [&] { return a.refused != 0; });
      BOOST_TEST(a.refused == 1U); // by the reserve
      BOOST_TEST((*l)->stats().errors == 1U);
      BOOST_TEST((*l)->stats().pauses == 0U);
    }
    // A descriptor has come free, and no pause is in the way.
    clients.emplace_back(knock((*l)->local_address()));
    dispatch_until(home, [&] { return a.waiting.size() >= 3; });
    BOOST_TEST(a.waiting.size() == 3U);
    co_return;
  });
}

// A handler that keeps a refused connection uses up the reserve: then accepting pauses, by the wheel.
BOOST_AUTO_TEST_CASE(without_a_reserve_it_pauses_and_comes_back) {
  struct hoarder : transport::accept_handler {
    void on_accept(int fd) noexcept override { kept.emplace_back(fd); }
    void on_refused(int fd) noexcept override {
      kept.emplace_back(fd);
      ++refused;
    }
    std::vector<transport::descriptor> kept;
    int refused = 0;
  };
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    hoarder h;
    auto l = listener::open(home, "127.0.0.1:0");
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 5; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    {
      // One for the connection accepted, and one for the reserve, which the limit does not move.
      few_descriptors limit(1);
      BOOST_REQUIRE((*l)->start(h).has_value());
      home.poll().dispatch();
      BOOST_TEST(h.kept.size() == 2U);
      BOOST_TEST(h.refused == 1);
      BOOST_TEST((*l)->stats().pauses == 1U);
      // It does not spin meanwhile, and each further pause is longer.
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 1U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 2U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 2U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 3U);
    }
    home.advance(1100ms);
    dispatch_until(home, [&] { return h.kept.size() >= 5; });
    BOOST_TEST(h.kept.size() == 5U);
    BOOST_TEST((*l)->stats().accepted == 4U);
    // There is a reserve again.
    clients.emplace_back(knock((*l)->local_address()));
    few_descriptors limit(0);
    dispatch_until(home, [&] { return h.refused >= 2; });
    BOOST_TEST(h.refused == 2);
    co_return;
  });
}

BOOST_AUTO_TEST_SUITE_END()
