#include "knock.hpp"
#include "support.hpp"

#include <chorus/transport/address.hpp>

#include <filesystem>
#include <fstream>
#include <sys/un.h>

using namespace chorus;
using namespace chorus::test;
using transport::listen_options;
using transport::listener;

namespace {

class scratch {
public:
  scratch() {
    std::string pattern = (std::filesystem::temp_directory_path() / "chorus-XXXXXX").string();
    BOOST_REQUIRE(::mkdtemp(pattern.data()) != nullptr);
    path_ = pattern;
  }
  ~scratch() { std::filesystem::remove_all(path_); }
  std::string file(const char *name) const { return (path_ / name).string(); }

private:
  std::filesystem::path path_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(listening)

BOOST_AUTO_TEST_CASE(accepts_on_every_kind_of_address) {
  scratch dir;
  auto body = [](detail::shard &home, scratch &d) -> task<> {
    for (const std::string &address :
         {std::string("127.0.0.1:0"), std::string("[::1]:0"), std::string("localhost:0"),
          std::string(":0"), std::string("unix:") + d.file("socket"),
          "unix:@chorus-test-" + std::to_string(::getpid())}) {
      acceptor a(home);
      auto opened = listener::open(home, address);
      BOOST_REQUIRE(opened.has_value());
      auto &l = **opened;
      BOOST_REQUIRE(l.start(a).has_value());
      BOOST_TEST(!l.local_address().ends_with(":0"));
      const transport::descriptor client(knock(l.local_address()));
      BOOST_REQUIRE(client);
      auto s = co_await a.next();
      BOOST_REQUIRE_EQUAL(::send(client.get(), "hello", 5, 0), 5);
      const auto got = co_await read_exactly(*s, 5);
      BOOST_TEST(got == "hello");
      BOOST_TEST(l.stats().accepted == 1U);
      const auto where = l.local_address();
      l.close();
      l.close();
      BOOST_TEST(l.local_address() == where);
      BOOST_TEST(knock(where) == -1);
      BOOST_TEST(!l.start(a).has_value());
    }
  };
  run<scratch>(body, dir);
}

BOOST_AUTO_TEST_CASE(names_what_is_wrong_with_the_address) {
  run([](detail::shard &home) -> task<> {
    for (const char *bad : {"", "8080", "127.0.0.1", "127.0.0.1:", "::1:80", "[]:80", "a:b:c",
                            "127.0.0.1:99999", "127.0.0.1:no-such-service", "unix:"}) {
      const auto opened = listener::open(home, bad);
      BOOST_TEST_CONTEXT(bad) {
        BOOST_REQUIRE(!opened.has_value());
        BOOST_TEST(opened.error() == error::bad_option);
        BOOST_TEST((opened.error().detail().where == stage::listen));
      }
    }
    for (const char *bad : {"192.0.2.1:0", "no-such-host.invalid:0", "unix:/no/such/directory/s"}) {
      const auto opened = listener::open(home, bad);
      BOOST_TEST_CONTEXT(bad) {
        BOOST_REQUIRE(!opened.has_value());
        BOOST_TEST(opened.error() == error::listen_failed);
        BOOST_TEST(opened.error().message().find(bad) != std::string::npos);
        BOOST_TEST(opened.error().detail().address == bad);
      }
    }
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(a_second_server_gets_address_in_use) {
  run([](detail::shard &home) -> task<> {
    const listen_options share{.share = true};
    auto first = listener::open(home, "127.0.0.1:0", share);
    BOOST_REQUIRE(first.has_value());
    const auto where = (*first)->local_address();
    for (const bool also_shares : {false, true}) {
      const listen_options options{.share = also_shares};
      const auto second = listener::open(home, where, options);
      BOOST_REQUIRE(!second.has_value());
      BOOST_TEST(second.error() == error::listen_failed);
      BOOST_TEST(second.error().message().find("in use") != std::string::npos);
    }
    // Nor may anybody join one that does not share.
    auto alone = listener::open(home, "127.0.0.1:0");
    const listen_options join{.join = true};
    const auto intruder = listener::open(home, (*alone)->local_address(), join);
    BOOST_TEST(!intruder.has_value());
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(siblings_share_the_connections) {
  run([](detail::shard &home) -> task<> {
    const listen_options share{.share = true};
    const listen_options join{.join = true};
    auto first = listener::open(home, "127.0.0.1:0", share);
    BOOST_REQUIRE(first.has_value());
    auto second = listener::open(home, (*first)->local_address(), join);
    BOOST_REQUIRE(second.has_value());
    BOOST_TEST((*second)->local_address() == (*first)->local_address());
    acceptor a(home);
    acceptor b(home);
    BOOST_REQUIRE((*first)->start(a).has_value());
    BOOST_REQUIRE((*second)->start(b).has_value());
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 64; ++i)
      clients.emplace_back(knock((*first)->local_address()));
    while (a.waiting.size() + b.waiting.size() < 64)
      co_await chorus::sleep(1ms);
    BOOST_TEST(a.waiting.size() > 0U);
    BOOST_TEST(b.waiting.size() > 0U);
    // The others go on when one closes.
    (*first)->close();
    clients.emplace_back(knock((*second)->local_address()));
    BOOST_TEST(clients.back().get() != -1);
  });
}

BOOST_AUTO_TEST_CASE(a_restarted_server_binds_at_once) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    const auto where = (*l)->local_address();
    const transport::descriptor client(knock(where));
    auto s = co_await a.next();
    s->close(false); // this side first: it keeps the connection in TIME_WAIT
    l->reset();
    const auto again = listener::open(home, where);
    BOOST_TEST(again.has_value());
  });
}

BOOST_AUTO_TEST_CASE(a_stale_socket_file_is_replaced_and_a_live_one_is_not) {
  scratch dir;
  auto body = [](detail::shard &home, scratch &d) -> task<> {
    const auto path = d.file("socket");
    const auto address = "unix:" + path;
    {
      // What a killed server leaves behind.
      transport::descriptor dead(::socket(AF_UNIX, SOCK_STREAM, 0));
      sockaddr_un name{};
      socklen_t size = 0;
      transport::make_unix_address(path, name, size);
      BOOST_REQUIRE_EQUAL(::bind(dead.get(), reinterpret_cast<sockaddr *>(&name), size), 0);
    }
    BOOST_REQUIRE(std::filesystem::exists(path));
    auto live = listener::open(home, address);
    BOOST_REQUIRE(live.has_value());
    const auto second = listener::open(home, address);
    BOOST_REQUIRE(!second.has_value());
    BOOST_TEST(second.error().message().find("in use") != std::string::npos);
    (*live)->close();
    BOOST_TEST(!std::filesystem::exists(path));
    // A file that is no socket stays untouched.
    std::ofstream(path) << "precious";
    const auto third = listener::open(home, address);
    BOOST_TEST(!third.has_value());
    BOOST_TEST(std::filesystem::is_regular_file(path));
    // So does the socket file that another server put in place of ours.
    std::filesystem::remove(path);
    auto ours = listener::open(home, address);
    std::filesystem::remove(path);
    auto theirs = listener::open(home, address);
    BOOST_REQUIRE(theirs.has_value());
    (*ours)->close();
    BOOST_TEST(std::filesystem::exists(path));
    co_return;
  };
  run<scratch>(body, dir);
}

BOOST_AUTO_TEST_CASE(adopts_an_inherited_socket) {
  run([](detail::shard &home) -> task<> {
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    auto refused = listener::adopt(home, fd); // not listening yet; closed now
    BOOST_TEST(!refused.has_value());
    const int inherited = ::socket(AF_INET, SOCK_STREAM, 0);
    BOOST_REQUIRE_EQUAL(::listen(inherited, 8), 0);
    auto l = listener::adopt(home, inherited);
    BOOST_REQUIRE(l.has_value());
    acceptor a(home);
    BOOST_REQUIRE((*l)->start(a).has_value());
    const transport::descriptor client(knock((*l)->local_address()));
    auto s = co_await a.next();
    BOOST_TEST(s != nullptr);
  });
}

BOOST_AUTO_TEST_CASE(may_be_destroyed_by_its_handler) {
  struct destroyer : transport::accept_handler {
    explicit destroyer(detail::shard &home) : changed(home) {}
    void on_accept(int fd) noexcept override {
      ::close(fd);
      ++accepted;
      mine.reset();
      changed.poke();
    }
    void on_refused(int fd) noexcept override { ::close(fd); }
    std::unique_ptr<listener> mine;
    int accepted = 0;
    condition_point changed;
  };
  run([](detail::shard &home) -> task<> {
    destroyer d(home);
    auto l = listener::open(home, "127.0.0.1:0");
    d.mine = std::move(*l);
    const auto where = d.mine->local_address();
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 3; ++i)
      clients.emplace_back(knock(where));
    BOOST_REQUIRE(d.mine->start(d).has_value());
    std::function<bool()> gone = [&] { return !d.mine; };
    const bool over = co_await d.changed.until(std::move(gone));
    BOOST_TEST(over);
    BOOST_TEST(d.accepted == 1);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(a_burst_is_taken_in_turns) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 150; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    BOOST_REQUIRE((*l)->start(a).has_value());
    home.poll().dispatch();
    BOOST_TEST(a.waiting.size() == 64U);
    while (a.waiting.size() < 150)
      co_await chorus::sleep(1ms);
    BOOST_TEST((*l)->stats().accepted == 150U);
  });
}

BOOST_AUTO_TEST_SUITE_END()
