// Publishes whose outcome stays unknown, at a Redis that says what it is told to say.

#include "fake_redis.hpp"
#include "integration/redis_support.hpp"

#include <chorus/cluster/redis_scripts.hpp>

#include <algorithm>
#include <optional>
#include <tuple>
#include <utility>

namespace {

using namespace redis_test;
using pool_test::fake_redis;
using pool_test::good_answer;

bool is_script(const fake_redis::words &command) { return command[0].starts_with("EVAL"); }

// Of a publish.
std::string done_at(unsigned offset) {
  return "*3\r\n:" + std::to_string(offset) + "\r\n$1\r\ne\r\n:1\r\n";
}

bool is_look_up(const fake_redis::words &command) {
  const auto &script = chorus::detail::all_redis_scripts().look_up;
  return is_script(command) && (command[1] == script.text || command[1] == script.sha);
}
// Of a look-up that sees the messages "me:1" at 1 and so on.
std::string page_of(std::size_t from, std::size_t to, std::size_t last, std::size_t next) {
  std::string items;
  for (auto i = from; i != to; ++i)
    for (const auto &text : {"1577836800000-" + std::to_string(i), "me:" + std::to_string(i)})
      items += "$" + std::to_string(text.size()) + "\r\n" + text + "\r\n";
  return "*" + std::to_string(4 + 2 * (to - from)) +
         "\r\n$1\r\ne\r\n:1\r\n:" + std::to_string(last) + "\r\n:" + std::to_string(next) + "\r\n" +
         items;
}
const std::string nothing_there = "*4\r\n$1\r\ne\r\n:1\r\n:0\r\n:0\r\n";

const std::string busy = "-BUSY Redis is busy running a script.\r\n";

// The first connection ends with so many publishes, none of which is answered; what comes by others is
// answered by `answer`.
template <class F> auto ends_with(unsigned count, F answer) {
  return [answer, count,
          got = 0U](unsigned connection,
                    const fake_redis::words &command) mutable -> std::optional<std::string> {
    if (!is_script(command))
      return good_answer(command);
    if (connection == 0)
      return ++got == count ? std::nullopt : std::optional<std::string>("");
    return answer(connection, command);
  };
}

// Where nothing has to be given up for want of an answer.
chorus::redis_options patient() {
  chorus::redis_options o;
  o.connect_timeout = 20s;
  o.answer_timeout = 20s;
  return o;
}

BOOST_AUTO_TEST_SUITE(redis_undecided)

// All of them at once, more than a stack holds or than allows looking at all for each.
BOOST_AUTO_TEST_CASE(very_many_of_one_room_come_to_an_end) {
  constexpr unsigned count = 100'000;
  fake_redis server(ends_with(count, [](unsigned, const fake_redis::words &) { return busy; }));
  chorus::redis_options o;
  o.answer_timeout = 60s;
  o.look_up_timeout = 1s;
  o.max_waiting = 2 * count;
  o.max_waiting_bytes = std::size_t{1} << 30;
  node one(server.url(), o);
  answers all;
  for (unsigned i = 0; i != count; ++i)
    one.engine->publish(one.make("r", "x", keep(10)), all.next());
  std::size_t unconfirmed = 0;
  for (const auto &r : all.all())
    unconfirmed += r.has_error() && r.error() == chorus::error::unconfirmed;
  BOOST_CHECK_EQUAL(unconfirmed, count);
  BOOST_CHECK_EQUAL(one.engine->stats().waiting, 0U);
}

// The first attempt may have been executed, whatever is answered to the question.
BOOST_AUTO_TEST_CASE(a_look_up_that_is_not_executed_is_made_again) {
  const std::string down = "-CLUSTERDOWN The cluster is down\r\n";
  std::string asked;
  fake_redis server(ends_with(1, [&](unsigned, const fake_redis::words &command) -> std::string {
    asked += is_look_up(command) ? 'l' : 's'; // looked up, sent
    if (asked == "ll" || asked == "llls")
      return down;
    if (asked == "l")
      return busy;
    return is_look_up(command) ? nothing_there : done_at(17);
  }));
  node one(server.url(), patient());
  const auto r = one.publish("r", "x", keep(10));
  BOOST_REQUIRE_MESSAGE(r.has_value(), r.error().message());
  BOOST_CHECK_EQUAL(r->offset, 17U);
  BOOST_CHECK_EQUAL(asked, "lllsls");
}

// The first of two processes may have executed it, so that the second must not, however often it is asked.
BOOST_AUTO_TEST_CASE(what_one_redis_may_have_done_no_other_does) {
  std::mutex mutex;
  std::string may; // what the scripts were told of that
  fake_redis server(
      [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (!is_script(command))
          return good_answer(command, connection == 0 ? "first" : "second");
        if (is_look_up(command))
          return nothing_there;
        std::lock_guard lock(mutex);
        may += command.back();
        if (connection < 2)
          return std::nullopt;
        return done_at(17);
      });
  node one(server.url(), patient());
  const auto r = one.publish("r", "x", keep(10));
  BOOST_REQUIRE_MESSAGE(r.has_value(), r.error().message());
  std::lock_guard lock(mutex);
  BOOST_CHECK_EQUAL(may, "100");
}

BOOST_AUTO_TEST_CASE(a_look_up_that_is_refused_for_good_leaves_it_unconfirmed) {
  const std::string no = "-NOPERM this user has no permissions\r\n";
  for (const auto &[looked, sent, code] :
       {std::tuple(no, no, chorus::error::unconfirmed),
        std::tuple(nothing_there, no, chorus::error::unconfirmed),
        std::tuple(std::string(":1\r\n"), no, chorus::error::unconfirmed),
        // It would have been written there, and was not before.
        std::tuple(nothing_there, std::string("-OOM command not allowed\r\n"),
                   chorus::error::lost)}) {
    fake_redis server(
        ends_with(1, [first = looked, then = sent](unsigned, const fake_redis::words &command) {
          return is_look_up(command) ? first : then;
        }));
    node one(server.url(), patient());
    const auto r = one.publish("r", "x", keep(10));
    BOOST_REQUIRE(r.has_error());
    BOOST_CHECK_MESSAGE(r.error() == code, r.error().message());
  }
}

void publish_numbers(node &by, std::size_t count, answers &all) {
  for (std::size_t i = 1; i <= count; ++i) {
    auto m = by.make("r", std::to_string(i), keep(10'000));
    m.origin = "me:" + std::to_string(i);
    by.engine->publish(std::move(m), all.next());
  }
}

// All that is undecided in a room is looked for at once, page by page, up to what was there when that began;
// and nothing is sent again but the last, which is on neither page.
BOOST_AUTO_TEST_CASE(many_are_looked_for_at_once) {
  constexpr std::size_t count = 1000;
  std::mutex mutex;
  std::vector<std::string> asked; // from where on, and what was sent again
  fake_redis server(ends_with(
      count, [&](unsigned, const fake_redis::words &command) -> std::optional<std::string> {
        std::lock_guard lock(mutex);
        if (!is_look_up(command)) {
          asked.push_back("sent again");
          return done_at(5000);
        }
        asked.push_back(command[5]);
        return asked.size() == 1 ? page_of(1, 500, count - 1, 499)
                                 : page_of(500, count, 10 * count, count - 1); // and more has come
      }));
  node one(server.url(), patient());
  answers all;
  publish_numbers(one, count, all);
  std::uint64_t offset = 0;
  for (const auto &r : all.all()) {
    BOOST_REQUIRE_MESSAGE(r.has_value(), r.error().message());
    BOOST_CHECK_EQUAL(r->offset, ++offset == count ? 5000 : offset);
  }
  const std::vector<std::string> expected{"-1", "499", "sent again"};
  std::lock_guard lock(mutex);
  BOOST_CHECK_EQUAL_COLLECTIONS(asked.begin(), asked.end(), expected.begin(), expected.end());
}

// The first was not executed when it was sent again, the second was, and that is only found out later.
BOOST_AUTO_TEST_CASE(what_is_missing_before_another_does_not_come_later) {
  std::string sent; // again
  fake_redis server(ends_with(
      3, [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (is_look_up(command))
          return connection == 1 ? nothing_there : page_of(2, 3, 2, 0);
        sent += command[5].back();
        if (connection == 1)
          return sent == "1" ? std::optional(busy) : std::nullopt;
        return done_at(17);
      }));
  node one(server.url(), patient());
  answers all;
  publish_numbers(one, 3, all);
  const auto became = all.all();
  BOOST_REQUIRE(became[0].has_error());
  BOOST_CHECK(became[0].error() == chorus::error::unconfirmed);
  BOOST_REQUIRE(became[1].has_value());
  BOOST_CHECK_EQUAL(became[1]->offset, 2U);
  BOOST_REQUIRE(became[2].has_value());
  BOOST_CHECK_EQUAL(became[2]->offset, 17U);
  BOOST_CHECK_EQUAL(sent, "123");
}

// The first is not executed when it is sent again, the others are.
BOOST_AUTO_TEST_CASE(what_was_overtaken_does_not_come_later) {
  std::string sent; // again
  fake_redis server(
      ends_with(3, [&](unsigned, const fake_redis::words &command) -> std::optional<std::string> {
        if (is_look_up(command))
          return nothing_there;
        sent += command[5].back();
        return sent == "1" ? busy : done_at(17);
      }));
  node one(server.url(), patient());
  answers all;
  for (const auto *text : {"1", "2", "3"})
    one.engine->publish(one.make("r", text, keep(10)), all.next());
  const auto became = all.all();
  BOOST_REQUIRE(became[0].has_error());
  BOOST_CHECK(became[0].error() == chorus::error::lost);
  BOOST_CHECK(became[1].has_value());
  BOOST_CHECK(became[2].has_value());
  BOOST_CHECK_EQUAL(sent, "123");
}

// One that finds no room among the calls on their way keeps those behind it back.
BOOST_AUTO_TEST_CASE(what_is_refused_before_it_is_sent_is_not_overtaken) {
  const std::string wide(20'000, 'w'); // the name of a room: four times in a command
  std::mutex mutex;
  std::string seen; // in the order of its publishes
  bool looked = false;
  bool full = false;
  fake_redis server([&](unsigned connection,
                        const fake_redis::words &command) -> std::optional<std::string> {
    if (!is_script(command))
      return good_answer(command);
    std::lock_guard lock(mutex);
    if (connection == 0) // ends with the last of the three
      return command[5].find("3333") == std::string::npos ? std::optional<std::string>("")
                                                          : std::nullopt;
    for (const char mark : {'1', '2', '3'})
      if (seen.find(mark) == std::string::npos &&
          command[5].find(std::string(4, mark)) != std::string::npos)
        seen += mark;
    if (connection != 1)
      return is_look_up(command) ? nothing_there : done_at(17);
    // The look-up is answered when the calls are full, and nothing else until it is given up.
    looked = looked || is_look_up(command);
    const bool was_full = std::exchange(full, full || command[3].find(wide) != std::string::npos);
    return full && !was_full ? nothing_there : "";
  });
  chorus::redis_options o;
  o.max_waiting_bytes = 100'000;
  o.answer_timeout = 10s; // by then the calls have to be full
  node one(server.url(), o);
  answers all;
  for (const auto *text : {"1111", "2222", "3333"})
    one.engine->publish(
        one.make("r", text + std::string(text[0] == '2' ? 45'000 : 10, '.'), keep(10)), all.next());
  BOOST_REQUIRE(becomes_true([&] {
    std::lock_guard lock(mutex);
    return looked;
  }));
  answers other;
  one.engine->publish(one.make(wide, "x", keep(10)), other.next());
  BOOST_REQUIRE(becomes_true([&] {
    std::lock_guard lock(mutex);
    return full;
  }));
  for (const auto &r : all.all())
    BOOST_CHECK_MESSAGE(r.has_value(), r.error().message());
  std::lock_guard lock(mutex);
  BOOST_CHECK_EQUAL(seen, "123");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
