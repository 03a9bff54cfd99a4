// Named clients that are started, sent to and closed together.

#include "attempt.hpp"

#include <chorus/client/client_group.hpp>
#include <chorus/server/server.hpp>

#include <boost/asio/use_future.hpp>

#include <algorithm>
#include <array>
#include <set>
#include <stdexcept>
#include <thread>

using namespace client_test;
using chorus::client_group;
using chorus::client_outcome;
using chorus::client_state;

namespace {

using contexts = std::array<asio::io_context, 3>;

using outcomes = result<std::vector<client_outcome>>;

std::string number(std::size_t i) { return (i < 10 ? "m0" : "m") + std::to_string(i); }

// Takes everybody in, and counts what it is told.
struct host {
  explicit host(world &w) : server(w.rt, {}), log(w.rt.executor()) {
    server.route("/", [this](chorus::session s, chorus::request) { return talk(*this, s); });
  }
  static task<> talk(host &self, chorus::session s) {
    while (auto m = co_await s.receive())
      self.heard += m->size();
    ++self.left;
  }
  std::string url() const { return server.url() + "/"; }

  chorus::server server;
  event_log log;
  std::atomic<std::size_t> heard{0};
  std::atomic<std::size_t> left{0};
};

std::size_t count(const client_group &g, client_state s) {
  const auto all = g.states();
  return static_cast<std::size_t>(
      std::count_if(all.begin(), all.end(), [s](const auto &one) { return one.state == s; }));
}
std::size_t good(const outcomes &o) {
  return static_cast<std::size_t>(std::count_if(
      o->begin(), o->end(), [](const client_outcome &one) { return one.outcome.has_value(); }));
}
failure failure_of(const outcomes &o, std::string_view name) {
  for (const auto &one : *o)
    if (one.name == name)
      return one.outcome ? failure() : one.outcome.error();
  return error::not_open;
}

void fill(client_group &g, std::size_t count, const std::string &url) {
  auto o = eager({url});
  o.session.close_timeout = 10min; // nothing here waits for its end
  for (std::size_t i = 0; i < count; ++i)
    BOOST_TEST(g.create(number(i), o).has_value());
}

} // namespace

BOOST_AUTO_TEST_SUITE(groups)

BOOST_AUTO_TEST_CASE(names) {
  world w;
  w.run([](world &here) -> task<> {
    client_group g(here.rt);
    BOOST_TEST(g.create("b", eager({"ws://127.0.0.1:1/"})).has_value());
    BOOST_TEST(g.create("a", eager({"ws://127.0.0.1:1/"})).has_value());
    const auto again = g.create("b", eager({"ws://127.0.0.1:2/"}));
    BOOST_REQUIRE(!again.has_value());
    BOOST_CHECK(again.error() == error::bad_option);
    BOOST_TEST(says(again.error(), "\"b\" already"));
    BOOST_CHECK(g.create("", eager({"ws://127.0.0.1:1/"})).error() == error::bad_option);
    const auto nowhere = g.create("c", {});
    BOOST_REQUIRE(!nowhere.has_value());
    BOOST_TEST(says(nowhere.error(), "urls of \"c\""));
    BOOST_TEST(g.size() == 2U);
    const auto all = g.states();
    BOOST_REQUIRE(all.size() == 2U);
    BOOST_TEST(all[0].name == "a");
    BOOST_CHECK(all[0].state == client_state::disconnected);
    BOOST_TEST(all[1].name == "b");
    BOOST_TEST(!g.find("a")); // not started
    BOOST_TEST(!g.find("c"));
    BOOST_TEST(g.erase("a"));
    BOOST_TEST(!g.erase("a"));
    BOOST_TEST(g.size() == 1U);
    BOOST_TEST(g.create("a", eager({"ws://127.0.0.1:1/"})).has_value());
    const auto unknown = co_await g.connect("c");
    BOOST_CHECK(unknown.error() == error::not_open);
    BOOST_TEST(says(unknown.error(), "no member \"c\""));
  }(w));
}

