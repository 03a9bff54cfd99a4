#include "recorder.hpp"
#include "support.hpp"

#include <cerrno>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

using namespace chorus;
using namespace chorus::test;
using transport::ready_hangup;
using transport::ready_read;
using transport::ready_write;
using transport::wait_ready;

namespace {

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  ::getsockopt(fd, level, name, &value, &size);
  return value;
}

// A connected tcp pair on loopback.
std::pair<int, int> tcp_pair(int family = AF_INET) {
  transport::descriptor server(::socket(family, SOCK_STREAM, 0));
  sockaddr_storage address{};
  address.ss_family = static_cast<sa_family_t>(family);
  socklen_t size = family == AF_INET ? sizeof(sockaddr_in) : sizeof(sockaddr_in6);
  if (family == AF_INET)
    reinterpret_cast<sockaddr_in &>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  else
    reinterpret_cast<sockaddr_in6 &>(address).sin6_addr = in6addr_loopback;
  auto *where = reinterpret_cast<sockaddr *>(&address);
  BOOST_REQUIRE_EQUAL(::bind(server.get(), where, size), 0);
  BOOST_REQUIRE_EQUAL(::listen(server.get(), 1), 0);
  BOOST_REQUIRE_EQUAL(::getsockname(server.get(), where, &size), 0);
  const int client = ::socket(family, SOCK_STREAM, 0);
  BOOST_REQUIRE_EQUAL(::connect(client, where, size), 0);
  return {client, ::accept(server.get(), nullptr, nullptr)};
}

} // namespace

BOOST_AUTO_TEST_SUITE(socket_stream)

