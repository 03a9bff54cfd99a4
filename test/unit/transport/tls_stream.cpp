#include "recorder.hpp"
#include "tls_support.hpp"

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>

using namespace chorus;
using namespace chorus::test;

BOOST_AUTO_TEST_SUITE(tls)

BOOST_AUTO_TEST_CASE(carries_bytes_both_ways) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    BOOST_REQUIRE(p.open());
    BOOST_TEST(p.client->secure());
    BOOST_TEST(p.client->alpn() == "");
    BOOST_TEST(p.client->remote_address() == "memory");
    BOOST_TEST(put(*p.client, "hello").bytes == 5U);
    auto got = co_await read_exactly(*p.server, 5);
    BOOST_TEST(got == "hello");
    const std::array<iovec, 4> pieces{piece("in"), piece(""), piece(" four "), piece("pieces")};
    BOOST_TEST(p.server->write_some(pieces).bytes == 14U);
    BOOST_TEST(p.server->write_some({}).bytes == 0U);
    got = co_await read_exactly(*p.client, 14);
    BOOST_TEST(got == "in four pieces");
    BOOST_TEST(p.client->read_some({}).status == io_status::ok);
  });
}

BOOST_AUTO_TEST_CASE(pieces_of_every_size_arrive_in_order) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    std::string all;
    for (std::size_t i = 0; i < 40000; ++i)
      all += static_cast<char>('a' + i % 23);
    for (const std::size_t cut : {1U, 100U, 16383U, 16384U, 16385U, 32768U, 39999U}) {
      const std::string_view view(all);
      const std::array<iovec, 3> pieces{piece(view.substr(0, cut)), piece(view.substr(cut, 1)),
                                        piece(view.substr(cut + (cut == 39999 ? 1 : 1)))};
      const auto put_all = p.server->write_some(pieces);
      BOOST_TEST(put_all.bytes == all.size());
      const auto got = co_await read_exactly(*p.client, all.size());
      BOOST_TEST((got == all));
    }
  });
}

BOOST_AUTO_TEST_CASE(small_records_are_read_ahead) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    get(*p.client); // session tickets
    for (int i = 0; i < 20; ++i)
      put(*p.server, "0123456789");
    const auto before = p.below_client->reads();
    BOOST_TEST(get(*p.client).size() == 200U);
    BOOST_TEST(p.below_client->reads() - before <= 3U);
  });
}

// One byte per telling, though everything was taken from below by the first read.
BOOST_AUTO_TEST_CASE(what_only_tls_has_buffered_is_told_again) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    get(*p.client);
    for (int i = 0; i < 20; ++i)
      put(*p.server, "0123456789");
    bool done = false;
    {
      duplex reader(*p.client, "", 200, 1);
      done = co_await reader.all();
      BOOST_TEST(done);
      BOOST_TEST(reader.received.size() == 200U);
    }
    // Interest that comes later is told as well.
    p.client->set_interest(0);
    put(*p.server, "ab");
    BOOST_TEST(get(*p.client, 1) == "a");
    recorder r(home);
    p.client->listen(&r);
    p.client->set_interest(ready_read);
    BOOST_TEST(r.told.empty());
    done = co_await r.times(2);
    BOOST_TEST(done);
    // Destroying it while it is told, and with a notice still on its way.
    r.then = [&](unsigned) { p.client.reset(); };
    const auto told = r.told.size();
    done = co_await r.times(told + 1);
    BOOST_TEST(done);
    BOOST_TEST(r.told.size() == told + 1);
  });
}

// While the kernel takes nothing one record is accepted and no more, and what is written next may be
// something else.
BOOST_AUTO_TEST_CASE(a_stalled_write_is_never_to_be_repeated) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    p.below_server->stall_writes(true);
    const std::string large(100000, 'd');
    const auto taken = put(*p.server, large);
    BOOST_TEST(taken.status == io_status::ok);
    BOOST_TEST(taken.bytes == 16384U);
    BOOST_TEST(put(*p.server, large).status == io_status::would_block);
    recorder r(home);
    p.server->listen(&r);
    p.server->set_interest(ready_write);
    co_await chorus::sleep(1ms);
    BOOST_TEST(r.told.empty());
    p.below_server->stall_writes(false);
    const bool told = co_await r.times(1);
    BOOST_TEST(told);
    BOOST_TEST(put(*p.server, "ping").bytes == 4U);
    const auto got = co_await read_exactly(*p.client, 16388);
    BOOST_TEST((got == std::string(16384, 'd') + "ping"));
  });
}

