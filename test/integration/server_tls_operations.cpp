#include "server_support.hpp"
#include "unit/transport/tls_support.hpp"

#include <chorus/base/error.hpp>
#include <chorus/client/client.hpp>
#include <chorus/client/connect.hpp>

#include <filesystem>
#include <sys/stat.h>
#include <utility>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;
using chorus::test::key;
using chorus::test::pem;

BOOST_AUTO_TEST_SUITE(server_tls_operations)

namespace {

std::string number(bool b) { return b ? "1" : "0"; }

// A server's certificate files that a test replaces in place.
class files {
public:
  files() : folder_(std::filesystem::path(pem("ca")).parent_path() / unique()) {
    std::filesystem::create_directory(folder_);
  }
  ~files() {
    std::error_code ignored;
    std::filesystem::remove_all(folder_, ignored);
  }
  void use(const std::string &certificate, const std::string &private_key) {
    copy(pem(certificate), "server.pem");
    copy(key(private_key), "server.key");
  }
  void trust(const std::string &authority) { copy(pem(authority), "ca.pem"); }
  std::string name(const char *file) const { return (folder_ / file).string(); }

private:
  static std::string unique() {
    static int count = 0;
    return "live-" + std::to_string(++count);
  }
  void copy(const std::string &from, const char *to) {
    std::filesystem::copy_file(from, folder_ / to,
                               std::filesystem::copy_options::overwrite_existing);
  }
  std::filesystem::path folder_;
};

struct fixture {
  files certificates;
  running loop;
  std::optional<chorus::server> server;
  explicit fixture(chorus::tls_options tls = {}, unsigned threads = 1) : loop(threads) {
    certificates.use("server", "server");
    certificates.trust("ca");
    chorus::server_options options;
    tls.certificate_file = certificates.name("server.pem");
    tls.key_file = certificates.name("server.key");
    if (tls.require_client_certificate || tls.ask_client_certificate)
      tls.ca_file = certificates.name("ca.pem");
    options.tls = tls;
    server.emplace(loop.rt(), std::move(options));
    server->route("/echo", echo);
    // Says what the server knows of the connection.
    server->route("/tls", [](session s, request r) -> task<> {
      const auto *t = r.tls();
      std::string text = "none";
      if (t) {
        text = t->version + '|' + t->alpn + '|' + t->server_name + '|' + number(t->resumed) + '|' +
               number(t->peer_verified) + '|' + t->peer_subject + '|' + t->peer_common_name + '|';
        for (const auto &name : t->peer_alt_names)
          text += name + ',';
      }
      co_await s.send(text);
      co_await s.close();
    });
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~fixture() { loop.wait(server->stop(5s)); }
  std::string url(const char *path) const {
    return "wss://localhost:" + std::to_string(server->port()) + path;
  }
};

chorus::tls_options trusting(const std::string &certificate = {}, const std::string &ca = "ca") {
  chorus::tls_options o;
  o.ca_file = pem(ca);
  if (!certificate.empty()) {
    o.certificate_file = pem(certificate);
    o.key_file = key(certificate);
  }
  return o;
}

// The first message of a new connection, or why there is none.
task<std::string> hear(std::string url, chorus::tls_options tls) {
  chorus::connect_options options;
  options.tls = &tls;
  auto s = co_await chorus::connect(url, options);
  if (!s)
    co_return s.error().message();
  auto m = co_await s->receive();
  co_return m ? m->str() : m.error().message();
}

// What the server says on each of `lives` connections of one reconnecting client.
task<std::vector<std::string>> lives(chorus::client &c, std::size_t count) {
  std::vector<std::string> heard;
  while (heard.size() < count) {
    auto m = co_await c.receive();
    heard.push_back(m ? m->str() : m.error().message());
    if (!m)
      break;
  }
  co_return heard;
}

chorus::client_options returning(const fixture &f, chorus::tls_options tls) {
  chorus::client_options o;
  o.urls = {f.url("/tls")};
  o.tls = std::move(tls);
  o.backoff.initial = 1ms;
  o.backoff.cap = 1ms;
  return o;
}

} // namespace

BOOST_AUTO_TEST_CASE(a_request_tells_of_its_connection) {
  fixture f;
  auto tls = trusting();
  tls.alpn = {"h2", "http/1.1"}; // as browsers offer
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), tls))) == "TLSv1.3|http/1.1|localhost|0|0|||");
  BOOST_TEST(f.server->stats().tls_handshakes == 1u);
  chorus::server plain(f.loop.rt(), {});
  plain.route("/tls", [](session s, request r) -> task<> {
    co_await s.send(r.tls() ? "some" : "none");
    co_await s.close();
  });
  BOOST_REQUIRE(f.loop.wait(plain.start()));
  BOOST_TEST((f.loop.wait(hear(plain.url() + "/tls", {}))) == "none");
  f.loop.wait(plain.stop(1s));
}

