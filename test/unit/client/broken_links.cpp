// What `connect`, the client and a server make of networks that cut, stall, throttle and refuse.

#include "attempt.hpp"
#include "support/fault_proxy.hpp"

#include <chorus/async/shard.hpp>
#include <chorus/server/server.hpp>

using namespace client_test;
using chorus::client;
using chorus::client_state;
using chorus::stage;
using test_support::ending;
using test_support::event;
using test_support::fault_proxy;
using test_support::faults;
using test_support::way;
using test_support::welcome;

namespace {

constexpr std::string_view greeting = "welcome";
constexpr std::size_t greeting_frame = 2 + greeting.size();

// A server that greets, then notes and echoes; and the proxy before it.
struct place {
  explicit place(world &w) : server(w.rt, options()), log(w.rt.executor()) {
    server.route("/", [this](chorus::session s, chorus::request) { return talk(*this, s); });
  }
  task<> open(world &w) {
    BOOST_REQUIRE((co_await server.start()).has_value());
    proxy.emplace(w.rt.executor(), server.port());
  }
  static chorus::server_options options() {
    chorus::server_options o;
    o.session.close_timeout = 1s;
    return o;
  }
  static task<> talk(place &self, chorus::session s) {
    ++self.began;
    co_await s.send(greeting);
    while (auto m = co_await s.receive()) {
      self.heard.push_back(m->str());
      co_await s.send(*m);
    }
    self.log.add("left");
  }

  chorus::server server;
  event_log log;
  std::optional<fault_proxy> proxy;
  std::vector<std::string> heard;
  std::size_t began = 0; // conversations; those that have ended are in the log
};

// How many bytes a connection takes each way that is greeted, says `hello` and gets it back.
struct sizes {
  std::size_t request = 0;
  std::size_t answer = 0; // the head alone
};
constexpr std::string_view hello = "hello";
constexpr std::size_t hello_frame = 6 + hello.size();

task<result<chorus::session>> dial(place &p) {
  const auto url = p.proxy->url();
  auto dialled = connect(url);
  co_return co_await std::move(dialled);
}

task<sizes> measure(place &p) {
  auto s = co_await dial(p);
  BOOST_REQUIRE(s.has_value());
  auto got = co_await s->receive();
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->text() == greeting);
  sizes out;
  out.request = p.proxy->bytes(way::up);
  out.answer = p.proxy->bytes(way::down) - greeting_frame;
  BOOST_TEST(out.request > 100U);
  BOOST_TEST(out.answer > 100U);
  s->abort();
  co_await p.log.wait("left");
  co_return out;
}

} // namespace

BOOST_AUTO_TEST_SUITE(broken_links)

BOOST_AUTO_TEST_CASE(a_cut_at_every_byte_of_the_answer_and_the_first_frame) {
  world w;
  w.run([](world &here) -> task<> {
    place p(here);
    co_await p.open(here);
    const auto size = co_await measure(p);
    const auto whole = size.answer + greeting_frame;
    for (const auto how : {ending::reset, ending::fin})
      for (std::size_t n = 0; n <= whole; ++n) {
        faults f;
        f.cut_down = n;
        f.how = how;
        p.proxy->next(f);
        auto s = co_await dial(p);
        BOOST_TEST_CONTEXT("cut after " << n << " bytes, fin " << (how == ending::fin)) {
          if (n < size.answer) {
            BOOST_REQUIRE(!s.has_value());
            BOOST_CHECK(s.error() == error::lost);
            BOOST_CHECK(s.error().detail().where == stage::upgrade);
            BOOST_TEST(!s.error().message().empty());
            BOOST_TEST(!is_fatal(s.error()));
            continue;
          }
          BOOST_REQUIRE(s.has_value());
          auto got = co_await s->receive();
          BOOST_TEST(got.has_value() == (n == whole));
          if (got)
            got = co_await s->receive();
          BOOST_REQUIRE(!got.has_value());
          BOOST_CHECK(got.error() == error::lost);
          BOOST_TEST(!is_fatal(got.error()));
        }
      }
    BOOST_TEST(p.proxy->count(event::cut) == 2 * (whole + 1));
  }(w));
}

