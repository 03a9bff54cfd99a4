// Answers of NATS that others overtake, as they do under load: a relay before the server holds them.

#include "integration/nats_support.hpp"
#include "support/holding_relay.hpp"

#include <chorus/cluster/nats_names.hpp>

#include <boost/test/unit_test.hpp>

#include <filesystem>
#include <future>
#include <vector>

namespace {

using namespace nats_test;
using test_support::holding_relay;

struct overtaken : one_server {
  static asker node(const std::string &url) {
    auto o = patient();
    o.answer_timeout = 10min; // nothing here waits for its end
    return node_at(url, std::move(o));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_overtaken, overtaken)

// Two rooms ask for their stream, and the second answer says less than what was published meanwhile.
BOOST_AUTO_TEST_CASE(an_answer_that_comes_late_is_no_loss) {
  auto other = node(server.url());
  const auto first = other.publish("r", "1", kept).value();
  const auto aside = other.publish("q", "1", kept).value();
  server.kill();
  BOOST_REQUIRE(is_down(other));
  const auto copy = server.folder() / "copy";
  std::filesystem::copy(server.data(), copy, std::filesystem::copy_options::recursive);
  server.start();
  BOOST_REQUIRE(is_up(other));
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  between.hold("$JS.API.STREAM.CREATE.chorus-h-10000-0");
  auto second = std::make_shared<std::promise<chorus::result<chorus::broker_position>>>();
  one.engine->publish(one.make("r", "2", kept),
                      [second](auto r) { second->set_value(std::move(r)); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 1; }));
  auto page = std::make_shared<std::promise<chorus::result<chorus::broker_page>>>();
  one.engine->history("q", {}, [page](auto r) { page->set_value(std::move(r)); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 2; }));
  between.hold({});
  between.release();
  BOOST_CHECK_EQUAL(second->get_future().get().value().epoch, first.epoch);
  const auto third = one.publish("r", "3", kept).value();
  between.release();
  BOOST_CHECK_EQUAL(page->get_future().get().value().epoch, aside.epoch);
  BOOST_CHECK_EQUAL(third.epoch, first.epoch);
  BOOST_CHECK_EQUAL(other.page("r").value().epoch, first.epoch);
  // Nor does it make this server forget how much there was: that is what a loss is known by.
  server.kill();
  BOOST_REQUIRE(is_down(one) && is_down(other));
  std::filesystem::remove_all(server.data());
  std::filesystem::rename(copy, server.data());
  server.start();
  BOOST_REQUIRE(is_up(one) && is_up(other));
  BOOST_CHECK_NE(one.page("r", third).value().epoch, third.epoch);
}

// As at a server that has started and has not yet found all of its streams.
BOOST_AUTO_TEST_CASE(what_found_no_stream_does_not_come_behind_others) {
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  one.publish("r", "0", kept).value();
  between.turn_away("first");
  std::vector<std::promise<chorus::result<chorus::broker_position>>> became(2);
  std::vector<chorus::broker_message> both;
  for (const auto *text : {"first", "second"})
    both.push_back(one.make("r", text, kept));
  // Asked for on the engine's own thread, the second is sent before the first is answered.
  one.engine->publish(one.make("elsewhere", "x"), [&](const auto &) {
    for (std::size_t i = 0; i < both.size(); ++i)
      one.engine->publish(std::move(both[i]),
                          [&to = became[i]](auto r) { to.set_value(std::move(r)); });
  });
  const auto first = became[0].get_future().get();
  BOOST_CHECK(became[1].get_future().get().has_value());
  BOOST_REQUIRE(first.has_error());
  BOOST_CHECK(first.error() == chorus::error::lost);
  BOOST_CHECK_EQUAL(one.history("r"), "0 second ");
  // Alone it is sent again.
  between.turn_away("third");
  BOOST_CHECK(one.publish("r", "third", kept).has_value());
}

// Nobody may have said whether it is there until a cluster has a leader again.
BOOST_AUTO_TEST_CASE(what_is_in_doubt_outlasts_a_stream_that_does_not_answer) {
  holding_relay between(server.port());
  auto o = patient();
  o.answer_timeout = 3s;
  o.look_up_timeout = 10min;
  auto one = node_at(between.url(), o);
  BOOST_REQUIRE(is_up(one));
  // What is asked before it is sent may be answered too late.
  BOOST_REQUIRE(becomes_true([&] { return one.publish("r", "1", kept).has_value(); }));
  between.hold("chorus.h.10000-0." + chorus::detail::nats_token("r"));
  std::promise<chorus::result<chorus::broker_position>> became;
  one.engine->publish(one.make("r", "in doubt", kept),
                      [&](auto r) { became.set_value(std::move(r)); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 1; }));
  between.turn_away("in doubt", 4);
  between.hold({});
  BOOST_CHECK(became.get_future().get().has_value());
  BOOST_CHECK_EQUAL(node(server.url()).history("r"), "1 in doubt ");
}

// As a cluster's new leader answers that has not looked yet at all that it has.
BOOST_AUTO_TEST_CASE(an_answer_that_is_behind_is_no_loss) {
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  one.publish("r", "1", kept).value();
  const auto second = one.publish("r", "2", kept).value();
  between.change("\"last_seq\":2", "\"last_seq\":1");
  between.turn_away("third"); // so that the stream is asked for
  const auto third = one.publish("r", "third", kept).value();
  BOOST_CHECK_EQUAL(between.changes(), 1U);
  BOOST_CHECK_EQUAL(third.epoch, second.epoch);
  BOOST_CHECK_EQUAL(one.page("r", second).value().epoch, second.epoch);
}

// As where two engines make it at the same time: it is there, and does not take messages yet.
BOOST_AUTO_TEST_CASE(nothing_overtakes_the_first_message_of_a_stream) {
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  between.turn_away("number one");
  std::vector<std::future<chorus::result<chorus::broker_position>>> all;
  for (const char *text : {"number one", "two", "three"}) {
    auto taken = std::make_shared<std::promise<chorus::result<chorus::broker_position>>>();
    all.push_back(taken->get_future());
    one.engine->publish(one.make("r", text, kept), [taken](auto r) { taken->set_value(r); });
  }
  for (auto &o : all)
    BOOST_CHECK(o.get().has_value());
  BOOST_CHECK_EQUAL(between.turned_away(), 1U);
  BOOST_CHECK_EQUAL(one.history("r"), "number one two three ");
}

// A request to read ends at the server before that has come to it: this does not mean that nothing is there.
BOOST_AUTO_TEST_CASE(what_a_busy_server_does_not_give_in_time_is_asked_for_again) {
  holding_relay between(server.port());
  auto one = node(between.url());
  BOOST_REQUIRE(is_up(one));
  const auto first = one.publish("r", "1", kept).value();
  one.publish("r", "2", kept).value();
  const std::string to_read = "CONSUMER.MSG.NEXT";
  between.turn_away(to_read, 4, 408);
  BOOST_CHECK_EQUAL(one.history("r"), "1 2 ");
  BOOST_CHECK_EQUAL(between.turned_away(), 4U);
  // And never as if there were nothing.
  between.turn_away(to_read, 1000, 408);
  BOOST_CHECK(one.page("r").has_error());
  between.turn_away({}, 0);
  BOOST_CHECK_EQUAL(one.page("r", first).value().messages.size(), 1U);
}

BOOST_AUTO_TEST_SUITE_END()
