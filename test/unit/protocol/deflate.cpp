#include <chorus/protocol/deflate.hpp>

#include "heap.hpp"
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

#include <zlib.h>

using namespace protocol_test;
using protocol::deflate_params;
using protocol::deflater;
using protocol::inflater;

namespace {

std::string packed(deflater &d, std::string_view text) {
  chorus::byte_buffer out;
  d.compress(bytes_of(text), out);
  return text_of(out);
}

struct unpacked {
  violation why;
  std::string text;
};
unpacked unpack(inflater &i, std::string_view data, std::size_t limit = 1 << 24,
                protocol::utf8_validator *utf8 = nullptr) {
  chorus::byte_buffer out;
  const auto why = i.inflate(bytes_of(data), limit, utf8, out);
  return {why, text_of(out)};
}

std::string raw(const char *s, std::size_t n) { return std::string(s, n); }

std::string mixed_text(std::size_t n, unsigned seed) {
  std::mt19937 rng(seed);
  std::string s;
  while (s.size() < n)
    s += rng() % 3 ? std::string(1 + rng() % 20, static_cast<char>('a' + rng() % 26))
                   : random_bytes(5, static_cast<unsigned>(rng()));
  s.resize(n);
  return s;
}

} // namespace

BOOST_AUTO_TEST_SUITE(compression)

