// What a peer can make this side allocate.
#include "heap.hpp"
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;

namespace {

// Of the work in progress itself and the allocator's own.
constexpr std::size_t overhead = 1024;

std::size_t grown_since(std::size_t before) {
  const std::size_t now = heap_in_use();
  return now > before ? now - before : 0;
}

} // namespace

BOOST_AUTO_TEST_SUITE(reader_memory)

BOOST_AUTO_TEST_CASE(an_announced_length_allocates_nothing) {
  protocol::reader r(protocol::reader_options{});
  const std::string start =
      build(role::client, frame_spec{0x82, std::string(100, 'x'), 8, std::uint64_t{16} << 20});
  std::string memory = start;
  std::span<std::byte> input(reinterpret_cast<std::byte *>(memory.data()), memory.size());
  const std::size_t before = heap_in_use();
  BOOST_REQUIRE((r.next(input) == event::need_more));
  BOOST_TEST(r.tail().empty());
  BOOST_TEST(grown_since(before) <= 256 + overhead);
}

BOOST_AUTO_TEST_CASE(a_refused_length_allocates_nothing) {
  protocol::reader r(protocol::reader_options{});
  std::string memory = build(
      role::client, frame_spec{0x82, std::string(100, 'x'), 8, (std::uint64_t{16} << 20) + 1});
  std::span<std::byte> input(reinterpret_cast<std::byte *>(memory.data()), memory.size());
  const std::size_t before = heap_in_use();
  BOOST_REQUIRE((r.next(input) == event::violation));
  BOOST_TEST((r.why() == violation::message_too_big));
  BOOST_TEST(grown_since(before) <= overhead);
}

BOOST_AUTO_TEST_CASE(memory_is_at_most_twice_what_came) {
  for (const bool direct : {false, true})
    for (const std::size_t step : {100U, 3000U, 50000U, 100001U}) {
      std::string whole = build(role::client, 0x82, std::string(std::size_t{3} << 20, 'x'));
      protocol::reader r(protocol::reader_options{});
      const std::size_t before = heap_in_use();
      std::size_t received = 0;
      while (received + step < whole.size()) {
        auto *at = reinterpret_cast<std::byte *>(whole.data()) + received;
        const auto room = direct ? r.tail() : std::span<std::byte>();
        std::size_t n = step;
        if (!room.empty()) {
          n = std::min(step, room.size());
          std::memcpy(room.data(), at, n);
          BOOST_REQUIRE((r.commit(n) == event::need_more));
        } else {
          std::span<std::byte> input(at, n);
          BOOST_REQUIRE((r.next(input) == event::need_more));
        }
        received += n;
        // `tail` allocates for what comes next, so it is asked first.
        if (direct)
          (void)r.tail();
        if (received % 7 == 0 || step > 10000)
          BOOST_REQUIRE_LE(grown_since(before),
                           std::max<std::size_t>(2 * received, 256) + overhead);
      }
    }
}

BOOST_AUTO_TEST_CASE(a_large_message_arrives_with_few_direct_reads) {
  const std::string whole = build(role::client, 0x82, std::string(std::size_t{1} << 20, 'x'));
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, true);
  d.feed(std::string_view(whole).substr(0, 200000));
  d.feed(std::string_view(whole).substr(200000));
  BOOST_TEST(d.direct_reads <= 4U);
  BOOST_TEST(d.events.size() == 1U);
}

BOOST_AUTO_TEST_CASE(a_direct_read_never_passes_the_end_of_its_frame) {
  const std::string whole = build(role::client, 0x82, std::string(300000, 'x'));
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, false);
  d.feed(std::string_view(whole).substr(0, 200000));
  const std::size_t left = whole.size() - 200000;
  BOOST_TEST(!r.tail().empty());
  BOOST_TEST(r.tail().size() <= left);
  d.feed(std::string_view(whole).substr(200000, left - 1000));
  BOOST_TEST(r.tail().empty());
}

BOOST_AUTO_TEST_CASE(nothing_is_kept_after_a_message) {
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, false);
  d.events.reserve(64);
  const std::string ping = build(role::client, 0x89, "ping");
  const std::string text = build(role::client, 0x81, std::string(100000, 'x'));
  const std::size_t before = heap_in_use();
  for (int i = 0; i < 10; ++i) {
    d.feed(text.substr(0, 50000));
    d.feed(text.substr(50000));
    d.feed(ping.substr(0, 7));
    d.feed(ping.substr(7));
    d.events.clear();
  }
  BOOST_TEST(grown_since(before) <= overhead);
}

BOOST_AUTO_TEST_CASE(nothing_is_kept_after_a_violation) {
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, false);
  d.events.reserve(4);
  const std::size_t before = heap_in_use();
  d.feed(build(role::client, 0x01, std::string(100000, 'x')));
  d.feed(build(role::client, 0x81, "a second message"));
  BOOST_REQUIRE_EQUAL(d.events.size(), 1U);
  BOOST_TEST(grown_since(before) <= overhead);
}

BOOST_AUTO_TEST_CASE(a_bomb_ends_in_a_violation_not_in_memory) {
  const protocol::deflate_params params{true, true, 15, 15};
  protocol::deflater d(role::client, params, {.level = 9});
  chorus::byte_buffer packed;
  d.compress(bytes_of(std::string(std::size_t{64} << 20, '\0')), packed);
  BOOST_REQUIRE(packed.size() < 70000U);
  protocol::reader_options options;
  options.max_message = std::size_t{1} << 20;
  options.deflate = &params;
  protocol::reader r(options);
  std::string memory = build(role::client, 0xc2, text_of(packed));
  packed = {};
  std::span<std::byte> input(reinterpret_cast<std::byte *>(memory.data()), memory.size());
  const std::size_t before = heap_in_use();
  BOOST_REQUIRE((r.next(input) == event::violation));
  BOOST_TEST((r.why() == violation::inflated_too_big));
  // The decoder of the thread stays, the message does not.
  BOOST_TEST(grown_since(before) <= 64 * 1024);
}

BOOST_AUTO_TEST_CASE(a_message_that_just_fits_is_no_bomb) {
  const protocol::deflate_params params{true, true, 15, 15};
  for (const std::size_t limit : {1U, 255U, 256U, 257U, 4096U, 65536U, 100000U})
    for (const std::size_t size : {limit, limit + 1}) {
      protocol::deflater d(role::client, params, {});
      chorus::byte_buffer packed;
      d.compress(bytes_of(std::string(size, 'z')), packed);
      protocol::reader_options options;
      options.max_message = limit;
      options.deflate = &params;
      const auto got =
          events_of<protocol::reader>(options, build(role::client, 0xc2, text_of(packed)));
      BOOST_REQUIRE_EQUAL(got.size(), 1U);
      BOOST_TEST((got[0].what == (size == limit ? event::message : event::violation)));
    }
}

BOOST_AUTO_TEST_SUITE_END()
