#include <chorus/base/buffer.hpp>
#include <chorus/base/byte_buffer.hpp>
#include <chorus/base/ring.hpp>

#include <boost/test/unit_test.hpp>

#include <cstring>
#include <memory>
#include <new>
#include <random>
#include <string>
#include <thread>
#include <vector>

using chorus::buffer;
using chorus::byte_buffer;

BOOST_AUTO_TEST_SUITE(buffers)

BOOST_AUTO_TEST_CASE(an_empty_buffer_owns_nothing) {
  const buffer b;
  BOOST_TEST(!b);
  BOOST_TEST(b.data() == nullptr);
  BOOST_TEST(b.capacity() == 0U);
  BOOST_TEST(!b.unique());
  BOOST_TEST(b.span().empty());
}

BOOST_AUTO_TEST_CASE(copies_share_the_block) {
  auto a = buffer::allocate(100);
  BOOST_TEST(a.capacity() >= 100U);
  BOOST_TEST(a.unique());
  std::memset(a.data(), 'x', 100);
  {
    const auto b = a;
    BOOST_TEST(b.data() == a.data());
    BOOST_TEST(!a.unique());
    BOOST_TEST(!b.unique());
  }
  BOOST_TEST(a.unique());
  auto c = std::move(a);
  BOOST_TEST(!a); // NOLINT: moved from on purpose
  BOOST_TEST(c.unique());
  c = c; // NOLINT: self-assignment on purpose
  BOOST_TEST(c.unique());
}

BOOST_AUTO_TEST_CASE(large_blocks_are_recycled_small_ones_are_not) {
  buffer::trim_cache();
  auto large = buffer::allocate(5000);
  BOOST_TEST(large.capacity() == 8192U); // the next power of two
  const auto *where = large.data();
  large.reset();
  BOOST_TEST(buffer::cached_bytes() == 8192U);
  auto again = buffer::allocate(6000);
  BOOST_TEST(again.data() == where);
  BOOST_TEST(again.unique());
  BOOST_TEST(buffer::cached_bytes() == 0U);
  again.reset();
  buffer::trim_cache();
  BOOST_TEST(buffer::cached_bytes() == 0U);
  auto small = buffer::allocate(100);
  small.reset();
  BOOST_TEST(buffer::cached_bytes() == 0U);
}

BOOST_AUTO_TEST_CASE(the_cache_is_bounded) {
  buffer::trim_cache();
  std::vector<buffer> many;
  for (int i = 0; i < 40; ++i)
    many.push_back(buffer::allocate(std::size_t{1} << 20));
  many.clear();
  BOOST_TEST(buffer::cached_bytes() <= std::size_t{16} << 20);
  BOOST_TEST(buffer::cached_bytes() > 0U);
  buffer::trim_cache();
}

BOOST_AUTO_TEST_CASE(sizes_around_the_classes_are_whole) {
  for (std::size_t size :
       {0U, 1U, 4095U, 4096U, 4097U, 65536U, 65537U, (1U << 24), (1U << 24) + 1}) {
    auto b = buffer::allocate(size);
    BOOST_TEST(b.capacity() >= size);
    if (size != 0) {
      b.data()[0] = b.data()[size - 1] = std::byte{7};
      BOOST_CHECK(b.data()[size - 1] == std::byte{7});
    }
  }
  buffer::trim_cache();
}

BOOST_AUTO_TEST_CASE(absurd_sizes_throw) {
  BOOST_CHECK_THROW((void)buffer::allocate(SIZE_MAX), std::bad_alloc);
  BOOST_CHECK_THROW((void)buffer::allocate(SIZE_MAX - 8), std::bad_alloc);
}

