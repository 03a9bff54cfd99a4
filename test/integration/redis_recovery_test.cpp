// A Redis that comes back with all of its data, with less, or with none; and what it refuses.

#include "integration/redis_support.hpp"

#include <chorus/cluster/redis_scripts.hpp>

#include <algorithm>
#include <sstream>
#include <tuple>

namespace {

using namespace redis_test;

struct recovery {
  redis_process redis{{"appendonly yes", "appendfsync always"}};
  node one{redis.unix_url()};
  node two{redis.unix_url()};
  // Else they may still be up by what they knew before it came back.
  void goes() {
    redis.kill();
    BOOST_REQUIRE(one.goes_down());
    BOOST_REQUIRE(two.goes_down());
  }
  void both_back() {
    BOOST_REQUIRE(one.comes_up());
    BOOST_REQUIRE(two.comes_up());
  }
  // Later Redis comes back with what it has now.
  void forgets_from_now_on() {
    redis.ask({"CONFIG", "SET", "appendonly", "no"});
    redis.ask({"SAVE"});
    redis.add_line("appendonly no");
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(redis_recovery, recovery)

BOOST_AUTO_TEST_CASE(all_is_there_after_a_restart) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  const auto second = one.publish("r", "2", keep(10)).value();
  BOOST_CHECK(ear->hears("1 2 "));
  goes();
  redis.restart();
  BOOST_CHECK(becomes_true([&] { return ear->gaps() >= 1; }));
  both_back();
  const auto third = two.publish("r", "3", keep(10)).value();
  BOOST_CHECK_EQUAL(third.epoch, first.epoch);
  BOOST_CHECK_GT(third.offset, second.offset);
  BOOST_CHECK_EQUAL(two.history("r", first), "2 3 ");
  BOOST_CHECK(ear->hears("3 "));
  one.stop();
  two.stop();
  node fresh(redis.unix_url()); // when all servers have been restarted, too
  BOOST_CHECK_EQUAL(fresh.history("r", first), "2 3 ");
  BOOST_CHECK_EQUAL(fresh.page("r", second).value().epoch, first.epoch);
}

BOOST_AUTO_TEST_CASE(what_becomes_of_the_connection_is_told) {
  std::mutex mutex;
  std::string told;
  auto options = patient();
  options.on_event = [&](std::string_view what) {
    std::lock_guard lock(mutex);
    told += std::string(what) + '\n';
  };
  const auto has = [&](std::string_view what) {
    return becomes_true([&] {
      std::lock_guard lock(mutex);
      return told.find(what) != told.npos;
    });
  };
  node hearing(redis.url(), std::move(options));
  const auto where = "127.0.0.1:" + std::to_string(redis.port());
  BOOST_CHECK(has("Redis at " + where + " is reached\n"));
  redis.restart();
  BOOST_CHECK(has("the connection to Redis is lost: "));
  BOOST_CHECK_MESSAGE(has(where + " is reached again, which has been restarted\n"), told);
  hearing.stop(); // before what it tells goes
}

BOOST_AUTO_TEST_CASE(nothing_is_there_after_a_restart) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  BOOST_CHECK(ear->hears("1 "));
  goes();
  redis.restart(false);
  BOOST_CHECK(becomes_true([&] { return ear->gaps() >= 1; }));
  both_back();
  const auto page = two.page("r", first).value();
  BOOST_CHECK_NE(page.epoch, first.epoch);
  BOOST_CHECK(page.messages.empty());
  const auto second = one.publish("r", "2", keep(10)).value();
  BOOST_CHECK_EQUAL(second.epoch, page.epoch);
  BOOST_CHECK_GT(second.offset, first.offset);
  BOOST_CHECK_EQUAL(two.history("r", first), "2 ");
  BOOST_CHECK(ear->hears("2 "));
}

BOOST_AUTO_TEST_CASE(all_is_thrown_away_while_it_runs) {
  const auto ear = two.listen("r");
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  const auto first = one.publish("r", "1", keep(10)).value();
  BOOST_CHECK(ear->hears("+a/1 1 "));
  redis.ask({"FLUSHALL"});
  const auto second = two.publish("r", "2", keep(10)).value(); // by one that knows the last offset
  BOOST_CHECK_NE(second.epoch, first.epoch);
  BOOST_CHECK_GT(second.offset, first.offset);
  BOOST_CHECK(ear->hears("2 "));
  BOOST_CHECK_EQUAL(ear->gaps(), 1); // told with the message
  BOOST_CHECK_EQUAL(two.list("r"), "");
  BOOST_CHECK(!one.renew("a", 1h));
  one.enter("r", "a", "1").value();
  BOOST_CHECK(ear->hears("+a/1 "));
  BOOST_CHECK_GT(ear->changes().back().at.offset, ear->changes().front().at.offset);
}

BOOST_AUTO_TEST_CASE(the_newest_are_lost) {
  node three(redis.unix_url());
  std::vector<chorus::broker_position> at;
  for (const char *text : {"1", "2"})
    at.push_back(one.publish("r", text, keep(10)).value());
  forgets_from_now_on();
  for (const char *text : {"3", "4"})
    at.push_back(one.publish("r", text, keep(10)).value());
  goes();
  BOOST_REQUIRE(three.goes_down());
  redis.restart();
  both_back();
  BOOST_REQUIRE(three.comes_up());
  const auto ear = three.listen("r");
  BOOST_REQUIRE_EQUAL(one.page("r", at[1]).value().epoch, at[1].epoch); // which is still there
  // One knows of 4: which ends the epoch, for all.
  const auto page = one.page("r", at[3]).value();
  BOOST_CHECK_NE(page.epoch, at[3].epoch);
  BOOST_CHECK(page.messages.empty());
  BOOST_CHECK(becomes_true([&] { return ear->gaps() == 1; }));
  const auto fifth = two.publish("r", "5", keep(10)).value();
  BOOST_CHECK_EQUAL(fifth.epoch, page.epoch);
  BOOST_CHECK_GT(fifth.offset, at[3].offset);
  // Nobody gets anything twice.
  for (const auto &[since, what] : {std::pair(at[3], "5 "), std::pair(at[2], "5 "),
                                    std::pair(at[1], "5 "), std::pair(at[0], "2 5 ")})
    BOOST_CHECK_EQUAL(two.history("r", since), what);
  BOOST_CHECK_EQUAL(two.page("r", at[2]).value().epoch, page.epoch);
}

// Who knows that something is lost ends the epoch before it publishes: those who don't know hear of the loss
// before they get what comes after it.
BOOST_AUTO_TEST_CASE(who_knows_of_what_is_lost_ends_the_epoch) {
  const auto own = one.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  forgets_from_now_on();
  const auto lost = one.publish("r", "2", keep(10)).value();
  goes();
  redis.restart();
  both_back();
  const auto ear = two.listen("r");
  const auto third = one.publish("r", "3", keep(10)).value();
  BOOST_CHECK_NE(third.epoch, first.epoch);
  BOOST_CHECK_GT(third.offset, lost.offset);
  BOOST_CHECK(ear->hears("3 "));
  BOOST_CHECK_GE(ear->gaps(), 1); // told before
  BOOST_CHECK_EQUAL(two.history("r", first), "3 ");
  BOOST_CHECK_EQUAL(two.history("r", lost), "3 ");
  // Once for all, of those, too, who have gone on in the new epoch from what was lost.
  const auto page = two.page("r", {third.epoch, lost.offset}).value();
  BOOST_CHECK_EQUAL(page.epoch, third.epoch);
  BOOST_CHECK_EQUAL(page.messages.size(), 1U);
  const auto fourth = one.publish("r", "4", keep(10)).value();
  BOOST_CHECK_EQUAL(fourth.epoch, third.epoch);
  BOOST_CHECK_EQUAL(two.publish("r", "5", keep(10)).value().epoch, third.epoch);
  BOOST_CHECK(ear->hears("4 5 "));
}

BOOST_AUTO_TEST_CASE(the_newest_are_lost_and_others_came) {
  const auto first = one.publish("r", "1", keep(10)).value();
  forgets_from_now_on();
  const auto lost = one.publish("r", "2", keep(10)).value();
  goes();
  redis.restart();
  both_back();
  const auto third = two.publish("r", "3", keep(10)).value();
  BOOST_CHECK_EQUAL(third.epoch, first.epoch); // nobody has noticed
  const auto page = one.page("r", lost).value();
  BOOST_CHECK_NE(page.epoch, lost.epoch);
  BOOST_REQUIRE_EQUAL(page.messages.size(), 1U);
  BOOST_CHECK_EQUAL(page.messages[0].content.str(), "3");
}

BOOST_AUTO_TEST_CASE(a_hole_is_noticed) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  BOOST_CHECK(ear->hears("1 "));
  const auto forged = [&](std::uint64_t before) {
    return "m" + first.epoch + " " + std::to_string(first.offset + 2) + " " +
           std::to_string(before) + " 1t" + std::string("\1o\0\0\0\0\1x", 8);
  };
  redis.ask({"PUBLISH", "chorus:{r}", forged(first.offset + 1)});
  BOOST_CHECK(ear->hears("x "));
  BOOST_CHECK_EQUAL(ear->gaps(), 1);
  for (const char *bad : {"", "m", "mx", "c", "cx 1 ", "m e 1 2 1t", "?", "p", "g1"})
    redis.ask({"PUBLISH", "chorus:{r}", bad});
  one.publish("r", "y").value();
  BOOST_CHECK(ear->hears("y "));
}