BOOST_AUTO_TEST_CASE(an_empty_group) {
  world w;
  w.run([](world &here) -> task<> {
    client_group g(here.rt);
    for (int round = 0; round < 2; ++round) {
      const auto opened = co_await g.connect_all();
      BOOST_TEST((opened.has_value() && opened->empty()));
      const auto sent = co_await g.send_all("x");
      BOOST_TEST((sent.has_value() && sent->empty()));
      const auto closed = co_await g.close_all();
      BOOST_TEST((closed.has_value() && closed->empty()));
    }
    BOOST_TEST(g.states().empty());
    client_group moved(std::move(g));
    const auto gone = co_await g.connect_all(); // NOLINT(bugprone-use-after-move)
    BOOST_CHECK(gone.error() == error::not_open);
    BOOST_TEST(g.size() == 0U);
    const auto none = co_await moved.connect_all({.concurrency = 0});
    BOOST_CHECK(none.error() == error::bad_option);
    const auto negative = co_await moved.connect_all({.jitter = -1ms});
    BOOST_CHECK(negative.error() == error::bad_option);
    const auto late = co_await moved.send_all("x", {.deadline = -1ms});
    BOOST_CHECK(late.error() == error::bad_option);
  }(w));
}

BOOST_AUTO_TEST_CASE(all_are_opened_told_and_closed) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    client_group g(here.rt);
    fill(g, 40, h.url());
    for (std::size_t round = 1; round <= 2; ++round) {
      const auto opened = co_await g.connect_all({.concurrency = 7, .jitter = 5ms});
      BOOST_REQUIRE(opened.has_value());
      BOOST_TEST(opened->size() == 40U);
      BOOST_TEST(good(opened) == 40U);
      for (std::size_t i = 0; i < 40; ++i)
        BOOST_TEST((*opened)[i].name == number(i));
      BOOST_TEST(count(g, client_state::open) == 40U);
      const auto again = co_await g.connect_all(); // open already
      BOOST_TEST(good(again) == 40U);
      BOOST_TEST(g.find("m00")->stats().attempts == 1U);
      const auto sent = co_await g.send_all("abc");
      BOOST_TEST(good(sent) == 40U);
      const auto closed = co_await g.close_all(chorus::close_code::normal, "enough");
      BOOST_TEST(good(closed) == 40U);
      BOOST_TEST(count(g, client_state::closed) == 40U);
      while (h.left != 40 * round)
        co_await turns();
      BOOST_TEST(h.heard == 120 * round);
      const auto late = co_await g.send_all("abc");
      BOOST_TEST(good(late) == 0U);
    }
    BOOST_TEST(g.size() == 40U);
    // One alone.
    BOOST_TEST((co_await g.connect("m07")).has_value());
    BOOST_TEST(count(g, client_state::open) == 1U);
  }(w));
}

BOOST_AUTO_TEST_CASE(so_many_at_a_time) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client_group g(here.rt);
    fill(g, 5, l.url());
    background<outcomes> opening(here.rt.executor(), g.connect_all({.concurrency = 2}));
    auto first = co_await l.accept();
    auto second = co_await l.accept();
    std::vector<peer> open;
    for (std::size_t left = 3; left > 0; --left) {
      co_await turns(50);
      BOOST_TEST(count(g, client_state::connecting) == 2U);
      BOOST_TEST(count(g, client_state::disconnected) == left);
      co_await first.upgrade();
      open.push_back(std::move(first));
      first = std::move(second);
      second = co_await l.accept();
    }
    co_await turns(50);
    BOOST_TEST(!opening.done());
    co_await first.upgrade();
    co_await second.upgrade();
    const auto opened = co_await opening.get();
    BOOST_TEST(good(opened) == 5U);
  }(w));
}

