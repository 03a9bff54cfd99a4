#include "tls_support.hpp"

using namespace chorus;
using namespace chorus::test;

namespace {

// What the client says about a server with the given certificate.
task<failure> verdict(detail::shard &home, std::string certificate, std::string host) {
  const auto client = client_options();
  const auto server = server_options(certificate);
  tls_pair p(home, client, server, host);
  co_await p.shake();
  BOOST_REQUIRE(p.client_error.has_value());
  BOOST_TEST((p.client_error->detail().where == stage::tls));
  BOOST_TEST(p.client_error->detail().address == "memory");
  BOOST_TEST((*p.client_error == condition::tls));
  // The server learns it, too, by an alert.
  BOOST_REQUIRE(p.server_error.has_value());
  BOOST_TEST(*p.server_error == error::tls_failed);
  BOOST_TEST(p.server_error->message().find("alert") != std::string::npos);
  co_return *p.client_error;
}

// A reader of the numbers and vectors that TLS messages are made of (RFC 8446 section 3).
class tls_text {
public:
  explicit tls_text(std::string_view bytes) : left_(bytes) {}
  std::string_view take(std::size_t count) {
    BOOST_REQUIRE(left_.size() >= count);
    const auto taken = left_.substr(0, count);
    left_.remove_prefix(count);
    return taken;
  }
  std::size_t number(std::size_t width) {
    std::size_t n = 0;
    for (const char c : take(width))
      n = n << 8 | static_cast<unsigned char>(c);
    return n;
  }
  std::string_view vector(std::size_t width) { return take(number(width)); }
  bool empty() const { return left_.empty(); }

private:
  std::string_view left_;
};

// The host name in a ClientHello (RFC 6066 section 3); empty when there is none.
std::string host_name_in(std::string_view hello) {
  tls_text message(hello);
  BOOST_REQUIRE(message.number(1) == 1U); // client_hello
  tls_text body(message.vector(3));
  body.take(2 + 32); // version, random
  body.vector(1);    // session id
  body.vector(2);    // cipher suites
  body.vector(1);    // compression methods
  for (tls_text extensions(body.vector(2)); !extensions.empty();) {
    const auto type = extensions.number(2);
    tls_text content(extensions.vector(2));
    if (type != 0) // server_name
      continue;
    tls_text names(content.vector(2));
    BOOST_REQUIRE(names.number(1) == 0U); // host_name
    return std::string(names.vector(2));
  }
  return {};
}

// What a client for `host` says first, to anybody.
task<std::string> name_sent(detail::shard &home, tls_options options, std::string host) {
  auto [near, far] = make_memory_pair(home, home);
  auto context = transport::make_client_context(options);
  BOOST_REQUIRE(context.has_value());
  auto made = transport::make_tls_client_stream(std::move(near), *context, host);
  BOOST_REQUIRE(made.has_value());
  auto shake = [](stream &s) -> task<> { co_await transport::tls_handshake(s, patience()); };
  cancellable shaking(home, shake(**made));
  const auto record = co_await read_exactly(*far, 5);
  tls_text head(record);
  BOOST_TEST(head.number(1) == 22U); // handshake
  head.take(2);
  const auto hello = co_await read_exactly(*far, head.number(2));
  far->close(false);
  const bool over = co_await shaking.end();
  BOOST_TEST(over);
  co_return host_name_in(hello);
}

} // namespace

BOOST_AUTO_TEST_SUITE(tls_handshakes)

BOOST_AUTO_TEST_CASE(the_client_names_the_host_it_means) {
  run([](detail::shard &home) -> task<> {
    const auto options = client_options();
    auto name = co_await name_sent(home, options, "localhost");
    BOOST_TEST(name == "localhost");
    name = co_await name_sent(home, options, "localhost.");
    BOOST_TEST(name == "localhost");
    auto renamed = options;
    renamed.server_name = "other.example";
    name = co_await name_sent(home, renamed, "localhost");
    BOOST_TEST(name == "other.example");
    // Only names are sent, no addresses.
    for (std::string address : {"127.0.0.1", "::1", "fe80::1%lo"}) {
      name = co_await name_sent(home, options, address);
      BOOST_TEST(name == "");
    }
  });
}