// What another version, or somebody else, has put there.
BOOST_AUTO_TEST_CASE(what_can_not_be_read_is_passed_over) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(2000)).value();
  BOOST_CHECK(ear->hears("1 "));
  const auto forge = [&](std::uint64_t offset, std::uint64_t before, const std::string &message) {
    constexpr std::uint64_t base = 1'577'836'800'000;
    redis.ask({"XADD", "chorus:{r}:s",
               std::to_string(offset / 4096 + base) + "-" + std::to_string(offset % 4096), "p",
               std::to_string(before), "b", "0", "m", message});
    redis.ask({"HSET", "chorus:{r}:m", "l", std::to_string(offset)});
    redis.ask({"PUBLISH", "chorus:{r}",
               "m" + first.epoch + " " + std::to_string(offset) + " " + std::to_string(before) +
                   " " + message});
  };
  auto last = first.offset;
  for (int i = 0; i < 600; ++i, ++last) // more than a page has
    forge(last + 1, last, i % 2 == 0 ? "garbage" : "");
  one.publish("r", "2", keep(2000)).value();
  BOOST_CHECK(ear->hears("2 "));
  BOOST_CHECK_EQUAL(ear->gaps(), 0);
  const auto passed_over = [&](std::uint64_t count) {
    return becomes_true([&] { return two.engine->stats().unreadable == count; });
  };
  BOOST_CHECK(passed_over(600));
  BOOST_CHECK_EQUAL(two.history("r", first), "2 ");
  BOOST_CHECK(passed_over(1200));
  for (const auto &bad : {std::string("p?"), "c" + first.epoch + " 1 +?", std::string("?")})
    redis.ask({"PUBLISH", "chorus:{r}", bad});
  BOOST_CHECK(passed_over(1203));
  BOOST_CHECK_EQUAL(two.history("r"), "1 2 ");
  BOOST_CHECK_EQUAL(one.engine->stats().unreadable, 0U);
  one.renew("a", 1h);
  one.enter("r", "a", "1").value();
  redis.ask({"HSET", "chorus:{r}:p", "b:1", "garbage", "b:2", "1 2 garbage"});
  BOOST_CHECK_EQUAL(one.members("r").members.size(), 1U);
  BOOST_CHECK(becomes_true([&] { return one.engine->stats().unreadable == 2; }));
}

