// Handlers that are functions, coroutines, or overridden; and `receive` beside them.

#include "scripted.hpp"

#include <chorus/async/runtime_core.hpp>

#include <stdexcept>

using namespace client_test;
using chorus::client;
using chorus::client_state;

namespace {

// Holds a coroutine until it is let go, or cancelled.
class door {
public:
  explicit door(const asio::any_io_executor &executor)
      : open_(executor, asio::steady_timer::time_point::max()) {}
  void open() {
    opened_ = true;
    open_.cancel();
  }
  task<> pass() {
    boost::system::error_code ec;
    if (!opened_)
      co_await open_.async_wait(asio::redirect_error(asio::use_awaitable, ec));
    if (!opened_)
      throw boost::system::system_error(asio::error::operation_aborted);
  }

private:
  asio::steady_timer open_;
  bool opened_ = false;
};

task<std::string> text_of(client &c) {
  auto got = co_await c.receive();
  co_return got ? got->str() : "failed: " + got.error().message();
}

} // namespace

BOOST_AUTO_TEST_SUITE(events)

BOOST_AUTO_TEST_CASE(a_handler_holds_a_function_a_coroutine_or_nothing) {
  using handler = chorus::event_handler<int &>;
  BOOST_TEST(!handler());
  BOOST_TEST(!handler(nullptr));
  BOOST_TEST(!handler(std::function<void(int &)>()));
  const handler plain = [](int &i) { i = 1; };
  BOOST_TEST(static_cast<bool>(plain));
  BOOST_TEST(!plain.is_coroutine());
  int i = 0;
  plain(i);
  BOOST_TEST(i == 1);
  const handler later = [](int &to) -> task<> {
    to = 2;
    co_return;
  };
  BOOST_TEST(later.is_coroutine());
  later(i);
  BOOST_TEST(i == 1);
  asio::io_context context;
  asio::co_spawn(context, later.start(i), [](std::exception_ptr) {});
  context.run();
  BOOST_TEST(i == 2);
}

BOOST_AUTO_TEST_CASE(on_message_hears_all_and_receive_gets_all_from_its_first_call_on) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    o.on_message = [&log](const message &m) { log.add(m.str()); };
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open(peer::text("early"));
    co_await log.wait("early");
    background<std::string> first(here.rt.executor(), text_of(c));
    co_await turns();
    co_await p.write(peer::text("a") + peer::text("b"));
    BOOST_TEST(co_await first.get() == "a");
    co_await log.wait("b");
    BOOST_TEST(co_await text_of(c) == "b");
    BOOST_TEST(log.joined() == "early a b");
    BOOST_TEST(c.stats().messages_received == 3U);
  }(w));
}

// Who has begun to receive holds the client up when it does not go on; who has not, doesn't.
BOOST_AUTO_TEST_CASE(only_who_receives_can_hold_up_on_message) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool receives : {false, true}) {
      listener l(here);
      event_log log(here.rt.executor());
      auto o = eager({l.url()});
      o.session.inbox_messages = 4;
      o.on_message = [&log](const message &m) { log.add(m.str()); };
      client c(here.rt, std::move(o));
      auto p = co_await l.accept_open();
      if (receives) {
        background<std::string> first(here.rt.executor(), text_of(c));
        co_await turns();
        co_await p.write(peer::text("first"));
        BOOST_TEST(co_await first.get() == "first");
      }
      for (int i = 0; i < 50; ++i)
        co_await p.write(peer::text("x"));
      if (!receives) {
        co_await log.wait("x", 50);
        continue;
      }
      co_await log.wait("x", 4);
      co_await turns(50);
      BOOST_TEST(log.all().size() == 5U);
      for (int i = 0; i < 50; ++i)
        BOOST_TEST(co_await text_of(c) == "x");
      BOOST_TEST(log.all().size() == 51U);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(coroutines_run_one_at_a_time_and_keep_the_order_of_all_events) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    door first(here.rt.executor());
    auto o = eager({l.url()});
    o.on_connect = [&](chorus::session s) -> task<> {
      log.add("connecting");
      co_await turns();
      (void)co_await s.send("greeting");
      log.add("connect");
    };
    o.on_message = [&](const message &m) -> task<> {
      const auto text = m.str();
      log.add("begin-" + text);
      if (text == "1")
        co_await first.pass();
      co_await turns();
      log.add("end-" + m.str());
    };
    o.on_disconnect = [&](const failure &) { log.add("disconnect"); };
    o.on_state = [&](client_state s) -> task<> {
      co_await turns();
      log.add(std::string(to_string(s)));
    };
    client c(here.rt, std::move(o));
    BOOST_TEST((co_await c.send("queued")).has_value());
    auto p = co_await l.accept_open(peer::text("1") + peer::text("2"));
    // What on_connect sends goes before what is queued, however long it takes.
    BOOST_TEST((co_await p.read_text()).value_or("nothing") == "greeting");
    BOOST_TEST((co_await p.read_text()).value_or("nothing") == "queued");
    co_await log.wait("begin-1");
    p.reset();
    co_await turns(20);
    BOOST_TEST(log.joined() == "connecting connect OPEN begin-1");
    first.open();
    auto q = co_await l.accept_open();
    co_await log.wait("OPEN", 2);
    BOOST_TEST(log.joined() == "connecting connect OPEN begin-1 end-1 begin-2 end-2 disconnect "
                               "DISCONNECTED CONNECTING connecting connect OPEN");
  }(w));
}