BOOST_AUTO_TEST_CASE(the_error_names_what_is_wrong_with_the_certificate) {
  run([](detail::shard &home) -> task<> {
    auto why = co_await verdict(home, "expired", "localhost");
    BOOST_TEST(why == error::tls_expired);
    BOOST_TEST(why.message().find("has expired; renew it") != std::string::npos);
    why = co_await verdict(home, "early", "localhost");
    BOOST_TEST(why == error::tls_expired);
    BOOST_TEST(why.message().find("not valid yet; set this machine's clock") != std::string::npos);
    why = co_await verdict(home, "other", "localhost");
    BOOST_TEST(why == error::tls_wrong_host);
    BOOST_TEST(why.message().find("localhost") != std::string::npos);
    why = co_await verdict(home, "other", "127.0.0.1");
    BOOST_TEST(why == error::tls_wrong_host);
    why = co_await verdict(home, "server", "127.0.0.2");
    BOOST_TEST(why == error::tls_wrong_host);
    why = co_await verdict(home, "stranger", "localhost");
    BOOST_TEST(why == error::tls_unknown_issuer);
    why = co_await verdict(home, "stranger_ca", "localhost"); // signed by itself
    BOOST_TEST(why == error::tls_unknown_issuer);
    BOOST_TEST(why.message().find("signed by itself") != std::string::npos);
    BOOST_TEST(why.message().find("the certificate itself as ca_file") != std::string::npos);
    why = co_await verdict(home, "client", "localhost"); // not for servers
    BOOST_TEST(why == error::tls_bad_certificate);
  });
}

