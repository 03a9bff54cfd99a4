// What becomes of calls when NATS answers too late, not at all, or refuses: each is answered, and truly.

#include "integration/nats_support.hpp"

#include <chorus/cluster/nats_link.hpp>
#include <chorus/cluster/nats_names.hpp>
#include <chorus/cluster/wire.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <optional>

namespace {

using namespace nats_test;

bool has(const std::string &text, const char *part) { return text.find(part) != text.npos; }

struct outcomes : one_server {
  static chorus::nats_options impatient() {
    auto o = patient();
    o.answer_timeout = 3s; // other questions have to be answered in it, on a slow machine, too
    o.look_up_timeout = 4s;
    return o;
  }
  // Of a policy's stream, as somebody who looks after the server may have made it.
  static std::string configuration(const std::string &policy, const std::string &more) {
    return R"({"name":"chorus-h-)" + policy + R"(","subjects":["chorus.h.)" + policy +
           R"(.*"],"retention":"limits","storage":"memory","num_replicas":1,"republish":{"src":"chorus.h.)" +
           policy + R"(.*","dest":"chorus.o.{{wildcard(1)}}.h"},)" + more + "}";
  }
  void make_stream(const std::string &policy, const std::string &more) const {
    tell("CREATE", policy, more);
  }
  void change_stream(const std::string &policy, const std::string &more) const {
    tell("UPDATE", policy, more);
  }

private:
  void tell(const std::string &what, const std::string &policy, const std::string &more) const {
    const auto said =
        server.ask("$JS.API.STREAM." + what + ".chorus-h-" + policy, configuration(policy, more));
    BOOST_REQUIRE_MESSAGE(!has(said, "\"error\""), said);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_outcomes, outcomes)

BOOST_AUTO_TEST_CASE(a_stream_that_never_acknowledges_holds_nobody_up) {
  make_stream("10000-0", R"("no_ack":true)");
  auto one = node(impatient());
  BOOST_REQUIRE(is_up(one));
  const auto sent = one.publish("r", "1", kept);
  BOOST_REQUIRE(sent.has_error());
  BOOST_CHECK(sent.error() == chorus::error::unconfirmed);
  BOOST_TEST_MESSAGE(sent.error().message());
  // And what is asked about the room behind such a one.
  std::optional<chorus::result<chorus::broker_position>> second;
  std::atomic<bool> answered{false};
  one.engine->publish(one.make("r", "2", kept), [&](auto r) {
    second = std::move(r);
    answered = true;
  });
  const auto page = one.page("r").value();
  BOOST_CHECK(one.begin_epoch("r", page.epoch).has_value());
  BOOST_CHECK_NE(one.page("r").value().epoch, page.epoch);
  BOOST_REQUIRE(becomes_true([&] { return answered.load(); }));
  BOOST_CHECK(second->error() == chorus::error::unconfirmed);
  BOOST_CHECK_EQUAL(one.history("r"), "1 2 "); // once each
  BOOST_CHECK_EQUAL(one.engine->stats().waiting, 0U);
}

BOOST_AUTO_TEST_CASE(a_refusal_after_a_lost_answer_says_that_nobody_knows) {
  make_stream("10000-0", R"("no_ack":true,"max_msg_size":1)");
  auto o = impatient();
  o.look_up_timeout = 60s;
  auto one = node(o);
  BOOST_REQUIRE(is_up(one));
  std::optional<chorus::result<chorus::broker_position>> outcome;
  std::atomic<bool> answered{false};
  one.engine->publish(one.make("r", "1", kept), [&](auto r) {
    outcome = std::move(r);
    answered = true;
  });
  BOOST_REQUIRE(becomes_true([&] { return one.engine->stats().looked_up > 0; }));
  change_stream("10000-0", R"("no_ack":false,"max_msg_size":1)");
  BOOST_REQUIRE(becomes_true([&] { return answered.load(); }));
  BOOST_REQUIRE(outcome->has_error());
  BOOST_CHECK(outcome->error() == chorus::error::unconfirmed);
  BOOST_TEST_MESSAGE(outcome->error().message());
  // One that was not in doubt is refused for certain.
  BOOST_CHECK(one.publish("r", "2", kept).error() == chorus::error::lost);
}

