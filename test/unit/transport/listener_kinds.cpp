#include "knock.hpp"
#include "ports.hpp"
#include "support.hpp"

#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

using namespace chorus;
using namespace chorus::test;
using transport::descriptor;
using transport::listen_options;
using transport::listener;

namespace {

std::string port_of(const std::string &address) { return address.substr(address.rfind(':') + 1); }

// A bound socket of our own: its number as an address.
std::string inherited(int type, bool listening) {
  const int fd = ::socket(AF_INET, type | SOCK_CLOEXEC, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  BOOST_REQUIRE_EQUAL(::bind(fd, reinterpret_cast<const sockaddr *>(&any), sizeof any), 0);
  if (listening)
    BOOST_REQUIRE_EQUAL(::listen(fd, 16), 0);
  return "fd:" + std::to_string(fd);
}

std::string scratch_path(const char *name) {
  return (std::filesystem::temp_directory_path() /
          ("chorus-" + std::to_string(::getpid()) + "-" + name))
      .string();
}

} // namespace

BOOST_AUTO_TEST_SUITE(listening_kinds)

BOOST_AUTO_TEST_CASE(both_families_of_one_port_stand_beside_each_other) {
  run([](detail::shard &home) -> task<> {
    auto v4 = listener::open(home, "0.0.0.0:0");
    BOOST_REQUIRE(v4.has_value());
    auto v6 = listener::open(home, "[::]:" + port_of((*v4)->local_address()));
    // In the other family the port may be somebody else's.
    for (int i = 0; i < 20 && !v6; ++i) {
      v4 = listener::open(home, "0.0.0.0:0");
      BOOST_REQUIRE(v4.has_value());
      v6 = listener::open(home, "[::]:" + port_of((*v4)->local_address()));
    }
    BOOST_REQUIRE_MESSAGE(v6.has_value(), v6.error().message());
    const descriptor by_v4(knock("127.0.0.1:" + port_of((*v4)->local_address())));
    const descriptor by_v6(knock("[::1]:" + port_of((*v4)->local_address())));
    acceptor a(home);
    acceptor b(home);
    BOOST_REQUIRE((*v4)->start(a).has_value());
    BOOST_REQUIRE((*v6)->start(b).has_value());
    auto first = co_await a.next();
    auto second = co_await b.next();
    BOOST_TEST(first->remote_address().starts_with("127.0.0.1:"));
    BOOST_TEST(second->remote_address().starts_with("[::1]:"));
  });
}

BOOST_AUTO_TEST_CASE(an_ipv6_address_is_ipv6_alone_and_a_bare_port_is_both) {
  run([](detail::shard &home) -> task<> {
    // Nobody else's listener is to answer in its stead.
    descriptor nobody;
    auto v6 = listener::open(home, "[::]:0");
    for (int i = 0; i < 20 && !nobody; ++i) {
      v6 = listener::open(home, "[::]:0");
      BOOST_REQUIRE(v6.has_value());
      const auto port = static_cast<in_port_t>(std::stoi(port_of((*v6)->local_address())));
      nobody = keep_from_others(loopback4(port));
    }
    BOOST_REQUIRE(static_cast<bool>(nobody));
    BOOST_TEST(knock("127.0.0.1:" + port_of((*v6)->local_address())) == -1);
    auto both = listener::open(home, ":0");
    BOOST_REQUIRE(both.has_value());
    const descriptor by_v4(knock("127.0.0.1:" + port_of((*both)->local_address())));
    const descriptor by_v6(knock("[::1]:" + port_of((*both)->local_address())));
    BOOST_TEST(static_cast<bool>(by_v4));
    BOOST_TEST(static_cast<bool>(by_v6));
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(an_inherited_descriptor_accepts) {
  run([](detail::shard &home) -> task<> {
    auto l = listener::open(home, inherited(SOCK_STREAM, true));
    BOOST_REQUIRE_MESSAGE(l.has_value(), l.error().message());
    BOOST_TEST((*l)->local_address().starts_with("127.0.0.1:"));
    acceptor a(home);
    BOOST_REQUIRE((*l)->start(a).has_value());
    const descriptor client(knock((*l)->local_address()));
    auto s = co_await a.next();
    BOOST_TEST(s != nullptr);
  });
}

BOOST_AUTO_TEST_CASE(a_wrong_descriptor_is_refused_with_a_sentence) {
  run([](detail::shard &home) -> task<> {
    std::array<int, 2> pipe{};
    BOOST_REQUIRE_EQUAL(::pipe2(pipe.data(), O_CLOEXEC), 0);
    const descriptor one_end(pipe[0]);
    const descriptor other_end(pipe[1]);
    const struct {
      std::string address;
      const char *part;
    } cases[] = {{"fd:" + std::to_string(pipe[0]), "no socket"},
                 {inherited(SOCK_STREAM, false), "no listening socket"},
                 {inherited(SOCK_DGRAM, false), "no stream socket"},
                 {"fd:987654", "no such descriptor"}};
    for (const auto &one : cases) {
      const auto opened = listener::open(home, one.address);
      BOOST_TEST_CONTEXT(one.address) {
        BOOST_REQUIRE(!opened.has_value());
        BOOST_TEST(opened.error() == error::listen_failed);
        BOOST_TEST(opened.error().message().find(one.part) != std::string::npos);
        BOOST_TEST(opened.error().detail().address == one.address);
        // Taken over, so closed; but what is no socket is not the listener's to close.
        const int fd = std::stoi(one.address.substr(3));
        BOOST_TEST((::fcntl(fd, F_GETFD) == -1) == (fd != pipe[0]));
      }
    }
    for (const char *bad : {"fd:", "fd:x", "fd:-1", "fd:3x"}) {
      const auto opened = listener::open(home, bad);
      BOOST_REQUIRE(!opened.has_value());
      BOOST_TEST(opened.error() == error::bad_option);
    }
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(a_port_is_shared_by_those_who_say_so) {
  run([](detail::shard &home) -> task<> {
    const listen_options shared{.reuse_port = true};
    auto first = listener::open(home, "127.0.0.1:0", shared);
    BOOST_REQUIRE(first.has_value());
    const auto where = (*first)->local_address();
    auto second = listener::open(home, where, shared);
    BOOST_TEST(second.has_value());
    const auto third = listener::open(home, where);
    BOOST_REQUIRE(!third.has_value());
    BOOST_TEST(third.error().message().find("in use") != std::string::npos);
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(a_socket_file_has_the_mode_asked_for) {
  run([](detail::shard &home) -> task<> {
    const auto path = scratch_path("mode");
    for (const unsigned mode : {0600U, 0666U, 0620U}) {
      const listen_options options{.file_mode = mode};
      auto l = listener::open(home, "unix:" + path, options);
      BOOST_REQUIRE(l.has_value());
      struct stat file {};
      BOOST_REQUIRE_EQUAL(::lstat(path.c_str(), &file), 0);
      BOOST_TEST((file.st_mode & 07777U) == mode);
      const descriptor client(knock("unix:" + path));
      BOOST_TEST(static_cast<bool>(client));
    }
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(a_duplicate_keeps_those_who_wait_and_the_file) {
  run([](detail::shard &home) -> task<> {
    const auto path = scratch_path("kept");
    for (const std::string &address : {std::string("127.0.0.1:0"), "unix:" + path}) {
      auto l = listener::open(home, address);
      BOOST_REQUIRE(l.has_value());
      const auto where = (*l)->local_address();
      const descriptor waiting(knock(where));
      auto copy = (*l)->duplicate();
      BOOST_REQUIRE(static_cast<bool>(copy));
      (*l)->leave_file();
      (*l)->close();
      BOOST_TEST(!(*l)->duplicate());
      const descriptor late(knock(where));
      BOOST_TEST(static_cast<bool>(late));
      auto heir = listener::adopt(home, copy.release());
      BOOST_REQUIRE(heir.has_value());
      acceptor a(home);
      BOOST_REQUIRE((*heir)->start(a).has_value());
      auto first = co_await a.next();
      auto second = co_await a.next();
      BOOST_TEST(first != nullptr);
      BOOST_TEST(second != nullptr);
    }
    BOOST_TEST(::unlink(path.c_str()) == 0);
  });
}

BOOST_AUTO_TEST_SUITE_END()