// Who reads that the server's certificate has expired looks at the wrong one.
BOOST_AUTO_TEST_CASE(a_fault_of_an_issuers_certificate_is_told_of_the_issuer) {
  run([](detail::shard &home) -> task<> {
    const auto is_told = [](const std::optional<failure> &why, std::string_view whose) {
      BOOST_REQUIRE(why.has_value());
      BOOST_TEST(*why == error::tls_expired);
      BOOST_TEST(why->detail().sentence == "the certificate of the issuer CN=Chorus old issuer, "
                                           "above that of " +
                                               std::string(whose) + " memory, has expired");
      BOOST_TEST(why->message().find("ca_file") != std::string::npos);
    };
    auto client = client_options();
    client.ca_file = pem("old_ca");
    tls_pair p(home, client, server_options("stale"));
    co_await p.shake();
    is_told(p.client_error, "the server");
    client.pinned_keys = {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
    tls_pair pinned(home, client, server_options("stale"));
    co_await pinned.shake();
    is_told(pinned.client_error, "the server");

    auto known = client_options();
    known.certificate_file = pem("stale");
    known.key_file = key("stale");
    auto server = server_options();
    server.require_client_certificate = true;
    server.ca_file = pem("old_ca");
    tls_pair asked(home, known, server);
    co_await asked.shake();
    is_told(asked.server_error, "the client");
  });
}

BOOST_AUTO_TEST_CASE(names_and_addresses_that_fit) {
  run([](detail::shard &home) -> task<> {
    for (const char *host :
         {"localhost", "LOCALHOST", "localhost.", "127.0.0.1", "::1", "::1%lo"}) {
      tls_pair p(home, client_options(), server_options(), host);
      co_await p.shake();
      BOOST_TEST(p.open(), host);
    }
    auto renamed = client_options();
    renamed.server_name = "other.example";
    tls_pair p(home, renamed, server_options("other"), "localhost");
    co_await p.shake();
    BOOST_TEST(p.open());
  });
}

BOOST_AUTO_TEST_CASE(verification_is_left_out_only_by_its_long_name) {
  run([](detail::shard &home) -> task<> {
    tls_options blind;
    blind.verify = tls_verify::insecure_accept_any_certificate;
    for (const char *certificate : {"expired", "other", "stranger"}) {
      tls_pair p(home, blind, server_options(certificate), "localhost");
      co_await p.shake();
      BOOST_TEST(p.open(), certificate);
    }
    // The system's store, which is the default, does not know the test's issuer.
    const tls_options defaults;
    tls_pair p(home, defaults, server_options(), "localhost");
    co_await p.shake();
    BOOST_REQUIRE(p.client_error.has_value());
    BOOST_TEST(*p.client_error == error::tls_unknown_issuer);
  });
}

BOOST_AUTO_TEST_CASE(alpn_takes_the_servers_first_choice) {
  run([](detail::shard &home) -> task<> {
    auto client = client_options();
    auto server = server_options();
    client.alpn = {"one", "two", "three"};
    server.alpn = {"four", "three", "two"};
    tls_pair p(home, client, server);
    co_await p.shake();
    BOOST_TEST(p.client->alpn() == "three");
    BOOST_TEST(p.server->alpn() == "three");
    client.alpn = {"five"};
    tls_pair q(home, client, server);
    co_await q.shake();
    BOOST_REQUIRE(q.client_error.has_value());
    BOOST_TEST(*q.client_error == error::tls_failed);
    BOOST_TEST(q.client_error->message().find("no application protocol") != std::string::npos);
  });
}

// In TLS 1.3 the client may write before it reads why the server has gone.
BOOST_AUTO_TEST_CASE(an_alert_explains_a_write_that_failed) {
  run([](detail::shard &home) -> task<> {
    auto server = server_options();
    server.require_client_certificate = true;
    server.ca_file = pem("ca");
    tls_pair none(home, client_options(), server);
    co_await none.shake();
    BOOST_REQUIRE(none.server_error.has_value());
    std::string text = "hello";
    const iovec piece{text.data(), text.size()};
    BOOST_TEST(none.client->write_some({&piece, 1}).status == io_status::failed);
    const auto last = co_await read_to_end(*none.client);
    BOOST_TEST(last == io_status::failed);
    BOOST_TEST(none.client->error() == error::tls_failed);
    BOOST_TEST(none.client->why().detail().tls_alert == "certificate required");
  });
}

BOOST_AUTO_TEST_CASE(client_certificates) {
  run([](detail::shard &home) -> task<> {
    auto server = server_options();
    server.require_client_certificate = true;
    server.ca_file = pem("ca");
    auto known = client_options();
    known.certificate_file = pem("client");
    known.key_file = key("client");
    tls_pair good(home, known, server);
    co_await good.shake();
    BOOST_TEST(good.open());
    put(*good.client, "hello");
    const auto got = co_await read_exactly(*good.server, 5);
    BOOST_TEST(got == "hello");

    tls_pair none(home, client_options(), server);
    co_await none.shake();
    BOOST_REQUIRE(none.server_error.has_value());
    BOOST_TEST(*none.server_error == error::tls_bad_certificate);
    // In TLS 1.3 the client learns it only when it reads.
    const auto last = co_await read_to_end(*none.client);
    BOOST_TEST(last == io_status::failed);
    BOOST_TEST(none.client->error() == error::tls_failed);
    BOOST_TEST(none.client->why().message().find("alert") != std::string::npos);

    auto stranger = client_options();
    stranger.certificate_file = pem("stranger");
    stranger.key_file = key("stranger");
    tls_pair unknown(home, stranger, server);
    co_await unknown.shake();
    BOOST_REQUIRE(unknown.server_error.has_value());
    BOOST_TEST(*unknown.server_error == error::tls_unknown_issuer);
  });
}

BOOST_AUTO_TEST_CASE(a_peer_that_speaks_plain_text) {
  run([](detail::shard &home) -> task<> {
    for (const char *words :
         {"HTTP/1.1 400 Bad Request\r\n\r\n", "SSH-2.0-x\r\n", "hi\n", "\x81\x05hello"}) {
      tls_pair p(home);
      put(*p.below_server, words);
      auto done = co_await transport::tls_handshake(*p.client, patience());
      BOOST_REQUIRE(!done.has_value());
      BOOST_TEST(done.error() == error::tls_not_tls, words);
      BOOST_TEST(done.error().message().find("ws://") != std::string::npos);
    }
    for (const char *words : {"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "PUT ", "hello\n", "x"}) {
      tls_pair p(home);
      put(*p.below_client, words);
      auto done = co_await transport::tls_handshake(*p.server, patience());
      BOOST_REQUIRE(!done.has_value());
      BOOST_TEST(done.error() == error::tls_not_tls, words);
      BOOST_TEST(done.error().message().find("wss://") != std::string::npos);
    }
  });
}

BOOST_AUTO_TEST_CASE(older_than_tls_1_2_is_refused) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    // A client hello of TLS 1.1 with one cipher suite and no extensions.
    std::string hello("\x16\x03\x01\x00\x2d\x01\x00\x00\x29\x03\x02", 11);
    hello += std::string(32, 'r');
    hello += std::string("\x00\x00\x02\x00\x2f\x01\x00", 7);
    put(*p.below_client, hello);
    auto done = co_await transport::tls_handshake(*p.server, patience());
    BOOST_REQUIRE(!done.has_value());
    BOOST_TEST(done.error() == error::tls_failed);
    BOOST_TEST(done.error().message().find("unsupported protocol") != std::string::npos);
  });
}

