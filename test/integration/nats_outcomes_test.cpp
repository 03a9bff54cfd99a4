// What becomes of calls when NATS answers too late, not at all, or refuses: each is answered, and truly.

#include "support/broker_calls.hpp"
#include "support/nats_process.hpp"

#include <chorus/cluster/nats.hpp>

#include <boost/test/unit_test.hpp>

#include <atomic>
#include <optional>

namespace {

using namespace std::chrono_literals;
using test_support::asker;
using test_support::becomes_true;

struct outcomes {
  test_support::nats_process server;
  chorus::room_options kept;
  outcomes() { kept.history_messages = 10'000; }

  static chorus::nats_options patient() {
    chorus::nats_options o;
    o.answer_timeout = 20s; // on a slow machine, too
    return o;
  }
  static chorus::nats_options impatient() {
    chorus::nats_options o;
    o.answer_timeout = 300ms;
    o.look_up_timeout = 1s;
    return o;
  }
  asker node(chorus::nats_options o) const {
    auto made = chorus::nats(server.url(), std::move(o));
    made->attach({}).value();
    return asker(std::move(made));
  }
  // Of a policy's stream, as somebody who looks after the server may have made it.
  static std::string configuration(const std::string &policy, const std::string &more) {
    return R"({"name":"chorus-h-)" + policy + R"(","subjects":["chorus.h.)" + policy +
           R"(.*"],"retention":"limits","storage":"memory","num_replicas":1,"republish":{"src":"chorus.h.)" +
           policy + R"(.*","dest":"chorus.o.{{wildcard(1)}}.h"},)" + more + "}";
  }
  void make_stream(const std::string &policy, const std::string &more) const {
    const auto said =
        server.ask("$JS.API.STREAM.CREATE.chorus-h-" + policy, configuration(policy, more));
    BOOST_REQUIRE_MESSAGE(said.find("\"error\"") == said.npos, said);
  }
  void change_stream(const std::string &policy, const std::string &more) const {
    const auto said =
        server.ask("$JS.API.STREAM.UPDATE.chorus-h-" + policy, configuration(policy, more));
    BOOST_REQUIRE_MESSAGE(said.find("\"error\"") == said.npos, said);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_outcomes, outcomes)

BOOST_AUTO_TEST_CASE(a_stream_that_never_acknowledges_holds_nobody_up) {
  make_stream("10000-0", R"("no_ack":true)");
  auto one = node(impatient());
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

BOOST_AUTO_TEST_SUITE_END()
