#include <chorus/protocol/mask.hpp>

#include "streams.hpp"

#include <boost/test/unit_test.hpp>

#include <set>
#include <sys/wait.h>
#include <thread>
#include <unistd.h>

using namespace protocol_test;

BOOST_AUTO_TEST_SUITE(mask)

BOOST_AUTO_TEST_CASE(agrees_with_the_rfc_at_every_alignment_size_and_offset) {
  const std::string source = random_bytes(400);
  const char key[4] = {'\x12', '\x9a', '\x00', '\xff'};
  std::uint32_t k;
  std::memcpy(&k, key, 4);
  for (std::size_t start = 0; start < 17; ++start)
    for (std::size_t n = 0; n < 300; ++n)
      for (unsigned offset = 0; offset < 4; ++offset) {
        std::string expected = source;
        bool ascii = true;
        for (std::size_t i = 0; i < n; ++i) {
          expected[start + i] = static_cast<char>(source[start + i] ^ key[(i + offset) % 4]);
          ascii = ascii && static_cast<unsigned char>(expected[start + i]) < 0x80;
        }
        std::string in_place = source;
        auto *at = reinterpret_cast<std::byte *>(in_place.data()) + start;
        protocol::apply_mask(at, n, k, offset);
        BOOST_REQUIRE(in_place == expected);

        std::string checked = source;
        at = reinterpret_cast<std::byte *>(checked.data()) + start;
        BOOST_REQUIRE_EQUAL(protocol::apply_mask_ascii(at, n, k, offset), ascii);
        BOOST_REQUIRE(checked == expected);

        std::string copy(source.size(), '#');
        protocol::mask_copy(reinterpret_cast<std::byte *>(copy.data()) + 3,
                            bytes_of(source).data() + start, n, k, offset);
        BOOST_REQUIRE(copy == "###" + expected.substr(start, n) + std::string(397 - n, '#'));
      }
}

BOOST_AUTO_TEST_CASE(ascii_is_seen_at_every_position) {
  for (std::size_t n = 1; n < 150; ++n)
    for (std::size_t at = 0; at <= n; ++at) {
      std::string s(n, 'a');
      if (at < n)
        s[at] = '\x80';
      auto *p = reinterpret_cast<std::byte *>(s.data());
      protocol::apply_mask(p, n, 0x8f0133ccU);
      BOOST_REQUIRE_EQUAL(protocol::apply_mask_ascii(p, n, 0x8f0133ccU), at == n);
    }
}

BOOST_AUTO_TEST_CASE(offset_counts_modulo_four) {
  std::string a = random_bytes(70), b = a;
  protocol::apply_mask(reinterpret_cast<std::byte *>(a.data()), a.size(), 0x01020304U, 3);
  protocol::apply_mask(reinterpret_cast<std::byte *>(b.data()), b.size(), 0x01020304U, 4003);
  BOOST_TEST(a == b);
}

// Of 20,000 random keys about 0.05 pairs are equal by chance; three would be a broken generator.
BOOST_AUTO_TEST_CASE(keys_are_fresh_in_every_thread) {
  std::set<std::uint32_t> seen;
  std::vector<std::uint32_t> of_thread;
  std::thread other_thread([&] {
    for (int i = 0; i < 10000; ++i)
      of_thread.push_back(protocol::next_mask_key());
  });
  for (int i = 0; i < 10000; ++i)
    seen.insert(protocol::next_mask_key());
  other_thread.join();
  seen.insert(of_thread.begin(), of_thread.end());
  BOOST_TEST(seen.size() >= 19997U);
}

BOOST_AUTO_TEST_CASE(a_forked_child_does_not_repeat_its_parents_keys) {
  (void)protocol::next_mask_key(); // a batch is in memory
  constexpr std::size_t count = 200;
  int ends[2];
  BOOST_REQUIRE_EQUAL(::pipe(ends), 0);
  const pid_t child = ::fork();
  BOOST_REQUIRE(child >= 0);
  if (child == 0) {
    std::uint32_t keys[count];
    for (auto &k : keys)
      k = protocol::next_mask_key();
    ::_exit(::write(ends[1], keys, sizeof keys) == sizeof keys ? 0 : 1);
  }
  ::close(ends[1]);
  std::uint32_t theirs[count] = {};
  std::size_t got = 0;
  while (got < sizeof theirs) {
    const auto n = ::read(ends[0], reinterpret_cast<char *>(theirs) + got, sizeof theirs - got);
    if (n <= 0)
      break;
    got += static_cast<std::size_t>(n);
  }
  ::close(ends[0]);
  int status = 1;
  ::waitpid(child, &status, 0);
  BOOST_REQUIRE_EQUAL(status, 0);
  BOOST_REQUIRE_EQUAL(got, sizeof theirs);
  std::set<std::uint32_t> mine;
  for (std::size_t i = 0; i < count; ++i)
    mine.insert(protocol::next_mask_key());
  const auto shared = std::count_if(std::begin(theirs), std::end(theirs),
                                    [&](std::uint32_t k) { return mine.contains(k); });
  BOOST_TEST(shared <= 2);
}

BOOST_AUTO_TEST_SUITE_END()
