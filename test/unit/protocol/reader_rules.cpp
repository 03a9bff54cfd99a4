// One case per rule that a peer can break, and what must be accepted beside it.
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;
using chorus::message_kind;

namespace {

const protocol::deflate_params agreed{true, true, 15, 15};

std::vector<record> read(role side, std::string_view stream,
                         protocol::reader_options options = {}) {
  options.side = side;
  return events_of<protocol::reader>(options, stream);
}

record message(message_kind kind, std::string payload) {
  return {event::message, kind, std::move(payload), 0, {}};
}

// The stream must end in this violation, in both roles, and nothing after it may be read.
void refuses(violation why, const std::vector<frame_spec> &frames,
             protocol::reader_options options = {}, std::size_t events_before = 0) {
  for (const role side : {role::client, role::server}) {
    std::string stream;
    for (const auto &f : frames)
      stream += build(other(side), f);
    stream += build(other(side), 0x81, "after");
    const auto got = read(side, stream, options);
    BOOST_REQUIRE_EQUAL(got.size(), events_before + 1);
    BOOST_TEST((got.back().what == event::violation));
    BOOST_TEST(static_cast<int>(got.back().why) == static_cast<int>(why));
  }
}

const role both[] = {role::client, role::server};

} // namespace

BOOST_AUTO_TEST_SUITE(reader_rules)

BOOST_AUTO_TEST_CASE(every_length_form) {
  for (const role side : both)
    for (const std::size_t size : {0U, 1U, 5U, 125U, 126U, 127U, 65535U, 65536U, 300000U}) {
      const std::string payload = random_bytes(size);
      const auto got = read(side, build(other(side), 0x82, payload));
      BOOST_REQUIRE_EQUAL(got.size(), 1U);
      BOOST_TEST(got[0] == message(message_kind::binary, payload));
    }
}

BOOST_AUTO_TEST_CASE(text_in_both_roles) {
  for (const role side : both) {
    const auto got = read(side, build(other(side), 0x81, "hello") + build(other(side), 0x81, "") +
                                    build(other(side), 0x81, "gr\xc3\xbc\xc3\x9f"));
    BOOST_REQUIRE_EQUAL(got.size(), 3U);
    BOOST_TEST(got[0] == message(message_kind::text, "hello"));
    BOOST_TEST(got[1] == message(message_kind::text, ""));
    BOOST_TEST(got[2] == message(message_kind::text, "gr\xc3\xbc\xc3\x9f"));
  }
}

BOOST_AUTO_TEST_CASE(a_whole_frame_lies_in_the_input) {
  std::string stream = build(role::client, 0x81, "hello");
  protocol::reader r(protocol::reader_options{});
  std::span<std::byte> input(reinterpret_cast<std::byte *>(stream.data()), stream.size());
  BOOST_REQUIRE((r.next(input) == event::message));
  BOOST_TEST(!r.owned());
  BOOST_TEST(static_cast<void *>(r.payload().data()) == stream.data() + 6);
  BOOST_TEST(input.empty());
  BOOST_TEST(r.at_boundary());
}

BOOST_AUTO_TEST_CASE(reserved_bits) {
  refuses(violation::reserved_bits, {{0xa1, "x", -1, UINT64_MAX}});
  refuses(violation::reserved_bits, {{0x91, "x", -1, UINT64_MAX}});
  refuses(violation::reserved_bits, {{0xc1, "x", -1, UINT64_MAX}}); // nothing negotiated
  refuses(violation::reserved_bits, {{0xc9, "x", -1, UINT64_MAX}});
  protocol::reader_options o;
  o.deflate = &agreed;
  refuses(violation::reserved_bits, {{0xe1, "x", -1, UINT64_MAX}}, o);
}

BOOST_AUTO_TEST_CASE(compressed_bit_only_on_first_data_frames) {
  protocol::reader_options o;
  o.deflate = &agreed;
  refuses(violation::compressed_control, {{0xc9, "x", -1, UINT64_MAX}}, o);
  refuses(violation::compressed_control, {{0xc8, "", -1, UINT64_MAX}}, o);
  refuses(violation::compressed_continuation,
          {{0x01, "x", -1, UINT64_MAX}, {0xc0, "y", -1, UINT64_MAX}}, o);
}