BOOST_AUTO_TEST_CASE(silence_ends_at_the_deadline) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    for (auto *s : {p.client.get(), p.server.get()}) {
      auto other = s == p.client.get() ? p.below_server : p.below_client;
      auto done = co_await transport::tls_handshake(*s, home.now() + 10ms);
      BOOST_REQUIRE(!done.has_value());
      BOOST_TEST(done.error() == error::tls_timeout);
      BOOST_TEST((done.error() == condition::timeout));
      get(*other); // the hello, which would wake the other side
    }
  });
}

BOOST_AUTO_TEST_CASE(cancelling_before_and_during) {
  run([](detail::shard &home) -> task<> {
    auto body = [](tls_pair &p) -> task<> {
      (void)co_await transport::tls_handshake(*p.client, patience());
    };
    for (const bool before : {true, false}) {
      tls_pair p(home);
      cancellable c(home, body(p));
      if (!before)
        while (p.below_server->unread() == 0)
          co_await chorus::sleep(0ms);
      c.cancel();
      const bool over = co_await c.end();
      BOOST_TEST(over);
      if (!before)
        BOOST_TEST(c.thrown == asio::error::operation_aborted);
    }
  });
}

// Whatever read or write of either side fails, or wherever the bytes stop: both end, with a reason.
BOOST_AUTO_TEST_CASE(a_failure_at_every_step) {
  run([](detail::shard &home) -> task<> {
    const error_code reset(ECONNRESET, boost::system::system_category());
    auto required = server_options();
    required.require_client_certificate = true;
    required.ca_file = pem("ca");
    auto known = client_options();
    known.certificate_file = pem("client");
    known.key_file = key("client");
    for (int kind = 0; kind < 4; ++kind) {
      bool survived = false;
      std::uint64_t step = 1;
      for (; !survived && step < 200; ++step) {
        tls_pair p(home, known, required);
        p.below_client->limit(400);
        p.below_server->limit(400);
        auto *side = kind < 2 ? p.below_client : p.below_server;
        if (kind % 2 == 0)
          side->fail_read(step, reset);
        else
          side->fail_write(step, reset);
        co_await p.shake();
        survived = p.open();
        for (const auto &why : {p.client_error, p.server_error}) {
          if (!why)
            continue;
          BOOST_TEST((*why == error::lost || *why == error::tls_failed), why->message());
          BOOST_TEST(!why->detail().sentence.empty());
        }
      }
      BOOST_TEST(survived);
      BOOST_TEST(step > 3U);
    }
  });
}

// The peer goes away after n bytes: with a FIN, and with a reset.
BOOST_AUTO_TEST_CASE(a_hang_up_at_every_step) {
  run([](detail::shard &home) -> task<> {
    for (const bool abortive : {false, true}) {
      for (const bool server_goes : {false, true}) {
        bool survived = false;
        for (std::size_t turns = 0; !survived && turns < 100; ++turns) {
          tls_pair p(home);
          p.below_client->limit(300);
          p.below_server->limit(300);
          auto *stays = server_goes ? p.client.get() : p.server.get();
          auto *goes = server_goes ? p.server.get() : p.client.get();
          auto *below = server_goes ? p.below_server : p.below_client;
          std::optional<result<>> end;
          auto shakes = [](stream &s, std::optional<result<>> &out) -> task<> {
            auto done = co_await transport::tls_handshake(s, patience());
            out = done;
          };
          asio::co_spawn(home.executor(), shakes(*stays, end), [](std::exception_ptr) {});
          co_await chorus::sleep(0ms);
          bool over = false;
          for (std::size_t i = 0; i < turns && !over; ++i) {
            over = put(*goes, "").status == io_status::ok;
            co_await chorus::sleep(0ms);
          }
          if (abortive)
            below->close(true);
          else
            below->close(false);
          const auto until = patience();
          while (!end && detail::clock::now() < until)
            co_await chorus::sleep(0ms);
          BOOST_REQUIRE(end.has_value());
          survived = end->has_value() || over;
          if (!end->has_value())
            BOOST_TEST((end->error() == error::lost), end->error().message());
        }
        BOOST_TEST(survived);
      }
    }
  });
}

BOOST_AUTO_TEST_SUITE_END()
