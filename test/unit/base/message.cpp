#include <chorus/base/message.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <thread>

using chorus::message;
using chorus::message_kind;

BOOST_AUTO_TEST_SUITE(messages)

BOOST_AUTO_TEST_CASE(a_default_message_is_empty_text) {
  const message m;
  BOOST_TEST(m.empty());
  BOOST_TEST(m.is_text());
  BOOST_TEST(m.text() == "");
  BOOST_TEST(m.bytes().empty());
  BOOST_CHECK(m == message(""));
}

BOOST_AUTO_TEST_CASE(text_is_copied) {
  std::string source = "hello";
  const message m = source;
  source[0] = 'j';
  BOOST_TEST(m.text() == "hello");
  BOOST_TEST(m.str() == "hello");
  BOOST_TEST(m.size() == 5U);
  BOOST_TEST(m.is_text());
  const message literal = "hello";
  BOOST_CHECK(m == literal);
}

BOOST_AUTO_TEST_CASE(binary_keeps_every_byte) {
  const std::string bytes("\0\1\xff\n\0", 5);
  const auto m = chorus::binary(bytes);
  BOOST_TEST(m.is_binary());
  BOOST_TEST(m.text() == bytes);
  BOOST_TEST(m.size() == 5U);
  BOOST_CHECK(!(m == message(bytes))); // another kind
  BOOST_CHECK(m == chorus::binary(std::as_bytes(std::span(bytes.data(), bytes.size()))));
}

BOOST_AUTO_TEST_CASE(copies_share_the_bytes) {
  const message a(std::string(10'000, 'x'));
  const auto b = a; // NOLINT: the copy is the point
  BOOST_TEST(a.bytes().data() == b.bytes().data());
  BOOST_TEST(!a.storage().unique());
  std::thread other([b] { BOOST_REQUIRE(b.text().back() == 'x'); });
  other.join();
}

BOOST_AUTO_TEST_CASE(a_slice_keeps_its_storage) {
  message slice;
  {
    auto storage = chorus::buffer::allocate(100);
    std::memcpy(storage.data(), "head body", 9);
    const auto part = std::span<const std::byte>(storage.data() + 5, 4);
    slice = message(message_kind::text, std::move(storage), part);
  }
  BOOST_TEST(slice.text() == "body");
  BOOST_TEST(slice.storage().unique());
}

BOOST_AUTO_TEST_CASE(kinds_have_names) {
  BOOST_TEST(chorus::to_string(message_kind::text) == "text");
  BOOST_TEST(chorus::to_string(message_kind::binary) == "binary");
}

BOOST_AUTO_TEST_SUITE_END()