BOOST_AUTO_TEST_CASE(one_of_many_is_unreachable) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    dead_port nobody(here);
    client_group g(here.rt);
    fill(g, 20, h.url());
    int told = 0;
    auto dead = eager({nobody.url()});
    dead.on_error = [&told](const failure &) { ++told; };
    BOOST_TEST(g.create("dead", std::move(dead)).has_value());
    auto lost = eager({h.server.url() + "/elsewhere"}); // 404
    lost.max_attempts = 2;
    BOOST_TEST(g.create("lost", std::move(lost)).has_value());
    auto wrong = eager({h.url()});
    wrong.proven_after = -1ms;
    BOOST_TEST(g.create("wrong", std::move(wrong)).has_value());
    const auto opened = co_await g.connect_all({.concurrency = 4});
    BOOST_REQUIRE(opened.has_value());
    BOOST_TEST(good(opened) == 20U);
    BOOST_CHECK(failure_of(opened, "dead") == error::connect_failed);
    BOOST_CHECK(failure_of(opened, "lost") == error::upgrade_refused);
    BOOST_CHECK(failure_of(opened, "wrong") == error::bad_option);
    BOOST_TEST(says(failure_of(opened, "wrong"), "proven_after"));
    BOOST_TEST(told >= 1); // the option's own handler, too
    // They go on by themselves; who has used up its attempts is done.
    const auto patient = co_await g.connect_all({.attempts = 3});
    BOOST_CHECK(failure_of(patient, "dead") == error::connect_failed);
    BOOST_TEST(g.find("dead")->stats().attempts >= 4U);
    BOOST_CHECK(failure_of(patient, "lost") == error::attempts_exhausted);
    BOOST_TEST(!g.find("wrong"));
  }(w));
}

BOOST_AUTO_TEST_CASE(a_deadline) {
  world w;
  w.run([](world &here) -> task<> {
    listener silent(here);
    client_group g(here.rt);
    fill(g, 2, silent.url());
    const auto opened = co_await g.connect_all({.concurrency = 1, .deadline = 50ms});
    BOOST_REQUIRE(opened.has_value());
    BOOST_CHECK(failure_of(opened, "m00") == error::timed_out);
    BOOST_TEST(says(failure_of(opened, "m00"), "50 ms"));
    BOOST_CHECK(failure_of(opened, "m01") == error::timed_out);
    BOOST_TEST(!g.find("m01")); // its turn never came
    // The first goes on.
    auto p = co_await silent.accept_open();
    BOOST_TEST((co_await g.find("m00")->connected()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(cancelling) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client_group g(here.rt);
    fill(g, 5, l.url());
    {
      background<outcomes> opening(here.rt.executor(), g.connect_all({.jitter = 1h}));
      co_await turns(20);
      BOOST_TEST(!opening.done());
      opening.cancel();
      BOOST_TEST(co_await opening.aborted());
      BOOST_TEST(!g.find("m00"));
    }
    {
      background<outcomes> opening(here.rt.executor(), g.connect_all({.jitter = 1h}));
      opening.cancel(); // before it has begun, or nearly so
      BOOST_TEST(co_await opening.aborted());
      BOOST_TEST(!g.find("m00"));
    }
    background<outcomes> opening(here.rt.executor(), g.connect_all({.concurrency = 1}));
    auto p = co_await l.accept();
    opening.cancel();
    BOOST_TEST(co_await opening.aborted());
    BOOST_TEST(count(g, client_state::connecting) == 1U);
    co_await p.upgrade();
    BOOST_TEST((co_await g.find("m00")->connected()).has_value());
    BOOST_TEST(count(g, client_state::disconnected) == 4U);
  }(w));
}

BOOST_AUTO_TEST_CASE(the_group_goes_while_it_connects) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto g = std::make_unique<client_group>(here.rt);
    fill(*g, 6, l.url());
    background<outcomes> opening(here.rt.executor(), g->connect_all({.concurrency = 3}));
    auto open = co_await l.accept_open();
    auto second = co_await l.accept();
    auto third = co_await l.accept();
    auto fourth = co_await l.accept();
    BOOST_TEST(g->erase("m05")); // before its turn
    BOOST_TEST(!opening.done());
    g.reset();
    const auto opened = co_await opening.get();
    BOOST_REQUIRE(opened.has_value());
    BOOST_TEST(opened->size() == 6U);
    BOOST_TEST(good(opened) == 1U);
    for (const auto &one : *opened)
      if (!one.outcome)
        BOOST_CHECK(one.outcome.error() == error::aborted);
    BOOST_TEST(says(failure_of(opened, "m05"), "erased"));
    co_await open.wait_gone();
    co_await second.wait_gone();
    co_await third.wait_gone();
    co_await fourth.wait_gone();
  }(w));
}

