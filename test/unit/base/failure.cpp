#include <chorus/base/failure.hpp>
#include <chorus/base/result.hpp>

#include <boost/test/unit_test.hpp>

#include <set>
#include <string>

using chorus::condition;
using chorus::error;
using chorus::failure;
using chorus::result;

namespace {
constexpr int first_error = static_cast<int>(error::closed);
constexpr int last_error = static_cast<int>(error::handler_failed);
} // namespace

BOOST_AUTO_TEST_SUITE(failures)

BOOST_AUTO_TEST_CASE(a_default_failure_is_no_error) {
  const failure f;
  BOOST_TEST(!f.code());
  BOOST_CHECK(f.detail().where == chorus::stage::none);
  BOOST_TEST(f.detail().sentence.empty());
}

BOOST_AUTO_TEST_CASE(a_code_alone_has_its_own_message) {
  const failure f = error::timed_out;
  BOOST_CHECK(f == error::timed_out);
  BOOST_CHECK(f == condition::timeout);
  BOOST_TEST(f.message() == f.code().message());
}

BOOST_AUTO_TEST_CASE(the_sentence_wins_over_the_message) {
  const failure f(error::bad_url, chorus::stage::configure, "put a scheme before it");
  BOOST_TEST(f.message() == "put a scheme before it");
  BOOST_CHECK(f.detail().where == chorus::stage::configure);
}

BOOST_AUTO_TEST_CASE(copies_share_the_detail) {
  chorus::failure_detail detail;
  detail.status = 403;
  detail.headers.emplace_back("A", "b");
  const failure f(make_error_code(error::upgrade_refused), detail);
  const auto copy = f; // NOLINT: the copy is the point
  BOOST_TEST(&copy.detail() == &f.detail());
  BOOST_TEST(copy.detail().status == 403U);
}

BOOST_AUTO_TEST_CASE(every_error_has_a_sentence_of_its_own) {
  std::set<std::string> seen;
  for (int i = first_error; i <= last_error; ++i) {
    const auto text = make_error_code(static_cast<error>(i)).message();
    BOOST_TEST_CONTEXT(i) {
      BOOST_TEST(text.find("unknown") != 0U);
      BOOST_TEST(text.find("unknown chorus error") == std::string::npos);
      BOOST_TEST(seen.insert(text).second);
    }
  }
  BOOST_TEST(chorus::error_code(9999, chorus::error_category()).message().find("unknown") == 0U);
  BOOST_TEST(std::string(chorus::error_category().name()) == "chorus");
}

BOOST_AUTO_TEST_CASE(conditions_group_errors) {
  BOOST_CHECK(failure(error::closed) == condition::ended);
  BOOST_CHECK(failure(error::lost) == condition::ended);
  BOOST_CHECK(failure(error::not_open) == condition::ended);
  BOOST_CHECK(failure(error::queue_full) != condition::ended);
  BOOST_CHECK(failure(error::cancelled) != condition::ended);
  for (auto e : {error::timed_out, error::write_timeout, error::resolve_timeout,
                 error::connect_timeout, error::tls_timeout, error::upgrade_timeout})
    BOOST_CHECK(failure(e) == condition::timeout);
  BOOST_CHECK(failure(error::closed) != condition::timeout);
  BOOST_CHECK(failure(error::upgrade_refused) == condition::refused);
  BOOST_CHECK(failure(error::tls_expired) == condition::tls);
  BOOST_CHECK(failure(error::tls_timeout) == condition::tls);
  BOOST_CHECK(failure(error::tls_timeout) != condition::fatal);
  BOOST_CHECK(failure(error::bad_url) == condition::fatal);
  BOOST_CHECK(failure(error::connect_failed) != condition::fatal);
  // Another category's code of the same number is none of ours.
  const chorus::error_code foreign(static_cast<int>(error::closed),
                                   boost::system::system_category());
  BOOST_CHECK(failure(foreign) != condition::ended);
}

BOOST_AUTO_TEST_CASE(stages_have_names) {
  std::set<std::string_view> seen;
  for (auto s : {chorus::stage::none, chorus::stage::configure, chorus::stage::resolve,
                 chorus::stage::connect, chorus::stage::tls, chorus::stage::upgrade,
                 chorus::stage::open, chorus::stage::close, chorus::stage::listen})
    BOOST_TEST(seen.insert(chorus::to_string(s)).second);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(results)

BOOST_AUTO_TEST_CASE(holds_a_value_or_a_failure) {
  const result<int> good = 7;
  BOOST_TEST(good.has_value());
  BOOST_TEST(*good == 7);
  const result<int> bad = failure(error::busy);
  BOOST_TEST(!bad.has_value());
  BOOST_CHECK(bad.error() == error::busy);
  const result<> nothing;
  BOOST_TEST(nothing.has_value());
}

BOOST_AUTO_TEST_CASE(value_of_a_failure_throws_it) {
  const result<int> bad = failure(error::lost, chorus::stage::open, "the line is cut");
  try {
    (void)bad.value();
    BOOST_ERROR("value() did not throw");
  } catch (const chorus::failure_exception &e) {
    BOOST_CHECK(e.why() == error::lost);
    BOOST_TEST(std::string(e.what()) == "the line is cut");
  }
  const result<> empty_bad = failure(error::lost);
  BOOST_CHECK_THROW(empty_bad.value(), chorus::failure_exception);
}

BOOST_AUTO_TEST_CASE(moves_what_it_holds) {
  result<std::unique_ptr<int>> r = std::make_unique<int>(3);
  auto p = *std::move(r);
  BOOST_TEST(*p == 3);
}

BOOST_AUTO_TEST_SUITE_END()
