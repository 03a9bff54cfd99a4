// However a stream is cut, whatever path its pieces take, the events are those of the whole.
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;

namespace {

std::string compressed(role sender, const protocol::deflate_params &params, std::string_view text) {
  chorus::deflate_options options;
  protocol::deflater d(sender, params, options);
  chorus::byte_buffer out;
  d.compress(bytes_of(text), out);
  return text_of(out);
}

// Every kind of event, every small form, in the order in which they may follow each other.
std::string representative(role sender) {
  const auto put = [sender](unsigned first, std::string payload) {
    return build(sender, first, std::move(payload));
  };
  const std::string packed =
      compressed(sender, stateless, std::string(300, 'c') + "\xe2\x82\xac and more");
  std::string s;
  s += put(0x81, "hello") + put(0x81, "") + put(0x82, random_bytes(125)) +
       put(0x82, random_bytes(126));
  s += put(0x81, "gr\xc3\xbc\xc3\x9f \xf0\x9f\x98\x80 " + std::string(70, 't'));
  s += put(0x89, "") + put(0x89, "ping") + put(0x8a, std::string(125, 'o'));
  s += put(0x01, "frag\xe2") + put(0x89, "between") + put(0x00, "\x82") + put(0x00, "") +
       put(0x8a, "") + put(0x80, "\xac.");
  s += put(0x02, "") + put(0x80, "");
  s += put(0xc1, packed);
  s += put(0x41, packed.substr(0, 3)) + put(0x89, "p") + put(0x00, packed.substr(3, 4)) +
       put(0x80, packed.substr(7));
  s += put(0xc2, std::string(1, '\0')) + put(0xc1, compressed(sender, stateless, "x"));
  s += put(0x02, random_bytes(200)) + put(0x80, random_bytes(300));
  return s;
}

std::vector<std::string> endings(role sender) {
  const auto put = [sender](unsigned first, std::string payload) {
    return build(sender, first, std::move(payload));
  };
  return {
      put(0x88, "\x03\xe8"
                "done") +
          put(0x81, "late"),
      put(0x88, "") + put(0x81, "late"),
      put(0x01, "open") + put(0x88, "\x03\xe9"),
      put(0x88, "1"),
      put(0x88, "\x03\xed") + "junk",
      put(0x88, "\x03\xe8\xff"),
      put(0x83, "reserved"),
      put(0xb1, "reserved"),
      put(0xc9, "compressed ping"),
      put(0x01, "a") + put(0xc0, "b"),
      put(0x01, "a") + put(0x01, "b"),
      put(0x80, "b"),
      put(0x09, "b"),
      put(0x81, "ab\xe2\x28 and so on"),
      put(0x01, "ab\xe2") + put(0x89, "") + put(0x80, "(") + put(0x81, "late"),
      put(0xc1, "not deflate at all"),
      put(0xc1, compressed(sender, stateless, "\xff")),
      put(0x82, std::string(3000, 'x')),
      put(0x02, std::string(1500, 'x')) + put(0x80, std::string(501, 'x')),
      put(0xc2, compressed(sender, stateless, std::string(2001, 'x'))),
      build(other(sender), 0x81, "the wrong role"),
      build(sender, frame_spec{0x82, "x", 2, UINT64_MAX}),
      build(sender, frame_spec{0x82, "", 8, 1U}),
      build(sender, frame_spec{0x82, "", 8, UINT64_MAX - 8}),
      put(0x81, "unfinished").substr(0, 9),
  };
}

protocol::reader_options options_with(role side, const protocol::deflate_params &params) {
  protocol::reader_options o;
  o.side = side;
  o.max_message = 2000;
  o.deflate = &params;
  return o;
}

using reader = protocol::reader;

} // namespace

BOOST_AUTO_TEST_SUITE(reader_cuts)