BOOST_AUTO_TEST_CASE(reserved_opcodes) {
  for (const unsigned op : {3U, 4U, 5U, 6U, 7U, 11U, 12U, 13U, 14U, 15U}) {
    refuses(violation::reserved_opcode, {{0x80U | op, "", -1, UINT64_MAX}});
    refuses(violation::reserved_opcode, {{op, "x", -1, UINT64_MAX}});
  }
}

BOOST_AUTO_TEST_CASE(masking_by_role) {
  const auto by_server = read(role::server, build(role::server, 0x81, "plain text"));
  BOOST_REQUIRE_EQUAL(by_server.size(), 1U);
  BOOST_TEST((by_server[0].why == violation::unmasked_frame));
  const auto by_client = read(role::client, build(role::client, 0x81, "masked text"));
  BOOST_REQUIRE_EQUAL(by_client.size(), 1U);
  BOOST_TEST((by_client[0].why == violation::masked_frame));
  // Control frames, too, and a two-byte frame is enough to tell.
  BOOST_TEST(
      (read(role::server, build(role::server, 0x89, "")).at(0).why == violation::unmasked_frame));
  BOOST_TEST(
      (read(role::client, build(role::client, 0x8a, "")).at(0).why == violation::masked_frame));
}

BOOST_AUTO_TEST_CASE(lengths_in_shortest_form) {
  refuses(violation::length_not_minimal, {{0x82, std::string(125, 'x'), 2, UINT64_MAX}});
  refuses(violation::length_not_minimal, {{0x82, "", 2, UINT64_MAX}});
  refuses(violation::length_not_minimal, {{0x82, std::string(200, 'x'), 8, UINT64_MAX}});
  refuses(violation::length_not_minimal, {{0x82, std::string(65535, 'x'), 8, UINT64_MAX}});
}

BOOST_AUTO_TEST_CASE(lengths_have_63_bits) {
  refuses(violation::length_high_bit, {{0x82, "", 8, 0x8000000000000000U}});
  refuses(violation::length_high_bit, {{0x82, "", 8, UINT64_MAX - 1}});
  refuses(violation::message_too_big, {{0x82, "", 8, 0x7fffffffffffffffU}});
}

BOOST_AUTO_TEST_CASE(control_frames_are_whole_and_short) {
  for (const unsigned op : {8U, 9U, 10U}) {
    refuses(violation::control_fragmented, {{op, "", -1, UINT64_MAX}});
    refuses(violation::control_too_long, {{0x80U | op, std::string(126, 'x'), -1, UINT64_MAX}});
    refuses(violation::control_too_long, {{0x80U | op, std::string(70000, 'x'), -1, UINT64_MAX}});
  }
  for (const role side : both) {
    const std::string most(125, 'p');
    const auto got = read(side, build(other(side), 0x89, most) + build(other(side), 0x8a, "") +
                                    build(other(side), 0x89, "\xff\xfe"));
    BOOST_REQUIRE_EQUAL(got.size(), 3U);
    BOOST_TEST(got[0] == (record{event::ping, {}, most, 0, {}}));
    BOOST_TEST(got[1] == (record{event::pong, {}, "", 0, {}}));
    BOOST_TEST(got[2] == (record{event::ping, {}, "\xff\xfe", 0, {}}));
  }
}

BOOST_AUTO_TEST_CASE(fragments_with_control_frames_between) {
  for (const role side : both) {
    const role peer = other(side);
    const auto got =
        read(side, build(peer, 0x01, "one ") + build(peer, 0x89, "a") + build(peer, 0x00, "") +
                       build(peer, 0x8a, "b") + build(peer, 0x00, "two ") +
                       build(peer, 0x80, "three") + build(peer, 0x02, "") + build(peer, 0x80, ""));
    BOOST_REQUIRE_EQUAL(got.size(), 4U);
    BOOST_TEST(got[0] == (record{event::ping, {}, "a", 0, {}}));
    BOOST_TEST(got[1] == (record{event::pong, {}, "b", 0, {}}));
    BOOST_TEST(got[2] == message(message_kind::text, "one two three"));
    BOOST_TEST(got[3] == message(message_kind::binary, ""));
  }
}

