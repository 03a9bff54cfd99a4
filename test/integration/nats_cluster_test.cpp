// Three NATS servers that are one cluster, with streams that each of them has.

#include "integration/nats_support.hpp"

#include <boost/test/unit_test.hpp>

#include <array>

namespace {

using namespace nats_test;
using test_support::reserved_port;

struct three_servers {
  static constexpr std::size_t count = 3;
  std::array<reserved_port, count> routes;
  std::array<nats_process, count> servers{nats_process(lines(0)), nats_process(lines(1)),
                                          nats_process(lines(2))};
  chorus::room_options kept;
  three_servers() { kept.history_messages = 1'000'000; }

  std::vector<std::string> lines(std::size_t i) const {
    std::string all;
    for (const auto &one : routes)
      all += (all.empty() ? "\"" : ", \"") + ("nats://127.0.0.1:" + std::to_string(one.number())) +
             '"';
    return {"server_name: n" + std::to_string(i),
            "cluster { name: c, listen: \"127.0.0.1:" + std::to_string(routes[i].number()) +
                "\", routes: [" + all + "] }"};
  }
  // Of the stream of messages.
  std::size_t leader() const {
    std::string said;
    std::size_t found = count;
    BOOST_REQUIRE_MESSAGE(becomes_true([&] {
                            said = servers[0].ask("$JS.API.STREAM.INFO.chorus-h-1000000-0", "");
                            for (std::size_t i = 0; i < count; ++i)
                              if (said.find("\"leader\":\"n" + std::to_string(i) + '"') !=
                                  said.npos)
                                found = i;
                            return found != count;
                          }),
                          "nobody leads: " + said);
    return found;
  }
  asker node() const {
    std::string url = "nats://";
    for (const auto &one : servers)
      url += (url.ends_with('/') ? "" : ",") + ("127.0.0.1:" + std::to_string(one.port()));
    chorus::nats_options o;
    o.replicas = count;
    o.look_up_timeout = 2min; // until a leader was elected, on a slow machine, too
    return node_at(url, o);
  }
  // Streams are made when first used.
  std::size_t leader_once_used() {
    auto first = node();
    BOOST_REQUIRE(is_up(first)); // once the servers have found each other
    BOOST_REQUIRE(
        becomes_true([&] { return first.publish("another", "first", kept).has_value(); }));
    return leader();
  }
  // While a node publishes.
  void dies(std::size_t which) {
    auto one = node();
    auto two = node();
    BOOST_REQUIRE(is_up(one) && is_up(two));
    const auto ear = std::make_shared<test_support::recorder>();
    BOOST_REQUIRE(becomes_true([&] { return two.listen("r", ear).has_value(); }));
    steady_publisher publisher(one, kept);
    BOOST_REQUIRE(publisher.goes_on());
    const auto epoch = page_of(two).epoch;
    servers[which].kill();
    BOOST_REQUIRE(publisher.goes_on());
    servers[which].start();
    for (int i = 0; i < 100; ++i) { // also while it catches up with the others
      std::optional<bool> whole;
      BOOST_REQUIRE(becomes_true([&] { return (whole = publisher.is_read_by(two)).has_value(); }));
      BOOST_CHECK(*whole);
    }
    BOOST_REQUIRE(publisher.goes_on() && is_up(one) && is_up(two));
    publisher.balances(two);
    BOOST_CHECK_EQUAL(page_of(two).epoch, epoch);
    BOOST_CHECK_EQUAL(ear->messages().back().at.epoch, epoch);
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_cluster, three_servers)

BOOST_AUTO_TEST_CASE(a_server_that_does_not_lead_may_die) {
  dies((leader_once_used() + 1) % count);
}

// By hand (--run_test=nats_cluster), for not all that it finds is ours: in one of 70 runs a message that
// nats-server 2.9.10 had acknowledged was not found afterwards, and in one it had dropped a message while
// leaders changed and taken the next.
BOOST_AUTO_TEST_CASE(the_leader_may_die, *boost::unit_test::disabled()) {
  dies(leader_once_used());
}

BOOST_AUTO_TEST_SUITE_END()