BOOST_AUTO_TEST_CASE(at_every_position_and_byte_by_byte) {
  for (const role side : {role::client, role::server}) {
    const auto options = options_with(side, stateless);
    const std::string stream = representative(other(side)) + endings(other(side)).front();
    const auto expected = events_of<reader>(options, stream);
    BOOST_REQUIRE_EQUAL(expected.size(), 19U);
    BOOST_TEST((expected.back().what == event::close));
    for (std::size_t i = 0; i <= stream.size(); ++i)
      BOOST_REQUIRE(events_of<reader>(options, stream, {i}) == expected);
    for (const std::size_t step : {1U, 2U, 3U, 5U, 7U, 64U})
      BOOST_REQUIRE(events_of<reader>(options, stream, every(step, stream.size())) == expected);
  }
}

BOOST_AUTO_TEST_CASE(every_ending_at_every_position) {
  for (const role side : {role::client, role::server}) {
    const auto options = options_with(side, stateless);
    for (const auto &ending : endings(other(side))) {
      const std::string stream = build(other(side), 0x81, "before") + ending;
      const auto expected = events_of<reader>(options, stream);
      BOOST_REQUIRE(!expected.empty());
      for (std::size_t i = 0; i <= stream.size(); ++i)
        BOOST_REQUIRE(events_of<reader>(options, stream, {i}) == expected);
      BOOST_REQUIRE(events_of<reader>(options, stream, every(1, stream.size())) == expected);
    }
  }
}

BOOST_AUTO_TEST_CASE(every_pair_of_positions_in_a_short_stream) {
  for (const role side : {role::client, role::server}) {
    const role peer = other(side);
    const auto options = options_with(side, stateless);
    const std::string stream =
        build(peer, 0x01, "a\xc3") + build(peer, 0x89, "p") + build(peer, 0x80, "\xa9") +
        build(peer, 0xc1, compressed(peer, stateless, "zz")) + build(peer, 0x88, "\x03\xe8.");
    const auto expected = events_of<reader>(options, stream);
    BOOST_REQUIRE_EQUAL(expected.size(), 4U);
    for (std::size_t i = 0; i <= stream.size(); ++i)
      for (std::size_t j = i; j <= stream.size(); ++j)
        BOOST_REQUIRE(events_of<reader>(options, stream, {i, j}) == expected);
  }
}

BOOST_AUTO_TEST_CASE(with_context_takeover) {
  for (const role side : {role::client, role::server}) {
    chorus::deflate_options deflate;
    protocol::deflater d(other(side), stateful, deflate);
    std::string stream;
    for (int i = 0; i < 6; ++i) {
      chorus::byte_buffer out;
      d.compress(bytes_of(std::string("the same text each time ") + std::to_string(i)), out);
      stream += build(other(side), 0xc1, text_of(out));
    }
    const auto options = options_with(side, stateful);
    const auto expected = events_of<reader>(options, stream);
    BOOST_REQUIRE_EQUAL(expected.size(), 6U);
    BOOST_TEST(expected[5].payload == "the same text each time 5");
    for (std::size_t i = 0; i <= stream.size(); ++i)
      BOOST_REQUIRE(events_of<reader>(options, stream, {i}) == expected);
    BOOST_REQUIRE(events_of<reader>(options, stream, every(1, stream.size())) == expected);
  }
}

// Large frames, through `next` alone and through `tail` and `commit`.
BOOST_AUTO_TEST_CASE(large_frames) {
  for (const role side : {role::client, role::server}) {
    const role peer = other(side);
    std::string text;
    while (text.size() < 230000)
      text += "caf\xc3\xa9 \xe2\x82\xac ";
    std::string packed = compressed(peer, stateless, random_bytes(150000, 3));
    const std::string stream = build(peer, 0x81, text) + build(peer, 0x02, random_bytes(140001)) +
                               build(peer, 0x89, "p") + build(peer, 0x80, random_bytes(170003)) +
                               build(peer, 0xc2, packed) + build(peer, 0x88, "\x03\xe8");
    protocol::reader_options options;
    options.side = side;
    options.deflate = &stateless;
    const auto expected = events_of<reader>(options, stream);
    BOOST_REQUIRE_EQUAL(expected.size(), 5U);
    BOOST_TEST((expected[0].payload == text));
    BOOST_TEST(expected[2].payload.size() == 310004U);
    for (const bool direct : {false, true}) {
      for (std::size_t i = 0; i <= stream.size(); i += i % 65536 < 20 ? 1 : 8191)
        BOOST_REQUIRE(events_of<reader>(options, stream, {i}, direct) == expected);
      for (const std::size_t step : {997U, 20000U, 33333U, 65536U, 100001U})
        BOOST_REQUIRE(events_of<reader>(options, stream, every(step, stream.size()), direct) ==
                      expected);
    }
    BOOST_REQUIRE(events_of<reader>(options, stream, every(1, stream.size()), true) == expected);

    reader r(options);
    driver<reader> d(r, true);
    d.feed(std::string_view(stream).substr(0, 100000));
    d.feed(std::string_view(stream).substr(100000));
    BOOST_TEST(d.direct_reads >= 1U);
  }
}

