#include <chorus/protocol/framing.hpp>

#include "heap.hpp"
#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;
using chorus::framing;
using chorus::message_kind;
using protocol::framed_reader;
using protocol::framed_reader_options;

namespace {

record binary(std::string payload) {
  return {event::message, message_kind::binary, std::move(payload), 0, {}};
}
record line(std::string payload) {
  return {event::message, message_kind::text, std::move(payload), 0, {}};
}
record bad(violation v) { return {event::violation, {}, "", 0, v}; }

framed_reader_options options(framing how, std::size_t limit = 1 << 20, bool utf8 = true) {
  framed_reader_options o;
  o.how = how;
  o.max_message = limit;
  o.check_utf8 = utf8;
  return o;
}

std::string prefixed(std::string_view payload) {
  std::string s;
  for (int shift = 24; shift >= 0; shift -= 8)
    s += static_cast<char>(payload.size() >> shift);
  return s + std::string(payload);
}

void same_however_cut(const framed_reader_options &o, const std::string &stream,
                      const std::vector<record> &expected) {
  BOOST_TEST(events_of<framed_reader>(o, stream) == expected, boost::test_tools::per_element());
  for (std::size_t i = 0; i <= stream.size(); ++i)
    BOOST_REQUIRE(events_of<framed_reader>(o, stream, {i}) == expected);
  for (const std::size_t step : {1U, 2U, 3U, 7U})
    BOOST_REQUIRE(events_of<framed_reader>(o, stream, every(step, stream.size())) == expected);
}

std::string framed(framing how, std::string_view payload, violation expected = violation::none) {
  chorus::byte_buffer out;
  const auto v = protocol::append_framed(out, how, bytes_of(payload));
  BOOST_TEST(static_cast<int>(v) == static_cast<int>(expected));
  return text_of(out);
}

} // namespace

BOOST_AUTO_TEST_SUITE(framings)

BOOST_AUTO_TEST_CASE(length_prefix) {
  const std::string a = random_bytes(300);
  same_however_cut(options(framing::length32),
                   prefixed("one") + prefixed("") + prefixed(a) + prefixed("x"),
                   {binary("one"), binary(""), binary(a), binary("x")});
}

BOOST_AUTO_TEST_CASE(length_prefix_limit) {
  same_however_cut(options(framing::length32, 10),
                   prefixed("0123456789") + prefixed("0123456789a") + prefixed("b"),
                   {binary("0123456789"), bad(violation::framed_too_big)});
  same_however_cut(options(framing::length32), "\xff\xff\xff\xff",
                   {bad(violation::framed_too_big)});
}

BOOST_AUTO_TEST_CASE(other_protocols_are_told_from_lengths) {
  for (const char *http :
       {"HTTP/1.1 400 Bad Request\r\n", "GET / HTTP/1.1\r\n", "POST /", "PRI * HTTP/2.0\r\n"})
    same_however_cut(options(framing::length32), http, {bad(violation::framed_is_http)});
  for (const std::string &tls :
       {std::string("\x16\x03\x01\x02\x00", 5), std::string("\x15\x03\x03\x00\x02\x02\x46", 7)})
    same_however_cut(options(framing::length32), tls, {bad(violation::framed_is_tls)});
  // Within the limit they are lengths like any other.
  same_however_cut(options(framing::length32, 0xffffffff), "HTTP/1.1", {});
  same_however_cut(options(framing::length32), "\x16\x02\x03\x04",
                   {bad(violation::framed_too_big)});
}

BOOST_AUTO_TEST_CASE(lines) {
  same_however_cut(options(framing::lines),
                   "one\ntwo\r\n\n\r\n\rth\rree\r\r\ngr\xc3\xbc\xc3\x9f\nrest",
                   {line("one"), line("two"), line(""), line(""), line("\rth\rree\r"),
                    line("gr\xc3\xbc\xc3\x9f")});
}

BOOST_AUTO_TEST_CASE(line_limit) {
  const auto o = options(framing::lines, 5);
  same_however_cut(o, "12345\n12345\r\n", {line("12345"), line("12345")});
  same_however_cut(o, "1234\r\r\n", {line("1234\r")});
  for (const std::string_view tail : {"123456\n", "123456", "12345\r6\n", "12345\r\r\n",
                                      "12345\r\r", "123456\xff\n", "12345\xff\n"})
    same_however_cut(o, "ok\n" + std::string(tail) + "late\n",
                     {line("ok"), bad(violation::line_too_long)});
}

