// What every engine promises, by way of two nodes that share one.

#include "support/broker_calls.hpp"
#include "support/broker_engine.hpp"

#include <boost/test/unit_test.hpp>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;
using test_support::becomes_true;

struct contract {
  std::unique_ptr<test_support::broker_engine> engine = test_support::make_broker_engine();
  test_support::asker one{engine->node()};
  test_support::asker two{engine->node()};
  chorus::room_options kept = keep(100);

  static chorus::room_options keep(std::size_t messages) {
    chorus::room_options o;
    o.history_messages = messages;
    return o;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(broker_contract, contract)

BOOST_AUTO_TEST_CASE(changes_are_told_once_and_have_an_order) {
  const auto ear = one.listen("r");
  const auto other = two.listen("r");
  BOOST_CHECK(!one.renew("a", 1h));
  BOOST_CHECK(one.renew("a", 1h));
  BOOST_CHECK(!two.renew("b", 1h));
  BOOST_CHECK(one.enter("r", "a", "1", "x").has_value());
  BOOST_CHECK(one.enter("r", "a", "1", "x").has_value()); // nothing new
  BOOST_CHECK(two.enter("r", "b", "2").has_value());
  BOOST_CHECK(one.enter("r", "a", "1", "y").has_value());
  BOOST_CHECK(one.leave("r", "a", "2").has_value()); // not its own
  BOOST_CHECK(one.leave("r", "a", "3").has_value());
  BOOST_CHECK_EQUAL(one.list("r"), "b/2 a/1 ");
  BOOST_CHECK(two.leave("r", "b", "2").has_value());
  for (const auto &each : {ear, other}) {
    BOOST_CHECK(each->hears("+a/1=x +b/2 +a/1=y -b/2 "));
    const auto changes = each->changes();
    for (std::size_t i = 1; i < changes.size(); ++i) {
      BOOST_CHECK_GT(changes[i].at.offset, changes[i - 1].at.offset);
      BOOST_CHECK_EQUAL(changes[i].at.epoch, changes[0].at.epoch);
    }
  }
  const auto all = two.members("r");
  BOOST_CHECK_EQUAL(all.at.offset, ear->changes().back().at.offset);
  BOOST_CHECK_EQUAL(all.at.epoch, ear->changes().back().at.epoch);
  BOOST_REQUIRE_EQUAL(all.members.size(), 1U);
  BOOST_CHECK_EQUAL(all.members[0].data, "y");
  BOOST_CHECK_EQUAL(all.members[0].at, ear->changes()[2].at.offset);
}

BOOST_AUTO_TEST_CASE(who_is_present_goes_with_the_lease) {
  const auto ear = two.listen("r");
  BOOST_CHECK(one.enter("r", "a", "1").error() == chorus::error::not_open);
  one.renew("a", 1h);
  two.renew("b", 1h);
  one.enter("r", "a", "1").value();
  two.enter("r", "b", "2").value();
  one.enter("r", "a", "3").value();
  BOOST_CHECK(ear->hears("+a/1 +b/2 +a/3 "));
  BOOST_CHECK(one.renew("a", 0ms));
  BOOST_CHECK(ear->hears("-a/1 -a/3 "));
  BOOST_CHECK_EQUAL(two.list("r"), "b/2 ");
  BOOST_CHECK(one.enter("r", "a", "1").error() == chorus::error::not_open);
  BOOST_CHECK(!one.renew("a", 0ms));
}

BOOST_AUTO_TEST_CASE(a_lease_that_nobody_renews_ends_by_itself) {
  const auto ear = two.listen("r");
  two.renew("b", 1h);
  two.enter("r", "b", "2").value();
  do
    one.renew("a", 500ms);
  while (one.enter("r", "a", "1").has_error());
  BOOST_CHECK(becomes_true([&] { return two.list("r") == "b/2 "; }));
  BOOST_CHECK(ear->hears("+b/2 +a/1 -a/1 ")); // it may have ended before anybody looks
  BOOST_CHECK(!one.renew("a", 1h));
}

BOOST_AUTO_TEST_CASE(a_room_is_full_for_all) {
  one.renew("a", 1h);
  two.renew("b", 1h);
  BOOST_CHECK(one.enter("r", "a", "1", "", 2).has_value());
  BOOST_CHECK(two.enter("r", "b", "2", "", 2).has_value());
  BOOST_CHECK(two.enter("r", "b", "3", "", 2).error() == chorus::error::limit_reached);
  BOOST_CHECK(two.enter("r", "b", "2", "x", 2).has_value());
  BOOST_CHECK(one.leave("r", "a", "1").has_value());
  BOOST_CHECK(two.enter("r", "b", "3", "", 2).has_value());
  BOOST_CHECK_EQUAL(one.list("r"), "b/2 b/3 ");
}

BOOST_AUTO_TEST_CASE(who_is_with_another_node_now_is_there_once) {
  const auto ear = one.listen("r");
  one.renew("a", 1h);
  two.renew("b", 1h);
  one.enter("r", "a", "1", "x").value();
  two.enter("r", "b", "1", "x").value();
  BOOST_CHECK_EQUAL(one.list("r"), "b/1 ");
  one.leave("r", "a", "1").value(); // no longer there by its word
  one.renew("a", 0ms);
  BOOST_CHECK_EQUAL(one.list("r"), "b/1 ");
  BOOST_CHECK(ear->hears("+a/1=x +b/1=x "));
}

BOOST_AUTO_TEST_CASE(a_command_that_nobody_hears_fails) {
  const auto tell = [&](const char *room) {
    auto m = one.make(room, "");
    m.command = "c";
    const auto r = one.publish(m);
    BOOST_CHECK(r.has_value() || r.error() == chorus::error::not_open);
    return r.has_value();
  };
  auto ear = two.listen("r");
  BOOST_CHECK(tell("r"));
  BOOST_CHECK(!tell("s"));
  ear.reset();
  BOOST_CHECK(becomes_true([&] { return !tell("r"); }));
}

BOOST_AUTO_TEST_CASE(what_is_kept_has_a_place_and_what_passes_has_none) {
  const auto ear = two.listen("r");
  auto m = one.make("r", "first", kept);
  m.except_clients = {"a client", std::string("\0\xff", 2)};
  m.key = "key";
  m.time_to_live = 1234ms;
  const auto first = one.publish(m).value();
  BOOST_CHECK_GT(first.offset, 0U);
  BOOST_CHECK_LT(first.offset, std::uint64_t{1} << 53U);
  BOOST_CHECK(!first.epoch.empty() && first.epoch.size() <= 64);
  const auto passing = one.publish("r", "passing").value();
  BOOST_CHECK_EQUAL(passing.offset, 0U);
  auto raw = one.make("r", "", kept);
  raw.content = chorus::binary(std::string_view("\0\xff", 2));
  const auto third = two.publish(raw).value();
  BOOST_CHECK_GT(third.offset, first.offset);
  BOOST_CHECK(becomes_true([&] { return ear->messages().size() == 3; }));
  const auto heard = ear->messages();
  BOOST_CHECK_EQUAL(heard[0].room, "r");
  BOOST_CHECK_EQUAL(heard[0].at.offset, first.offset);
  BOOST_CHECK_EQUAL(heard[0].at.epoch, first.epoch);
  BOOST_CHECK_EQUAL(heard[0].origin, m.origin);
  BOOST_CHECK(heard[0].except_clients == m.except_clients);
  BOOST_CHECK_EQUAL(heard[0].key, "key");
  BOOST_CHECK_EQUAL(heard[0].time_to_live.count(), 1234);
  BOOST_CHECK_EQUAL(heard[1].at.offset, 0U);
  BOOST_CHECK(heard[2].content == raw.content);
  BOOST_CHECK_EQUAL(ear->gaps(), 0);
}

BOOST_AUTO_TEST_CASE(history_is_what_was_kept_since) {
  const auto empty = two.page("r").value();
  BOOST_CHECK(!empty.epoch.empty());
  BOOST_CHECK_EQUAL(empty.last, 0U);
  const auto first = one.publish("r", "1", kept).value();
  BOOST_CHECK_EQUAL(first.epoch, empty.epoch);
  one.publish("r", "nowhere").value();
  const auto second = two.publish("r", "2", kept).value();
  const auto third = one.publish("r", "3", kept).value();
  BOOST_CHECK_EQUAL(one.history("r"), "1 2 3 ");
  BOOST_CHECK_EQUAL(two.history("r", first), "2 3 ");
  BOOST_CHECK_EQUAL(two.history("r", third), "");
  BOOST_CHECK_EQUAL(two.history("r", {"another", third.offset}), "1 2 3 ");
  const auto page = two.page("r", second).value();
  BOOST_CHECK_EQUAL(page.last, third.offset);
  BOOST_CHECK_EQUAL(page.trimmed, 0U);
  BOOST_CHECK_EQUAL(page.epoch, first.epoch);
  BOOST_CHECK_EQUAL(page.messages.at(0).at.offset, third.offset);
  BOOST_CHECK_EQUAL(page.messages.at(0).at.epoch, third.epoch);
}

BOOST_AUTO_TEST_CASE(history_is_trimmed_by_number) {
  std::vector<chorus::broker_position> places;
  for (const char *text : {"1", "2", "3", "4", "5"})
    places.push_back(one.publish("r", text, keep(2)).value());
  const auto page = two.page("r").value();
  BOOST_CHECK_EQUAL(two.history("r"), "4 5 ");
  BOOST_CHECK_EQUAL(page.trimmed, places[2].offset);
  BOOST_CHECK_EQUAL(page.last, places[4].offset);
}

BOOST_AUTO_TEST_CASE(history_is_trimmed_by_age) {
  chorus::room_options o;
  o.history_age = 200ms;
  const auto old = one.publish("r", "old", o).value();
  BOOST_CHECK(becomes_true([&] { return two.history("r") == ""; }));
  BOOST_CHECK_EQUAL(two.page("r").value().trimmed, old.offset);
  BOOST_CHECK_EQUAL(two.page("r").value().last, old.offset);
}

BOOST_AUTO_TEST_CASE(history_is_trimmed_by_bytes) {
  auto o = keep(1000);
  o.history_bytes = 20'000;
  chorus::broker_position last;
  for (int i = 0; i < 40; ++i)
    last = one.publish("r", std::string(1000, 'x'), o).value();
  const auto some = two.page("r").value();
  BOOST_CHECK_GE(some.messages.size(), 10U);
  BOOST_CHECK_LE(some.messages.size(), 20U);
  BOOST_CHECK_EQUAL(some.messages.back().at.offset, last.offset);
  BOOST_CHECK_LT(some.trimmed, some.messages.front().at.offset);
  BOOST_CHECK_GT(some.trimmed, 0U);
  last = one.publish("r", std::string(30'000, 'x'), o).value(); // delivered, and nothing is kept
  const auto none = two.page("r").value();
  BOOST_CHECK(none.messages.empty());
  BOOST_CHECK_EQUAL(none.trimmed, last.offset);
  one.publish("r", "y", o).value();
  BOOST_CHECK_EQUAL(two.history("r", last), "y ");
}

BOOST_AUTO_TEST_CASE(an_epoch_ends_and_nothing_is_given_twice) {
  const auto ear = two.listen("r");
  const auto first = one.publish("r", "1", kept).value();
  one.begin_epoch("r", "another").value(); // which is over, if it ever was
  BOOST_CHECK_EQUAL(two.page("r").value().epoch, first.epoch);
  one.begin_epoch("r", first.epoch).value();
  BOOST_CHECK(becomes_true([&] { return ear->gaps() == 1; }));
  one.begin_epoch("r", first.epoch).value(); // is over already
  const auto second = one.publish("r", "2", kept).value();
  BOOST_CHECK_NE(second.epoch, first.epoch);
  BOOST_CHECK_GT(second.offset, first.offset);
  BOOST_CHECK_EQUAL(two.history("r", first), "2 ");
  const auto all = two.page("r").value();
  BOOST_CHECK_EQUAL(all.epoch, second.epoch);
  BOOST_CHECK_EQUAL(all.messages.size(), 2U);
  for (const auto &m : all.messages)
    BOOST_CHECK_EQUAL(m.at.epoch, second.epoch);
  BOOST_CHECK(ear->hears("1 2 "));
  BOOST_CHECK_EQUAL(ear->gaps(), 1);
}

BOOST_AUTO_TEST_CASE(listeners_come_and_go) {
  const auto first = one.listen("r");
  const auto second = one.listen("r");
  two.publish("r", "1").value();
  BOOST_CHECK(first->hears("1 "));
  BOOST_CHECK(second->hears("1 "));
  one.engine->unsubscribe("r", first.get());
  one.engine->unsubscribe("r", second.get());
  for (int i = 0; i < 50; ++i) { // and at once again
    one.listen("r", second).value();
    two.publish("r", std::to_string(i)).value();
    BOOST_CHECK(second->hears(std::to_string(i) + " "));
    one.engine->unsubscribe("r", second.get());
  }
  BOOST_CHECK_EQUAL(first->heard(), "");
  BOOST_CHECK_EQUAL(second->gaps(), 0);
}

BOOST_AUTO_TEST_CASE(names_are_bytes) {
  const std::string room = std::string("room/ \r\n{}}:s\0\xff*[?]", 19) + std::string(1000, 'n');
  const auto ear = two.listen(room);
  const auto at = one.publish(room, "1", kept).value();
  BOOST_CHECK(ear->hears("1 "));
  BOOST_CHECK_EQUAL(ear->messages()[0].room, room);
  BOOST_CHECK_EQUAL(two.page(room).value().last, at.offset);
  const std::string id("i d\r\n\0", 6);
  one.renew("a b:c", 1h);
  one.enter(room, "a b:c", id, std::string("\0\n", 2)).value();
  const auto all = two.members(room);
  BOOST_REQUIRE_EQUAL(all.members.size(), 1U);
  BOOST_CHECK_EQUAL(all.members[0].id, id);
  BOOST_CHECK_EQUAL(all.members[0].data, std::string("\0\n", 2));
  BOOST_CHECK_EQUAL(all.members[0].node, "a b:c");
  one.renew("a b:c", 0ms);
  BOOST_CHECK(two.members(room).members.empty());
}

// Two nodes, two threads each: both hear one order, which is that of the offsets and the history, and in
// which each thread's own messages stand in its order.
BOOST_AUTO_TEST_CASE(all_nodes_hear_one_order) {
  const auto ear = one.listen("r");
  const auto other = two.listen("r");
  constexpr int each = 500;
  std::atomic<int> answered{0};
  std::mutex mutex;
  std::vector<std::string> failures;
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      auto &node = *(t < 2 ? one : two).engine;
      for (int i = 0; i < each; ++i) {
        chorus::broker_message m;
        m.room = "r";
        m.content = std::to_string(t) + "." + std::to_string(i);
        m.origin = "node" + std::to_string(t) + ":" + std::to_string(i);
        m.keep = keep(4 * each);
        node.publish(std::move(m), [&](const auto &r) {
          if (r.has_error()) {
            std::lock_guard lock(mutex);
            failures.push_back(r.error().message());
          }
          ++answered;
        });
      }
    });
  for (auto &t : threads)
    t.join();
  BOOST_REQUIRE(becomes_true([&] { return answered == 4 * each; }));
  const auto why = failures.empty() ? std::string() : failures.front();
  BOOST_REQUIRE_MESSAGE(failures.empty(), failures.size() << " failed, the first: " << why);
  BOOST_REQUIRE(becomes_true(
      [&] { return ear->messages().size() == 4 * each && other->messages().size() == 4 * each; }));
  BOOST_CHECK_EQUAL(ear->heard(), other->heard());
  BOOST_CHECK_EQUAL(ear->heard(), two.history("r"));
  const auto messages = ear->messages();
  std::vector<int> next(4, 0);
  bool in_order = true;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    in_order = in_order && (i == 0 || messages[i].at.offset > messages[i - 1].at.offset);
    const auto text = messages[i].content.str();
    auto &n = next[static_cast<std::size_t>(text[0] - '0')];
    in_order = in_order && text.substr(2) == std::to_string(n++);
  }
  BOOST_CHECK(in_order);
  BOOST_CHECK_EQUAL(ear->gaps() + other->gaps(), 0);
}

BOOST_AUTO_TEST_SUITE_END()
