// Compressed messages that do not come whole: what is wrong with one shows at the byte that proves
// it, and until then it costs what came out of it.
#include "heap.hpp"
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

#include <zlib.h>

using namespace protocol_test;

namespace {

using protocol::deflate_params;
using protocol::reader;

constexpr std::size_t limit = 5000;

std::string packed(std::string_view text, role sender = role::client, int level = 6) {
  protocol::deflater d(sender, stateless, {.level = level});
  chorus::byte_buffer out;
  d.compress(bytes_of(text), out);
  return std::string(text_of(out));
}

protocol::reader_options options_for(role side, const deflate_params &params) {
  protocol::reader_options o;
  o.side = side;
  o.max_message = limit;
  o.deflate = &params;
  return o;
}

// How many bytes zlib itself needs until `enough(status, output)`.
template <class Enough> std::size_t needed(std::string data, Enough enough) {
  z_stream s{};
  BOOST_REQUIRE_EQUAL(inflateInit2(&s, -15), Z_OK);
  std::vector<Bytef> out(std::size_t{1} << 20);
  s.next_out = out.data();
  s.avail_out = static_cast<uInt>(out.size());
  std::size_t n = 0;
  bool found = false;
  while (!found && n < data.size()) {
    s.next_in = reinterpret_cast<Bytef *>(data.data()) + n++;
    s.avail_in = 1;
    const int status = ::inflate(&s, Z_NO_FLUSH);
    found = enough(status, std::string_view(reinterpret_cast<const char *>(out.data()),
                                            out.size() - s.avail_out));
  }
  inflateEnd(&s);
  BOOST_REQUIRE(found);
  return n;
}

struct bad_message {
  const char *name;
  unsigned first;
  std::string data;
  violation why;
  std::size_t proven; // by so many bytes of `data`
};

std::vector<bad_message> bad_messages() {
  const std::string text = "sense and then " + random_bytes(40, 3);
  const std::string tail = random_bytes(900, 8);
  std::string readable;
  for (const char c : tail)
    readable += static_cast<char>('a' + (static_cast<unsigned char>(c) % 26));

  const auto holds = [](std::size_t size) {
    return [size](int, std::string_view out) { return out.size() >= size; };
  };
  const auto broken = [](int status, std::string_view) { return status == Z_DATA_ERROR; };
  std::vector<bad_message> all;
  const std::string surrogate = packed(readable + "\xed\xa0\x80" + readable);
  all.push_back({"surrogate", 0x01, surrogate, violation::invalid_utf8,
                 needed(surrogate, holds(readable.size() + 2))});
  const std::string early = packed("\xff" + readable);
  all.push_back({"first byte", 0x01, early, violation::invalid_utf8, needed(early, holds(1))});
  const std::string bomb = packed(std::string(100000, 'x'), role::client, 9);
  all.push_back({"bomb", 0x02, bomb, violation::inflated_too_big, needed(bomb, holds(limit + 1))});
  const std::string noise = packed(random_bytes(2 * limit, 4));
  const std::string large = noise.substr(0, limit + 60); // below the limit of compressed bytes
  all.push_back(
      {"too long", 0x02, large, violation::inflated_too_big, needed(large, holds(limit + 1))});
  const std::string after = packed(readable) + std::string("\x00\x00\xff\xff\x07 more", 10);
  all.push_back(
      {"reserved block type", 0x02, after, violation::bad_compressed_data, needed(after, broken)});
  const std::string stored("\x00\x05\x00\x05\x00Hello", 10);
  all.push_back(
      {"stored length", 0x02, stored, violation::bad_compressed_data, needed(stored, broken)});
  const std::string distance("\xf2\x00\x11\x00\x00 and more", 14);
  all.push_back({"reference before the start", 0x02, distance, violation::bad_compressed_data,
                 needed(distance, broken)});
  return all;
}

struct ending {
  std::size_t after = 0; // bytes of the stream
  violation why = violation::none;
};

// Byte by byte, up to the violation.
ending ending_of(const protocol::reader_options &options, std::string_view stream) {
  reader r(options);
  driver<reader> d(r, false);
  for (std::size_t n = 0; n < stream.size(); ++n) {
    d.feed(stream.substr(n, 1));
    if (!d.events.empty() && d.events.back().what == event::violation)
      return {n + 1, d.events.back().why};
    if (!d.events.empty() && d.events.back().what == event::message)
      break;
  }
  return {};
}

std::size_t grown_since(std::size_t before) {
  const std::size_t now = heap_in_use();
  return now > before ? now - before : 0;
}

// A decoder, and its window once something came out.
constexpr std::size_t decoder_size = 8 * 1024;
constexpr std::size_t window_size = 32 * 1024 + 256;
constexpr std::size_t overhead = 1024;

} // namespace

