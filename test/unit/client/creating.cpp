// `create_client`: a connected client in one line.

#include "scripted.hpp"

using namespace client_test;
using chorus::client;
using chorus::client_state;

BOOST_AUTO_TEST_SUITE(creating)

BOOST_AUTO_TEST_CASE(connects_and_goes_on_reconnecting) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    background<int> serving(here.rt.executor(), [](listener &from) -> task<int> {
      for (int round = 0; round < 2; ++round) {
        auto p = co_await from.accept_open(peer::text(std::to_string(round)));
        if (round == 1)
          co_await p.read_text();
        else
          co_await p.close_with(1001);
      }
      co_return 0;
    }(l));
    auto options = eager({});
    const auto where = l.url();
    auto c = co_await chorus::create_client(where, options);
    BOOST_REQUIRE(c.has_value());
    BOOST_TEST((co_await c->receive()).value().text() == "0");
    BOOST_TEST((co_await c->receive()).value().text() == "1");
    (void)co_await c->close();
    co_await serving.get();
  }(w));
}

BOOST_AUTO_TEST_CASE(without_options) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    background<bool> serving(here.rt.executor(), [](listener &from) -> task<bool> {
      auto p = co_await from.accept_open();
      const auto got = co_await p.read_text();
      co_return got == "hello";
    }(l));
    auto c = co_await chorus::create_client(l.url());
    BOOST_REQUIRE(c.has_value());
    BOOST_CHECK(c->state() == client_state::open);
    BOOST_TEST((co_await c->send("hello")).has_value());
    BOOST_TEST(co_await serving.get());
  }(w));
}

BOOST_AUTO_TEST_CASE(tries_each_url_once) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port nobody(here);
    dead_port neither(here);
    auto options = eager({neither.url()});
    std::vector<std::string> failed;
    options.on_error = [&failed](const failure &why) { failed.push_back(why.detail().address); };
    const auto where = nobody.url();
    auto c = co_await chorus::create_client(where, options);
    BOOST_REQUIRE(!c.has_value());
    BOOST_CHECK(c.error() == error::connect_failed);
    BOOST_TEST(failed.size() == 2U);

    listener l(here);
    options.urls = {l.url()};
    background<bool> serving(here.rt.executor(), [](listener &from) -> task<bool> {
      auto p = co_await from.accept_open();
      co_await p.wait_gone();
      co_return true;
    }(l));
    {
      auto other = co_await chorus::create_client(where, options);
      BOOST_TEST(other.has_value());
    }
    BOOST_TEST(co_await serving.get());
  }(w));
}

BOOST_AUTO_TEST_CASE(tells_of_refusals_and_of_what_is_unusable) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    background<bool> serving(here.rt.executor(), [](listener &from) -> task<bool> {
      auto p = co_await from.accept();
      co_await p.read_head();
      co_return co_await p.write("HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n");
    }(l));
    auto refused = co_await chorus::create_client(l.url());
    BOOST_CHECK(refused.error() == error::upgrade_refused);
    BOOST_TEST(co_await serving.get());
    auto misspelt = co_await chorus::create_client("wsss://host/");
    BOOST_CHECK(misspelt.error() == error::bad_option);
    auto options = eager({});
    options.outbox_bytes = 0;
    auto unusable = co_await chorus::create_client("ws://127.0.0.1:1/", options);
    BOOST_CHECK(unusable.error() == error::bad_option);
    BOOST_TEST(unusable.error().message().find("outbox_bytes") != std::string::npos);
  }(w));
}

BOOST_AUTO_TEST_CASE(cancelled_it_leaves_nothing_behind) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    // A result<client> can't be copied out of a background task, and need not be.
    background<bool> creating(here.rt.executor(), [](std::string where) -> task<bool> {
      auto made = co_await chorus::create_client(where);
      co_return made.has_value();
    }(l.url()));
    auto p = co_await l.accept();
    co_await p.read_head();
    creating.cancel();
    BOOST_TEST(co_await creating.aborted());
    co_await p.wait_gone();
  }(w));
}

BOOST_AUTO_TEST_CASE(without_a_runtime_it_says_so) {
  asio::io_context context;
  std::optional<bool> told;
  asio::co_spawn(
      context,
      [](std::optional<bool> &out) -> task<> {
        auto c = co_await chorus::create_client("ws://127.0.0.1:1/");
        out = c.error() == error::no_runtime;
      }(told),
      [](std::exception_ptr e) {
        if (e)
          std::rethrow_exception(e);
      });
  context.run_for(30s);
  BOOST_TEST(told.value_or(false));
}

BOOST_AUTO_TEST_SUITE_END()