// More rooms than may look for their places at a time, all of which fail.
BOOST_AUTO_TEST_CASE(rooms_that_fail_do_not_keep_a_newcomer_waiting) {
  auto o = patient();
  o.max_waiting_bytes = 128 << 10;
  auto one = node(o);
  std::vector<std::shared_ptr<test_support::recorder>> ears;
  for (int i = 0; i < 70; ++i)
    ears.push_back(one.listen("r" + std::to_string(i)));
  BOOST_REQUIRE(has(server.ask("$JS.API.STREAM.DELETE.chorus-e", ""), "\"success\":true"));
  const auto before = one.engine->stats().commands;
  server.say("chorus.x.none", std::string(200 << 10, 'x')); // too much: something may be missed
  BOOST_REQUIRE(becomes_true([&] { return one.engine->stats().commands >= before + 64; }));
  for (int i = 0; i < 3; ++i)
    BOOST_CHECK(one.listen("new " + std::to_string(i), ears[0]).has_error());
}

BOOST_AUTO_TEST_CASE(a_newcomer_is_not_kept_waiting_by_silence) {
  auto o = patient();
  o.answer_timeout = 10min;
  o.look_up_timeout = 10s;
  auto one = node(o);
  const auto ear = one.listen("r");
  server.pause();
  const auto got = one.listen("new", ear);
  server.resume();
  BOOST_REQUIRE(got.has_error());
  BOOST_CHECK(got.error() == chorus::error::timed_out);
  BOOST_CHECK(one.listen("new", ear).has_value());
  one.publish("new", "1").value();
  BOOST_CHECK(ear->hears("1 "));
}

BOOST_AUTO_TEST_CASE(many_histories_at_a_time_are_all_read) {
  auto o = patient();
  o.look_up_timeout = 10min; // for which the last ones may wait
  auto one = node(o);
  one.publish("r", "1", kept).value();
  std::atomic<int> good{0}, bad{0};
  for (int i = 0; i < 500; ++i)
    one.engine->history("r", {}, [&](const auto &page) {
      ++(page.has_value() && page->messages.size() == 1 ? good : bad);
    });
  BOOST_CHECK(becomes_true([&] { return good + bad == 500; }));
  BOOST_CHECK_EQUAL(bad, 0);
}

// Its stream knows ids for some seconds only, as JetStream knows none for longer than messages.
BOOST_AUTO_TEST_CASE(what_is_kept_for_a_short_time_is_not_kept_twice) {
  chorus::room_options brief;
  brief.history_age = 20s;
  make_stream("0-20000", R"("no_ack":true,"max_age":20000000000,"duplicate_window":20000000000)");
  auto one = node([] {
    auto o = impatient();
    o.look_up_timeout = 10s;
    return o;
  }());
  BOOST_REQUIRE(is_up(one));
  const auto ear = one.listen("r");
  BOOST_CHECK(one.publish("r", "1", brief).error() == chorus::error::unconfirmed);
  BOOST_CHECK_EQUAL(ear->messages().size(), 1U);
  BOOST_CHECK_GE(one.engine->stats().looked_up, 1U);
}

// What waits for a message that another has overtaken is bounded by its bytes, too.
BOOST_AUTO_TEST_CASE(much_that_came_too_early_is_not_kept_waiting) {
  auto one = node(patient());
  const auto ear = one.listen("r");
  const auto first = one.publish("r", "0", kept).value().offset;
  BOOST_CHECK(ear->hears("0 "));
  const auto body = [](const std::string &text) {
    chorus::broker_message m;
    m.content = text;
    return chorus::detail::write_broker_message(m);
  };
  const auto tell = [&](std::uint64_t sequence, const std::string &text) {
    server.say("chorus.o." + chorus::detail::nats_token("r") + ".h", body(text),
               "Nats-Stream: chorus-h-10000-0\r\nNats-Sequence: " + std::to_string(sequence) +
                   "\r\nNats-Last-Sequence: " + std::to_string(sequence - 1) + "\r\n");
  };
  for (std::uint64_t i = 2; i < 20; ++i)
    tell(first + i, std::string(1'000'000, 'x'));
  tell(first + 1, "late");
  tell(first + 20, "end");
  BOOST_CHECK(becomes_true([&] { return ear->heard().ends_with("end "); }));
  BOOST_CHECK_EQUAL(ear->messages().size(), 20U);
  BOOST_CHECK_EQUAL(ear->gaps(), 1);
  BOOST_CHECK(!has(ear->heard(), "late"));
}