BOOST_AUTO_TEST_CASE(a_protocol_that_is_not_spoken_is_refused) {
  fixture f;
  auto tls = trusting();
  tls.alpn = {"h2"};
  const auto why = f.loop.wait(hear(f.url("/tls"), tls));
  BOOST_TEST_CONTEXT(why) { BOOST_TEST(has(why, "no application protocol")); }
  BOOST_TEST(comes_true([&] { return f.server->stats().tls_failed == 1; }));
  BOOST_TEST(comes_true([&] { return f.server->stats().handshakes_failed == 1; })); // counted later
  BOOST_TEST(f.server->stats().tls_handshakes == 0u);
}

BOOST_AUTO_TEST_CASE(a_client_certificate_is_optional_verified_and_told) {
  chorus::tls_options ask;
  ask.ask_client_certificate = true;
  fixture f(ask);
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting()))) == "TLSv1.3||localhost|0|0|||");
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting("client")))) ==
             "TLSv1.3||localhost|0|1|CN=client|client|email:client@example.org,URI:spiffe://"
             "example.org/client,DNS:client.example,IP:192.0.2.7,");
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting("server")))) !=
             "TLSv1.3||localhost|0|1|CN=server|server|"); // not for clients: refused
  const auto why = f.loop.wait(hear(f.url("/tls"), trusting("stranger")));
  BOOST_TEST_CONTEXT(why) { BOOST_TEST(!has(why, "TLSv1.3|")); }
  BOOST_TEST(comes_true([&] { return f.server->stats().tls_failed == 2; }));
}

BOOST_AUTO_TEST_CASE(a_required_certificate_stays_required) {
  chorus::tls_options require;
  require.require_client_certificate = true;
  fixture f(require, 2);
  const auto why = f.loop.wait(hear(f.url("/tls"), trusting()));
  BOOST_TEST_CONTEXT(why) { BOOST_TEST(!has(why, "TLSv1.3|")); }
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting("client")))) ==
             "TLSv1.3||localhost|0|1|CN=client|client|email:client@example.org,URI:spiffe://"
             "example.org/client,DNS:client.example,IP:192.0.2.7,");
}

BOOST_AUTO_TEST_CASE(a_client_that_returns_resumes_on_any_shard_and_is_still_known) {
  chorus::tls_options ask;
  ask.ask_client_certificate = true;
  fixture f(ask, 2);
  chorus::client c(f.loop.rt(), returning(f, trusting("client")));
  const auto heard = f.loop.wait(lives(c, 4));
  BOOST_REQUIRE(heard.size() == 4u);
  BOOST_TEST(heard[0] == "TLSv1.3||localhost|0|1|CN=client|client|email:client@example.org,URI:"
                         "spiffe://example.org/client,DNS:client.example,IP:192.0.2.7,");
  for (std::size_t i = 1; i < heard.size(); ++i)
    BOOST_TEST(heard[i] == "TLSv1.3||localhost|1|1|CN=client|client|email:client@example.org,URI:"
                           "spiffe://example.org/client,DNS:client.example,IP:192.0.2.7,");
  BOOST_TEST(c.stats().tls_resumed >= 3u);
  f.loop.wait(c.close());
  BOOST_TEST(f.server->stats().tls_resumed >= 3u);
}

BOOST_AUTO_TEST_CASE(a_reload_shows_to_new_handshakes_and_spares_open_sessions) {
  fixture f({}, 2);
  chorus::tls_options tls = trusting();
  chorus::connect_options options;
  options.tls = &tls;
  auto open = [](std::string url, chorus::tls_options with) -> task<chorus::session> {
    chorus::connect_options o;
    o.tls = &with;
    auto s = co_await chorus::connect(url, o);
    co_return s ? *s : chorus::session();
  };
  auto old = f.loop.wait(open(f.url("/echo"), tls));
  BOOST_REQUIRE(old.is_open());
  f.certificates.use("stranger", "stranger"); // from another issuer
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), tls))) == "TLSv1.3||localhost|0|0|||");
  const auto reloaded = f.loop.wait(f.server->reload_tls());
  BOOST_REQUIRE_MESSAGE(reloaded, reloaded.error().message());
  for (int i = 0; i < 4; ++i) { // on every shard
    const auto refused = f.loop.wait(hear(f.url("/tls"), tls));
    BOOST_TEST_CONTEXT(refused) { BOOST_TEST(has(refused, "authority")); }
    BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting({}, "stranger_ca")))) ==
               "TLSv1.3||localhost|0|0|||");
  }
  auto ask = [](chorus::session s) -> task<std::string> {
    co_await s.send("alive");
    auto m = co_await s.receive();
    co_return m ? m->str() : m.error().message();
  };
  BOOST_TEST((f.loop.wait(ask(old))) == "alive");
  old.abort();
}

