#include "support.hpp"

#include <chorus/transport/address.hpp>

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/un.h>

using namespace chorus;
using namespace chorus::test;
using transport::listen_options;
using transport::listener;

namespace {

// A blocking client connection to "127.0.0.1:port", "[::1]:port" or "unix:path"; -1 and errno. By
// `socket`, which stays the caller's, or by a new one.
int knock(const std::string &address, int socket = -1) {
  sockaddr_storage storage{};
  socklen_t size = 0;
  if (address.starts_with("unix:")) {
    auto &to = reinterpret_cast<sockaddr_un &>(storage);
    BOOST_REQUIRE(transport::make_unix_address(address.substr(5), to, size));
  } else {
    const auto port =
        htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
    if (address.starts_with("[")) {
      auto &to = reinterpret_cast<sockaddr_in6 &>(storage);
      to.sin6_family = AF_INET6;
      to.sin6_addr = in6addr_loopback;
      to.sin6_port = port;
      size = sizeof to;
    } else {
      auto &to = reinterpret_cast<sockaddr_in &>(storage);
      to.sin_family = AF_INET;
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      to.sin_port = port;
      size = sizeof to;
    }
  }
  if (socket >= 0)
    return ::connect(socket, reinterpret_cast<const sockaddr *>(&storage), size) == 0 ? socket : -1;
  transport::descriptor s(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(s.get(), reinterpret_cast<const sockaddr *>(&storage), size) != 0)
    return -1;
  return s.release();
}

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

// Lowers RLIMIT_NOFILE to what is open now plus `more`, for as long as it lives.
class few_descriptors {
public:
  explicit few_descriptors(rlim_t more) {
    ::getrlimit(RLIMIT_NOFILE, &before_);
    const transport::descriptor lowest(::dup(0));
    auto limit = before_;
    limit.rlim_cur = static_cast<rlim_t>(lowest.get()) + more;
    BOOST_REQUIRE_EQUAL(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  }
  ~few_descriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

private:
  rlimit before_{};
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

// With no descriptor left the peers are refused politely, and served again as soon as there is one.
BOOST_AUTO_TEST_CASE(out_of_descriptors_it_refuses_politely) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 100; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    {
      few_descriptors limit(3);
      std::function<bool()> all = [&] { return a.waiting.size() + a.refused == 100; };
      const bool done = co_await a.changed.until(std::move(all));
      BOOST_TEST(done);
      BOOST_TEST(a.waiting.size() == 3U);
      BOOST_TEST(a.refused == 97U);
    }
    BOOST_TEST((*l)->stats().accepted == 3U);
    BOOST_TEST((*l)->stats().refused == 97U);
    BOOST_TEST((*l)->stats().errors == 97U);
    BOOST_TEST((*l)->stats().pauses == 0U);
    const transport::descriptor late(knock((*l)->local_address()));
    std::function<bool()> four = [&] { return a.waiting.size() == 4; };
    const bool served = co_await a.changed.until(std::move(four));
    BOOST_TEST(served);
  });
}

// The kernel reports the want of a descriptor even where nobody waits: that is no error, and costs
// the reserve only for a moment.
BOOST_AUTO_TEST_CASE(out_of_descriptors_with_nobody_waiting) {
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    acceptor a(home);
    auto l = listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    // The undefined behaviour sanitizer needs a descriptor to look at a type for the first time.
    static_cast<transport::accept_handler &>(a).on_refused(::dup(0));
    a.refused = 0;
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 2; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    transport::descriptor third(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    {
      few_descriptors limit(2);
      for (int i = 0; i < 3; ++i) // each turn ends at the empty backlog
        home.poll().dispatch();
      BOOST_TEST(a.waiting.size() == 2U);
      BOOST_TEST((*l)->stats().errors == 0U);
      BOOST_TEST((*l)->stats().pauses == 0U);
      knock((*l)->local_address(), third.get());
      home.poll().dispatch();
      BOOST_TEST(a.refused == 1U); // by the reserve
      BOOST_TEST((*l)->stats().errors == 1U);
      BOOST_TEST((*l)->stats().pauses == 0U);
    }
    // A descriptor has come free, and no pause is in the way.
    clients.emplace_back(knock((*l)->local_address()));
    home.poll().dispatch();
    BOOST_TEST(a.waiting.size() == 3U);
    co_return;
  });
}

// A handler that keeps a refused connection uses up the reserve: then accepting pauses, by the wheel.
BOOST_AUTO_TEST_CASE(without_a_reserve_it_pauses_and_comes_back) {
  struct hoarder : transport::accept_handler {
    void on_accept(int fd) noexcept override { kept.emplace_back(fd); }
    void on_refused(int fd) noexcept override {
      kept.emplace_back(fd);
      ++refused;
    }
    std::vector<transport::descriptor> kept;
    int refused = 0;
  };
  run([](detail::shard &home) -> task<> {
    home.use_manual_clock();
    hoarder h;
    // The undefined behaviour sanitizer needs a descriptor to look at a type for the first time.
    transport::accept_handler &handler = h;
    handler.on_accept(::dup(0));
    handler.on_refused(::dup(0));
    h.kept.clear();
    h.refused = 0;
    auto l = listener::open(home, "127.0.0.1:0");
    std::vector<transport::descriptor> clients;
    for (int i = 0; i < 5; ++i)
      clients.emplace_back(knock((*l)->local_address()));
    {
      // One for the connection accepted, and one for the reserve, which the limit does not move.
      few_descriptors limit(1);
      BOOST_REQUIRE((*l)->start(h).has_value());
      home.poll().dispatch();
      BOOST_TEST(h.kept.size() == 2U);
      BOOST_TEST(h.refused == 1);
      BOOST_TEST((*l)->stats().pauses == 1U);
      // It does not spin meanwhile, and each further pause is longer.
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 1U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 2U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 2U);
      home.advance(120ms);
      home.poll().dispatch();
      BOOST_TEST((*l)->stats().pauses == 3U);
    }
    home.advance(1100ms);
    home.poll().dispatch();
    BOOST_TEST(h.kept.size() == 5U);
    BOOST_TEST((*l)->stats().accepted == 4U);
    co_return;
  });
}

BOOST_AUTO_TEST_SUITE_END()