BOOST_AUTO_TEST_CASE(continuation_order) {
  refuses(violation::unexpected_continuation, {{0x80, "x", -1, UINT64_MAX}});
  refuses(violation::unexpected_continuation, {{0x00, "x", -1, UINT64_MAX}});
  refuses(violation::unexpected_continuation,
          {{0x01, "x", -1, UINT64_MAX}, {0x80, "y", -1, UINT64_MAX}, {0x80, "z", -1, UINT64_MAX}},
          {}, 1);
  refuses(violation::expected_continuation,
          {{0x01, "x", -1, UINT64_MAX}, {0x81, "y", -1, UINT64_MAX}});
  refuses(violation::expected_continuation,
          {{0x02, "x", -1, UINT64_MAX}, {0x01, "y", -1, UINT64_MAX}});
}

BOOST_AUTO_TEST_CASE(text_is_utf8) {
  refuses(violation::invalid_utf8, {{0x81, "bad \xff", -1, UINT64_MAX}});
  refuses(violation::invalid_utf8, {{0x81, "cut short \xe2\x82", -1, UINT64_MAX}});
  refuses(violation::invalid_utf8, {{0x01, "a\xc3", -1, UINT64_MAX}, {0x80, "b", -1, UINT64_MAX}});
  refuses(violation::invalid_utf8, {{0x01, "a\xc3", -1, UINT64_MAX}, {0x80, "", -1, UINT64_MAX}});
  for (const role side : both) {
    const auto split =
        read(side, build(other(side), 0x01, "a\xe2") + build(other(side), 0x00, "\x82") +
                       build(other(side), 0x80, "\xac"));
    BOOST_TEST(split.at(0) == message(message_kind::text, "a\xe2\x82\xac"));
    BOOST_TEST(read(side, build(other(side), 0x82, "\xff")).at(0) ==
               message(message_kind::binary, "\xff"));
    protocol::reader_options lax;
    lax.check_utf8 = false;
    BOOST_TEST(read(side, build(other(side), 0x81, "\xff"), lax).at(0) ==
               message(message_kind::text, "\xff"));
  }
}

BOOST_AUTO_TEST_CASE(text_fails_before_its_frame_is_complete) {
  for (const role side : both) {
    const std::string whole = build(other(side), 0x81, "abc\xed\xa0" + std::string(1000, 'x'));
    protocol::reader_options o;
    o.side = side;
    protocol::reader r(o);
    driver<protocol::reader> d(r, false);
    const std::size_t header = side == role::server ? 8 : 4;
    d.feed(std::string_view(whole).substr(0, header + 4));
    BOOST_TEST(d.events.empty());
    d.feed(std::string_view(whole).substr(header + 4, 1));
    BOOST_REQUIRE_EQUAL(d.events.size(), 1U);
    BOOST_TEST((d.events[0].why == violation::invalid_utf8));
  }
}

BOOST_AUTO_TEST_CASE(a_bad_header_fails_at_its_first_bad_byte) {
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, false);
  d.feed("\x83");
  BOOST_REQUIRE_EQUAL(d.events.size(), 1U);
  BOOST_TEST((d.events[0].why == violation::reserved_opcode));
}