BOOST_AUTO_TEST_CASE(sets_the_descriptor_up) {
  run([](detail::shard &home) -> task<> {
    const auto [a, b] = tcp_pair();
    const auto plain = transport::make_socket_stream(home, a);
    const transport::socket_options alive{.keep_alive = true};
    const auto kept = transport::make_socket_stream(home, b, alive);
    BOOST_TEST((::fcntl(a, F_GETFL) & O_NONBLOCK));
    BOOST_TEST((::fcntl(a, F_GETFD) & FD_CLOEXEC));
    BOOST_TEST(option(a, IPPROTO_TCP, TCP_NODELAY) == 1);
    BOOST_TEST(option(a, SOL_SOCKET, SO_KEEPALIVE) == 0);
    BOOST_TEST(option(b, SOL_SOCKET, SO_KEEPALIVE) == 1);
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(addresses_stay_after_the_end) {
  run([](detail::shard &home) -> task<> {
    for (const int family : {AF_INET, AF_INET6}) {
      const auto [a, b] = tcp_pair(family);
      auto left = transport::make_socket_stream(home, a);
      auto right = transport::make_socket_stream(home, b);
      const std::string host = family == AF_INET ? "127.0.0.1:" : "[::1]:";
      BOOST_TEST(left->local_address().starts_with(host));
      BOOST_TEST(left->remote_address() == right->local_address());
      BOOST_TEST(left->local_address() == right->remote_address());
      const auto before = right->remote_address();
      left->close(true);
      right->close(false);
      BOOST_TEST(right->remote_address() == before);
    }
    auto [u, v] = stream_pair(home);
    BOOST_TEST(u->local_address() == "unix:");
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(moves_bytes_and_never_waits) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    BOOST_TEST((a->read_some(std::span<std::byte>()).status == io_status::ok));
    std::array<std::byte, 8> into{};
    BOOST_TEST((a->read_some(into).status == io_status::would_block));
    const std::array<iovec, 3> pieces{piece("one "), piece(""), piece("two")};
    BOOST_TEST(a->write_some(pieces).bytes == 7U);
    BOOST_TEST(a->write_some({}).bytes == 0U);
    BOOST_TEST(get(*b, 3) == "one");
    BOOST_TEST(get(*b) == " two");
    const std::string large(1 << 20, 'x');
    while (put(*a, large).status == io_status::ok) {
    }
    BOOST_TEST((put(*a, large).status == io_status::would_block));
    BOOST_TEST(!a->error());
    a->shutdown_write();
    const auto last = co_await read_to_end(*b);
    BOOST_TEST((last == io_status::end));
  });
}

BOOST_AUTO_TEST_CASE(writing_to_a_closed_peer_fails_without_a_signal) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    BOOST_TEST(put(*b, "last words").bytes == 10U);
    b->close(false);
    BOOST_TEST((put(*a, "x").status == io_status::failed));
    BOOST_TEST(a->error() == boost::system::errc::broken_pipe);
    // What was said before is still there to be read.
    BOOST_TEST(get(*a) == "last words");
    std::array<std::byte, 8> into{};
    BOOST_TEST((a->read_some(into).status == io_status::failed));
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(an_abortive_close_resets) {
  run([](detail::shard &home) -> task<> {
    const auto [x, y] = tcp_pair();
    auto a = transport::make_socket_stream(home, x);
    auto b = transport::make_socket_stream(home, y);
    a->close(true);
    a->close(true);
    const auto last = co_await read_to_end(*b);
    BOOST_TEST((last == io_status::failed));
    BOOST_TEST(b->error() == boost::system::errc::connection_reset);
    BOOST_TEST((put(*a, "x").status == io_status::failed));
    BOOST_TEST(a->error() == error::aborted);
    std::array<std::byte, 8> into{};
    BOOST_TEST((a->read_some(into).status == io_status::failed));
  });
}

BOOST_AUTO_TEST_CASE(tells_what_is_wanted_and_again) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    recorder r(home);
    a->listen(&r);
    a->set_interest(ready_write);
    BOOST_TEST(r.told.empty()); // never from within a call
    bool came = co_await r.times(2);
    BOOST_TEST(came);
    BOOST_TEST(r.told.front() == static_cast<unsigned>(ready_write));
    a->set_interest(ready_read);
    put(*b, "x");
    r.told.clear();
    came = co_await r.times(2);
    BOOST_TEST(came);
    BOOST_TEST(r.told.front() == static_cast<unsigned>(ready_read));
    // Silent without an interest, and after `listen(nullptr)`.
    a->set_interest(0);
    recorder probe(home);
    b->listen(&probe);
    b->set_interest(ready_write);
    r.told.clear();
    came = co_await probe.times(3);
    BOOST_TEST(r.told.empty());
    a->set_interest(ready_read);
    a->listen(nullptr);
    probe.told.clear();
    came = co_await probe.times(3);
    BOOST_TEST(r.told.empty());
    // The interest outlives the listener.
    a->listen(&r);
    came = co_await r.times(1);
    BOOST_TEST(came);
  });
}

BOOST_AUTO_TEST_CASE(a_hangup_is_told_whatever_the_interest) {
  run([](detail::shard &home) -> task<> {
    const auto [x, y] = tcp_pair();
    auto a = transport::make_socket_stream(home, x);
    auto b = transport::make_socket_stream(home, y);
    recorder r(home);
    a->listen(&r);
    a->set_interest(0);
    b->close(true);
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST((r.told.front() & ready_hangup));
  });
}

BOOST_AUTO_TEST_CASE(may_be_destroyed_while_telling) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = stream_pair(home);
    recorder r(home);
    r.then = [&](unsigned) { a.reset(); };
    a->listen(&r);
    a->set_interest(ready_write | ready_read);
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST(home.poll().size() == 0U);
  });
}

BOOST_AUTO_TEST_CASE(a_descriptor_that_cannot_be_watched_is_told_as_hung_up) {
  run([](detail::shard &home) -> task<> {
    // epoll refuses plain files.
    const int file = ::open("/proc/self/exe", O_RDONLY);
    auto s = transport::make_socket_stream(home, file);
    recorder r(home);
    s->listen(&r);
    s->set_interest(ready_read);
    BOOST_TEST(r.told.empty());
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST((r.told.front() & ready_hangup));
    BOOST_TEST((put(*s, "x").status == io_status::failed));
    BOOST_TEST(s->error() == boost::system::errc::operation_not_permitted);
  });
}

BOOST_AUTO_TEST_SUITE_END()
