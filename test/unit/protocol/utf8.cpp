#include <chorus/protocol/utf8.hpp>

#include "streams.hpp"

#include <boost/test/unit_test.hpp>

using namespace protocol_test;

namespace {

// By the definition: decode, then look at the number.
bool valid_by_definition(std::string_view s) {
  for (std::size_t i = 0; i < s.size();) {
    const auto c = static_cast<unsigned char>(s[i]);
    const std::size_t n = c < 0x80       ? 1U
                          : c >> 5 == 6  ? 2U
                          : c >> 4 == 14 ? 3U
                          : c >> 3 == 30 ? 4U
                                         : 0U;
    if (n == 0 || i + n > s.size())
      return false;
    std::uint32_t point = n == 1 ? c : c & (0x7fU >> n);
    for (std::size_t j = 1; j < n; ++j) {
      const auto d = static_cast<unsigned char>(s[i + j]);
      if (d >> 6 != 2)
        return false;
      point = point << 6 | (d & 0x3fU);
    }
    constexpr std::uint32_t smallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (point < smallest[n] || point > 0x10ffff || (point >= 0xd800 && point < 0xe000))
      return false;
    i += n;
  }
  return true;
}

// Whether some continuation makes it valid: try the shortest ones.
bool can_become_valid(std::string_view s) {
  const std::string_view ends[] = {"",         "\x80",         "\xbf",        "\x80\x80",
                                   "\xbf\xbf", "\x80\x80\x80", "\xbf\xbf\xbf"};
  return std::any_of(std::begin(ends), std::end(ends), [&](std::string_view e) {
    return valid_by_definition(std::string(s) + std::string(e));
  });
}

} // namespace

BOOST_AUTO_TEST_SUITE(utf8)

BOOST_AUTO_TEST_CASE(every_sequence_of_up_to_three_bytes) {
  // The third byte matters only by its class: one of each.
  const int thirds[] = {0x00, 0x7f, 0x80, 0xbf, 0xc0, 0xff};
  for (int a = 0; a < 256; ++a)
    for (int b = 0; b < 256; ++b)
      for (const int c : thirds) {
        const std::string s = {static_cast<char>(a), static_cast<char>(b), static_cast<char>(c)};
        for (std::size_t n = 1; n <= 3; ++n)
          BOOST_REQUIRE_EQUAL(protocol::is_valid_utf8(bytes_of(s).first(n)),
                              valid_by_definition(s.substr(0, n)));
      }
}

BOOST_AUTO_TEST_CASE(every_code_point_whole_and_cut) {
  for (std::uint32_t point = 0; point < 0x110000; point += point < 0x3000 ? 1 : 37) {
    std::string s;
    const auto part = [&](unsigned lead, unsigned shift) {
      s += static_cast<char>(lead | (point >> shift));
    };
    const auto more = [&](unsigned shift) {
      s += static_cast<char>(0x80U | ((point >> shift) & 0x3fU));
    };
    if (point < 0x80)
      part(0, 0);
    else if (point < 0x800)
      part(0xc0, 6), more(0);
    else if (point < 0x10000)
      part(0xe0, 12), more(6), more(0);
    else
      part(0xf0, 18), more(12), more(6), more(0);
    const bool good = point < 0xd800 || point > 0xdfff;
    BOOST_REQUIRE_EQUAL(protocol::is_valid_utf8(bytes_of(s)), good);
    protocol::utf8_validator v;
    bool ok = true;
    for (std::size_t i = 0; i < s.size() && ok; ++i) {
      ok = v.feed(bytes_of(s).subspan(i, 1));
      BOOST_REQUIRE_EQUAL(ok && v.complete(), good && i + 1 == s.size());
    }
  }
}

BOOST_AUTO_TEST_CASE(fails_at_the_first_byte_that_can_not_become_valid) {
  const std::string_view bad[] = {"\xc0\xaf",
                                  "\xc1",
                                  "\xe0\x9f\xbf",
                                  "\xed\xa0\x80",
                                  "\xf0\x8f\xbf\xbf",
                                  "\xf4\x90\x80\x80",
                                  "\xf5",
                                  "\xff",
                                  "\x80",
                                  "\xe2\x28\xa1",
                                  "\xf0\x90\x28\xbc",
                                  "\xce\xba\xe1\xbd\xb9\xf4\x90"};
  for (const auto s : bad)
    for (std::size_t before : {0U, 1U, 15U, 16U, 63U, 64U, 100U}) {
      const std::string text = std::string(before, 'x') + std::string(s) + std::string(80, 'y');
      protocol::utf8_validator v;
      std::size_t i = 0;
      while (i < text.size() && v.feed(bytes_of(text).subspan(i, 1)))
        ++i;
      BOOST_REQUIRE(i < text.size());
      BOOST_TEST(can_become_valid(std::string_view(text).substr(0, i)));
      BOOST_TEST(!can_become_valid(std::string_view(text).substr(0, i + 1)));
      BOOST_TEST(!protocol::is_valid_utf8(bytes_of(text)));
    }
}

BOOST_AUTO_TEST_CASE(random_texts_cut_anywhere_agree_with_the_definition) {
  std::mt19937 rng(7);
  const std::string_view pieces[] = {"a",
                                     "0123456789abcdefghijklmnopqrstuvwxyz",
                                     "\xc3\xa9",
                                     "\xe2\x82\xac",
                                     "\xf0\x9f\x98\x80",
                                     "\xed\x9f\xbf",
                                     "\xf4\x8f\xbf\xbf"};
  for (int round = 0; round < 3000; ++round) {
    std::string text;
    for (auto n = rng() % 30; n > 0; --n)
      text += pieces[rng() % std::size(pieces)];
    if (round % 2 && !text.empty())
      text[rng() % text.size()] = static_cast<char>(rng());
    const bool expected = valid_by_definition(text);
    BOOST_REQUIRE_EQUAL(protocol::is_valid_utf8(bytes_of(text)), expected);
    protocol::utf8_validator v;
    bool ok = true;
    for (std::size_t i = 0; i < text.size() && ok;) {
      const std::size_t n = std::min<std::size_t>(1 + rng() % 40, text.size() - i);
      ok = v.feed(bytes_of(text).subspan(i, n));
      i += n;
    }
    BOOST_REQUIRE_EQUAL(ok && v.complete(), expected);
  }
}

BOOST_AUTO_TEST_CASE(prefix_ends_before_a_cut_or_bad_character) {
  const auto prefix = [](std::string_view s, std::size_t limit) {
    return protocol::valid_utf8_prefix(bytes_of(s), limit);
  };
  BOOST_TEST(prefix("abc", 10) == 3U);
  BOOST_TEST(prefix("abc", 2) == 2U);
  BOOST_TEST(prefix("ab\xe2\x82\xac", 4) == 2U);
  BOOST_TEST(prefix("ab\xe2\x82\xac", 5) == 5U);
  BOOST_TEST(prefix("a\xff", 5) == 1U);
  BOOST_TEST(prefix("", 5) == 0U);
}

BOOST_AUTO_TEST_CASE(state_is_small) { BOOST_TEST(sizeof(protocol::utf8_validator) <= 8U); }

BOOST_AUTO_TEST_SUITE_END()