BOOST_AUTO_TEST_SUITE(reader_deflate)

BOOST_AUTO_TEST_CASE(a_violation_shows_with_the_byte_that_proves_it) {
  for (const role side : {role::client, role::server})
    for (const auto &params : {stateless, stateful})
      for (const auto &bad : bad_messages())
        BOOST_TEST_CONTEXT(bad.name) {
          BOOST_REQUIRE_LT(bad.proven, bad.data.size());
          const auto options = options_for(side, params);
          const role peer = other(side);
          // In a frame that stays open.
          const std::string whole = build(peer, bad.first | 0xc0, bad.data);
          const auto open = ending_of(options, whole);
          BOOST_TEST((open.why == bad.why));
          BOOST_TEST(open.after == whole.size() - bad.data.size() + bad.proven);
          // In fragments of one byte, of which the last is never sent.
          std::string fragments, until;
          for (std::size_t n = 0; n < bad.data.size(); ++n) {
            fragments += build(peer, n == 0 ? bad.first | 0x40 : 0, bad.data.substr(n, 1));
            if (n + 1 == bad.proven)
              until = fragments;
            if (n % 100 == 7)
              fragments += build(peer, 0x89, "between") + build(peer, 0x00, "");
          }
          const auto cut = ending_of(options, fragments);
          BOOST_TEST((cut.why == bad.why));
          BOOST_TEST(cut.after == until.size());
          // One fragment, all of it in one input, and nothing behind it.
          const auto one = events_of<reader>(options, build(peer, bad.first | 0x40, bad.data));
          BOOST_REQUIRE_EQUAL(one.size(), 1U);
          BOOST_TEST((one[0].why == bad.why));
        }
}

BOOST_AUTO_TEST_CASE(an_unfinished_character_is_bad_at_the_end_only) {
  const std::string data = packed("euro \xe2\x82");
  const auto options = options_for(role::server, stateless);
  const std::string stream = build(role::client, 0x41, data) + build(role::client, 0x80, "");
  const auto got = ending_of(options, stream);
  BOOST_TEST((got.why == violation::invalid_utf8));
  BOOST_TEST(got.after == stream.size());
}

// Stored, fixed and dynamic blocks, final ones too, in fragments around control frames.
BOOST_AUTO_TEST_CASE(fragments_cut_anywhere) {
  const std::string text = "gr\xc3\xbc\xc3\x9f dich \xf0\x9f\x98\x80 " + std::string(60, 'x');
  const std::string final_block("\xf3\x48\xcd\xc9\xc9\x07\x00\x00", 8);
  const std::string final_at_end = final_block.substr(0, 7);
  const std::string two_finals = final_at_end + final_block;
  const std::string stored("\x00\x05\x00\xfa\xff\x48\x65\x6c\x6c\x6f\x00", 11);
  for (const role side : {role::client, role::server})
    for (const auto &params : {stateless, stateful}) {
      const role peer = other(side);
      const auto options = options_for(side, params);
      for (const auto &[data, expected] :
           {std::pair<std::string, std::string>{packed(text, peer), text},
            {final_block, "Hello"},
            {final_at_end, "Hello"},
            {two_finals, "HelloHello"},
            {stored, "Hello"},
            {std::string(1, '\0'), ""}})
        for (std::size_t at = 0; at <= data.size(); ++at) {
          const std::string stream = build(peer, 0x41, data.substr(0, at)) +
                                     build(peer, 0x89, "ping") + build(peer, 0x00, "") +
                                     build(peer, 0x80, data.substr(at)) +
                                     build(peer, 0xc1, packed("next", peer));
          const auto check = [&](const std::vector<record> &got) {
            return got.size() == 3 && got[0].what == event::ping && got[0].payload == "ping" &&
                   got[1].what == event::message && got[1].payload == expected &&
                   got[2].what == event::message && got[2].payload == "next";
          };
          BOOST_REQUIRE(check(events_of<reader>(options, stream)));
          BOOST_REQUIRE(check(events_of<reader>(options, stream, every(1, stream.size()))));
          for (std::size_t cut = 1; cut < stream.size(); ++cut)
            BOOST_REQUIRE(check(events_of<reader>(options, stream, {cut}, true)));
        }
    }
}

