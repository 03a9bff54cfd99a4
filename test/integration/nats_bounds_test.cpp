// What the engine of NATS remembers and does at a time has an end, whatever comes in or is asked for.

#include "integration/nats_support.hpp"
#include "support/holding_relay.hpp"

#include <chorus/cluster/nats_names.hpp>
#include <chorus/cluster/wire.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>

namespace {

using namespace nats_test;
using test_support::holding_relay;
using words = nats_process::words;

struct bounds : one_server {
  const std::string token = chorus::detail::nats_token("r");

  static std::string body(const std::string &text) {
    chorus::broker_message m;
    m.content = text;
    return chorus::detail::write_broker_message(m);
  }
  // As the server tells of what it keeps.
  words told(std::uint64_t sequence, const std::string &text) const {
    return {"chorus.o." + token + ".h", body(text),
            "Nats-Stream: chorus-h-10000-0\r\nNats-Sequence: " + std::to_string(sequence) +
                "\r\nNats-Last-Sequence: " + std::to_string(sequence - 1) + "\r\n"};
  }
  static asker behind(const holding_relay &between) {
    auto o = patient();
    o.answer_timeout = 10min; // nothing here waits for the end of these
    o.look_up_timeout = 10min;
    auto one = node_at(between.url(), o);
    BOOST_REQUIRE(is_up(one));
    return one;
  }
  // So many answers are held, and no more although more was asked for.
  static void just(const holding_relay &between, asker &one, std::size_t held) {
    BOOST_REQUIRE(becomes_true([&] { return between.held() >= held; }));
    one.publish("elsewhere", "goes to the server and back").value();
    BOOST_CHECK_EQUAL(between.held(), held);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_bounds, bounds)

BOOST_AUTO_TEST_CASE(few_messages_wait_for_one_that_is_missing) {
  constexpr std::uint64_t most = 4096;
  auto one = node();
  const auto ear = one.listen("r");
  auto at = one.publish("r", "0", kept).value().offset;
  std::vector<words> all;
  for (int hole = 0; hole < 2; ++hole) {
    ++at;
    for (std::uint64_t i = 0; i <= most; ++i)
      all.push_back(told(++at, "x"));
  }
  server.say(all);
  BOOST_CHECK(becomes_true([&] { return ear->messages().size() == 1 + all.size(); }));
  BOOST_CHECK_EQUAL(ear->gaps(), 2); // and not one for both after a second
}

BOOST_AUTO_TEST_CASE(few_messages_wait_until_a_room_knows_its_place) {
  constexpr std::uint64_t most = 16'384;
  node().publish("r", "0", kept).value();
  holding_relay between(server.port());
  auto one = behind(between);
  const auto first = one.publish("r", "1", kept).value().offset;
  between.hold("$JS.API.STREAM.MSG.GET.chorus-e");
  const auto ear = std::make_shared<test_support::recorder>();
  std::atomic<bool> listens{false};
  one.engine->subscribe("r", ear, [&](const auto &r) { listens = r.has_value(); });
  BOOST_REQUIRE(becomes_true([&] { return between.held() == 1; }));
  std::vector<words> all;
  for (std::uint64_t i = 0; i <= most; ++i)
    all.push_back(told(first + 1 + i, "x"));
  all.push_back(told(first + 2 + most, "end"));
  server.say(all);
  one.publish("elsewhere", "behind all of that").value();
  between.hold({});
  between.release();
  BOOST_CHECK(becomes_true([&] { return listens && ear->heard().ends_with("end "); }));
  BOOST_CHECK_EQUAL(ear->messages().size(), 1U);
  BOOST_CHECK_GE(ear->gaps(), 1);
}

BOOST_AUTO_TEST_CASE(few_ids_of_what_passed_are_remembered) {
  constexpr int most = 16'384;
  auto one = node();
  const auto ear = one.listen("r");
  const auto passing = [&](const std::string &id, const std::string &text) {
    return words{"chorus.o." + token + '.' + id, body(text)};
  };
  std::vector<words> all{passing("m.one", "1"), passing("a.one", "1")};
  for (int i = 0; i < most; ++i)
    all.push_back(passing("m." + std::to_string(i), "x"));
  all.push_back(passing("a.one", "1"));
  server.say(all);
  BOOST_CHECK(becomes_true([&] { return ear->heard().ends_with(" 1 "); }));
  BOOST_CHECK_EQUAL(ear->messages().size(), all.size() - 1);
}

// Its publisher sent it again on a new connection, and the server read the old one to its end after that.
BOOST_AUTO_TEST_CASE(what_passed_is_given_once_whichever_comes_first) {
  auto one = node();
  const auto ear = one.listen("r");
  std::vector<words> all;
  for (const char *id : {"a.one", "m.one", "m.two", "a.two", "m.end"})
    all.push_back({"chorus.o." + token + '.' + id, body(std::string(id).substr(2))});
  server.say(all);
  BOOST_CHECK(ear->hears("one two end "));
}

BOOST_AUTO_TEST_CASE(few_rooms_look_for_their_places_at_a_time) {
  constexpr std::size_t rooms = 100, most = 64;
  holding_relay between(server.port());
  auto one = behind(between);
  between.hold("$JS.API.STREAM.MSG.GET.chorus-e");
  std::vector<std::shared_ptr<test_support::recorder>> ears;
  std::atomic<std::size_t> listen{0};
  for (std::size_t i = 0; i < rooms; ++i) {
    ears.push_back(std::make_shared<test_support::recorder>());
    one.engine->subscribe(std::to_string(i), ears.back(),
                          [&](const auto &r) { listen += r.has_value(); });
  }
  just(between, one, most);
  between.release();
  just(between, one, most + 1);
  BOOST_CHECK_EQUAL(listen, 1U);
  between.hold({});
  for (std::size_t i = 0; i < most; ++i)
    between.release();
  BOOST_CHECK(becomes_true([&] { return listen == rooms; }));
}

BOOST_AUTO_TEST_CASE(few_histories_are_read_at_a_time) {
  constexpr std::size_t rooms = 40, most = 32;
  holding_relay between(server.port());
  auto one = behind(between);
  for (std::size_t i = 0; i < rooms; ++i)
    one.publish(std::to_string(i), "1", kept).value();
  between.hold("$JS.API.CONSUMER.CREATE.chorus-h-10000-0");
  std::atomic<std::size_t> read{0};
  for (std::size_t i = 0; i < rooms; ++i)
    one.engine->history(std::to_string(i), {},
                        [&](const auto &page) { read += page.value().messages.size(); });
  just(between, one, most);
  between.release();
  just(between, one, most + 1);
  between.hold({});
  for (std::size_t i = 0; i < most; ++i)
    between.release();
  BOOST_CHECK(becomes_true([&] { return read == rooms; }));
}

BOOST_AUTO_TEST_CASE(few_rooms_that_nobody_listens_to_are_remembered) {
  constexpr std::size_t most = 20'000;
  auto o = patient();
  o.answer_timeout = 10min; // so many take their time
  o.look_up_timeout = 10min;
  o.max_waiting = 2 * most;
  auto one = node(o);
  one.publish("r", "1", kept).value();
  const auto cost = [&] {
    const auto before = one.engine->stats().commands;
    one.page("r").value();
    return one.engine->stats().commands - before;
  };
  cost();
  const auto known = cost();
  BOOST_CHECK_EQUAL(cost(), known);
  std::atomic<std::size_t> sent{0};
  for (std::size_t i = 0; i < most; ++i)
    one.engine->publish(one.make("other " + std::to_string(i), "x"),
                        [&](const auto &r) { sent += r.has_value(); });
  BOOST_REQUIRE(becomes_true([&] { return sent == most; }));
  BOOST_CHECK_GT(cost(), known); // its record is looked up again
}

BOOST_AUTO_TEST_SUITE_END()
