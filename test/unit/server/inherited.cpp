#include <chorus/server/inherited.hpp>

#include <boost/test/unit_test.hpp>

#include <string>

using chorus::detail::read_inherited;

BOOST_AUTO_TEST_SUITE(inherited_sockets)

BOOST_AUTO_TEST_CASE(names_and_numbers) {
  const auto all = read_inherited("77", "3", "web::admin", 77);
  BOOST_REQUIRE(all.has_value());
  BOOST_REQUIRE(all->size() == 3U);
  BOOST_TEST((*all)[0].name == "web");
  BOOST_TEST((*all)[1].name == "unknown");
  BOOST_TEST((*all)[2].name == "admin");
  BOOST_TEST((*all)[0].listen == "fd:3");
  BOOST_TEST((*all)[2].listen == "fd:5");
  BOOST_TEST((*all)[2].descriptor == 5);
  const auto unnamed = read_inherited("77", "2", nullptr, 77);
  BOOST_REQUIRE(unnamed.has_value());
  BOOST_TEST((*unnamed)[1].name == "unknown");
}

BOOST_AUTO_TEST_CASE(nothing_for_this_process) {
  BOOST_TEST(read_inherited(nullptr, nullptr, nullptr, 77)->empty());
  BOOST_TEST(read_inherited(nullptr, "1", nullptr, 77)->empty());
  BOOST_TEST(read_inherited("77", nullptr, nullptr, 77)->empty());
  BOOST_TEST(read_inherited("76", "1", nullptr, 77)->empty());
  BOOST_TEST(read_inherited("77", "0", nullptr, 77)->empty());
  // Whatever is said to another process.
  BOOST_TEST(read_inherited("76", "nonsense", nullptr, 77)->empty());
}

BOOST_AUTO_TEST_CASE(nonsense_is_named) {
  for (const char *pid : {"", "x", "-5", "0", "77 "}) {
    const auto all = read_inherited(pid, "1", nullptr, 77);
    BOOST_REQUIRE(!all.has_value());
    BOOST_TEST((all.error() == chorus::error::bad_option));
    BOOST_TEST((all.error().message().find("LISTEN_PID") != std::string::npos));
  }
  for (const char *count : {"", "x", "-1", "1025", "99999999999", "3 "}) {
    const auto all = read_inherited("77", count, nullptr, 77);
    BOOST_REQUIRE(!all.has_value());
    BOOST_TEST((all.error().message().find("LISTEN_FDS") != std::string::npos));
  }
}

BOOST_AUTO_TEST_SUITE_END()
