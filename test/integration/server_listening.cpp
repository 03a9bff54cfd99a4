#include "server_support.hpp"

#include <chorus/base/error.hpp>

#include <filesystem>
#include <set>
#include <sys/stat.h>
#include <vector>

using namespace server_test;
using chorus::request;
using chorus::session;
using chorus::task;

BOOST_AUTO_TEST_SUITE(server_listening)

namespace {

struct fixture {
  running loop;
  chorus::server server;
  std::mutex mutex;
  std::set<std::thread::id> threads; // that handlers ran on
  explicit fixture(chorus::server_options options, unsigned shards = 1)
      : loop(shards), server(loop.rt(), std::move(options)) {
    server.route("/echo", [this](session s, request r) {
      {
        std::lock_guard lock(mutex);
        threads.insert(std::this_thread::get_id());
      }
      return echo(std::move(s), std::move(r));
    });
  }
  void start() {
    auto up = loop.wait(server.start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
};

std::string scratch_path(const char *name) {
  return (std::filesystem::temp_directory_path() /
          ("chorus-" + std::to_string(::getpid()) + "-" + name))
      .string();
}

// A listening socket as a parent would hand it over.
std::string inherited() {
  const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in any{};
  any.sin_family = AF_INET;
  any.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  BOOST_REQUIRE(::bind(fd, reinterpret_cast<const sockaddr *>(&any), sizeof any) == 0);
  BOOST_REQUIRE(::listen(fd, 64) == 0);
  return "fd:" + std::to_string(fd);
}

wire reach(const std::string &address) {
  if (address.starts_with("unix:"))
    return wire(address.substr(5));
  wire w;
  const auto port = static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1)));
  if (!address.starts_with("["))
    return wire(port);
  w.open(AF_INET6);
  sockaddr_in6 to{};
  to.sin6_family = AF_INET6;
  to.sin6_addr = in6addr_loopback;
  to.sin6_port = htons(port);
  BOOST_REQUIRE(::connect(w.fd(), reinterpret_cast<sockaddr *>(&to), sizeof to) == 0);
  return w;
}

void echoes(const std::string &address) {
  auto w = reach(address);
  w.send(upgrade_request("/echo"));
  const auto answer = w.read_response();
  BOOST_REQUIRE_MESSAGE(answer.starts_with("HTTP/1.1 101 "), answer);
  w.send(text_frame(address));
  BOOST_TEST(w.read_frame().payload == address);
}

} // namespace

BOOST_AUTO_TEST_CASE(one_server_on_every_kind_of_address) {
  const auto path = scratch_path("many");
  for (unsigned shards : {1U, 2U}) {
    chorus::server_options options;
    options.also_listen = {"[::1]:0", "unix:" + path, inherited()};
    options.unix_socket_mode = 0600;
    fixture f(options, shards);
    BOOST_TEST(f.server.addresses().empty());
    f.start();
    const auto all = f.server.addresses();
    BOOST_REQUIRE(all.size() == 4u);
    BOOST_TEST(all[0] == f.server.address());
    BOOST_TEST(all[1].starts_with("[::1]:"));
    BOOST_TEST(all[2] == "unix:" + path);
    BOOST_TEST(all[3].starts_with("127.0.0.1:"));
    BOOST_TEST(f.server.urls()[0] == f.server.url());
    BOOST_TEST(f.server.urls()[2] == "ws+unix://" + path);
    struct stat file {};
    BOOST_REQUIRE(::lstat(path.c_str(), &file) == 0);
    BOOST_TEST((file.st_mode & 0777u) == 0600u);
    for (const auto &address : all)
      for (int i = 0; i < 2; ++i)
        echoes(address);
    BOOST_TEST(f.server.stats().accepted == 8u);
    BOOST_TEST(f.server.stats().upgraded == 8u);
    BOOST_TEST(f.server.stats().accept_errors == 0u);
    f.loop.wait(f.server.stop(1h)); // all peers have gone
    BOOST_TEST(!std::filesystem::exists(path));
    for (const auto &address : {all[0], all[3]}) {
      const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
      sockaddr_in to{};
      to.sin_family = AF_INET;
      to.sin_port =
          htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
      to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
      BOOST_TEST(::connect(fd, reinterpret_cast<sockaddr *>(&to), sizeof to) != 0);
      ::close(fd);
    }
  }
}

BOOST_AUTO_TEST_CASE(an_inherited_socket_serves_all_shards) {
  chorus::server_options options;
  options.listen = inherited();
  fixture f(options, 2);
  f.start();
  for (int i = 0; i < 4; ++i)
    echoes(f.server.address());
  std::lock_guard lock(f.mutex);
  BOOST_TEST(f.threads.size() == 2u);
}

BOOST_AUTO_TEST_CASE(when_one_address_fails_none_stays_open) {
  const auto path = scratch_path("none");
  for (unsigned shards : {1U, 2U}) {
    chorus::server_options first_options;
    fixture first(first_options);
    first.start();
    chorus::server_options options;
    const auto given = inherited();
    options.listen = "unix:" + path;
    options.also_listen = {given, first.server.address(), "127.0.0.1:0"};
    fixture f(options, shards);
    const auto up = f.loop.wait(f.server.start());
    BOOST_REQUIRE(!up);
    BOOST_TEST((up.error() == chorus::error::listen_failed));
    BOOST_TEST(has(up.error().message(), first.server.address()));
    BOOST_TEST(!std::filesystem::exists(path));
    BOOST_TEST(::fcntl(std::stoi(given.substr(3)), F_GETFD) == -1);
    BOOST_TEST(f.server.addresses().empty());
    BOOST_TEST(!f.server.ready());
  }
}

BOOST_AUTO_TEST_CASE(a_descriptor_is_named_once) {
  chorus::server_options options;
  const auto given = inherited();
  options.listen = given;
  options.also_listen = {given};
  fixture f(options);
  const auto up = f.loop.wait(f.server.start());
  BOOST_REQUIRE(!up);
  BOOST_TEST((up.error() == chorus::error::bad_option));
  BOOST_TEST(has(up.error().message(), given));
  ::close(std::stoi(given.substr(3)));
}

BOOST_AUTO_TEST_CASE(two_servers_share_a_port_when_both_say_so) {
  chorus::server_options options;
  options.reuse_port = true;
  fixture first(options, 2);
  first.start();
  options.listen = first.server.address();
  fixture second(options);
  second.start();
  BOOST_TEST(second.server.address() == first.server.address());
  // The kernel picks by a hash of the peer's port: with so many, both get some.
  for (int i = 0; i < 64; ++i)
    echoes(first.server.address());
  BOOST_TEST(first.server.stats().accepted + second.server.stats().accepted == 64u);
  BOOST_TEST(second.server.stats().accepted > 0u);
  BOOST_TEST(first.server.stats().accepted > 0u);
  options.reuse_port = false;
  fixture third(options);
  BOOST_TEST(!third.loop.wait(third.server.start()));
}

BOOST_AUTO_TEST_SUITE_END()
