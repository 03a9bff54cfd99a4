// `connect` against servers that agree, and what else it takes.

#include "attempt.hpp"

#include <array>
#include <future>

using namespace client_test;

namespace {

const auto rethrow = [](std::exception_ptr e) {
  if (e)
    std::rethrow_exception(e);
};

} // namespace

BOOST_AUTO_TEST_SUITE(connecting)

BOOST_AUTO_TEST_CASE(opens_and_carries_messages_both_ways) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial(here, l);
    auto p = co_await l.accept();
    const auto head = co_await p.upgrade();
    BOOST_TEST(head.find("GET /chat HTTP/1.1\r\n") == 0U);
    BOOST_TEST(peer::field(head, "Host") == l.url().substr(5, l.url().size() - 6));
    BOOST_TEST(peer::field(head, "Sec-WebSocket-Key").size() == 24U);
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    BOOST_TEST(s->is_open());
    BOOST_TEST((co_await s->send("hello")).has_value());
    const auto f = co_await p.read_frame();
    BOOST_REQUIRE(f.has_value());
    BOOST_TEST(f->opcode == 1U);
    BOOST_TEST(f->payload == "hello");
    co_await p.write(peer::text("there"));
    auto got = co_await s->receive();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST(got->text() == "there");
    background<result<>> closing(here.rt.executor(), s->close());
    const auto bye = co_await p.read_frame();
    BOOST_REQUIRE(bye.has_value());
    BOOST_TEST(bye->opcode == 8U);
    co_await p.write(peer::close_frame(1000));
    p.close();
    BOOST_TEST((co_await closing.get()).has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(every_attempt_has_a_key_of_its_own) {
  world w;
  w.run([](world &here) -> task<> {
    std::vector<std::string> keys;
    for (int i = 0; i < 3; ++i) {
      listener l(here);
      auto a = dial(here, l);
      auto p = co_await l.accept();
      keys.push_back(peer::field(co_await p.read_head(), "Sec-WebSocket-Key"));
      p.close();
      co_await a.get();
    }
    BOOST_TEST(keys[0] != keys[1]);
    BOOST_TEST(keys[1] != keys[2]);
  }(w));
}

BOOST_AUTO_TEST_CASE(frames_in_the_same_packet_as_the_answer_are_received) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial(here, l);
    auto p = co_await l.accept();
    co_await p.upgrade(peer::text("one") + peer::text("two") + peer::text("three").substr(0, 3));
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    co_await p.write(peer::text("three").substr(3));
    for (const auto *expected : {"one", "two", "three"}) {
      auto got = co_await s->receive();
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->text() == expected);
    }
    s->abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(an_answer_in_single_bytes_is_understood) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial(here, l);
    auto p = co_await l.accept();
    const auto answer = peer::agreement(co_await p.read_head());
    for (char c : answer) {
      co_await p.write(std::string(1, c));
      co_await turns(1);
    }
    auto s = co_await a.get();
    BOOST_TEST(s.has_value());
  }(w));
}

BOOST_AUTO_TEST_CASE(headers_and_subprotocols_are_sent_and_the_choice_is_known) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    // Everything it points at is gone before the coroutine starts.
    task<result<session>> pending = [&] {
      const std::string value = "Bearer token";
      const std::array<chorus::header, 1> headers{{{"Authorization", value}}};
      const std::array<std::string_view, 2> names{"b", "a"};
      connect_options o;
      o.headers = headers;
      o.subprotocols = names;
      const auto url = l.url();
      return connect(url, o);
    }();
    attempt a(here.rt.executor(), std::move(pending));
    auto p = co_await l.accept();
    const auto head = co_await p.read_head();
    BOOST_TEST(peer::field(head, "Authorization") == "Bearer token");
    BOOST_TEST(peer::field(head, "Sec-WebSocket-Protocol") == "b, a");
    auto answer = peer::agreement(head, "Sec-WebSocket-Protocol: a\r\n");
    co_await p.write(std::move(answer));
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    BOOST_TEST(s->subprotocol() == "a");
  }(w));
}

BOOST_AUTO_TEST_CASE(compression_is_agreed_on) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    connect_options o;
    o.session.compression.enabled = true;
    auto a = dial(here, l, o);
    auto p = co_await l.accept();
    auto answer =
        peer::agreement(co_await p.read_head(),
                        "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "
                        "client_no_context_takeover\r\n");
    co_await p.write(std::move(answer));
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    BOOST_TEST(s->compressed());
  }(w));
}

BOOST_AUTO_TEST_CASE(dialling_fails_as_itself) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    auto refused = co_await connect(nobody.url());
    BOOST_CHECK(refused.error() == error::connect_failed);
    auto bad = co_await connect("localhost");
    BOOST_CHECK(bad.error() == error::bad_url);
    auto missing = co_await connect("ws+unix:///nonexistent/socket:/");
    BOOST_CHECK(missing.error() == error::connect_failed);
    connect_options o;
    o.upgrade_timeout = 0ms;
    auto option = co_await connect(nobody.url(), o);
    BOOST_CHECK(option.error() == error::bad_option);
  }(w));
}