BOOST_AUTO_TEST_CASE(bad_text_is_refused_in_direct_reads) {
  for (const role side : {role::client, role::server}) {
    std::string text(300000, 'a');
    text[200000] = '\xff';
    const std::string stream = build(other(side), 0x81, text) + build(other(side), 0x81, "late");
    protocol::reader_options options;
    options.side = side;
    for (const std::size_t first : {70000U, 150000U, 199000U}) {
      const auto got = events_of<reader>(options, stream, {first}, true);
      BOOST_REQUIRE_EQUAL(got.size(), 1U);
      BOOST_TEST((got[0].why == violation::invalid_utf8));
    }
  }
}

// Random conversations, both directions of the library against each other.
BOOST_AUTO_TEST_CASE(round_trips_at_random) {
  std::mt19937 rng(20240101);
  for (int round = 0; round < 400; ++round) {
    const role sender = round % 2 ? role::client : role::server;
    const protocol::deflate_params params = round % 3 ? stateless : stateful;
    chorus::deflate_options deflate;
    protocol::deflater d(sender, params, deflate);
    std::vector<record> expected;
    chorus::byte_buffer wire;
    for (auto n = 1 + rng() % 12; n > 0; --n) {
      const auto dice = rng() % 8;
      std::string payload(rng() % (dice == 0 ? 80000 : 300), 'a');
      for (auto &c : payload)
        c = static_cast<char>('a' + rng() % 6);
      if (dice == 1) {
        payload.resize(payload.size() % 126);
        protocol::append_frame(wire, sender, protocol::opcode::ping, true, false,
                               bytes_of(payload));
        expected.push_back({event::ping, {}, payload, 0, {}});
        continue;
      }
      const auto kind = rng() % 2 ? chorus::message_kind::text : chorus::message_kind::binary;
      expected.push_back({event::message, kind, payload, 0, {}});
      const bool pack = rng() % 2;
      if (pack) {
        chorus::byte_buffer packed;
        d.compress(bytes_of(payload), packed);
        payload = text_of(packed);
      }
      auto op =
          kind == chorus::message_kind::text ? protocol::opcode::text : protocol::opcode::binary;
      for (std::string_view rest = payload;;) {
        const std::size_t size = rng() % 2 ? rest.size() : rng() % (rest.size() + 1);
        const bool fin = size == rest.size();
        protocol::append_frame(wire, sender, op, fin, pack && op != protocol::opcode::continuation,
                               bytes_of(rest.substr(0, size)));
        rest.remove_prefix(size);
        op = protocol::opcode::continuation;
        if (fin)
          break;
      }
    }
    protocol::append_close(wire, sender, 4000, "end");
    expected.push_back({event::close, {}, "end", 4000, {}});

    protocol::reader_options options;
    options.side = other(sender);
    options.deflate = &params;
    const std::string stream = text_of(wire);
    std::vector<std::size_t> cuts;
    for (std::size_t at = rng() % 3000; at < stream.size(); at += 1 + rng() % 70000)
      cuts.push_back(at);
    BOOST_REQUIRE(events_of<reader>(options, stream, cuts, rng() % 2) == expected);
  }
}

BOOST_AUTO_TEST_SUITE_END()
