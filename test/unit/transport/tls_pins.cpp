// Servers that are known by their key.

#include "tls_support.hpp"

#include <array>
#include <cstdio>

using namespace chorus;
using namespace chorus::test;

namespace {

// As openssl's own program computes it.
std::string pin_of(const std::string &certificate) {
  const auto command = "openssl x509 -in '" + pem(certificate) +
                       "' -pubkey -noout | openssl pkey -pubin -outform der | "
                       "openssl dgst -sha256 -binary | openssl base64";
  auto *pipe = ::popen(command.c_str(), "r");
  BOOST_REQUIRE(pipe != nullptr);
  std::array<char, 128> line{};
  const bool read = std::fgets(line.data(), static_cast<int>(line.size()), pipe) != nullptr;
  BOOST_REQUIRE(::pclose(pipe) == 0);
  BOOST_REQUIRE(read);
  const std::string text(line.data());
  return "sha256//" + text.substr(0, text.find('\n'));
}

tls_options pinned(std::vector<std::string> keys, tls_verify verify = tls_verify::full) {
  auto o = client_options();
  o.pinned_keys = std::move(keys);
  o.verify = verify;
  return o;
}

constexpr auto blindly = tls_verify::insecure_accept_any_certificate;

// How a client that was set up so ends with that server; a default failure when well.
task<failure> ends(detail::shard &home, tls_options with, std::string certificate) {
  tls_pair p(home, with, server_options(certificate), "localhost");
  co_await p.shake();
  if (p.client_error) {
    BOOST_TEST(p.server_error.has_value()); // told so before anything else
    co_return *p.client_error;
  }
  co_return failure();
}

} // namespace

BOOST_AUTO_TEST_SUITE(tls_pins)

BOOST_AUTO_TEST_CASE(a_pinned_key_is_asked_for_beside_the_rest) {
  run([](detail::shard &home) -> task<> {
    const auto right = pin_of("server");
    const auto wrong = pin_of("other");
    auto with = pinned({right});
    auto why = co_await ends(home, with, "server");
    BOOST_TEST(!why.code());
    with = pinned({wrong, right});
    why = co_await ends(home, with, "server");
    BOOST_TEST(!why.code());

    with = pinned({wrong});
    why = co_await ends(home, with, "server");
    BOOST_TEST(why == error::tls_wrong_key);
    BOOST_TEST((why == condition::tls));
    BOOST_TEST((why == condition::fatal));
    BOOST_TEST((why.detail().where == stage::tls));
    BOOST_TEST(why.detail().address == "memory");
    BOOST_TEST(why.message().find(right) != std::string::npos); // the key seen
    BOOST_TEST(why.message().find(wrong) == std::string::npos);

    // The certificate still has to be good.
    with = pinned({pin_of("stranger")});
    why = co_await ends(home, with, "stranger");
    BOOST_TEST(why == error::tls_unknown_issuer);
    with = pinned({wrong});
    why = co_await ends(home, with, "other");
    BOOST_TEST(why == error::tls_wrong_host);
  });
}

BOOST_AUTO_TEST_CASE(without_verification_the_key_is_all_that_counts) {
  run([](detail::shard &home) -> task<> {
    for (const std::string name : {"stranger", "expired", "other"}) {
      auto with = pinned({pin_of(name)}, blindly);
      auto why = co_await ends(home, with, name);
      BOOST_TEST(!why.code(), name);
      with = pinned({pin_of("server")}, blindly);
      why = co_await ends(home, with, name);
      BOOST_TEST((why == error::tls_wrong_key), name);
    }
    const auto with = pinned({pin_of("stranger")}, blindly);
    tls_pair p(home, with, server_options("stranger"));
    co_await p.shake();
    BOOST_REQUIRE(p.open());
    BOOST_TEST(!transport::tls_info_of(*p.client).peer_verified);
  });
}

BOOST_AUTO_TEST_CASE(pins_that_are_none_are_refused) {
  const std::string digits(43, 'A');
  for (const std::string &text :
       {std::string(), digits + "=", "sha256/" + digits + "=", "sha1//" + digits + "=",
        std::string("sha256//"), "sha256//" + digits.substr(4), "sha256//" + digits + "AAAA",
        "sha256//" + digits.substr(1) + "*=", "sha256//" + digits + "=;sha256//" + digits + "="}) {
    const auto made = transport::make_client_context(pinned({text}));
    BOOST_REQUIRE_MESSAGE(!made.has_value(), text);
    BOOST_TEST(made.error() == error::tls_bad_configuration);
    BOOST_TEST(made.error().message().find("sha256//") != std::string::npos);
  }
  BOOST_TEST(transport::make_client_context(pinned({"sha256//" + digits + "="})).has_value());
  auto server = server_options();
  server.pinned_keys = {"sha256//" + digits + "="};
  const auto made = transport::make_server_context(server);
  BOOST_REQUIRE(!made.has_value());
  BOOST_TEST(made.error().message().find("for clients") != std::string::npos);
}

BOOST_AUTO_TEST_SUITE_END()
