#include "cancellable.hpp"
#include "ports.hpp"
#include "support.hpp"

#include <chorus/transport/dial.hpp>

#include <netinet/in.h>

using namespace chorus;
using namespace chorus::test;
using transport::dial;
using transport::dial_options;
using transport::dial_target;
using transport::endpoint;
using transport::listener;

namespace {

std::string port_of(const listener &l) {
  return l.local_address().substr(l.local_address().rfind(':') + 1);
}

class stages_seen final : public connect_observer {
public:
  std::vector<std::string> all;

private:
  void on_started() override { all.emplace_back("started"); }
  void on_resolved(std::span<const std::string>) override { all.emplace_back("resolved"); }
  void on_connected(std::string_view, std::string_view) override { all.emplace_back("connected"); }
};

} // namespace

BOOST_AUTO_TEST_SUITE(dialling)

BOOST_AUTO_TEST_CASE(reaches_names_literals_and_socket_files) {
  run([](detail::shard &home) -> task<> {
    const dial_options options;
    const auto name = "@chorus-dial-" + std::to_string(::getpid());
    for (const char *listen : {"127.0.0.1:0", "[::1]:0", "localhost:0", "unix:"}) {
      const bool local = std::string_view(listen) == "unix:";
      acceptor a(home);
      const auto address = local ? "unix:" + name : std::string(listen);
      auto l = listener::open(home, address);
      BOOST_REQUIRE(l.has_value());
      BOOST_REQUIRE((*l)->start(a).has_value());
      dial_target target;
      if (local) {
        target.path = name;
      } else {
        target.port = port_of(**l);
        target.host = std::string(listen).substr(0, std::string(listen).rfind(':'));
        if (target.host.starts_with("["))
          target.host = target.host.substr(1, target.host.size() - 2);
      }
      auto s = co_await dial(home, target, options);
      BOOST_REQUIRE(s.has_value());
      BOOST_TEST((*s)->remote_address() == (*l)->local_address());
      auto peer = co_await a.next();
      put(**s, "hello");
      const auto got = co_await read_exactly(*peer, 5);
      BOOST_TEST(got == "hello");
    }
  });
}

BOOST_AUTO_TEST_CASE(says_that_nobody_listens) {
  run([](detail::shard &home) -> task<> {
    dead_port nobody;
    dial_target target;
    target.host = "127.0.0.1";
    target.port = nobody.number;
    const dial_options options;
    auto s = co_await dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::connect_failed);
    BOOST_TEST((s.error() == condition::refused));
    BOOST_TEST((s.error().detail().where == stage::connect));
    BOOST_TEST(s.error().detail().address == "127.0.0.1:" + nobody.number);
    BOOST_TEST(s.error().message().find("is the server running") != std::string::npos);
    dial_target file;
    file.path = "/no/such/socket";
    auto u = co_await dial(home, file, options);
    BOOST_REQUIRE(!u.has_value());
    BOOST_TEST(u.error() == error::connect_failed);
    BOOST_TEST(u.error().message().find("unix:/no/such/socket") != std::string::npos);
    file.path = std::string(200, 'x');
    u = co_await dial(home, file, options);
    BOOST_TEST(u.error() == error::bad_url);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

// Who takes times must not take the loading of certificates for the look-up of a name.
BOOST_AUTO_TEST_CASE(an_observer_hears_of_the_start_once_all_is_loaded) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE(l.has_value());
    BOOST_REQUIRE((*l)->start(a).has_value());
    stages_seen seen;
    dial_options options;
    options.observer = &seen;
    dial_target target;
    target.host = "127.0.0.1";
    target.port = port_of(**l);
    auto s = co_await dial(home, target, options);
    BOOST_REQUIRE(s.has_value());
    const std::vector<std::string> wanted{"started", "resolved", "connected"};
    BOOST_TEST(seen.all == wanted, boost::test_tools::per_element());
    seen.all.clear();
    target.tls = true;
    options.tls.ca_file = "/no/such/file";
    s = co_await dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(seen.all.empty());
  });
}

BOOST_AUTO_TEST_CASE(names_the_host_that_is_not_known) {
  run([](detail::shard &home) -> task<> {
    dial_target target;
    target.host = "no-such-host.invalid";
    target.port = "80";
    dial_options options;
    options.resolve_timeout = 2min;
    auto s = co_await dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::resolve_failed);
    BOOST_TEST((s.error().detail().where == stage::resolve));
    BOOST_TEST(s.error().message().find("no-such-host.invalid") != std::string::npos);
    target.host = "localhost";
    target.port = "no-such-service";
    s = co_await dial(home, target, options);
    BOOST_TEST(s.error() == error::resolve_failed);
    BOOST_TEST(s.error().message().find("no-such-service") != std::string::npos);
    for (const char *bad : {"", "65536"}) {
      target.port = bad;
      s = co_await dial(home, target, options);
      BOOST_REQUIRE(!s.has_value());
      BOOST_TEST(s.error() == error::resolve_failed);
    }
  });
}

