#include "recorder.hpp"
#include "support.hpp"

#include <chorus/transport/memory_stream.hpp>

#include <atomic>

using namespace chorus;
using namespace chorus::test;
using transport::make_memory_pair;
using transport::memory_options;
using transport::ready_hangup;
using transport::ready_read;
using transport::ready_write;

BOOST_AUTO_TEST_SUITE(memory_stream)

BOOST_AUTO_TEST_CASE(moves_bytes_within_its_capacity) {
  run([](detail::shard &home) -> task<> {
    const memory_options ten{.capacity = 10};
    auto [a, b] = make_memory_pair(home, home, ten);
    const std::array<iovec, 2> pieces{piece("01234567"), piece("89abc")};
    BOOST_TEST(a->write_some(pieces).bytes == 10U);
    BOOST_TEST(put(*a, "x").status == io_status::would_block);
    BOOST_TEST(b->unread() == 10U);
    BOOST_TEST(get(*b, 4) == "0123");
    BOOST_TEST(put(*a, "wrapped").bytes == 4U);
    BOOST_TEST(get(*b) == "456789wrap");
    std::array<std::byte, 4> into{};
    BOOST_TEST(b->read_some(into).status == io_status::would_block);
    BOOST_TEST(b->reads() == 3U);
    BOOST_TEST(a->writes() == 3U);
    BOOST_TEST(a->local_address() == "memory");
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(readiness_is_level_and_never_inline) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = make_memory_pair(home, home);
    recorder r(home);
    b->listen(&r);
    b->set_interest(ready_read);
    put(*a, "x");
    BOOST_TEST(r.told.empty());
    bool came = co_await r.times(3); // again and again until it is read
    BOOST_TEST(came);
    BOOST_TEST(r.told.back() == static_cast<unsigned>(ready_read));
    BOOST_TEST(get(*b) == "x");
    co_await chorus::sleep(1ms);
    r.told.clear();
    co_await chorus::sleep(1ms);
    BOOST_TEST(r.told.empty());
    b->set_interest(ready_write);
    came = co_await r.times(1);
    BOOST_TEST(r.told.front() == static_cast<unsigned>(ready_write));
    b->listen(nullptr);
    r.told.clear();
    co_await chorus::sleep(1ms);
    BOOST_TEST(r.told.empty());
  });
}

BOOST_AUTO_TEST_CASE(ends_in_halves_and_whole) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = make_memory_pair(home, home);
    put(*a, "bye");
    a->shutdown_write();
    BOOST_TEST(put(*a, "x").status == io_status::failed);
    BOOST_TEST(a->error() == boost::system::errc::broken_pipe);
    BOOST_TEST(get(*b) == "bye");
    std::array<std::byte, 4> into{};
    BOOST_TEST(b->read_some(into).status == io_status::end);
    BOOST_TEST(put(*b, "other way").bytes == 9U);
    BOOST_TEST(get(*a) == "other way");
    recorder r(home);
    a->listen(&r);
    a->set_interest(0);
    b->close(false);
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST(r.told.front() == static_cast<unsigned>(ready_hangup));
    co_await chorus::sleep(1ms);
    BOOST_TEST(r.told.size() == 1U); // without an interest only once
    BOOST_TEST(a->read_some(into).status == io_status::end);
    BOOST_TEST(b->read_some(into).status == io_status::failed);
    BOOST_TEST(b->error() == error::aborted);
  });
}

BOOST_AUTO_TEST_CASE(an_abortive_close_resets) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = make_memory_pair(home, home);
    put(*a, "lost");
    a->close(true);
    std::array<std::byte, 4> into{};
    BOOST_TEST(b->read_some(into).status == io_status::failed);
    BOOST_TEST(b->error() == boost::system::errc::connection_reset);
    BOOST_TEST(put(*b, "x").status == io_status::failed);
    auto [c, d] = make_memory_pair(home, home);
    c.reset();
    BOOST_TEST(put(*d, "x").status == io_status::failed);
    BOOST_TEST(d->error() == boost::system::errc::broken_pipe);
    co_return;
  });
}

BOOST_AUTO_TEST_CASE(fails_on_demand) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = make_memory_pair(home, home);
    const error_code why(EIO, boost::system::system_category());
    a->fail_write(2, why);
    b->fail_read(3, why);
    BOOST_TEST(put(*a, "abc").bytes == 3U);
    BOOST_TEST(put(*a, "def").status == io_status::failed);
    BOOST_TEST(put(*a, "ghi").status == io_status::failed);
    BOOST_TEST(a->error() == why);
    BOOST_TEST(get(*b, 1) == "a");
    BOOST_TEST(get(*b, 1) == "b");
    std::array<std::byte, 4> into{};
    BOOST_TEST(b->read_some(into).status == io_status::failed);
    BOOST_TEST(b->error() == why);
    auto [c, d] = make_memory_pair(home, home);
    c->limit(2);
    BOOST_TEST(put(*c, "abc").bytes == 2U);
    BOOST_TEST(get(*d) == "ab");
    c->limit(0);
    c->stall_writes(true);
    BOOST_TEST(put(*c, "abc").status == io_status::would_block);
    recorder r(home);
    c->listen(&r);
    c->set_interest(ready_write);
    co_await chorus::sleep(1ms);
    BOOST_TEST(r.told.empty());
    c->stall_writes(false);
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST(put(*c, "abc").bytes == 3U);
  });
}

BOOST_AUTO_TEST_CASE(may_be_destroyed_while_telling) {
  run([](detail::shard &home) -> task<> {
    auto [a, b] = make_memory_pair(home, home);
    recorder r(home);
    r.then = [&](unsigned) { b.reset(); };
    b->listen(&r);
    b->set_interest(ready_read | ready_write);
    put(*a, "x");
    const bool came = co_await r.times(1);
    BOOST_TEST(came);
    BOOST_TEST(put(*a, "x").status == io_status::failed);
  });
}

// A megabyte to another shard and back, through a small buffer. Boost.Test's checks are not for two
// threads, so the other shard only leaves its verdict.
BOOST_AUTO_TEST_CASE(two_shards) {
  runtime rt{runtime_options{.threads = 2, .tick = 5ms}};
  auto &one = *rt.core()->shards[0];
  auto &two = *rt.core()->shards[1];
  const memory_options small{.capacity = 1000};
  auto [a, b] = make_memory_pair(one, two, small);
  const std::string large(1 << 20, 'm');
  std::atomic<bool> echoed{false};
  auto echo = [](stream_ptr s, std::size_t count, std::atomic<bool> &well) -> task<> {
    const auto got = co_await read_exactly(*s, count);
    auto done = co_await transport::write_all(*s, got, patience(), error::write_timeout);
    s->shutdown_write();
    const auto last = co_await read_to_end(*s);
    well = got.size() == count && done && last == io_status::end;
  };
  auto main = [](stream_ptr s, const std::string &bytes, std::atomic<bool> &well) -> task<> {
    auto done = co_await transport::write_all(*s, bytes, patience(), error::write_timeout);
    BOOST_TEST(done.has_value());
    const auto back = co_await read_exactly(*s, bytes.size());
    BOOST_TEST((back == bytes));
    const auto last = co_await read_to_end(*s);
    BOOST_TEST(last == io_status::end);
    s->shutdown_write();
    const auto until = patience();
    while (!well && detail::clock::now() < until)
      co_await chorus::sleep(1ms);
  };
  rt.spawn(echo(std::move(b), large.size(), echoed), 1);
  rt.run(main(std::move(a), large, echoed));
  BOOST_TEST(echoed);
}

BOOST_AUTO_TEST_SUITE_END()
