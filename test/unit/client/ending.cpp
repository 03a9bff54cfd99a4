// The end of the handle, and of the runtime, in every state.

#include "scripted.hpp"

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

std::unique_ptr<client> make(world &w, chorus::client_options o) {
  return std::make_unique<client>(w.rt, std::move(o));
}

} // namespace

BOOST_AUTO_TEST_SUITE(endings)

BOOST_AUTO_TEST_CASE(destroyed_in_every_state) {
  world w;
  w.run([](world &here) -> task<> {
    // At once, and after so many turns of the loop while it connects.
    for (int step = 0; step < 12; ++step) {
      listener l(here);
      auto c = make(here, eager({l.url()}));
      co_await turns(step);
      c.reset();
      co_await turns();
    }
    { // while the server is silent
      listener l(here);
      auto c = make(here, eager({l.url()}));
      auto p = co_await l.accept();
      c.reset();
      co_await p.wait_gone();
    }
    { // open, with something queued
      listener l(here);
      auto c = make(here, eager({l.url()}));
      auto p = co_await l.accept_open();
      co_await c->connected();
      for (int i = 0; i < 40; ++i)
        (void)c->try_send(std::string(1 << 20, 'q'));
      c.reset();
      co_await p.wait_gone();
    }
    { // backing off
      dead_port nobody(here);
      auto o = eager({nobody.url()});
      o.backoff.initial = 1h;
      auto c = make(here, std::move(o));
      while (c->state() != client_state::disconnected)
        co_await turns();
      c.reset();
      co_await turns();
    }
    { // closing
      listener l(here);
      auto c = make(here, eager({l.url()}));
      auto p = co_await l.accept_open();
      co_await c->connected();
      background<result<>> closing(here.rt.executor(), c->close());
      co_await p.read_frame();
      c.reset();
      BOOST_CHECK((co_await closing.get()).error() == error::aborted);
      co_await p.wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(verbs_that_wait_are_told) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto o = eager({l.url()});
    o.outbox_messages = 1;
    auto c = make(here, std::move(o));
    co_await c->send("0");
    background<result<>> sending(here.rt.executor(), c->send("1"));
    background<result<>> connecting(here.rt.executor(), c->connected());
    background<result<>> flushing(here.rt.executor(), c->flush());
    background<result<message>> receiving(here.rt.executor(), c->receive());
    co_await turns();
    c.reset();
    BOOST_CHECK((co_await sending.get()).error() == error::aborted);
    BOOST_CHECK((co_await connecting.get()).error() == error::aborted);
    BOOST_CHECK((co_await flushing.get()).error() == error::aborted);
    BOOST_CHECK((co_await receiving.get()).error() == error::aborted);
  }(w));
}

BOOST_AUTO_TEST_CASE(no_callback_begins_after_the_handle_has_gone) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto alive = std::make_shared<bool>(true);
    int late = 0;
    auto o = eager({l.url()});
    const auto note = [alive, &late] { late += !*alive; };
    o.on_connect = [note](chorus::session &) { note(); };
    o.on_disconnect = [note](const failure &) { note(); };
    o.on_error = [note](const failure &) { note(); };
    o.on_state = [note](client_state) { note(); };
    o.on_message = [note](const message &) { note(); };
    auto c = make(here, std::move(o));
    auto p = co_await l.accept_open(peer::text("x"));
    co_await c->connected();
    co_await p.write(peer::text("y"));
    c.reset();
    *alive = false;
    co_await p.wait_gone();
    co_await turns(10);
    BOOST_TEST(late == 0);
  }(w));
}

BOOST_AUTO_TEST_CASE(destroyed_by_its_own_callback) {
  world w;
  w.run([](world &here) -> task<> {
    for (int which = 0; which < 5; ++which) {
      listener l(here);
      std::unique_ptr<client> c;
      event_log log(here.rt.executor());
      const auto end = [&c, &log](bool mine) {
        if (mine) {
          c.reset();
          log.add("destroyed");
        }
      };
      auto o = eager({l.url()});
      o.on_connect = [end, which](chorus::session &) { end(which == 0); };
      o.on_message = [end, which](const message &) { end(which == 1); };
      o.on_disconnect = [end, which](const failure &) { end(which == 2); };
      o.on_error = [end, which](const failure &) { end(which == 3); };
      o.on_state = [end, which](client_state s) {
        end(which == 4 && s == client_state::disconnected);
      };
      c = make(here, std::move(o));
      auto p = co_await l.accept();
      if (which == 3) {
        p.reset();
      } else {
        co_await p.upgrade(peer::text("x"));
        if (which >= 2)
          p.reset();
      }
      co_await log.wait("destroyed");
      co_await turns(5);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(moved_handles) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    client a(here.rt, eager({l.url()}));
    client b(std::move(a));
    BOOST_CHECK(a.state() == client_state::closed); // NOLINT: moved from on purpose
    BOOST_CHECK(a.try_send("x").error() == error::not_open);
    BOOST_CHECK((co_await a.receive()).error() == error::not_open);
    BOOST_CHECK((co_await a.close()).error() == error::not_open);
    auto p = co_await l.accept_open();
    BOOST_TEST((co_await b.connected()).has_value());
    listener other(here);
    b = client(here.rt, eager({other.url()})); // the first is aborted
    co_await p.wait_gone();
    auto q = co_await other.accept_open();
    BOOST_TEST((co_await b.connected()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(a_client_that_outlives_its_runtime) {
  for (int state = 0; state < 4; ++state) {
    std::unique_ptr<client> c;
    auto w = std::make_unique<world>();
    w->run([](world &here, std::unique_ptr<client> &out, int wanted) -> task<> {
      if (wanted == 0) { // never started
        out = make(here, eager({"ws://127.0.0.1:1/"}));
      } else if (wanted == 1) { // backing off
        auto o = eager({"ws://127.0.0.1:1/"});
        o.backoff.initial = 1h;
        out = make(here, std::move(o));
        while (out->state() == client_state::connecting)
          co_await turns();
      } else {
        listener l(here);
        out = make(here, eager({l.url()}));
        auto p = co_await l.accept();
        if (wanted == 3) { // open
          co_await p.upgrade();
          co_await out->connected();
        }
      }
    }(*w, c, state));
    w.reset();
    BOOST_TEST_CONTEXT(state) {
      BOOST_CHECK(c->state() == client_state::closed);
      BOOST_CHECK(c->try_send("x").error() == error::shut_down);
      BOOST_CHECK(c->last_failure() == error::shut_down);
      BOOST_TEST(!c->current());
      // The verbs answer on any context.
      asio::io_context elsewhere;
      int answers = 0;
      asio::co_spawn(
          elsewhere,
          [](client &from, int &n) -> task<> {
            BOOST_CHECK((co_await from.receive()).error() == error::shut_down);
            BOOST_CHECK((co_await from.send("x")).error() == error::shut_down);
            BOOST_CHECK((co_await from.connected()).error() == error::shut_down);
            BOOST_CHECK((co_await from.flush()).error() == error::shut_down);
            (void)co_await from.close();
            n = 5;
          }(*c, answers),
          [](std::exception_ptr e) {
            if (e)
              std::rethrow_exception(e);
          });
      elsewhere.run_for(30s);
      BOOST_TEST(answers == 5);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