BOOST_AUTO_TEST_CASE(close_payloads) {
  for (const role side : both) {
    const role peer = other(side);
    BOOST_TEST(read(side, build(peer, 0x88, "")).at(0) == (record{event::close, {}, "", 1005, {}}));
    BOOST_TEST(read(side, build(peer, 0x88, "\x03\xe8")).at(0) ==
               (record{event::close, {}, "", 1000, {}}));
    BOOST_TEST(read(side, build(peer, 0x88, "\x0f\xa1see \xe2\x82\xac")).at(0) ==
               (record{event::close, {}, "see \xe2\x82\xac", 4001, {}}));
    for (unsigned code = 0; code < 65536; code += code < 5100 ? 1 : 997) {
      const std::string payload = {static_cast<char>(code >> 8), static_cast<char>(code)};
      const auto got =
          read(side, build(peer, 0x88, payload) + build(peer, 0x81, "after the close"));
      BOOST_REQUIRE_EQUAL(got.size(), 1U);
      if (protocol::valid_on_wire(static_cast<std::uint16_t>(code)))
        BOOST_REQUIRE_EQUAL(got[0], (record{event::close, {}, "", code, {}}));
      else
        BOOST_REQUIRE((got[0].why == violation::close_code_invalid));
    }
  }
  refuses(violation::close_payload_of_one, {{0x88, "x", -1, UINT64_MAX}});
  refuses(violation::close_reason_invalid_utf8, {{0x88, "\x03\xe8\xff", -1, UINT64_MAX}});
  refuses(violation::close_reason_invalid_utf8, {{0x88, "\x03\xe8\xe2\x82", -1, UINT64_MAX}});
}

BOOST_AUTO_TEST_CASE(a_close_inside_a_message) {
  for (const role side : both) {
    const auto got =
        read(side, build(other(side), 0x01, "begun") + build(other(side), 0x88, "\x03\xe9") +
                       build(other(side), 0x80, "never"));
    BOOST_REQUIRE_EQUAL(got.size(), 1U);
    BOOST_TEST(got[0] == (record{event::close, {}, "", 1001, {}}));
  }
}

BOOST_AUTO_TEST_CASE(limits) {
  protocol::reader_options o;
  o.max_message = 200;
  refuses(violation::message_too_big, {{0x82, std::string(201, 'x'), -1, UINT64_MAX}}, o);
  refuses(
      violation::message_too_big,
      {{0x02, std::string(150, 'x'), -1, UINT64_MAX}, {0x80, std::string(51, 'x'), -1, UINT64_MAX}},
      o);
  // Refused from the header alone.
  refuses(violation::message_too_big, {{0x82, "", 8, std::uint64_t{1} << 40}}, o);
  o.max_frame = 100;
  refuses(violation::frame_too_big, {{0x82, std::string(101, 'x'), -1, UINT64_MAX}}, o);
  for (const role side : both) {
    const auto got = read(side,
                          build(other(side), 0x02, std::string(100, 'x')) +
                              build(other(side), 0x80, std::string(100, 'y')) +
                              build(other(side), 0x82, std::string(100, 'z')) +
                              build(other(side), 0x89, std::string(125, 'p')),
                          o);
    BOOST_REQUIRE_EQUAL(got.size(), 3U);
    BOOST_TEST(got[0].payload.size() == 200U);
    BOOST_TEST(got[1].payload.size() == 100U);
    BOOST_TEST(got[2].payload.size() == 125U);
  }
}

BOOST_AUTO_TEST_CASE(boundaries_are_known) {
  protocol::reader r(protocol::reader_options{});
  driver<protocol::reader> d(r, false);
  const std::string text = build(role::client, 0x01, "begin");
  BOOST_TEST(r.at_boundary());
  d.feed(text.substr(0, 1));
  BOOST_TEST(!r.at_boundary());
  d.feed(text.substr(1, 7));
  BOOST_TEST(!r.at_boundary());
  d.feed(text.substr(8));
  BOOST_TEST(!r.at_boundary());
  d.feed(build(role::client, 0x89, "ping"));
  BOOST_TEST(!r.at_boundary());
  d.feed(build(role::client, 0x80, "end"));
  BOOST_TEST(r.at_boundary());
}

BOOST_AUTO_TEST_CASE(an_idle_reader_is_small) { BOOST_TEST(sizeof(protocol::reader) <= 128U); }

BOOST_AUTO_TEST_SUITE_END()
