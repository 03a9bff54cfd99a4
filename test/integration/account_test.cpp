// The account itself: it finds what does not balance.

#include "support/account.hpp"

#include <boost/test/unit_test.hpp>

using test_support::account;
using enum test_support::account::outcome;
using enum test_support::account::reading;
using enum test_support::account::losses;

namespace {

std::string of(char who, int number) { return std::string(1, who) + ':' + std::to_string(number); }

// Two publishers with four messages each, and two readers that have them all.
struct books {
  account kept;
  std::size_t one = kept.open("one", resuming);
  std::size_t two = kept.open("two", plain);
  books() {
    for (int i = 0; i < 4; ++i)
      for (const char who : {'a', 'b'}) {
        kept.sent(of(who, i));
        kept.became(of(who, i), accepted);
      }
  }
  void read(std::size_t reader, std::initializer_list<const char *> all) {
    for (const char *text : all)
      if (std::string_view(text) == "lost")
        kept.not_recovered(reader, "epoch");
      else
        kept.got(reader, text);
  }
  std::size_t wrong(account::losses allowed = none) {
    const auto all = kept.complaints(allowed);
    for (const auto &text : all)
      BOOST_TEST_MESSAGE(text);
    return all.size();
  }
  void all(std::size_t reader) {
    read(reader, {"a:0", "b:0", "a:1", "b:1", "b:2", "a:2", "a:3", "b:3"});
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(accounts, books)

BOOST_AUTO_TEST_CASE(what_balances) {
  all(one);
  BOOST_CHECK(kept.all_have("b:3"));
  BOOST_CHECK(!kept.all_have("b:3", true));
  all(two);
  BOOST_CHECK_EQUAL(wrong(), 0u);
  BOOST_CHECK(kept.all_have("b:3", true));
  BOOST_CHECK(!kept.all_have("b:4"));
  BOOST_CHECK_EQUAL(kept.sum().accepted, 8u);
  BOOST_CHECK_EQUAL(kept.sum().sent, 8u);
}

BOOST_AUTO_TEST_CASE(a_missing_one) {
  read(one, {"a:0", "b:0", "b:1", "b:2", "a:2", "a:3", "b:3"});
  all(two);
  BOOST_CHECK_EQUAL(wrong(), 1u);
  BOOST_CHECK_EQUAL(wrong(told), 1u);
}
BOOST_AUTO_TEST_CASE(the_last_one_is_missing) {
  read(one, {"a:0", "b:0", "a:1", "b:1", "b:2", "a:2", "a:3"});
  all(two);
  BOOST_CHECK_EQUAL(wrong(told), 1u);
}
BOOST_AUTO_TEST_CASE(a_missing_one_that_was_told) {
  read(one, {"a:0", "b:0", "lost", "b:1", "b:2", "a:2", "a:3", "b:3"});
  all(two);
  BOOST_CHECK_EQUAL(wrong(told), 0u);
  BOOST_CHECK_EQUAL(wrong(), 1u); // being told
}
BOOST_AUTO_TEST_CASE(a_missing_one_that_was_told_elsewhere) {
  read(one, {"a:0", "b:0", "b:1", "b:2", "a:2", "lost", "a:3", "b:3"});
  all(two);
  BOOST_CHECK_EQUAL(wrong(told), 1u);
}
BOOST_AUTO_TEST_CASE(a_plain_reader_may_miss_when_something_was_lost) {
  all(one);
  read(two, {"a:0", "b:3"});
  BOOST_CHECK_EQUAL(wrong(told), 0u);
  BOOST_CHECK_EQUAL(wrong(), 6u);
}
BOOST_AUTO_TEST_CASE(a_doubled_one) {
  read(one, {"a:0", "b:0", "a:1", "b:1", "b:2", "a:1", "a:2", "a:3", "b:3"});
  all(two);
  BOOST_CHECK_GE(wrong(told), 1u);
  BOOST_CHECK(!kept.complaints(told).empty());
  BOOST_CHECK_EQUAL(kept.complaints(told)[0], "one got a:1 twice");
}
BOOST_AUTO_TEST_CASE(swapped_ones_of_one_publisher) {
  read(one, {"a:0", "b:0", "b:1", "b:2", "a:2", "a:1", "a:3", "b:3"});
  read(two, {});
  BOOST_CHECK_EQUAL(wrong(told), 1u);
}
BOOST_AUTO_TEST_CASE(swapped_ones_of_two_publishers) {
  all(one);
  read(two, {"b:0", "a:0", "a:1", "b:1", "b:2", "a:2", "a:3", "b:3"});
  BOOST_CHECK_EQUAL(wrong(), 1u);
}
BOOST_AUTO_TEST_CASE(nothing_else) {
  all(one);
  all(two);
  kept.sent("c:0");
  BOOST_CHECK_EQUAL(wrong(), 1u); // never answered
  kept.became("c:0", refused, "away");
  BOOST_CHECK_EQUAL(wrong(), 0u);
  read(one, {"c:0"});
  BOOST_CHECK_EQUAL(wrong(), 1u); // refused, and came
  read(two, {"c:1"});
  BOOST_CHECK_EQUAL(wrong(), 2u); // never sent
  kept.became("c:2", accepted);
  BOOST_CHECK_EQUAL(wrong(), 3u);
  kept.became("a:0", accepted);
  BOOST_CHECK_EQUAL(wrong(), 4u);
}
BOOST_AUTO_TEST_CASE(an_unconfirmed_one_comes_once_or_not) {
  for (const auto *text : {"c:0", "c:1", "c:2"}) {
    kept.sent(text);
    kept.became(text, unconfirmed, "lost");
  }
  all(one);
  all(two);
  read(one, {"c:0", "c:2"});
  read(two, {"c:0", "c:2"});
  BOOST_CHECK_EQUAL(wrong(), 0u);
  read(two, {"c:2"});
  BOOST_CHECK_EQUAL(wrong(), 1u);
  BOOST_TEST_MESSAGE(kept.print());
}

BOOST_AUTO_TEST_CASE(an_unconfirmed_one_comes_to_all_or_to_nobody) {
  kept.sent("c:0");
  kept.became("c:0", unconfirmed, "lost");
  all(one);
  all(two);
  BOOST_CHECK_EQUAL(wrong(), 0u);
  read(two, {"c:0"});
  BOOST_CHECK_EQUAL(wrong(), 1u);
  BOOST_CHECK_EQUAL(wrong(told), 0u);
  read(one, {"c:0"});
  BOOST_CHECK_EQUAL(wrong(), 0u);
}

BOOST_AUTO_TEST_SUITE_END()