BOOST_AUTO_TEST_CASE(closing_and_erasing_while_it_connects) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client_group g(here.rt);
    fill(g, 4, l.url());
    background<outcomes> opening(here.rt.executor(), g.connect_all({.concurrency = 2}));
    auto first = co_await l.accept();
    auto second = co_await l.accept();
    BOOST_TEST(g.erase("m00"));
    auto third = co_await l.accept(); // its place is free
    const auto closed = co_await g.close_all();
    BOOST_TEST(good(closed) == 3U);
    const auto opened = co_await opening.get();
    BOOST_TEST(good(opened) == 0U);
    BOOST_CHECK(failure_of(opened, "m00") == error::aborted);
    BOOST_CHECK(failure_of(opened, "m01") == error::not_open);
    BOOST_CHECK(failure_of(opened, "m03") == error::not_open);
    BOOST_TEST(count(g, client_state::closed) == 2U);
    BOOST_TEST(count(g, client_state::disconnected) == 1U);
    co_await first.wait_gone();
    co_await second.wait_gone();
    co_await third.wait_gone();
  }(w));
}

BOOST_AUTO_TEST_CASE(who_holds_a_client_keeps_it) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    client_group g(here.rt);
    fill(g, 2, h.url());
    BOOST_TEST(good(co_await g.connect_all()) == 2U);
    auto held = g.find("m00");
    BOOST_TEST(g.erase("m00"));
    BOOST_TEST(g.erase("m01"));
    while (h.left != 1)
      co_await turns();
    BOOST_CHECK(held->state() == client_state::open);
    BOOST_TEST((co_await held->send("12345")).has_value());
    while (h.heard != 5)
      co_await turns();
    held.reset();
    while (h.left != 2)
      co_await turns();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_full_member_holds_nobody_up) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    dead_port nobody(here);
    client_group g(here.rt);
    fill(g, 3, h.url());
    auto full = eager({nobody.url()});
    full.outbox_messages = 1;
    BOOST_TEST(g.create("full", full).has_value());
    full.outbox_overflow = chorus::overflow::drop_newest;
    BOOST_TEST(g.create("proud", full).has_value());
    co_await g.connect_all();
    BOOST_TEST(g.create("unborn", eager({h.url()})).has_value());
    auto sent = co_await g.send_all("1");
    BOOST_TEST(good(sent) == 5U);
    BOOST_CHECK(failure_of(sent, "unborn") == error::not_open);
    background<outcomes> sending(here.rt.executor(), g.send_all("2", {.deadline = 1h}));
    while (h.heard != 6)
      co_await turns();
    BOOST_TEST(!sending.done());
    sending.cancel();
    BOOST_TEST(co_await sending.aborted());
    sent = co_await g.send_all("3", {.deadline = 20ms});
    BOOST_TEST(good(sent) == 3U);
    BOOST_CHECK(failure_of(sent, "full") == error::timed_out);
    BOOST_CHECK(failure_of(sent, "proud") == error::queue_full);
    BOOST_TEST(g.find("full")->stats().queued_messages == 1U);
    BOOST_TEST(g.find("proud")->stats().messages_dropped == 2U); // one for each message
    // One that waits is not left behind when the member goes.
    background<outcomes> last(here.rt.executor(), g.send_all("4"));
    co_await turns(20);
    BOOST_TEST(!last.done());
    BOOST_TEST(g.erase("full"));
    sent = co_await last.get();
    BOOST_CHECK(failure_of(sent, "full") == error::aborted);
  }(w));
}

BOOST_AUTO_TEST_CASE(members_are_dealt_out_over_the_shards) {
  world w(4);
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    std::mutex mutex;
    std::set<std::thread::id> threads;
    client_group g(here.rt);
    for (std::size_t i = 0; i < 8; ++i) {
      auto o = eager({h.url()});
      o.session.close_timeout = 10min; // nothing here waits for its end
      o.on_connect = [&](chorus::session &) {
        std::lock_guard held(mutex);
        threads.insert(std::this_thread::get_id());
      };
      BOOST_TEST(g.create(number(i), std::move(o)).has_value());
    }
    BOOST_TEST(good(co_await g.connect_all()) == 8U);
    BOOST_TEST(threads.size() == 4U);
    BOOST_TEST(good(co_await g.close_all()) == 8U);
  }(w));
}