// As by a replica that lacks the newest, and whose clock is behind.
BOOST_AUTO_TEST_CASE(offsets_follow_what_nodes_have) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  BOOST_CHECK(ear->hears("1 "));
  const auto later = first.offset + std::uint64_t{4096} * 3'600'000;
  const auto forge = [&](const std::string &epoch) {
    redis.ask({"PUBLISH", "chorus:{r}",
               "m" + epoch + " " + std::to_string(later) + " " + std::to_string(first.offset) +
                   " 1t" + std::string("\1o\0\0\0\0\1x", 8)});
    BOOST_REQUIRE(ear->hears("x "));
  };
  forge("another"); // which says nothing of this one
  BOOST_CHECK_LT(two.publish("r", "2", keep(10)).value().offset, later);
  BOOST_CHECK(ear->hears("2 "));
  forge(first.epoch);
  BOOST_CHECK_GT(two.publish("r", "3", keep(10)).value().offset, later);
}

BOOST_AUTO_TEST_CASE(offsets_follow_what_nodes_have_of_what_is_over) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", keep(10)).value();
  const auto later = first.offset + std::uint64_t{4096} * 3'600'000;
  redis.ask({"PUBLISH", "chorus:{r}",
             "m" + first.epoch + " " + std::to_string(later) + " " + std::to_string(first.offset) +
                 " 1t" + std::string("\1o\0\0\0\0\1x", 8)});
  BOOST_REQUIRE(ear->hears("1 x "));
  one.begin_epoch("r", first.epoch).value();
  const auto second = two.publish("r", "2", keep(10)).value();
  BOOST_CHECK_NE(second.epoch, first.epoch);
  BOOST_CHECK_GT(second.offset, later);
  BOOST_REQUIRE(ear->hears("2 "));
  redis.ask({"FLUSHALL"});
  const auto third = two.publish("r", "3", keep(10)).value();
  BOOST_CHECK_NE(third.epoch, second.epoch);
  BOOST_CHECK_GT(third.offset, second.offset);
}