BOOST_AUTO_TEST_CASE(line_text) {
  for (const std::string_view s :
       {"\xff\n", "ab\xe2\x82\n", "\xe2\x82\r\n", "1234\xff more than allowed"})
    same_however_cut(options(framing::lines, 10), "ok\n" + std::string(s) + "\nlate\n",
                     {line("ok"), bad(violation::line_invalid_utf8)});
  same_however_cut(options(framing::lines, 10, false), "\xff\xfe\n", {line("\xff\xfe")});
}

BOOST_AUTO_TEST_CASE(raw_chunks) {
  BOOST_TEST(events_of<framed_reader>(options(framing::raw), "abcdef", {1, 3}) ==
                 (std::vector<record>{binary("a"), binary("bc"), binary("def")}),
             boost::test_tools::per_element());
  BOOST_TEST(events_of<framed_reader>(options(framing::raw, 4), "abcdef") ==
                 (std::vector<record>{binary("abcd"), binary("ef")}),
             boost::test_tools::per_element());
}

BOOST_AUTO_TEST_CASE(large_messages_through_direct_reads) {
  const std::string a = random_bytes(300000, 1), b = random_bytes(200000, 2);
  const std::string stream = prefixed(a) + prefixed("small") + prefixed(b);
  const std::vector<record> expected = {binary(a), binary("small"), binary(b)};
  const auto o = options(framing::length32);
  for (const std::size_t step : {1U, 997U, 70000U, 131072U, 200001U})
    BOOST_REQUIRE(events_of<framed_reader>(o, stream, every(step, stream.size()), true) ==
                  expected);
  framed_reader r(o);
  driver<framed_reader> d(r, true);
  d.feed(std::string_view(stream).substr(0, 90000));
  d.feed(std::string_view(stream).substr(90000));
  BOOST_TEST(d.direct_reads >= 1U);
}

BOOST_AUTO_TEST_CASE(an_announced_length_allocates_nothing) {
  framed_reader r(options(framing::length32, std::size_t{16} << 20));
  std::string memory("\x01\x00\x00\x00", 4); // 16 MiB
  memory += std::string(100, 'x');
  std::span<std::byte> input(reinterpret_cast<std::byte *>(memory.data()), memory.size());
  const std::size_t before = heap_in_use();
  BOOST_REQUIRE((r.next(input) == event::need_more));
  BOOST_TEST(r.tail().empty());
  BOOST_TEST(!r.at_boundary());
  const std::size_t now = heap_in_use();
  BOOST_TEST((now <= before || now - before <= 1024));
}

BOOST_AUTO_TEST_CASE(boundaries_are_known) {
  for (const auto how : {framing::length32, framing::lines}) {
    framed_reader r(options(how));
    driver<framed_reader> d(r, false);
    const std::string whole = how == framing::lines ? "line\n" : prefixed("message");
    BOOST_TEST(r.at_boundary());
    d.feed(whole.substr(0, 2));
    BOOST_TEST(!r.at_boundary());
    d.feed(whole.substr(2));
    BOOST_TEST(r.at_boundary());
  }
}

BOOST_AUTO_TEST_CASE(writing) {
  BOOST_TEST(framed(framing::length32, "abc") == prefixed("abc"));
  BOOST_TEST(framed(framing::length32, "") == std::string(4, '\0'));
  BOOST_TEST(framed(framing::lines, "abc") == "abc\n");
  BOOST_TEST(framed(framing::lines, "") == "\n");
  BOOST_TEST(framed(framing::raw, "abc") == "abc");
  BOOST_TEST(framed(framing::lines, "a\nb", violation::line_contains_newline) == "");
  BOOST_TEST(framed(framing::lines, "ab\r", violation::line_contains_newline) == "");
  BOOST_TEST(framed(framing::lines, "a\rb") == "a\rb\n");
  // Only the size counts, nothing is read.
  const std::byte any{};
  const std::span<const std::byte> huge(&any, std::size_t{1} << 32);
  BOOST_TEST((protocol::check_framed(framing::length32, huge) == violation::prefix_overflow));
  BOOST_TEST((protocol::check_framed(framing::raw, huge) == violation::none));
}

BOOST_AUTO_TEST_SUITE_END()
