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
  three_servers() { kept.history_messages = 100'000; }

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
  nats_process &leader() {
    const auto said = servers[0].ask("$JS.API.STREAM.INFO.chorus-h-100000-0", "");
    for (std::size_t i = 0; i < count; ++i)
      if (said.find("\"leader\":\"n" + std::to_string(i) + '"') != said.npos)
        return servers[i];
    throw std::runtime_error("nobody leads: " + said);
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
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_cluster, three_servers)

// What it has acknowledged the others have, and what it had not is found out from them.
BOOST_AUTO_TEST_CASE(the_leader_may_die) {
  auto one = node();
  auto two = node();
  BOOST_REQUIRE(is_up(one) && is_up(two));
  const auto ear = two.listen("r");
  steady_publisher publisher(one, kept);
  BOOST_REQUIRE(publisher.goes_on());
  const auto epoch = two.page("r").value().epoch;
  auto &first = leader();
  first.kill();
  BOOST_REQUIRE(publisher.goes_on());
  first.start();
  BOOST_REQUIRE(publisher.goes_on() && is_up(one) && is_up(two));
  publisher.balances(two);
  BOOST_CHECK_EQUAL(two.page("r").value().epoch, epoch);
  BOOST_CHECK_EQUAL(ear->messages().back().at.epoch, epoch);
}

BOOST_AUTO_TEST_SUITE_END()