BOOST_AUTO_TEST_CASE(a_block_may_end_on_another_thread) {
  for (int i = 0; i < 100; ++i) {
    auto mine = buffer::allocate(10'000);
    std::memset(mine.data(), i, 10'000);
    std::thread other([theirs = mine, i]() mutable {
      BOOST_REQUIRE(theirs.data()[9'999] == static_cast<std::byte>(i));
      theirs.reset();
    });
    mine.reset();
    other.join();
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(byte_buffers)

BOOST_AUTO_TEST_CASE(appends_grow_and_keep_the_bytes) {
  byte_buffer b;
  BOOST_TEST(b.empty());
  std::string expected;
  std::mt19937 random(3);
  for (int i = 0; i < 500; ++i) {
    const std::string piece(random() % 97, static_cast<char>('a' + i % 26));
    b.append(std::string_view(piece));
    expected += piece;
  }
  BOOST_TEST(b.size() == expected.size());
  BOOST_TEST(std::memcmp(b.data(), expected.data(), expected.size()) == 0);
}

BOOST_AUTO_TEST_CASE(grow_gives_room_that_advance_commits) {
  byte_buffer b;
  b.append("ab");
  std::memcpy(b.grow(1000), "cd", 2);
  BOOST_TEST(b.size() == 2U);
  b.advance(2);
  BOOST_TEST(std::string(reinterpret_cast<const char *>(b.data()), b.size()) == "abcd");
  b.truncate(3);
  BOOST_TEST(b.size() == 3U);
  b.clear();
  BOOST_TEST(b.empty());
  b.append(nullptr, 0);
  BOOST_TEST(b.empty());
}

BOOST_AUTO_TEST_CASE(take_gives_the_storage_away) {
  byte_buffer b;
  b.append("hello");
  const auto *where = b.data();
  auto storage = b.take();
  BOOST_TEST(storage.data() == where);
  BOOST_TEST(storage.unique());
  BOOST_TEST(b.empty());
  b.append("again");
  BOOST_TEST(b.data() != where);
}

BOOST_AUTO_TEST_CASE(moving_leaves_an_empty_one) {
  byte_buffer a;
  a.append("x");
  byte_buffer b(std::move(a));
  BOOST_TEST(a.empty()); // NOLINT: moved from on purpose
  BOOST_TEST(b.size() == 1U);
  a.append("yz");
  b = std::move(a);
  BOOST_TEST(b.size() == 2U);
}

BOOST_AUTO_TEST_CASE(absurd_growth_throws) {
  byte_buffer b;
  b.append("x");
  BOOST_CHECK_THROW(b.grow(SIZE_MAX / 2), std::bad_alloc);
  BOOST_TEST(b.size() == 1U);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(rings)

BOOST_AUTO_TEST_CASE(behaves_like_a_deque) {
  chorus::detail::ring<std::unique_ptr<int>> ring;
  std::vector<int> model;
  std::mt19937 random(11);
  for (int i = 0; i < 20'000; ++i) {
    const auto what = random() % 10;
    if (what < 3) {
      ring.push_back(std::make_unique<int>(i));
      model.push_back(i);
    } else if (what < 5) {
      ring.push_front(std::make_unique<int>(i));
      model.insert(model.begin(), i);
    } else if (what < 9 && !model.empty()) {
      ring.pop_front();
      model.erase(model.begin());
    } else if (!model.empty()) {
      const auto at = random() % model.size();
      ring.erase(at);
      model.erase(model.begin() + static_cast<std::ptrdiff_t>(at));
    }
    BOOST_REQUIRE_EQUAL(ring.size(), model.size());
    if (!model.empty()) {
      BOOST_REQUIRE_EQUAL(*ring.front(), model.front());
      BOOST_REQUIRE_EQUAL(*ring.back(), model.back());
      const auto at = random() % model.size();
      BOOST_REQUIRE_EQUAL(*ring[at], model[at]);
    }
  }
  auto moved = std::move(ring);
  BOOST_TEST(ring.empty()); // NOLINT: moved from on purpose
  BOOST_TEST(moved.size() == model.size());
  moved.clear();
  BOOST_TEST(moved.empty());
}

BOOST_AUTO_TEST_SUITE_END()
