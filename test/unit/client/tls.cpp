// `connect` and `client` over TLS: what each kind of bad server is called, and the files being read
// once.

#include "attempt.hpp"

#include "unit/transport/tls_support.hpp"

#include <chorus/session/setup.hpp>

#include <array>
#include <filesystem>
#include <stdexcept>

using namespace client_test;
using chorus::client;
using chorus::client_state;
using chorus::stage;
using chorus::tls_options;
using chorus::test::pem;
using chorus::test::server_options;

namespace {

tls_options trusting() { return chorus::test::client_options(); }

// Speaks TLS with the certificate of the given name, and echoes: WebSocket messages, or lines.
class tls_server : chorus::transport::accept_handler {
public:
  tls_server(world &w, const tls_options &with, bool websocket)
      : home_(*w.rt.core()->shards.front()), all_(std::make_shared<shared>()) {
    auto context = chorus::transport::make_server_context(with);
    BOOST_REQUIRE_MESSAGE(context.has_value(), context.error().message());
    all_->context = *context;
    all_->websocket = websocket;
    auto opened = chorus::transport::listener::open(home_, "127.0.0.1:0");
    BOOST_REQUIRE(opened.has_value());
    listener_ = *std::move(opened);
    BOOST_REQUIRE(listener_->start(*this).has_value());
  }
  tls_server(world &w, const std::string &certificate, bool websocket)
      : tls_server(w, server_options(certificate), websocket) {}

  std::string address() const { return listener_->local_address(); }
  std::string url() const { return (all_->websocket ? "wss://" : "tls://") + address(); }
  // Cuts all connections.
  void drop() {
    for (auto &s : all_->open)
      s.abort();
    all_->open.clear();
  }

private:
  struct shared {
    std::shared_ptr<chorus::transport::tls_context> context;
    std::vector<session> open;
    bool websocket = true;
  };

  void on_accept(int fd) noexcept override {
    asio::co_spawn(home_.executor(), serve(all_, chorus::transport::make_socket_stream(home_, fd)),
                   [](std::exception_ptr) {});
  }
  void on_refused(int fd) noexcept override { ::close(fd); }

  static task<> serve(std::shared_ptr<shared> all, chorus::test::stream_ptr plain) {
    auto made = chorus::transport::make_tls_server_stream(std::move(plain), all->context);
    auto &s = **made;
    const auto patience = chorus::test::patience();
    auto done = co_await chorus::transport::tls_handshake(s, patience);
    if (!done)
      co_return;
    if (all->websocket) {
      std::string head;
      while (!head.ends_with("\r\n\r\n")) {
        std::array<std::byte, 4096> chunk;
        auto got = co_await chorus::transport::read_some(s, chunk, patience, error::timed_out);
        if (!got || *got == 0)
          co_return;
        head.append(reinterpret_cast<const char *>(chunk.data()), *got);
      }
      const auto answer = peer::agreement(head);
      (void)co_await chorus::transport::write_all(s, answer, patience, error::timed_out);
    }
    chorus::detail::session_setup setup;
    setup.carrier = *std::move(made);
    setup.websocket = all->websocket;
    setup.options = std::make_shared<const chorus::session_options>(
        chorus::session_options{.frame = chorus::framing::lines});
    auto open = chorus::detail::make_session(std::move(setup));
    all->open.push_back(open);
    while (auto m = co_await open.receive())
      (void)co_await open.send(*m);
  }