BOOST_AUTO_TEST_CASE(what_is_cut_off_is_refused_at_its_end) {
  for (const auto &params : {stateless, stateful}) {
    const auto options = options_for(role::server, params);
    const std::string whole = packed("some text that is cut off");
    for (std::size_t n = 0; n < whole.size(); ++n) {
      const std::string stream =
          build(role::client, 0x41, whole.substr(0, n)) + build(role::client, 0x80, "");
      const auto got = ending_of(options, stream);
      BOOST_TEST((got.why == violation::bad_compressed_data));
      BOOST_TEST(got.after == stream.size());
      const auto joined = events_of<reader>(options, stream);
      BOOST_REQUIRE_EQUAL(joined.size(), 1U);
      BOOST_TEST((joined[0].why == violation::bad_compressed_data));
    }
  }
}

// The window that whole messages and messages in parts leave to each other.
BOOST_AUTO_TEST_CASE(the_window_lasts_from_message_to_message) {
  for (const role side : {role::client, role::server}) {
    const role peer = other(side);
    protocol::deflater d(peer, stateful, {});
    const std::string base = random_bytes(1500, 11);
    std::string stream;
    std::vector<std::string> texts;
    for (unsigned n = 0; n < 8; ++n) {
      texts.push_back(base.substr(n * 10) + std::to_string(n));
      chorus::byte_buffer out;
      d.compress(bytes_of(texts.back()), out);
      const std::string data(text_of(out));
      BOOST_REQUIRE(n == 0 || data.size() < 100);
      if (n % 2)
        stream += build(peer, 0x42, data.substr(0, n)) + build(peer, 0x80, data.substr(n));
      else
        stream += build(peer, 0xc2, data);
    }
    const auto options = options_for(side, stateful);
    for (const std::size_t step : {1U, 7U, 100U, 5000U}) {
      const auto got = events_of<reader>(options, stream, every(step, stream.size()));
      BOOST_REQUIRE_EQUAL(got.size(), texts.size());
      for (std::size_t n = 0; n < texts.size(); ++n)
        BOOST_REQUIRE(got[n].payload == texts[n]);
    }
  }
}

// Connections of one thread, each within a message, with whole messages of others between.
BOOST_AUTO_TEST_CASE(unfinished_messages_do_not_disturb_each_other) {
  const deflate_params small{true, true, 9, 9};
  std::vector<reader> readers;
  std::vector<driver<reader>> drivers;
  std::vector<std::string> texts, streams;
  for (unsigned n = 0; n < 9; ++n)
    readers.emplace_back(options_for(role::server, n % 3 == 0 ? small : stateless));
  for (unsigned n = 0; n < 9; ++n) {
    drivers.emplace_back(readers[n], false);
    protocol::deflater d(role::client, n % 3 == 0 ? small : stateless, {});
    texts.push_back(random_bytes(300, n) + std::string(2000, static_cast<char>('a' + n)) +
                    random_bytes(300, n));
    chorus::byte_buffer out;
    d.compress(bytes_of(texts.back()), out);
    streams.push_back(build(role::client, 0xc2, std::string(text_of(out))));
  }
  const std::string between = build(role::client, 0xc1, packed("between"));
  for (std::size_t at = 0; at < 1000; ++at)
    for (std::size_t n = 0; n < readers.size(); ++n) {
      if (at < streams[n].size())
        drivers[n].feed(std::string_view(streams[n]).substr(at, 1));
      if (at % 100 == n) {
        const auto got = events_of<reader>(options_for(role::server, stateless), between);
        BOOST_REQUIRE_EQUAL(got.size(), 1U);
        BOOST_REQUIRE_EQUAL(got[0].payload, "between");
      }
    }
  for (std::size_t n = 0; n < readers.size(); ++n) {
    BOOST_REQUIRE_EQUAL(drivers[n].events.size(), 1U);
    BOOST_TEST((drivers[n].events[0].payload == texts[n]));
  }
}

// Blocks without content are no way around the limit on what is received.
BOOST_AUTO_TEST_CASE(the_compressed_bytes_are_limited_too) {
  const auto options = options_for(role::server, stateless);
  const std::string block("\x00\x00\x00\xff\xff", 5);
  std::string stream = build(role::client, 0x42, block);
  const std::size_t allowed = limit + limit / 64 + 64;
  std::size_t sent = block.size();
  for (; sent + block.size() <= allowed; sent += block.size())
    stream += build(role::client, 0x00, block);
  BOOST_TEST(events_of<reader>(options, stream).empty());
  const auto got = events_of<reader>(options, stream + build(role::client, 0x00, block));
  BOOST_REQUIRE_EQUAL(got.size(), 1U);
  BOOST_TEST((got[0].why == violation::message_too_big));
  // An announced length is refused before its bytes come.
  const auto announced = events_of<reader>(
      options, build(role::client, 0x42, block) +
                   build(role::client, frame_spec{0x00, "", 2, std::uint64_t{allowed} - 4}));
  BOOST_REQUIRE_EQUAL(announced.size(), 1U);
  BOOST_TEST((announced[0].why == violation::message_too_big));
}

