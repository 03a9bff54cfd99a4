// Through tinyproxy and microsocks as Debian ships them.

#include "attempt.hpp"

#include "support/server_process.hpp"

#include <fstream>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

using namespace client_test;

namespace {

class proxy_process : public test_support::server_process {
public:
  using server_process::server_process;
  // Returns when somebody accepts at its port.
  void start(std::vector<std::string> arguments) {
    server_process::start(std::move(arguments), [this] {
      const int s = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in a{};
      a.sin_family = AF_INET;
      a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      a.sin_port = htons(port());
      const bool up = ::connect(s, reinterpret_cast<sockaddr *>(&a), sizeof a) == 0;
      ::close(s);
      return std::string(up ? "" : "it does not listen");
    });
  }
};

task<result<chorus::session>> reach(std::string url, std::string proxy) {
  connect_options o;
  o.proxy = proxy;
  o.connect_timeout = o.upgrade_timeout = 60s; // the proxy is another process
  auto connecting = connect(url, o);
  auto reached = co_await std::move(connecting);
  co_return reached;
}

// A message to and fro through `proxy`; then what it says to a wrong password.
task<> try_out(world &here, std::string scheme, unsigned short port, unsigned status) {
  const auto where = "127.0.0.1:" + std::to_string(port);
  listener l(here);
  attempt a(here.rt.executor(), reach(l.url("/through"), scheme + "me:secret@" + where));
  auto p = co_await l.accept();
  const auto head = co_await p.upgrade(peer::text("hello"));
  BOOST_TEST(head.find("GET /through ") == 0U);
  auto s = co_await a.get();
  BOOST_REQUIRE_MESSAGE(s.has_value(), (s ? "" : s.error().message()));
  BOOST_TEST(s->remote_address() == where);
  const auto got = co_await s->receive();
  BOOST_REQUIRE(got.has_value());
  BOOST_TEST(got->text() == "hello");
  BOOST_TEST((co_await s->send("back")).has_value());
  const auto f = co_await p.read_frame();
  BOOST_REQUIRE(f.has_value());
  BOOST_TEST(f->payload == "back");
  s->abort();

  attempt wrong(here.rt.executor(), reach(l.url(), scheme + "me:guess@" + where));
  const auto no = co_await wrong.get();
  BOOST_REQUIRE(!no.has_value());
  BOOST_TEST_INFO(no.error().message());
  BOOST_CHECK(no.error() == error::proxy_refused);
  BOOST_TEST(no.error().detail().status == status);

  dead_port dead(here);
  attempt nobody(here.rt.executor(), reach(dead.url(), scheme + "me:secret@" + where));
  const auto none = co_await nobody.get();
  BOOST_REQUIRE(!none.has_value());
  BOOST_TEST_INFO(none.error().message());
  BOOST_CHECK(none.error() == error::proxy_refused);
}

} // namespace

BOOST_AUTO_TEST_SUITE(real_proxies)

BOOST_AUTO_TEST_CASE(tinyproxy) {
  proxy_process proxy("tinyproxy");
  const auto config = proxy.folder() / "tinyproxy.conf";
  std::ofstream(config) << "Port " << proxy.port() << "\nListen 127.0.0.1\nAllow 127.0.0.1\n"
                        << "LogFile " << proxy.log_file() << "\nTimeout 60\nMaxClients 10\n"
                        << "BasicAuth me secret\n";
  proxy.start({"-d", "-c", config});
  world w;
  w.run(try_out(w, "http://", proxy.port(), 401));
}

BOOST_AUTO_TEST_CASE(microsocks) {
  proxy_process proxy("microsocks");
  proxy.start({"-i", "127.0.0.1", "-p", std::to_string(proxy.port()), "-u", "me", "-P", "secret"});
  world w;
  w.run(try_out(w, "socks5://", proxy.port(), 0));
}

BOOST_AUTO_TEST_SUITE_END()