// The tail of a record goes out by itself, without any interest or further write.
BOOST_AUTO_TEST_CASE(what_is_pending_flushes_itself) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    p.below_server->stall_writes(true);
    BOOST_TEST(put(*p.server, "tail").bytes == 4U);
    p.server->shutdown_write();
    p.below_server->stall_writes(false);
    const auto got = co_await read_exactly(*p.client, 4);
    BOOST_TEST(got == "tail");
    const auto last = co_await read_to_end(*p.client);
    BOOST_TEST(last == io_status::end);
  });
}

// The kernel takes bytes again, but what waits has not been tried: records are numbered, so one that
// overtook another would end the connection.
BOOST_AUTO_TEST_CASE(the_good_bye_does_not_overtake_what_is_pending) {
  run([](detail::shard &home) -> task<> {
    for (const std::size_t most : {0U, 7U}) { // all at once; in pieces
      tls_pair p(home);
      co_await p.shake();
      get(*p.client);
      p.below_server->stall_writes(true);
      BOOST_TEST(put(*p.server, "tail").bytes == 4U);
      p.below_server->stall_writes(false);
      p.below_server->limit(most);
      p.server->shutdown_write();
      const auto got = co_await read_exactly(*p.client, 4);
      BOOST_TEST(got == "tail");
      const auto last = co_await read_to_end(*p.client);
      BOOST_TEST(last == io_status::end);
    }
  });
}

// What comes to wait when a part has gone out already goes behind the rest of it.
BOOST_AUTO_TEST_CASE(a_half_sent_record_is_finished_first) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home, client_options(), server_options(), "localhost", {.capacity = 500});
    co_await p.shake();
    BOOST_REQUIRE(p.open());
    BOOST_TEST(get(*p.client) == ""); // session tickets
    BOOST_TEST(put(*p.server, std::string(1000, 'r')).bytes == 1000U);
    BOOST_TEST(get(*p.client) == ""); // the first 500 bytes are no record yet
    BOOST_TEST(put(*p.server, "more").status == io_status::would_block); // the second 500
    p.server->shutdown_write();
    const auto got = co_await read_exactly(*p.client, 1000);
    BOOST_TEST((got == std::string(1000, 'r')));
    const auto last = co_await read_to_end(*p.client);
    BOOST_TEST(last == io_status::end);
  });
}

BOOST_AUTO_TEST_CASE(a_megabyte_each_way_through_tiny_buffers) {
  run([](detail::shard &home) -> task<> {
    std::string large;
    for (std::size_t i = 0; i < (1U << 20); ++i)
      large += static_cast<char>('a' + i % 25);
    auto cc = transport::make_client_context(client_options());
    auto sc = transport::make_server_context(server_options());
    for (const bool byte_limits : {false, true}) {
      stream_ptr a;
      stream_ptr b;
      if (byte_limits) {
        auto [x, y] = make_memory_pair(home, home);
        x->limit(1371);
        y->limit(997);
        a = std::move(x);
        b = std::move(y);
      } else {
        std::tie(a, b) = stream_pair(home, 2048);
      }
      auto c = transport::make_tls_client_stream(std::move(a), *cc, "localhost");
      auto s = transport::make_tls_server_stream(std::move(b), *sc);
      // No handshake of its own: reads and writes drive it.
      duplex left(**c, large, large.size());
      duplex right(**s, large, large.size());
      bool done = co_await left.all();
      BOOST_TEST(done);
      done = co_await right.all();
      BOOST_TEST(done);
      BOOST_TEST((left.received == large));
      BOOST_TEST((right.received == large));
    }
  });
}

BOOST_AUTO_TEST_CASE(byte_by_byte) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    p.below_client->limit(1);
    p.below_server->limit(1);
    co_await p.shake();
    BOOST_REQUIRE(p.open());
    put(*p.client, "slow");
    const auto got = co_await read_exactly(*p.server, 4);
    BOOST_TEST(got == "slow");
  });
}