BOOST_AUTO_TEST_CASE(leases_are_not_forgotten_when_a_reading_fails) {
  // Two consumers are one too many.
  const auto made = server.ask(
      "$JS.API.STREAM.CREATE.chorus-l",
      R"({"name":"chorus-l","subjects":["chorus.l.*"],"retention":"limits","storage":"memory",)"
      R"("num_replicas":1,"max_msgs_per_subject":1,"max_consumers":1,)"
      R"("republish":{"src":"chorus.l.*","dest":"chorus.y.{{wildcard(1)}}"}})");
  BOOST_REQUIRE_MESSAGE(!has(made, "\"error\""), made);
  auto o = patient();
  o.max_waiting_bytes = 128 << 10;
  auto two = node(o);
  const auto ear = two.listen("r");
  {
    auto one = node(patient());
    one.renew("a", 2s);
    while (one.enter("r", "a", "x").has_error()) // its lease was over
      one.renew("a", 2s);
    BOOST_REQUIRE(becomes_true([&] { return has(ear->heard(), "+a/x "); }));
    const auto taken = server.ask("$JS.API.CONSUMER.DURABLE.CREATE.chorus-l.mine",
                                  R"({"stream_name":"chorus-l","config":{"durable_name":"mine",)"
                                  R"("deliver_policy":"all","ack_policy":"explicit"}})");
    BOOST_REQUIRE_MESSAGE(!has(taken, "\"error\""), taken);
    server.say("chorus.x.none", std::string(200 << 10, 'x')); // too much: something may be missed
    BOOST_REQUIRE(becomes_true([&] { return ear->gaps() > 0; }));
  } // without a word
  BOOST_CHECK(becomes_true([&] { return has(ear->heard(), "-a/x "); }));
}

// What another version, or somebody else, has put there.
BOOST_AUTO_TEST_CASE(what_can_not_be_read_is_passed_over) {
  auto one = node(patient());
  const auto ear = one.listen("r");
  const auto first = one.publish("r", "1", kept).value();
  const auto token = chorus::detail::nats_token("r");
  server.say("chorus.h.10000-0." + token, "garbage");
  server.say("chorus.o." + token + ".m.1", "garbage");
  server.say("chorus.o." + token + ".p.1", "garbage");
  one.publish("r", "2", kept).value();
  BOOST_CHECK(ear->hears("1 2 "));
  BOOST_CHECK(becomes_true([&] { return one.engine->stats().unreadable == 3; }));
  BOOST_CHECK_EQUAL(one.history("r", first), "2 ");
  BOOST_CHECK_EQUAL(one.engine->stats().unreadable, 4U);
  BOOST_CHECK_EQUAL(ear->gaps(), 0);
}

BOOST_AUTO_TEST_CASE(what_comes_in_is_bounded_until_it_is_taken) {
  chorus::detail::nats_event one;
  one.data = std::string(400, 'x');
  chorus::detail::nats_inbox box(2 * (sizeof one + one.data.size()));
  int woken = 0;
  box.open([&] { ++woken; });
  for (int turn = 1; turn <= 3; ++turn) {
    for (int i = 0; i < 5; ++i)
      box.add(one);
    const auto all = box.take();
    BOOST_REQUIRE_EQUAL(all.size(), 3U);
    BOOST_CHECK_EQUAL(all[1].data, one.data);
    BOOST_CHECK(all[2].what == chorus::detail::nats_event::kind::missed);
    BOOST_CHECK_EQUAL(woken, turn);
  }
}

BOOST_AUTO_TEST_CASE(what_waits_is_bounded_by_its_bytes) {
  auto o = patient();
  o.answer_timeout = 10min;
  o.max_waiting_bytes = 100'000;
  auto one = node(o);
  one.publish("r", "1", kept).value();
  const std::string large(60'000, 'x');
  server.pause();
  std::atomic<int> well{0};
  one.engine->publish(one.make("r", large, kept), [&](const auto &r) { well += r.has_value(); });
  const auto refused = one.publish("r", large, kept);
  server.resume();
  BOOST_REQUIRE(refused.has_error());
  BOOST_CHECK(refused.error() == chorus::error::queue_full);
  BOOST_REQUIRE(becomes_true([&] { return well == 1; }));
  BOOST_CHECK(one.publish("r", large, kept).has_value());
}

BOOST_AUTO_TEST_SUITE_END()