BOOST_AUTO_TEST_CASE(a_bad_reload_keeps_the_old_certificate_and_says_why) {
  fixture f;
  const auto refuses = [&](const char *part) {
    const auto reloaded = f.loop.wait(f.server->reload_tls());
    BOOST_REQUIRE(!reloaded);
    BOOST_TEST((reloaded.error() == chorus::error::tls_bad_configuration));
    BOOST_TEST(has(reloaded.error().message(), part));
    BOOST_TEST(has(reloaded.error().message(), "stays"));
    BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting()))) == "TLSv1.3||localhost|0|0|||");
  };
  f.certificates.use("server", "other"); // half replaced
  refuses("mismatch");
  std::filesystem::remove(f.certificates.name("server.pem"));
  refuses("server.pem");
  f.certificates.use("server", "server");
  BOOST_TEST(f.loop.wait(f.server->reload_tls()).has_value());
}

// A pipe that nobody writes into would hold up the thread that opens it, and all sessions there.
BOOST_AUTO_TEST_CASE(what_is_no_file_is_refused_unopened) {
  fixture f;
  const auto pipe = f.certificates.name("pipe");
  BOOST_REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  const auto certificate = f.certificates.name("server.pem");
  std::filesystem::remove(certificate);
  std::filesystem::create_symlink(pipe, certificate);
  const auto reloaded = f.loop.wait(f.server->reload_tls());
  BOOST_REQUIRE(!reloaded);
  BOOST_TEST((reloaded.error() == chorus::error::tls_bad_configuration));
  const auto why = reloaded.error().message();
  BOOST_TEST_CONTEXT(why) {
    BOOST_TEST(has(why, certificate));
    BOOST_TEST(has(why, "regular file"));
    BOOST_TEST(has(why, "stays"));
  }
  BOOST_TEST((f.loop.wait(hear(f.url("/tls"), trusting()))) == "TLSv1.3||localhost|0|0|||");
  chorus::tls_options tls;
  tls.certificate_file = pem("server");
  tls.key_file = key("server");
  tls.ca_file = pem("ca");
  tls.ask_client_certificate = true;
  for (auto *file : {&tls.certificate_file, &tls.key_file, &tls.ca_file}) { // at the start, too
    const auto kept = std::exchange(*file, pipe);
    chorus::server other(f.loop.rt(), {.tls = tls});
    const auto up = f.loop.wait(other.start());
    BOOST_REQUIRE(!up);
    BOOST_TEST(has(up.error().message(), pipe));
    *file = kept;
  }
  // A link to a file is one, as where secrets are mounted.
  std::filesystem::remove(certificate);
  std::filesystem::create_symlink(pem("server"), certificate);
  BOOST_TEST(f.loop.wait(f.server->reload_tls()).has_value());
}

BOOST_AUTO_TEST_CASE(a_reload_without_tls_or_server_says_so) {
  running loop;
  chorus::server plain(loop.rt(), {});
  BOOST_TEST((loop.wait(plain.reload_tls()).error() == chorus::error::not_open));
  BOOST_REQUIRE(loop.wait(plain.start()));
  BOOST_TEST((loop.wait(plain.reload_tls()).error() == chorus::error::bad_option));
  loop.wait(plain.stop(1s));
  BOOST_TEST((loop.wait(plain.reload_tls()).error() == chorus::error::not_open));
}

BOOST_AUTO_TEST_CASE(tickets_survive_a_reload) {
  fixture f({}, 2);
  chorus::client c(f.loop.rt(), returning(f, trusting()));
  BOOST_TEST((f.loop.wait(lives(c, 2)).back()) == "TLSv1.3||localhost|1|0|||");
  BOOST_REQUIRE(f.loop.wait(f.server->reload_tls()));
  const auto after = f.server->stats();
  const auto heard = f.loop.wait(lives(c, 4));
  for (const auto &one : heard)
    BOOST_TEST(one == "TLSv1.3||localhost|1|0|||");
  // What was heard may have come before the reload.
  BOOST_TEST(comes_true([&] { return f.server->stats().tls_resumed > after.tls_resumed; }));
  f.loop.wait(c.close());
}

BOOST_AUTO_TEST_CASE(who_was_trusted_by_another_authority_does_not_resume) {
  chorus::tls_options require;
  require.require_client_certificate = true;
  fixture f(require, 2);
  chorus::client c(f.loop.rt(), returning(f, trusting("client")));
  BOOST_TEST((f.loop.wait(lives(c, 2)).back()) ==
             "TLSv1.3||localhost|1|1|CN=client|client|email:client@example.org,URI:spiffe://"
             "example.org/client,DNS:client.example,IP:192.0.2.7,"); // it resumes
  const auto failed = f.server->stats().tls_failed; // before: one refusal may end it
  f.certificates.trust("stranger_ca");              // and is not trusted any more
  BOOST_REQUIRE(f.loop.wait(f.server->reload_tls()));
  BOOST_TEST(comes_true([&] { return f.server->stats().tls_failed > failed; }));
  // What was under way may still have come through; after a refusal nothing does.
  const auto before = f.server->stats().upgraded;
  BOOST_TEST(comes_true([&] {
    return f.server->stats().tls_failed > failed + 3 || c.state() == chorus::client_state::closed;
  }));
  BOOST_TEST(f.server->stats().upgraded == before);
  f.loop.wait(c.close());
}

BOOST_AUTO_TEST_SUITE_END()
