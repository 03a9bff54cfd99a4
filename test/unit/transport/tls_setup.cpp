// What TLS is set up with, and dialling by it.

#include "tls_support.hpp"

#include <chorus/transport/dial.hpp>

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_SUITE(tls_setup)

BOOST_AUTO_TEST_CASE(configuration_errors_name_the_file) {
  tls_options none;
  auto made = transport::make_server_context(none);
  BOOST_REQUIRE(!made.has_value());
  BOOST_TEST(made.error() == error::tls_bad_configuration);
  const auto names = [](const tls_options &o, bool server, const std::string &what) {
    const auto tried =
        server ? transport::make_server_context(o) : transport::make_client_context(o);
    BOOST_REQUIRE(!tried.has_value());
    BOOST_TEST(tried.error() == error::tls_bad_configuration);
    BOOST_TEST((tried.error() == condition::fatal));
    BOOST_TEST(tried.error().message().find(what) != std::string::npos,
               tried.error().message() << " should name " << what);
  };
  auto o = server_options();
  o.certificate_file = "/no/such/file.pem";
  names(o, true, "/no/such/file.pem");
  names(o, true, "No such file");
  o = server_options();
  o.certificate_file = key("server"); // no certificate in it
  names(o, true, key("server"));
  o = server_options();
  o.key_file = "/no/such/key";
  names(o, true, "/no/such/key");
  o.key_file = key("other");
  names(o, true, "mismatch");
  o.key_file = key("locked"); // would ask for its passphrase
  names(o, true, key("locked"));
  o = server_options();
  o.require_client_certificate = true;
  names(o, true, "ca_file");
  o = client_options();
  o.ca_file = "/no/such/ca";
  names(o, false, "/no/such/ca");
  o = client_options();
  o.key_file = key("client");
  names(o, false, "certificate_file");
  o = client_options();
  o.alpn = {""};
  names(o, false, "ALPN");
}

BOOST_AUTO_TEST_CASE(without_a_name_there_is_nothing_to_verify) {
  run([](detail::shard &home) -> task<> {
    auto context = transport::make_client_context(client_options());
    auto [a, b] = make_memory_pair(home, home);
    auto made = transport::make_tls_client_stream(std::move(a), *context, "");
    BOOST_REQUIRE(!made.has_value());
    BOOST_TEST(made.error() == error::tls_bad_configuration);
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(dialling_with_tls) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = transport::listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    auto serves = [](acceptor &from) -> task<> {
      auto context = transport::make_server_context(server_options());
      auto made = transport::make_tls_server_stream(co_await from.next(), *context);
      auto done = co_await transport::tls_handshake(**made, patience());
      if (done) {
        (void)co_await transport::write_all(**made, "welcome", patience(), error::timed_out);
        (void)co_await read_to_end(**made);
      }
    };
    transport::dial_target target;
    target.host = "127.0.0.1";
    target.port = (*l)->local_address().substr(10);
    target.tls = true;
    transport::dial_options options;
    options.tls = client_options();
    asio::co_spawn(home.executor(), serves(a), [](std::exception_ptr) {});
    auto s = co_await transport::dial(home, target, options);
    BOOST_REQUIRE_MESSAGE(s.has_value(), s.error().message());
    BOOST_TEST((*s)->secure());
    const auto got = co_await read_exactly(**s, 7);
    BOOST_TEST(got == "welcome");
    (*s)->close(false);

    options.tls.server_name = "other.example";
    asio::co_spawn(home.executor(), serves(a), [](std::exception_ptr) {});
    s = co_await transport::dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::tls_wrong_host);
    BOOST_TEST(s.error().detail().address == (*l)->local_address());

    options.tls.server_name.clear();
    options.tls_timeout = 20ms; // nobody serves any more
    s = co_await transport::dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::tls_timeout);

    options.tls.ca_file = "/no/such/ca";
    s = co_await transport::dial(home, target, options);
    BOOST_REQUIRE(!s.has_value());
    BOOST_TEST(s.error() == error::tls_bad_configuration);
    options.tls_timeout = 20s;
    options.ready_context = *transport::make_client_context(client_options());
    std::function<bool()> came = [&] { return !a.waiting.empty(); };
    const bool unserved = co_await a.changed.until(std::move(came));
    BOOST_TEST(unserved);
    a.drop_waiting();
    asio::co_spawn(home.executor(), serves(a), [](std::exception_ptr) {});
    s = co_await transport::dial(home, target, options);
    BOOST_TEST(s.has_value());
  });
}

BOOST_AUTO_TEST_SUITE_END()