// Asio drops a zone that it does not know, and the packets would go out anywhere.
BOOST_AUTO_TEST_CASE(names_the_zone_that_is_not_known) {
  run([](detail::shard &home) -> task<> {
    const dead_port nobody(loopback6());
    dial_target target;
    target.port = nobody.number;
    const dial_options options;
    for (const char *host : {"fe80::1%no-such-zone", "fe80::1%", "::1%1lo"}) {
      target.host = host;
      auto s = co_await dial(home, target, options);
      BOOST_REQUIRE(!s.has_value());
      const auto zone = target.host.substr(target.host.find('%') + 1);
      BOOST_TEST((s.error() == error::resolve_failed), s.error().message());
      BOOST_TEST(s.error().message().find("the zone \"" + zone + "\"") != std::string::npos);
    }
    for (const char *host : {"::1%lo", "::1%1"}) {
      target.host = host;
      auto s = co_await dial(home, target, options);
      BOOST_REQUIRE(!s.has_value());
      BOOST_TEST((s.error() == error::connect_failed), s.error().message());
    }
  });
}

BOOST_AUTO_TEST_CASE(each_stage_has_its_deadline) {
  run([](detail::shard &home) -> task<> {
    full_port full;
    dial_target target;
    target.host = "127.0.0.1";
    target.port = full.number;
    dial_options options;
    options.connect_timeout = 30ms;
    auto s = co_await dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::connect_timeout);
    BOOST_TEST((s.error() == condition::timeout));
    BOOST_TEST(s.error().detail().address == "127.0.0.1:" + full.number);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(a_full_unix_backlog_is_waited_for) {
  run([](detail::shard &home) -> task<> {
    const auto name = "@chorus-full-" + std::to_string(::getpid());
    acceptor a(home);
    const transport::listen_options tiny{.backlog = 0};
    auto l = listener::open(home, "unix:" + name, tiny);
    BOOST_REQUIRE(l.has_value());
    dial_target target;
    target.path = name;
    dial_options options;
    auto first = co_await dial(home, target, options);
    BOOST_REQUIRE(first.has_value());
    options.connect_timeout = 20ms;
    auto second = co_await dial(home, target, options);
    BOOST_REQUIRE(!second.has_value());
    BOOST_TEST(second.error() == error::connect_timeout);
    options.connect_timeout = 20s;
    BOOST_REQUIRE((*l)->start(a).has_value());
    auto third = co_await dial(home, target, options);
    BOOST_TEST(third.has_value());
  });
}

BOOST_AUTO_TEST_CASE(cancelling_throws_and_leaks_nothing) {
  run([](detail::shard &home) -> task<> {
    full_port full;
    auto dials = [](detail::shard &at, std::string host, std::string port) -> task<> {
      dial_target target;
      target.host = host;
      target.port = port;
      const dial_options options;
      (void)co_await dial(at, target, options);
    };
    const auto lowest_free = [] { return transport::descriptor(::dup(0)).get(); };
    co_await chorus::sleep(1ms);
    const int before = lowest_free();
    {
      cancellable c(home, dials(home, "127.0.0.1", full.number));
      while (home.poll().size() == 0)
        co_await chorus::sleep(1ms);
      c.cancel();
      const bool over = co_await c.end();
      BOOST_TEST(over);
      BOOST_TEST(c.thrown == asio::error::operation_aborted);
    }
    {
      cancellable c(home, dials(home, "127.0.0.1", full.number)); // before it began
      c.cancel();
      const bool over = co_await c.end();
      BOOST_TEST(over);
    }
    BOOST_TEST(home.poll().size() == 0U);
    BOOST_TEST(lowest_free() == before);
  });
}

BOOST_AUTO_TEST_CASE(races_the_addresses_of_a_name) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    // Nobody is at the first ones, ::1 and 127.0.0.2, on a port that is free everywhere.
    std::vector<transport::descriptor> kept;
    std::unique_ptr<listener> l;
    endpoint six, other;
    for (int i = 0; i < 20 && (kept.empty() || !kept[0] || !kept[1]); ++i) {
      kept.clear();
      auto opened = listener::open(home, "127.0.0.1:0");
      BOOST_REQUIRE(opened.has_value());
      l = std::move(*opened);
      const auto port = static_cast<in_port_t>(std::stoi(port_of(*l)));
      six = loopback6(port);
      other = loopback4(port, 2);
      kept.push_back(keep_from_others(six));
      kept.push_back(keep_from_others(other));
    }
    BOOST_REQUIRE(l->start(a).has_value());
    dial_target target;
    target.host = "several.test";
    target.port = port_of(*l);
    dial_options options;
    std::vector<std::string> asked;
    options.look_up = [&](const dial_target &of) {
      asked.push_back(of.host);
      const auto port = static_cast<in_port_t>(std::stoi(of.port));
      return result<std::vector<endpoint>>(std::vector<endpoint>{six, other, loopback4(port)});
    };
    // Each call asks again.
    for (std::size_t i = 1; i <= 2; ++i) {
      auto s = co_await dial(home, target, options);
      BOOST_REQUIRE(s.has_value());
      BOOST_TEST((*s)->remote_address() == l->local_address());
      BOOST_TEST(asked.size() == i);
      BOOST_TEST(asked.back() == "several.test");
    }
  });
}

BOOST_AUTO_TEST_SUITE_END()