BOOST_AUTO_TEST_CASE(framed_messages_need_no_handshake) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    connect_options o;
    o.session.frame = chorus::framing::lines;
    const auto url = "tcp://127.0.0.1:" + std::to_string(l.port());
    attempt a(here.rt.executor(), connect(url, o));
    auto p = co_await l.accept();
    co_await p.write("hello\n");
    auto s = co_await a.get();
    BOOST_REQUIRE(s.has_value());
    auto got = co_await s->receive();
    BOOST_REQUIRE(got.has_value());
    BOOST_TEST(got->text() == "hello");
  }(w));
}

BOOST_AUTO_TEST_CASE(without_a_runtime_it_says_so) {
  asio::io_context context;
  std::optional<failure> why;
  asio::co_spawn(
      context,
      [](std::optional<failure> &out) -> task<> {
        auto r = co_await connect("ws://127.0.0.1:1/");
        out = r.error();
      }(why),
      rethrow);
  context.run();
  BOOST_REQUIRE(why.has_value());
  BOOST_CHECK(*why == error::no_runtime);
  BOOST_TEST(says(*why, "chorus::runtime"));
}

BOOST_AUTO_TEST_CASE(on_a_thread_that_is_not_the_shards_it_says_so) {
  world w;
  std::thread foreign;
  std::promise<void> suspended;
  w.run([](std::thread &other, std::promise<void> &go) -> task<> {
    const auto executor = co_await asio::this_coro::executor;
    // Runs when this coroutine has been left.
    asio::post(executor, [&go] { go.set_value(); });
    // Completes on a thread of its own, which then runs this coroutine.
    co_await asio::async_initiate<const asio::use_awaitable_t<>, void()>(
        [&other, &go](auto handler) {
          other = std::thread([h = std::move(handler), &go]() mutable {
            go.get_future().wait();
            std::move(h)();
          });
        },
        asio::use_awaitable);
    const auto r = co_await connect("ws://127.0.0.1:1/");
    co_await asio::post(executor, asio::use_awaitable);
    BOOST_REQUIRE(!r.has_value());
    BOOST_CHECK(r.error() == error::no_runtime);
    BOOST_TEST(says(r.error(), "awaited on a thread"));
  }(foreign, suspended));
  foreign.join();
}

BOOST_AUTO_TEST_CASE(the_connection_ends_with_its_last_handle) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    std::optional<attempt> a(dial(here, l));
    auto p = co_await l.accept_open();
    {
      auto s = co_await a->get();
      BOOST_REQUIRE(s.has_value());
      a.reset();
      const auto second = *s;
    }
    const auto bye = co_await p.read_frame();
    BOOST_REQUIRE(bye.has_value());
    BOOST_TEST(bye->opcode == 8U);
    BOOST_TEST((bye->payload == std::string("\x03\xe8")));
  }(w));
}

BOOST_AUTO_TEST_CASE(a_runtime_around_ones_own_context_will_do) {
  asio::io_context context;
  chorus::runtime rt(context);
  bool opened = false;
  tcp::acceptor acceptor(context, {asio::ip::address_v4::loopback(), 0});
  const auto url = "ws://127.0.0.1:" + std::to_string(acceptor.local_endpoint().port()) + "/";
  asio::co_spawn(
      context,
      [](const std::string &to, bool &ok) -> task<> {
        auto s = co_await connect(to);
        ok = s.has_value();
        if (s)
          s->abort();
      }(url, opened),
      rethrow);
  asio::co_spawn(
      context,
      [](tcp::acceptor &from, asio::io_context &whole) -> task<> {
        peer p(co_await from.async_accept(asio::use_awaitable));
        co_await p.upgrade();
        co_await p.wait_gone();
        whole.stop();
      }(acceptor, context),
      rethrow);
  context.run_for(30s);
  BOOST_TEST(opened);
}

BOOST_AUTO_TEST_CASE(cancelled_before_it_starts) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    background<result<session>> a(here.rt.executor(), [](std::string url) -> task<result<session>> {
      // Suspends first, so that the cancellation is there before connect begins.
      co_await asio::this_coro::throw_if_cancelled(false);
      co_await turns();
      co_await asio::this_coro::throw_if_cancelled(true);
      co_return co_await connect(url);
    }(l.url()));
    co_await turns(1);
    a.cancel();
    BOOST_TEST(co_await a.aborted());
  }(w));
}

BOOST_AUTO_TEST_CASE(cancelled_at_each_step_it_leaves_nothing) {
  world w;
  w.run([](world &here) -> task<> {
    // Every step further: after so many turns of the loop.
    for (int step = 0; step < 12; ++step) {
      listener l(here);
      auto a = dial(here, l);
      co_await turns(step);
      const bool early = !a.done();
      a.cancel();
      BOOST_TEST(early);
      BOOST_TEST(co_await a.aborted());
    }
    // Waiting for the answer: not one byte of it, half of it.
    for (const auto *begun :
         {"", "HTTP/1.1 101 Sw", "HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\nx"}) {
      listener l(here);
      auto a = dial(here, l);
      auto p = co_await l.accept();
      co_await p.read_head();
      co_await p.write(begun);
      co_await turns(5);
      a.cancel();
      BOOST_TEST(co_await a.aborted());
      co_await p.wait_gone(); // the connection is closed, not leaked
    }
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
