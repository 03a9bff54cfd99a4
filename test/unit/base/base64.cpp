#include <chorus/base/base64.hpp>

#include <boost/test/unit_test.hpp>

#include <string>
#include <string_view>
#include <utility>

using chorus::detail::from_base64;
using chorus::detail::to_base64;

BOOST_AUTO_TEST_SUITE(base64)

// RFC 4648 section 10.
BOOST_AUTO_TEST_CASE(is_that_of_the_rfc) {
  for (const auto &[plain, coded] :
       {std::pair{"", ""}, std::pair{"f", "Zg=="}, std::pair{"fo", "Zm8="},
        std::pair{"foo", "Zm9v"}, std::pair{"foob", "Zm9vYg=="}, std::pair{"fooba", "Zm9vYmE="},
        std::pair{"foobar", "Zm9vYmFy"}}) {
    BOOST_TEST(to_base64(plain) == coded);
    BOOST_REQUIRE(from_base64(coded).has_value());
    BOOST_TEST(*from_base64(coded) == plain);
  }
}

BOOST_AUTO_TEST_CASE(carries_every_byte) {
  std::string all;
  for (int i = 0; i < 256; ++i)
    all += static_cast<char>(i);
  for (std::size_t n = 0; n <= all.size(); ++n) {
    const auto back = from_base64(to_base64(all.substr(0, n)));
    BOOST_REQUIRE(back.has_value());
    BOOST_TEST((*back == all.substr(0, n)));
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_base64_is_refused) {
  for (const auto *text : {"Z", "Zg=", "Zh==", "Zm9=", "Z g=", "Zg===", "Zm9v!", "=Zg="})
    BOOST_TEST_CONTEXT(text)
  BOOST_TEST(from_base64(text).has_value() == (std::string_view(text) == "Zg="));
  BOOST_TEST(*from_base64("Zg") == "f");
}

BOOST_AUTO_TEST_SUITE_END()
