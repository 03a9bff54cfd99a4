// Publishes whose outcome stays unknown, at a Redis that says what it is told to say.

#include "fake_redis.hpp"
#include "integration/redis_support.hpp"

#include <algorithm>
#include <optional>

namespace {

using namespace redis_test;
using pool_test::fake_redis;
using pool_test::good_answer;

bool is_script(const fake_redis::words &command) { return command[0].starts_with("EVAL"); }

// Of a publish.
std::string done_at(unsigned offset) {
  return "*3\r\n:" + std::to_string(offset) + "\r\n$1\r\ne\r\n:1\r\n";
}

const std::string busy = "-BUSY Redis is busy running a script.\r\n";

// The first connection ends with a publish; the next one answers when it is looked up.
template <class F> auto ends_first(F answer) {
  return [answer](unsigned connection,
                  const fake_redis::words &command) -> std::optional<std::string> {
    if (!is_script(command))
      return good_answer(command);
    if (connection == 0)
      return std::nullopt;
    return answer();
  };
}

BOOST_AUTO_TEST_SUITE(redis_undecided)

// All of them at once, more than a stack holds or than allows looking at all for each.
BOOST_AUTO_TEST_CASE(very_many_of_one_room_come_to_an_end) {
  constexpr unsigned count = 100'000;
  unsigned got = 0;
  fake_redis server(
      [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (!is_script(command))
          return good_answer(command);
        if (connection != 0)
          return busy;
        if (++got == count)
          return std::nullopt;
        return "";
      });
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
  unsigned asked = 0;
  fake_redis server(ends_first([&]() -> std::string {
    switch (++asked) {
    case 1:
      return busy;
    case 2:
      return "-CLUSTERDOWN The cluster is down\r\n";
    default:
      return done_at(17);
    }
  }));
  node one(server.url());
  const auto r = one.publish("r", "x", keep(10));
  BOOST_REQUIRE_MESSAGE(r.has_value(), r.error().message());
  BOOST_CHECK_EQUAL(r->offset, 17U);
}

// The first of two processes may have executed it, so that the second must not, however often it is asked.
BOOST_AUTO_TEST_CASE(what_one_redis_may_have_done_no_other_does) {
  std::mutex mutex;
  std::string may; // what the scripts were told of that
  fake_redis server(
      [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (!is_script(command))
          return good_answer(command, connection == 0 ? "first" : "second");
        std::lock_guard lock(mutex);
        may += command.back();
        if (connection < 2)
          return std::nullopt;
        return done_at(17);
      });
  node one(server.url());
  const auto r = one.publish("r", "x", keep(10));
  BOOST_REQUIRE_MESSAGE(r.has_value(), r.error().message());
  std::lock_guard lock(mutex);
  BOOST_CHECK_EQUAL(may, "100");
}

BOOST_AUTO_TEST_CASE(a_look_up_that_is_refused_for_good_leaves_it_unconfirmed) {
  for (const auto &[said, code] :
       {std::pair("-NOPERM this user has no permissions\r\n", chorus::error::unconfirmed),
        // It has looked before it was refused to write.
        std::pair("-OOM command not allowed\r\n", chorus::error::lost)}) {
    const std::string refusal = said;
    fake_redis server(ends_first([&] { return refusal; }));
    node one(server.url());
    const auto r = one.publish("r", "x", keep(10));
    BOOST_REQUIRE(r.has_error());
    BOOST_CHECK_MESSAGE(r.error() == code, r.error().message());
  }
}

// One that finds no room among the calls on their way keeps those behind it back.
BOOST_AUTO_TEST_CASE(what_is_refused_before_it_is_sent_is_not_overtaken) {
  const std::string wide(20'000, 'w'); // the name of a room: four times in a command
  std::mutex mutex;
  std::string seen; // in the order of its publishes
  unsigned looked = 0;
  bool full = false;
  fake_redis server(
      [&](unsigned connection, const fake_redis::words &command) -> std::optional<std::string> {
        if (!is_script(command))
          return good_answer(command);
        std::lock_guard lock(mutex);
        if (command[3].find(wide) != std::string::npos)
          full = true;
        for (const char mark : {'1', '2', '3'})
          if (connection != 0 && full && seen.find(mark) == std::string::npos &&
              command[5].find(std::string(4, mark)) != std::string::npos)
            seen += mark;
        if (connection == 0) // ends with the last of the three
          return command[5].find("3333") == std::string::npos ? std::optional<std::string>("")
                                                              : std::nullopt;
        if (full) // nothing is answered until the connection is given up
          return connection == 1 ? "" : done_at(17);
        ++looked;
        return busy;
      });
  chorus::redis_options o;
  o.max_waiting_bytes = 100'000;
  o.answer_timeout = 3s;
  node one(server.url(), o);
  answers all;
  for (const auto *text : {"1111", "2222", "3333"})
    one.engine->publish(
        one.make("r", text + std::string(text[0] == '2' ? 45'000 : 10, '.'), keep(10)), all.next());
  BOOST_REQUIRE(becomes_true([&] {
    std::lock_guard lock(mutex);
    return looked == 3;
  }));
  one.publish("s", "x").value(); // answered behind them
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