BOOST_AUTO_TEST_CASE(memory_of_an_unfinished_bomb) {
  constexpr std::size_t max_message = std::size_t{1} << 20;
  const std::string bomb = packed(std::string(std::size_t{64} << 20, '\0'), role::client, 9);
  for (const auto &params : {stateless, stateful}) {
    auto options = options_for(role::server, params);
    options.max_message = max_message;
    reader r(options);
    std::string fragments = build(role::client, 0x42, "");
    for (std::size_t at = 0; at < bomb.size(); at += 10)
      fragments += build(role::client, 0x00, bomb.substr(at, 10));
    const std::size_t before = heap_in_use();
    std::size_t most = 0;
    event e = event::need_more;
    for (std::size_t at = 0; e == event::need_more && at < fragments.size(); ++at) {
      std::span<std::byte> input(reinterpret_cast<std::byte *>(fragments.data()) + at, 1);
      e = r.next(input);
      if (at % 16 == 0)
        most = std::max(most, grown_since(before));
    }
    BOOST_REQUIRE((e == event::violation));
    BOOST_TEST((r.why() == violation::inflated_too_big));
    BOOST_TEST(most >= max_message / 2);
    BOOST_TEST(most <= 2 * max_message + decoder_size + window_size + overhead);
    BOOST_TEST(grown_since(before) <= overhead);
  }
}

BOOST_AUTO_TEST_CASE(a_close_inside_a_message_frees_its_decoder) {
  const std::string begun = build(role::client, 0x41, packed("never to be finished, this"));
  const std::string close = build(role::client, 0x88, "\x03\xe8");
  for (const auto &params : {stateless, stateful}) {
    reader r(options_for(role::server, params));
    driver<reader> d(r, false);
    d.events.reserve(2);
    const std::size_t before = heap_in_use();
    d.feed(begun);
    BOOST_TEST(grown_since(before) > window_size);
    d.feed(close);
    BOOST_REQUIRE_EQUAL(d.events.size(), 1U);
    BOOST_TEST((d.events[0].what == event::close));
    BOOST_TEST(grown_since(before) <= overhead);
  }
}

BOOST_AUTO_TEST_CASE(memory_of_unfinished_messages) {
  constexpr std::size_t count = 50;
  const std::string text = "a little text";
  const std::string whole = build(role::client, 0xc1, packed(text));
  const auto options = options_for(role::server, stateless);
  (void)events_of<reader>(options, whole, {8}); // the thread has its decoder now
  std::vector<reader> readers;
  std::vector<std::vector<record>> events(count);
  readers.reserve(count);
  for (std::size_t n = 0; n < count; ++n) {
    readers.emplace_back(options);
    events[n].reserve(2);
  }
  const auto feed = [&](std::string_view bytes) {
    for (std::size_t n = 0; n < count; ++n) {
      driver<reader> d(readers[n], false);
      d.feed(bytes);
      events[n].insert(events[n].end(), d.events.begin(), d.events.end());
    }
  };
  const std::size_t before = heap_in_use();
  feed(std::string_view(whole).substr(0, 6)); // a header announces, nothing came
  BOOST_TEST(grown_since(before) <= count * overhead);
  feed(std::string_view(whole).substr(6, 1));
  BOOST_TEST(grown_since(before) <= count * (decoder_size + 512 + overhead));
  feed(std::string_view(whole).substr(7, whole.size() - 8));
  BOOST_TEST(grown_since(before) <= count * (decoder_size + window_size + 512 + overhead));
  for (const auto &e : events)
    BOOST_TEST(e.empty());
  feed(std::string_view(whole).substr(whole.size() - 1));
  for (const auto &e : events) {
    BOOST_REQUIRE_EQUAL(e.size(), 1U);
    BOOST_TEST(e[0].payload == text);
  }
  BOOST_TEST(grown_since(before) <= decoder_size + window_size + overhead);
}

BOOST_AUTO_TEST_SUITE_END()