// The examples of RFC 7692 section 7.2.3.
BOOST_AUTO_TEST_CASE(examples_of_the_rfc) {
  const std::string hello = raw("\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
  {
    inflater i;
    BOOST_TEST(unpack(i, hello).text == "Hello");
  }
  {
    inflater i(role::server, stateful);
    BOOST_TEST(unpack(i, hello).text == "Hello");
    BOOST_TEST(unpack(i, raw("\xf2\x00\x11\x00\x00", 5)).text == "Hello"); // out of the window
  }
  {
    inflater i; // without compression
    BOOST_TEST(unpack(i, raw("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11)).text == "Hello");
  }
  {
    inflater i; // a final block
    BOOST_TEST(unpack(i, raw("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8)).text == "Hello");
  }
  {
    inflater i; // two blocks
    BOOST_TEST(unpack(i, raw("\xf2\x48\x05\x00\x00\x00\xff\xff\xca\xc9\xc9\x07\x00", 13)).text ==
               "Hello");
  }
}

BOOST_AUTO_TEST_CASE(a_final_block_keeps_the_window) {
  inflater i(role::server, stateful);
  BOOST_TEST(unpack(i, raw("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8)).text == "Hello");
  const auto next = unpack(i, raw("\xf2\x00\x11\x00\x00", 5));
  BOOST_TEST((next.why == violation::none));
  BOOST_TEST(next.text == "Hello");
}

BOOST_AUTO_TEST_CASE(a_final_block_at_the_very_end) {
  inflater i(role::server, stateful);
  for (int n = 0; n < 3; ++n) {
    const auto got = unpack(i, raw("\xf3\x48\xcd\xc9\xc9\x07\x00", 7));
    BOOST_TEST((got.why == violation::none));
    BOOST_TEST(got.text == "Hello");
  }
}

BOOST_AUTO_TEST_CASE(empty_messages) {
  for (const auto &params : {stateless, stateful}) {
    deflater d(role::client, params, {});
    inflater i(role::server, params);
    for (const std::string_view text : {"", "", "text", "", "text"}) {
      const std::string p = packed(d, text);
      if (text.empty())
        BOOST_TEST(p == std::string(1, '\0'));
      const auto got = unpack(i, p);
      BOOST_TEST((got.why == violation::none));
      BOOST_TEST(got.text == text);
    }
  }
}

BOOST_AUTO_TEST_CASE(round_trips_for_every_window_level_and_takeover) {
  for (int bits = 8; bits <= 15; ++bits)
    for (const int level : {1, 6, 9})
      for (const bool takeover : {false, true}) {
        const deflate_params params{!takeover, !takeover, bits, bits};
        for (const role side : {role::client, role::server}) {
          deflater d(side, params, {.level = level, .mem_level = 1 + bits % 9});
          inflater i(other(side), params);
          for (unsigned n = 0; n < 6; ++n) {
            const std::string text = mixed_text(n * n * 1700, n + 1);
            const auto got = unpack(i, packed(d, text));
            BOOST_REQUIRE(got.why == violation::none);
            BOOST_REQUIRE(got.text == text);
          }
        }
      }
}

// A peer keeps 2^bits bytes, as was agreed: this decoder refuses to look further back.
BOOST_AUTO_TEST_CASE(windows_are_honoured) {
  for (int bits = 8; bits <= 15; ++bits)
    for (const int level : {1, 6, 9}) {
      const deflate_params params{false, false, bits, bits};
      deflater d(role::server, params, {.level = level});
      z_stream s{};
      BOOST_REQUIRE_EQUAL(inflateInit2(&s, -bits), Z_OK);
      // Repeats at every distance, among them some that a window twice as large would reach.
      const std::string block = random_bytes((std::size_t{3} << bits) / 2, 4);
      for (const std::string &text :
           {block + block, mixed_text(3000, 1), mixed_text(3000, 2) + mixed_text(3000, 1)}) {
        std::string p = packed(d, text) + raw("\x00\x00\xff\xff", 4);
        std::string out;
        s.next_in = reinterpret_cast<Bytef *>(p.data());
        s.avail_in = static_cast<uInt>(p.size());
        for (;;) {
          Bytef one; // a byte at a time, so that all comes out of the window
          s.next_out = &one;
          s.avail_out = 1;
          const int status = ::inflate(&s, Z_NO_FLUSH);
          if (s.avail_out == 0)
            out += static_cast<char>(one);
          if (status != Z_OK || s.avail_out != 0)
            break;
        }
        BOOST_REQUIRE_EQUAL(out.size(), text.size());
        BOOST_REQUIRE(out == text);
      }
      inflateEnd(&s);
    }
}

BOOST_AUTO_TEST_CASE(takeover_makes_repeats_small) {
  deflater with(role::client, stateful, {}), without(role::client, stateless, {});
  const std::string text = random_bytes(400, 5);
  const auto first = packed(with, text).size();
  BOOST_TEST(packed(with, text).size() < first / 5);
  (void)packed(without, text);
  BOOST_TEST(packed(without, text).size() > first / 2);
}

BOOST_AUTO_TEST_CASE(without_takeover_each_message_stands_alone) {
  deflater d(role::server, stateless, {});
  const std::string text = mixed_text(5000, 9);
  const std::string once = packed(d, text);
  (void)packed(d, mixed_text(9000, 2));
  BOOST_TEST((packed(d, text) == once));
}

BOOST_AUTO_TEST_CASE(without_takeover_a_connection_holds_nothing) {
  const std::string text = mixed_text(2000, 9);
  std::vector<deflater> deflaters;
  std::vector<inflater> inflaters;
  deflaters.reserve(100);
  inflaters.reserve(100);
  {
    deflater d(role::server, stateless, {});
    inflater i(role::client, stateless);
    BOOST_TEST((unpack(i, packed(d, text)).text == text)); // the thread has its states now
  }
  const std::size_t before = heap_in_use();
  for (int n = 0; n < 100; ++n) {
    deflaters.emplace_back(role::server, stateless, chorus::deflate_options{});
    inflaters.emplace_back(role::client, stateless);
    BOOST_TEST((unpack(inflaters.back(), packed(deflaters.back(), text)).text == text));
  }
  const std::size_t now = heap_in_use();
  BOOST_TEST((now <= before || now - before < 4096));
}

BOOST_AUTO_TEST_CASE(what_does_not_decompress) {
  const std::string hello = raw("\xf2\x48\xcd\xc9\xc9\x07\x00", 7);
  const std::string bad[] = {
      raw("\x07", 1),                     // a reserved block type
      hello.substr(0, 3),                 // cut off
      hello.substr(0, 6),                 //
      "",                                 // not even an empty block
      raw("\x00\x05\x00\xfa\xff\x48", 6), // a stored block that lacks bytes
      raw("\xf2\x00\x11\x00\x00", 5),     // refers back to before the beginning
      hello + "\x06",
  };
  for (const auto &data : bad)
    BOOST_TEST_CONTEXT("case " << &data - bad) {
      inflater fresh;
      BOOST_TEST((unpack(fresh, data).why == violation::bad_compressed_data));
      inflater own(role::server, stateful);
      BOOST_TEST((unpack(own, data).why == violation::bad_compressed_data));
      inflater next; // a failure leaves nothing behind in the thread's state
      BOOST_TEST(unpack(next, hello).text == "Hello");
    }
}

BOOST_AUTO_TEST_CASE(the_limit_is_on_what_comes_out) {
  deflater d(role::client, stateless, {});
  const std::string p = packed(d, std::string(10000, 'x'));
  inflater i;
  BOOST_TEST((unpack(i, p, 10000).why == violation::none));
  const auto over = unpack(i, p, 9999);
  BOOST_TEST((over.why == violation::inflated_too_big));
  BOOST_TEST(over.text.size() <= 9999U);
  BOOST_TEST((unpack(i, p, 0).why == violation::inflated_too_big));
  BOOST_TEST((unpack(i, packed(d, ""), 0).why == violation::none));
}

BOOST_AUTO_TEST_CASE(text_is_checked_on_the_way) {
  deflater d(role::client, stateless, {});
  inflater i;
  protocol::utf8_validator v;
  // The bomb behind the bad byte is not reached.
  const auto got = unpack(i, packed(d, "bad \xff" + std::string(1 << 20, 'x')), 1000, &v);
  BOOST_TEST((got.why == violation::invalid_utf8));
}

BOOST_AUTO_TEST_SUITE_END()