BOOST_AUTO_TEST_CASE(handlers_that_throw_are_reported_and_kill_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool coroutine : {false, true}) {
      listener l(here);
      event_log log(here.rt.executor());
      auto o = eager({l.url()});
      if (coroutine)
        o.on_message = [&log](const message &m) -> task<> {
          const auto text = m.str();
          co_await turns();
          log.add(text);
          if (text == "bad")
            throw std::runtime_error("no good");
        };
      else
        o.on_message = [&log](const message &m) {
          log.add(m.str());
          if (m.text() == "bad")
            throw std::runtime_error("no good");
        };
      o.on_error = [&log](const failure &why) {
        BOOST_CHECK(why == error::handler_failed);
        BOOST_TEST(why.message() == "the handler on_message threw: no good");
        log.add("error");
        throw std::runtime_error("and this one, too");
      };
      client c(here.rt, std::move(o));
      auto p = co_await l.accept_open(peer::text("bad") + peer::text("good"));
      co_await log.wait("good");
      BOOST_TEST(log.joined() == "bad error good");
      BOOST_TEST(c.stats().handlers_failed == 2U);
      BOOST_CHECK(c.state() == client_state::open);
      BOOST_TEST((co_await c.send("alive")).has_value());
      BOOST_TEST((co_await p.read_text()).value_or("nothing") == "alive");
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_listener_overrides_what_it_wants) {
  struct chat final : chorus::client_listener {
    explicit chat(event_log &to) : log(to) {}
    void on_connect(chorus::session &s) override { (void)s.try_send("hello"); }
    void on_message(const message &m) override { log.add(m.str()); }
    void on_state(client_state s) override { log.add(std::string(to_string(s))); }
    event_log &log;
  };
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    event_log log(here.rt.executor());
    auto o = eager({l.url()});
    o.on_message = [&log](const message &m) -> task<> {
      co_await turns();
      log.add("handler-" + m.str());
    };
    o.listener = std::make_shared<chat>(log);
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open(peer::text("1") + peer::text("2"));
    BOOST_TEST((co_await p.read_text()).value_or("nothing") == "hello");
    co_await log.wait("2");
    background<result<>> closing(here.rt.executor(), c.close());
    BOOST_TEST(!(co_await p.read_text()).has_value());
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());
    BOOST_TEST(log.joined() == "OPEN handler-1 1 handler-2 2 CLOSING CLOSED");
  }(w));
}

BOOST_AUTO_TEST_CASE(a_listener_that_leaves_messages_alone_leaves_them_to_receive) {
  struct watcher final : chorus::client_listener {
    void on_disconnect(const failure &) override { gone = true; }
    bool gone = false;
  };
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    const auto watching = std::make_shared<watcher>();
    auto o = eager({l.url()});
    o.listener = watching;
    client c(here.rt, std::move(o));
    auto p = co_await l.accept_open(peer::text("1") + peer::text("2"));
    while (c.stats().messages_received < 2)
      co_await turns();
    BOOST_TEST(co_await text_of(c) == "1");
    BOOST_TEST(co_await text_of(c) == "2");
    p.reset();
    while (!watching->gone)
      co_await turns();
  }(w));
}

// A coroutine that does not end is cancelled: at once when the handle goes, in time when it closes.
BOOST_AUTO_TEST_CASE(a_handler_that_does_not_end_can_be_closed) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    for (const std::string which : {"close", "close in on_connect", "destroy"}) {
      listener l(here);
      event_log log(here.rt.executor());
      door never(here.rt.executor());
      auto o = eager({l.url()});
      const auto wait = [&log, &never]() -> task<> {
        log.add("begin");
        try {
          co_await never.pass();
        } catch (const boost::system::system_error &) {
          log.add("cancelled");
          throw;
        }
      };
      if (which == "close in on_connect")
        o.on_connect = [&wait](chorus::session &) -> task<> { co_await wait(); };
      else
        o.on_message = [&wait](const message &) -> task<> { co_await wait(); };
      o.on_error = [&log](const failure &) { log.add("error"); };
      auto c = std::make_unique<client>(here.rt, std::move(o));
      auto p = co_await l.accept_open(peer::text("x"));
      co_await log.wait("begin");
      if (which == "destroy") {
        c.reset();
        co_await log.wait("cancelled");
        continue;
      }
      background<result<>> closing(here.rt.executor(), c->close());
      BOOST_TEST(!(co_await p.read_text()).has_value());
      p.close();
      while (c->current().state() != chorus::session_state::closed)
        co_await turns();
      co_await turns(20);
      if (which == "close") {
        BOOST_TEST(!closing.done());
        BOOST_TEST(log.joined() == "begin");
        home.advance(6s); // close_timeout is over
      }
      BOOST_TEST((co_await closing.get()).has_value());
      BOOST_TEST(log.joined() == "begin cancelled");
    }
  }(w));
}

// The handler awaits what waits for the handler; the bound of a close resolves it.
BOOST_AUTO_TEST_CASE(a_handler_that_closes_its_client_gets_there) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *here.rt.core()->shards.front();
    home.use_manual_clock();
    listener l(here);
    event_log log(here.rt.executor());
    std::optional<client> c;
    auto o = eager({l.url()});
    o.on_message = [&](const message &) -> task<> {
      log.add("closing");
      (void)co_await c->close();
    };
    c.emplace(here.rt, std::move(o));
    auto p = co_await l.accept_open(peer::text("x"));
    co_await log.wait("closing");
    BOOST_TEST(!(co_await p.read_text()).has_value());
    p.close();
    while (c->current().state() != chorus::session_state::closed)
      co_await turns();
    home.advance(6s);
    BOOST_TEST((co_await c->close()).has_value());
    BOOST_CHECK(c->state() == client_state::closed);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