BOOST_AUTO_TEST_CASE(a_cut_at_every_byte_of_the_request_and_the_first_frame) {
  world w;
  w.run([](world &here) -> task<> {
    place p(here);
    co_await p.open(here);
    const auto size = co_await measure(p);
    const auto whole = size.request + hello_frame;
    for (const auto how : {ending::reset, ending::fin})
      for (std::size_t n = 0; n <= whole; ++n) {
        faults f;
        f.cut_up = n;
        f.how = how;
        p.proxy->next(f);
        p.heard.clear();
        auto s = co_await dial(p);
        BOOST_TEST_CONTEXT("cut after " << n << " bytes, fin " << (how == ending::fin)) {
          if (n <= size.request) {
            BOOST_REQUIRE(!s.has_value());
            BOOST_CHECK(s.error() == error::lost);
            BOOST_CHECK(s.error().detail().where == stage::upgrade);
            BOOST_TEST(!is_fatal(s.error()));
            continue;
          }
          BOOST_REQUIRE(s.has_value());
          auto got = co_await s->receive();
          BOOST_REQUIRE(got.has_value());
          BOOST_TEST((co_await s->send(hello)).has_value());
          got = co_await s->receive();
          BOOST_REQUIRE(!got.has_value());
          BOOST_CHECK(got.error() == error::lost);
        }
        // All of a message or nothing.
        while (p.began != p.log.all().size() || (n == whole && p.heard.empty()))
          co_await turns();
        BOOST_TEST(p.heard.size() == (n == whole ? 1U : 0U));
      }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_client_gets_past_a_cut_at_every_byte) {
  world w;
  w.run([](world &here) -> task<> {
    place p(here);
    co_await p.open(here);
    const auto size = co_await measure(p);
    std::size_t cuts = 0, greeted = 0;
    for (std::size_t n = 0; n <= size.answer + greeting_frame; ++n, ++cuts) {
      faults f;
      f.cut_down = n;
      f.how = n % 2 == 0 ? ending::reset : ending::fin;
      p.proxy->next(f);
      greeted += n >= size.answer;
    }
    for (std::size_t n = 0; n <= size.request; ++n, ++cuts) {
      faults f;
      f.cut_up = n;
      f.how = n % 2 == 0 ? ending::fin : ending::reset;
      p.proxy->next(f);
    }
    client c(here.rt, eager({p.proxy->url()}));
    for (int i = 0; i < 2; ++i) {
      const auto got = co_await c.receive();
      BOOST_REQUIRE_MESSAGE(got.has_value(), got.error().message());
      BOOST_TEST(got->text() == greeting);
    }
    BOOST_CHECK(c.state() == client_state::open);
    BOOST_TEST(p.proxy->count(event::cut) == cuts);
    BOOST_TEST(c.stats().attempts == cuts + 1);
    BOOST_TEST(c.stats().connects == greeted + 1);
    BOOST_TEST((co_await c.close()).has_value());
  }(w));
}

// At most once, in order; and what did not arrive is among the unconfirmed.
BOOST_AUTO_TEST_CASE(what_a_cut_swallows_is_counted) {
  world w;
  w.run([](world &here) -> task<> {
    place p(here);
    co_await p.open(here);
    const auto size = co_await measure(p);
    constexpr std::size_t cuts = 60;
    for (std::size_t i = 0; i < cuts; ++i) {
      faults f;
      f.cut_up = size.request + 1 + 7 * i;
      f.how = i % 2 == 0 ? ending::reset : ending::fin;
      p.proxy->next(f);
    }
    auto o = eager({p.proxy->url()});
    o.ignore_input = true;
    client c(here.rt, std::move(o));
    std::uint64_t said = 0;
    while (p.proxy->count(event::cut) < cuts) {
      BOOST_REQUIRE((co_await c.connected()).has_value());
      BOOST_REQUIRE((co_await c.send(std::to_string(said))).has_value());
      ++said;
      co_await turns();
    }
    while (c.stats().connects <= cuts) // it may not have noticed the last cut yet
      co_await turns();
    BOOST_TEST((co_await c.connected()).has_value());
    BOOST_TEST((co_await c.send(std::to_string(said))).has_value());
    ++said;
    BOOST_TEST((co_await c.close()).has_value());
    while (p.began != p.log.all().size())
      co_await turns();
    const auto stats = c.stats();
    BOOST_TEST(stats.messages_sent == said);
    BOOST_TEST(stats.messages_dropped == 0U);
    std::uint64_t lowest = 0;
    for (const auto &text : p.heard) {
      const auto number = std::stoull(text);
      BOOST_TEST(number >= lowest);
      lowest = number + 1;
    }
    BOOST_TEST(lowest == said); // the last one went over the connection that was closed in order
    BOOST_TEST(p.heard.size() < said);
    BOOST_TEST(said - p.heard.size() <= stats.messages_unconfirmed);
  }(w));
}

BOOST_AUTO_TEST_CASE(what_never_answers_times_out) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    place p(here);
    co_await p.open(here);
    faults hole, half_asked, half_answered;
    hole.first = welcome::black_hole;
    half_asked.stall_up = 20;
    half_answered.stall_down = 20;
    chorus::connect_options hasty;
    hasty.upgrade_timeout = 50ms;
    std::size_t stalls = 0;
    for (const auto &f : {hole, half_asked, half_answered}) {
      p.proxy->next(f);
      const auto url = p.proxy->url();
      attempt dialled(here.rt.executor(), connect(url, hasty));
      if (f.first == welcome::black_hole)
        co_await p.proxy->seen(event::accepted);
      else
        co_await p.proxy->seen(event::stalled, ++stalls);
      const auto over = [&dialled] { return dialled.done(); };
      co_await pass_time(home, over);
      const auto s = co_await dialled.get();
      BOOST_REQUIRE(!s.has_value());
      BOOST_CHECK(s.error() == error::upgrade_timeout);
      BOOST_TEST(!is_fatal(s.error()));
    }
    BOOST_TEST(p.proxy->bytes(way::down) == half_answered.stall_down);
    co_await p.proxy->seen(event::ended); // the client has hung up on the black hole
    for (const auto &f : {hole, half_asked, half_answered})
      p.proxy->next(f);
    auto o = eager({p.proxy->url()});
    o.upgrade_timeout = 50ms;
    client c(here.rt, std::move(o));
    const auto open = [&c] { return c.state() == client_state::open; };
    co_await pass_time(home, open);
    BOOST_TEST(c.stats().attempts >= 4U);
    BOOST_CHECK(c.last_failure() == error::upgrade_timeout);
    co_await c.close();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_reset_at_once_and_a_refusal_pass) {
  world w;
  w.run([](world &here) -> task<> {
    place p(here);
    co_await p.open(here);
    faults at_once;
    at_once.first = welcome::reset;
    p.proxy->next(at_once);
    const auto reset = co_await dial(p);
    BOOST_REQUIRE(!reset.has_value());
    BOOST_TEST(!is_fatal(reset.error()));
    BOOST_CHECK(reset.error() == error::lost || reset.error() == error::connect_failed);
    p.proxy->refuse();
    const auto refused = co_await dial(p);
    BOOST_REQUIRE(!refused.has_value());
    BOOST_CHECK(refused.error() == error::connect_failed);
    BOOST_TEST(says(refused.error(), "nothing accepts"));
    p.proxy->listen_again();

    event_log log(here.rt.executor());
    auto o = eager({p.proxy->url()});
    o.on_error = [&log](const failure &why) {
      log.add(why == error::connect_failed ? "refused" : "otherwise");
    };
    o.on_disconnect = [&log](const failure &why) {
      log.add(why == error::lost ? "lost" : "otherwise");
    };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.connected()).has_value());
    for (std::size_t round = 1; round <= 4; ++round) {
      p.proxy->refuse();
      p.proxy->cut_all(round % 2 == 0 ? ending::reset : ending::fin);
      co_await log.wait("lost", round);
      co_await log.wait("refused", 3 * round);
      p.proxy->listen_again();
      BOOST_TEST((co_await c.connected()).has_value());
    }
    BOOST_TEST(log.joined().find("otherwise") == std::string::npos);
    BOOST_TEST(c.stats().connects == 5U);
    co_await c.close();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_half_dead_server_is_noticed_and_left) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    place p(here);
    co_await p.open(here);
    event_log log(here.rt.executor());
    auto o = eager({p.proxy->url()});
    o.session.heartbeat.ping_interval = 1s;
    o.session.heartbeat.pong_wait = 3s;
    o.on_disconnect = [&log](const failure &why) {
      log.add(why == error::timed_out ? "timed out" : why.message());
    };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.receive()).has_value());
    p.proxy->stall_all();
    BOOST_TEST((co_await c.send(hello)).has_value());
    home.advance(2900ms);
    co_await turns(10);
    BOOST_CHECK(c.state() == client_state::open);
    home.advance(200ms);
    co_await log.wait("timed out");
    BOOST_TEST(c.stats().messages_unconfirmed == 1U);
    const auto back = [&c] { return c.state() == client_state::open; };
    co_await pass_time(home, back);
    BOOST_TEST((co_await c.receive()).has_value());
    BOOST_TEST(log.all().size() == 1U);
    // What was on its way when the link fell silent arrives after all; the client said it might.
    BOOST_TEST(p.heard.empty());
    p.proxy->resume_all();
    co_await p.log.wait("left");
    BOOST_TEST(p.heard.size() == 1U);
    co_await c.close();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_slow_server_is_not_taken_for_dead) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    place p(here);
    co_await p.open(here);
    auto o = eager({p.proxy->url()});
    o.session.heartbeat.ping_interval = 1s;
    o.session.heartbeat.pong_wait = 3s;
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.receive()).has_value());
    const std::string large(64 << 10, 'x');
    BOOST_TEST((co_await c.send(large)).has_value());
    p.proxy->throttle_all(256 << 10);
    background<result<message>> echo(here.rt.executor(), c.receive());
    auto seen = c.current().stats().bytes_received;
    int steps = 0;
    while (!echo.done() && c.stats().connects == 1) {
      const auto now = c.current().stats().bytes_received;
      if (now > seen) { // as if these few bytes had taken two seconds
        seen = now;
        home.advance(2s);
        ++steps;
      }
      co_await turns(1);
    }
    const auto got = co_await echo.get();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST(got->text() == large);
    BOOST_TEST(steps > 5);
    BOOST_TEST(c.stats().connects == 1U);
    co_await c.close();
  }(w));
}

BOOST_AUTO_TEST_CASE(closing_ends_though_the_link_is_half_dead) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    place p(here);
    co_await p.open(here);
    auto o = eager({p.proxy->url()});
    o.session.close_timeout = 2s;
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.receive()).has_value());
    p.proxy->stall_all();
    background<result<>> closing(here.rt.executor(), c.close());
    co_await turns(10);
    home.advance(1900ms);
    co_await turns(10);
    BOOST_TEST(!closing.done());
    const auto closed = [&closing] { return closing.done(); };
    co_await pass_time(home, closed);
    const auto outcome = co_await closing.get();
    BOOST_REQUIRE(!outcome.has_value());
    BOOST_CHECK(outcome.error() == error::aborted);
    BOOST_CHECK(c.state() == client_state::closed);

    // The server's side of it: `stop` comes to its end, too.
    background<chorus::stop_report> stopping(here.rt.executor(), p.server.stop(3s));
    const auto stopped = [&stopping] { return stopping.done(); };
    co_await pass_time(home, stopped);
    BOOST_TEST(p.server.size() == 0U);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