  chorus::detail::shard &home_;
  std::shared_ptr<shared> all_;
  std::unique_ptr<chorus::transport::listener> listener_;
};

attempt dial(world &w, std::string url, const tls_options &with) {
  connect_options o;
  o.tls = &with;
  o.session.frame = chorus::framing::lines;
  return attempt(w.rt.executor(), connect(url, o));
}

chorus::client_options eager_tls(std::string url) {
  auto o = eager({std::move(url)});
  o.tls = trusting();
  o.session.frame = chorus::framing::lines;
  return o;
}

task<> echoes(client &c) {
  BOOST_TEST((co_await c.send("hello")).has_value());
  auto got = co_await c.receive();
  BOOST_REQUIRE_MESSAGE(got.has_value(), got.error().message());
  BOOST_TEST(got->text() == "hello");
}

// Both verbs at a server that can't be trusted: the client gives up at once.
task<> check_refusal(world &w, std::string url, std::string address, error expected,
                     std::string words) {
  const auto with = trusting();
  auto dialling = dial(w, url, with);
  const auto direct = co_await dialling.get();
  event_log log(w.rt.executor());
  auto o = eager_tls(url);
  o.on_error = [&log](const failure &) { log.add("error"); };
  client c(w.rt, std::move(o));
  const auto opened = co_await c.connected();
  BOOST_TEST_CONTEXT(url + " " + make_error_code(expected).message()) {
    for (const auto &why : {direct ? failure() : direct.error(), c.last_failure()}) {
      BOOST_TEST_INFO(why.message());
      BOOST_TEST((why == expected));
      BOOST_TEST((why == chorus::condition::tls));
      BOOST_TEST((why.detail().where == stage::tls));
      BOOST_TEST(why.detail().address == address);
      BOOST_TEST(why.message().find(words) != std::string::npos);
    }
    BOOST_REQUIRE(!opened.has_value());
    BOOST_TEST((opened.error() == expected));
    BOOST_TEST((c.state() == client_state::closed));
    BOOST_TEST(c.stats().attempts == 1U);
    BOOST_TEST(log.joined() == "error");
  }
}

// A copy of the issuer's certificate that can be taken away.
class borrowed_issuer {
public:
  borrowed_issuer() : path_(pem("borrowed")) {
    std::filesystem::copy_file(pem("ca"), path_, std::filesystem::copy_options::overwrite_existing);
  }
  ~borrowed_issuer() { take_away(); }
  const std::string &path() const { return path_; }
  void take_away() {
    std::error_code ignored;
    std::filesystem::remove(path_, ignored);
  }

private:
  std::string path_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(over_tls)

BOOST_AUTO_TEST_CASE(a_good_certificate_opens) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool websocket : {true, false}) {
      tls_server server(here, "server", websocket);
      const auto with = trusting();
      auto dialling = dial(here, server.url(), with);
      auto s = co_await dialling.get();
      BOOST_REQUIRE_MESSAGE(s.has_value(), s.error().message());
      BOOST_TEST(s->remote_address() == server.address());
      BOOST_TEST((co_await s->send("one")).has_value());
      auto got = co_await s->receive();
      BOOST_REQUIRE(got.has_value());
      BOOST_TEST(got->text() == "one");
      s->abort();
      client c(here.rt, eager_tls(server.url()));
      co_await echoes(c);
      BOOST_TEST((co_await c.close()).has_value());
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_bad_certificate_is_named_and_ends_the_client) {
  struct kind {
    std::string certificate;
    error expected;
    std::string words;
  };
  static const std::array<kind, 4> kinds{
      {{"other", error::tls_wrong_host, "is not for 127.0.0.1; connect by a name"},
       {"stranger", error::tls_unknown_issuer, "give the authority's certificate as ca_file"},
       {"expired", error::tls_expired, "renew it, or set this machine's clock"},
       {"client", error::tls_bad_certificate, "can't be trusted"}}};
  world w;
  w.run([](world &here) -> task<> {
    for (const bool websocket : {true, false})
      for (const auto &k : kinds) {
        tls_server server(here, k.certificate, websocket);
        co_await check_refusal(here, server.url(), server.address(), k.expected, k.words);
      }
  }(w));
}

// Under TLS 1.3 this side's handshake is over before the server misses its certificate: the alert comes in
// answer to the upgrade, and the server may have reset the connection already.
BOOST_AUTO_TEST_CASE(a_server_that_wants_a_certificate_says_so) {
  world w;
  w.run([](world &here) -> task<> {
    auto strict = server_options("server");
    strict.ca_file = pem("ca");
    strict.require_client_certificate = true;
    tls_server server(here, strict, true);
    for (int i = 0; i < 20; ++i) {
      auto with = trusting();
      auto refused = dial(here, server.url(), with);
      const auto s = co_await refused.get();
      BOOST_REQUIRE(!s.has_value());
      BOOST_TEST_INFO(s.error().message());
      BOOST_CHECK(s.error() == error::tls_failed);
      BOOST_CHECK(s.error().detail().where == stage::tls);
      BOOST_TEST(s.error().detail().tls_alert == "certificate required");
      BOOST_TEST(s.error().message().find("give certificate_file and key_file") !=
                 std::string::npos);
      with.certificate_file = pem("client");
      with.key_file = chorus::test::key("client");
      auto let_in = dial(here, server.url(), with);
      auto open = co_await let_in.get();
      BOOST_REQUIRE_MESSAGE(open.has_value(), (open ? "" : open.error().message()));
      open->abort();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_key_that_is_not_pinned_ends_the_client) {
  world w;
  w.run([](world &here) -> task<> {
    tls_server server(here, "server", true);
    auto with = trusting();
    with.pinned_keys = {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
    auto dialling = dial(here, server.url(), with);
    const auto r = co_await dialling.get();
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error() == error::tls_wrong_key));
    BOOST_TEST(r.error().detail().address == server.address());
    // The key seen is what would have to be pinned.
    const auto &sentence = r.error().detail().sentence;
    const auto at = sentence.find("sha256//");
    BOOST_REQUIRE(at != std::string::npos);
    auto o = eager_tls(server.url());
    o.tls.pinned_keys = with.pinned_keys;
    client wrong(here.rt, o);
    const auto opened = co_await wrong.connected();
    BOOST_REQUIRE(!opened.has_value());
    BOOST_TEST((opened.error() == error::tls_wrong_key));
    BOOST_TEST(wrong.stats().attempts == 1U);
    o.tls.pinned_keys.push_back(sentence.substr(at, 52));
    event_log log(here.rt.executor());
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    client right(here.rt, o);
    co_await echoes(right);
    server.drop();
    co_await log.wait("gone");
    co_await echoes(right); // and with a session that is resumed
    BOOST_TEST((co_await right.close()).has_value());
  }(w));
}

// Silence would let who pins a key believe that it is looked at.
BOOST_AUTO_TEST_CASE(pins_are_refused_where_nothing_has_tls) {
  static const std::array<chorus::url_scheme, 2> plain{
      {chorus::url_scheme::ws, chorus::url_scheme::tcp}};
  static const std::array<chorus::url_scheme, 2> either{
      {chorus::url_scheme::tcp, chorus::url_scheme::tls}};
  world w;
  w.run([](world &here) -> task<> {
    const auto is_told = [](const failure &why, std::string_view url) {
      BOOST_TEST((why == error::bad_option), why.message());
      BOOST_TEST(why.message().find("pinned keys") != std::string::npos);
      BOOST_TEST(why.message().find(url) != std::string::npos);
      BOOST_TEST(why.message().find("hunter2") == std::string::npos);
    };
    dead_port nobody(here);
    auto place = nobody.url().substr(5); // without ws://
    place.pop_back();
    auto with = trusting();
    with.pinned_keys = {"sha256//AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="};
    for (const std::string url :
         {"ws://me:hunter2@h/?token=hunter2", "tcp://h:1", "unix:///s", "ws+unix:///s"}) {
      auto dialling = dial(here, url, with);
      const auto r = co_await dialling.get();
      BOOST_REQUIRE(!r.has_value());
      is_told(r.error(), url.substr(0, 5));
      auto o = eager_tls(url);
      o.tls = with;
      BOOST_CHECK_THROW(client(here.rt, o), std::invalid_argument);
      const auto made = co_await chorus::create_client(url, o);
      BOOST_REQUIRE(!made.has_value());
      is_told(made.error(), url.substr(0, 5));
    }
    connect_options o;
    o.tls = &with;
    o.protocols = plain;
    attempt neither(here.rt.executor(), connect(place, o));
    const auto r = co_await neither.get();
    BOOST_REQUIRE(!r.has_value());
    is_told(r.error(), place);
    attempt secret(here.rt.executor(), connect("me:hunter2@h:1/?token=hunter2", o));
    const auto hidden = co_await secret.get();
    BOOST_REQUIRE(!hidden.has_value());
    is_told(hidden.error(), "***@h:1/?token=***");
    // One with TLS is enough, among protocols as among URLs.
    o.protocols = either;
    attempt one(here.rt.executor(), connect(place, o));
    const auto tried = co_await one.get();
    BOOST_REQUIRE(!tried.has_value());
    BOOST_TEST((tried.error() == error::connect_failed), tried.error().message());
    auto mixed = eager({"ws://" + place, "wss://" + place});
    mixed.tls = with;
    BOOST_CHECK_NO_THROW(client(here.rt, mixed));
    mixed.urls = {place};
    mixed.protocols.assign(plain.begin(), plain.end());
    BOOST_CHECK_THROW(client(here.rt, mixed), std::invalid_argument);
    mixed.protocols.assign(either.begin(), either.end());
    BOOST_CHECK_NO_THROW(client(here.rt, mixed));
  }(w));
}

BOOST_AUTO_TEST_CASE(plain_text_is_never_tried_behind_a_bad_certificate) {
  static const std::array<chorus::url_scheme, 3> list{
      {chorus::url_scheme::wss, chorus::url_scheme::ws, chorus::url_scheme::tcp}};
  world w;
  w.run([](world &here) -> task<> {
    for (const bool race : {false, true}) {
      tls_server server(here, "stranger", true);
      const auto with = trusting();
      connect_options o;
      o.tls = &with;
      o.protocols = list;
      o.race_protocols = race;
      o.connect_stagger = std::chrono::hours(1);
      attempt dialling(here.rt.executor(), connect(server.address(), o));
      const auto r = co_await dialling.get();
      BOOST_REQUIRE(!r.has_value());
      BOOST_TEST((r.error() == error::tls_unknown_issuer));
      BOOST_TEST(r.error().detail().tried.empty());
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_plain_port_is_no_tls) {
  world w;
  w.run([](world &here) -> task<> {
    for (const std::string scheme : {"wss://", "tls://"})
      for (const std::string words : {"HTTP/1.1 400 Bad Request\r\n\r\n", "220 mail ready\r\n"}) {
        listener l(here);
        const auto address = "127.0.0.1:" + std::to_string(l.port());
        background<bool> serving(here.rt.executor(),
                                 [](listener &from, std::string say) -> task<bool> {
                                   for (int i = 0; i < 2; ++i) {
                                     auto p = co_await from.accept();
                                     co_await p.write(say);
                                     co_await p.wait_gone();
                                   }
                                   co_return true;
                                 }(l, words));
        co_await check_refusal(here, scheme + address, address, error::tls_not_tls,
                               "does not speak TLS on this port; use ws:// or tcp://");
        co_await serving.get();
      }
  }(w));
}

// Neither says that TLS can't work there, so a client tries again.
BOOST_AUTO_TEST_CASE(silence_and_hanging_up_are_transient) {
  world w;
  w.run([](world &here) -> task<> {
    auto &home = *chorus::detail::shard::current();
    home.use_manual_clock();
    event_log log(here.rt.executor());
    listener l(here);
    auto o = eager_tls("wss://127.0.0.1:" + std::to_string(l.port()));
    o.tls_timeout = 30ms;
    o.on_error = [&log](const failure &) { log.add("error"); };
    client c(here.rt, std::move(o));
    auto silent = co_await l.accept();
    const auto second = [&c] { return c.stats().attempts == 2; };
    co_await pass_time(home, second);
    co_await silent.wait_gone();
    auto rude = co_await l.accept();
    BOOST_TEST((c.last_failure() == error::tls_timeout));
    BOOST_TEST((c.last_failure().detail().where == stage::tls));
    BOOST_TEST(!(co_await rude.read_frame_head()).empty()); // some of the client's hello
    rude.reset();
    co_await log.wait("error", 2);
    const auto third = [&c] { return c.stats().attempts == 3; };
    co_await pass_time(home, third);
    auto next = co_await l.accept();
    BOOST_TEST_INFO(c.last_failure().message());
    BOOST_TEST((c.last_failure() == error::lost));
    BOOST_TEST((c.last_failure().detail().where == stage::tls));
    BOOST_TEST(c.last_failure().message().find("does it speak TLS on this port?") !=
               std::string::npos);
    BOOST_TEST((c.state() == client_state::connecting));
  }(w));
}

BOOST_AUTO_TEST_CASE(a_websocket_without_tls_at_a_tls_port) {
  world w;
  w.run([](world &here) -> task<> {
    tls_server server(here, "server", true);
    const auto r = co_await connect("ws://" + server.address());
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error().detail().where == stage::upgrade));
    BOOST_TEST_INFO(r.error().message());
    BOOST_TEST(r.error().message().find("wss://") != std::string::npos);
  }(w));
}

BOOST_AUTO_TEST_CASE(the_files_are_read_once) {
  world w;
  w.run([](world &here) -> task<> {
    tls_server server(here, "server", true);
    borrowed_issuer issuer;
    auto o = eager_tls(server.url());
    o.tls.ca_file = issuer.path();
    event_log log(here.rt.executor());
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    client c(here.rt, std::move(o));
    co_await echoes(c);
    issuer.take_away();
    for (std::uint64_t i = 1; i <= 2; ++i) {
      server.drop();
      co_await log.wait("gone", i); // what is sent on the old one is lost
      co_await echoes(c);
      BOOST_TEST(c.stats().reconnects == i);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(the_files_are_read_again_when_asked_for) {
  world w;
  w.run([](world &here) -> task<> {
    tls_server server(here, "server", true);
    borrowed_issuer issuer;
    auto o = eager_tls(server.url());
    o.tls.ca_file = issuer.path();
    o.reread_tls_files = true;
    event_log log(here.rt.executor());
    o.on_disconnect = [&log](const failure &) { log.add("gone"); };
    client c(here.rt, std::move(o));
    co_await echoes(c);
    server.drop();
    co_await log.wait("gone");
    co_await echoes(c);
    issuer.take_away();
    server.drop();
    const auto why = co_await c.receive();
    BOOST_REQUIRE(!why.has_value());
    BOOST_TEST((why.error() == error::tls_bad_configuration));
    BOOST_TEST(why.error().message().find("borrowed") != std::string::npos);
  }(w));
}

BOOST_AUTO_TEST_CASE(a_file_that_is_missing_from_the_start_ends_the_client) {
  world w;
  w.run([](world &here) -> task<> {
    auto o = eager_tls("wss://127.0.0.1:1");
    o.tls.ca_file = "/no/such/issuer.pem";
    client c(here.rt, std::move(o));
    const auto why = co_await c.connected();
    BOOST_REQUIRE(!why.has_value());
    BOOST_TEST((why.error() == error::tls_bad_configuration));
    BOOST_TEST(why.error().message().find("/no/such/issuer.pem") != std::string::npos);
    BOOST_TEST(c.stats().attempts == 1U);
  }(w));
}

BOOST_AUTO_TEST_SUITE_END()