BOOST_AUTO_TEST_CASE(scripts_are_forgotten) {
  one.publish("r", "0", keep(2000)).value();
  answers all;
  for (int i = 1; i < 1000; ++i) {
    one.engine->publish(one.make("r", std::to_string(i), keep(2000)), all.next());
    if (i % 100 == 0)
      redis.ask({"SCRIPT", "FLUSH"});
  }
  for (const auto &r : all.all())
    BOOST_CHECK(r.has_value());
  BOOST_CHECK_EQUAL(two.history("r"), numbers(0, 1000));
}

BOOST_AUTO_TEST_CASE(what_redis_refuses_is_said) {
  const auto says = [](const auto &r, chorus::error code, const char *what) {
    BOOST_REQUIRE(r.has_error());
    BOOST_CHECK_MESSAGE(r.error() == code, r.error().message());
    BOOST_CHECK_MESSAGE(r.error().message().find(what) != std::string::npos, r.error().message());
  };
  redis.ask({"SET", "chorus:{w}:m", "a string"});
  says(one.publish("w", "1", keep(10)), chorus::error::bad_option, "WRONGTYPE");
  says(one.page("w"), chorus::error::bad_option, "prefix");
  one.publish("r", "1", keep(10)).value();
  one.renew("a", 1h);
  two.renew("b", 1h);
  one.enter("r", "a", "1").value();
  two.enter("r", "b", "1b").value();
  redis.ask({"CONFIG", "SET", "maxmemory", "1"});
  says(one.publish("r", "2", keep(10)), chorus::error::lost, "maxmemory");
  says(one.publish("fresh", "2", keep(10)), chorus::error::lost, "OOM");
  BOOST_CHECK(one.publish("r", "passing").has_value());
  BOOST_CHECK_EQUAL(one.history("r"), "1 ");
  BOOST_CHECK(one.renew("a", 1h));
  says(one.enter("r", "a", "2"), chorus::error::lost, "OOM");
  BOOST_CHECK(one.leave("r", "a", "1").has_value());
  BOOST_CHECK(two.renew("b", 0ms)); // all of it goes
  BOOST_CHECK_EQUAL(two.list("r"), "");
  redis.ask({"CONFIG", "SET", "maxmemory", "0"});
  one.publish("r", "3", keep(10)).value();
  BOOST_CHECK_EQUAL(one.history("r"), "1 3 ");
  redis.ask(
      {"ACL", "SETUSER", "some", "on", ">secret", "+@all", "~chorus:*", "resetchannels", "&other"});
  node other("redis://some:secret@127.0.0.1:" + std::to_string(redis.port()));
  says(other.publish("r", "4"), chorus::error::bad_option, "NOPERM");
  says(other.publish("r", "5", keep(10)), chorus::error::bad_option, "&chorus:*");
  says(other.publish("fresh", "5", keep(10)), chorus::error::bad_option, "channel");
  BOOST_CHECK_EQUAL(one.history("r"), "1 3 "); // what nobody was told of is not kept
  BOOST_CHECK_EQUAL(one.history("fresh"), "");
  const auto at = one.page("r").value();
  // Nor is its offset in the way of the next, which a slower clock gives. This one says that it knew of more
  // than there is, which ends the epoch.
  const auto refused = redis.ask_all(
      {{"AUTH", "some", "secret"},
       {"EVAL", chorus::detail::all_redis_scripts().publish.text, "2", "chorus:{r}:s",
        "chorus:{r}:m", "m", "chorus:{r}", "PUBLISH", "e", "10", "0", "1000000", "3600000", "",
        at.epoch, std::to_string(at.last + std::uint64_t{4096} * 3'600'000), "1"}});
  BOOST_CHECK_MESSAGE(refused.starts_with("(error)"), refused);
  const auto next = one.publish("r", "6", keep(10)).value();
  BOOST_CHECK_EQUAL(next.epoch, "e");
  BOOST_CHECK_EQUAL(one.history("r"), "1 3 6 ");
}