BOOST_AUTO_TEST_CASE(verbs_from_any_thread) {
  contexts own; // outlive the threads that post to them
  world w(2);
  w.run([](world &here, contexts &of_threads) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    client_group g(here.rt);
    fill(g, 10, h.url());
    std::atomic<std::size_t> failed{0};
    std::atomic<int> at_it{0};
    std::vector<std::thread> threads;
    for (std::size_t t = 0; t < of_threads.size(); ++t) {
      ++at_it;
      threads.emplace_back([&, t] {
        auto &io = of_threads[t];
        for (int i = 0; i < 10; ++i) {
          const auto name = "t" + std::to_string(t) + "-" + std::to_string(i);
          failed += !g.create(name, eager({h.url()}));
          auto opened = asio::co_spawn(io, g.connect_all({.concurrency = 3}), asio::use_future);
          auto sent = asio::co_spawn(io, g.send_all("x"), asio::use_future);
          io.restart();
          io.run();
          failed += !opened.get().has_value();
          failed += !sent.get().has_value();
          failed += g.states().size() < 10;
          failed += !g.erase(name);
        }
        --at_it;
      });
    }
    while (at_it != 0)
      co_await turns();
    for (auto &t : threads)
      t.join();
    BOOST_TEST(failed == 0U);
    BOOST_TEST(g.size() == 10U);
    BOOST_TEST(count(g, client_state::open) == 10U);
    BOOST_TEST(good(co_await g.close_all()) == 10U);
  }(w, own));
}

BOOST_AUTO_TEST_CASE(the_runtime_goes_first) {
  asio::io_context io;
  auto rt = std::make_unique<chorus::runtime>();
  client_group g(*rt);
  BOOST_TEST(g.create("a", eager({"ws://127.0.0.1:1/"})).has_value());
  rt.reset();
  auto opened = asio::co_spawn(io, g.connect_all(), asio::use_future);
  auto one = asio::co_spawn(io, g.connect("a"), asio::use_future);
  auto sent = asio::co_spawn(io, g.send_all("x"), asio::use_future);
  auto closed = asio::co_spawn(io, g.close_all(), asio::use_future);
  io.run();
  BOOST_CHECK(opened.get().error() == error::shut_down);
  BOOST_CHECK(one.get().error() == error::shut_down);
  BOOST_CHECK(failure_of(sent.get(), "a") == error::not_open);
  BOOST_CHECK(closed.get().error() == error::shut_down);
  BOOST_TEST(g.states().size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_deadline_as_long_as_can_be_is_none) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    client_group g(here.rt);
    fill(g, 3, h.url());
    chorus::connect_all_options patient;
    patient.deadline = std::chrono::milliseconds::max();
    BOOST_TEST(good(co_await g.connect_all(patient)) == 3U);
    BOOST_TEST(good(co_await g.close_all()) == 3U);
  }(w));
}

BOOST_AUTO_TEST_CASE(handlers_are_the_members_own) {
  world w;
  w.run([](world &here) -> task<> {
    host h(here);
    BOOST_REQUIRE((co_await h.server.start()).has_value());
    event_log log(here.rt.executor());
    client_group g(here.rt);
    auto throwing = eager({h.url()});
    throwing.on_connect = [](chorus::session &) { throw std::runtime_error("no"); };
    throwing.on_error = [&log](const failure &why) -> task<> { // a coroutine, too, is told
      log.add(why == error::handler_failed ? "threw" : "failed");
      co_return;
    };
    BOOST_TEST(g.create("throws", std::move(throwing)).has_value());
    auto all = co_await g.connect_all();
    BOOST_TEST(good(all) == 1U); // a handler that throws is no failed attempt
    co_await log.wait("threw");

    dead_port nobody(here);
    auto vain = eager({nobody.url()});
    vain.on_error = [&log](const failure &) -> task<> {
      log.add("vain");
      co_return;
    };
    BOOST_TEST(g.create("vain", std::move(vain)).has_value());
    chorus::connect_all_options twice;
    twice.attempts = 2;
    all = co_await g.connect_all(twice);
    BOOST_CHECK(failure_of(all, "vain") == error::connect_failed);
    co_await log.wait("vain", 2);
    BOOST_TEST(good(co_await g.close_all()) == 2U);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