BOOST_AUTO_TEST_CASE(ends_in_order_only_by_close_notify) {
  run([](detail::shard &home) -> task<> {
    {
      tls_pair p(home);
      co_await p.shake();
      put(*p.client, "bye");
      p.client->shutdown_write();
      p.client->shutdown_write();
      auto got = co_await read_exactly(*p.server, 3);
      BOOST_TEST(got == "bye");
      auto last = co_await read_to_end(*p.server);
      BOOST_TEST(last == io_status::end);
      BOOST_TEST(put(*p.client, "x").status == io_status::failed);
      // The other direction goes on.
      BOOST_TEST(put(*p.server, "back").bytes == 4U);
      got = co_await read_exactly(*p.client, 4);
      BOOST_TEST(got == "back");
      p.server->close(false);
      last = co_await read_to_end(*p.client);
      BOOST_TEST(last == io_status::end);
    }
    for (const bool abortive : {false, true}) {
      tls_pair p(home);
      co_await p.shake();
      put(*p.client, "cut");
      if (abortive)
        p.below_client->close(true);
      else
        p.below_client->shutdown_write(); // FIN alone
      if (!abortive) {
        const auto got = co_await read_exactly(*p.server, 3);
        BOOST_TEST(got == "cut");
      }
      const auto last = co_await read_to_end(*p.server);
      BOOST_TEST(last == io_status::failed);
      BOOST_TEST(p.server->error() == error::lost);
      BOOST_TEST(p.server->why().detail().sentence ==
                 (abortive ? std::string(std::strerror(ECONNRESET))
                           : "the peer ended the connection without a closing handshake"));
      BOOST_TEST(put(*p.server, "x").status == io_status::failed);
    }
    tls_pair p(home);
    co_await p.shake();
    p.client->close(true);
    std::array<std::byte, 4> into{};
    BOOST_TEST(p.client->read_some(into).status == io_status::failed);
    BOOST_TEST(p.client->error() == error::aborted);
    BOOST_TEST(put(*p.client, "x").status == io_status::failed);
  });
}

// The peer's last words are still read after a write failed.
BOOST_AUTO_TEST_CASE(a_failed_write_does_not_end_the_reading) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    put(*p.server, "last words");
    p.server->close(false);
    BOOST_TEST(put(*p.client, "x").status == io_status::failed);
    BOOST_TEST(p.client->error() == boost::system::errc::broken_pipe);
    BOOST_TEST(get(*p.client) == "last words");
    std::array<std::byte, 4> into{};
    BOOST_TEST(p.client->read_some(into).status == io_status::end);
  });
}

BOOST_AUTO_TEST_CASE(garbage_after_the_handshake_fails) {
  run([](detail::shard &home) -> task<> {
    tls_pair p(home);
    co_await p.shake();
    get(*p.client);
    put(*p.below_server, "this is no TLS record at all");
    const auto last = co_await read_to_end(*p.client);
    BOOST_TEST(last == io_status::failed);
    BOOST_TEST(p.client->error() == error::tls_failed);
    BOOST_TEST(p.client->why().message().find("memory") != std::string::npos);
  });
}

// The command line tool as a peer: asks for a key update, to be answered in the middle of reading.
BOOST_AUTO_TEST_CASE(a_key_update_is_answered) {
  run([](detail::shard &home) -> task<> {
    acceptor a(home);
    auto l = transport::listener::open(home, "127.0.0.1:0");
    BOOST_REQUIRE((*l)->start(a).has_value());
    const auto out = certificates::file("s_client.out");
    const auto command = "exec openssl s_client -connect " + (*l)->local_address() + " -CAfile '" +
                         pem("ca") + "' >'" + out + "' 2>&1";
    auto *tool = ::popen(command.c_str(), "we");
    BOOST_REQUIRE(tool);
    auto below = co_await a.next();
    auto context = transport::make_server_context(server_options());
    auto made = transport::make_tls_server_stream(std::move(below), *context);
    auto &s = **made;
    auto done = co_await transport::tls_handshake(s, patience());
    BOOST_REQUIRE_MESSAGE(done.has_value(), done.error().message());
    const auto say = [&](const char *line) {
      std::fputs(line, tool);
      std::fflush(tool);
    };
    say("one\n");
    auto got = co_await read_exactly(s, 4);
    BOOST_TEST(got == "one\n");
    say("K\n");
    put(s, "first answer\n");
    // The tool takes a line at a time for a command, so what it read before "K" has to be handled
    // before the next line comes; it prints what it did.
    const auto printed = [&](const char *what) {
      std::ifstream file(out);
      const std::string text((std::istreambuf_iterator<char>(file)), {});
      return text.find(what) != std::string::npos;
    };
    auto until = patience();
    while (!printed("KEYUPDATE") && detail::clock::now() < until)
      co_await chorus::sleep(1ms);
    BOOST_TEST(printed("KEYUPDATE"));
    say("two\n");
    got = co_await read_exactly(s, 4);
    BOOST_TEST(got == "two\n");
    put(s, "second answer\n");
    until = patience(); // at the end of its input the tool reads nothing more
    while (!printed("second answer\n") && detail::clock::now() < until)
      co_await chorus::sleep(1ms);
    s.close(false);
    ::pclose(tool);
    BOOST_TEST(printed("first answer\n"));
    BOOST_TEST(printed("second answer\n"));
  });
}

BOOST_AUTO_TEST_SUITE_END()