// Not before what can only be answered without writing.
BOOST_AUTO_TEST_CASE(what_may_have_been_published_elsewhere_is_not_said_to_be_refused) {
  const auto at = one.publish("r", "1", keep(10)).value();
  redis.ask({"CONFIG", "SET", "min-replicas-to-write", "1"});
  const auto publish = [&](const char *trail) {
    return redis.ask({"EVAL", chorus::detail::all_redis_scripts().publish.text, "2", "chorus:{r}:s",
                      "chorus:{r}:m", "m", "chorus:{r}", "PUBLISH", "new", "10", "0", "1000000",
                      "3600000", "", at.epoch, std::to_string(at.offset + 1), trail});
  };
  BOOST_CHECK(publish("1").find("NOREPLICAS") != std::string::npos);
  BOOST_CHECK_EQUAL(publish("0"), "0\n" + at.epoch + "\n0");
}

BOOST_AUTO_TEST_CASE(a_look_up_takes_few_and_not_too_large_entries_at_a_time) {
  const auto before = one.publish("r", "0", keep(100)).value();
  std::vector<std::string> all;
  for (int i = 0; i < 40; ++i) {
    auto m = one.make("r", "x", keep(100));
    m.origin = std::string(i % 2 == 0 ? 20 : 200, 'o') + std::to_string(i);
    all.push_back(m.origin);
    one.publish(std::move(m)).value();
  }
  const auto last = std::to_string(one.page("r").value().last);
  const auto page = [&](const std::string &from, const char *messages, const char *bytes) {
    std::istringstream lines(
        redis.ask({"EVAL", chorus::detail::all_redis_scripts().look_up.text, "2", "chorus:{r}:s",
                   "chorus:{r}:m", from, "60000", messages, bytes}));
    std::vector<std::string> got;
    for (std::string line; std::getline(lines, line);)
      got.push_back(line);
    return got;
  };
  for (const auto &[messages, bytes, each] :
       {std::tuple("500", "1000000", 40U), std::tuple("500", "1", 16U),
        std::tuple("17", "1000000", 32U)}) {
    std::vector<std::string> seen;
    for (auto from = std::to_string(before.offset); from != "0";) {
      const auto got = page(from, messages, bytes);
      BOOST_REQUIRE_GE(got.size(), 4U);
      BOOST_CHECK_EQUAL(got[0], before.epoch);
      BOOST_CHECK_EQUAL(got[1], "1");
      BOOST_CHECK_EQUAL(got[2], last);
      BOOST_CHECK_EQUAL((got.size() - 4) / 2,
                        std::min<std::size_t>(each, all.size() - seen.size()));
      for (std::size_t i = 5; i < got.size(); i += 2)
        seen.push_back(got[i]);
      from = got[3];
    }
    BOOST_CHECK(seen == all);
  }
  BOOST_CHECK_EQUAL(page("-1", "500", "1000000").size(), 4U + 2 * 41);
  BOOST_CHECK_EQUAL(page("-1", "500", "1000000")[1], "1");
  redis.ask({"XTRIM", "chorus:{r}:s", "MAXLEN", "=", "10"});
  BOOST_CHECK_EQUAL(page(std::to_string(before.offset), "500", "1000000")[1], "0");
}

BOOST_AUTO_TEST_SUITE_END()
