// What becomes of messages while NATS, or the way to it, fails: every one has to be accounted for.

#include "integration/faults_support.hpp"
#include "support/nats_process.hpp"

#include <chorus/nats.hpp>

using namespace cluster_test;
using test_support::fault_proxy;
using losses = account::losses;

namespace {

chorus::nats_options impatient() {
  chorus::nats_options o;
  o.connect_timeout = 2s;
  o.answer_timeout = 2s;
  return o;
}

// A NATS server, and a road to it for each node.
struct nats_faults {
  test_support::nats_process server;
  std::vector<std::unique_ptr<road>> roads;
  std::optional<trial> run;

  nats_faults() {
    for (std::size_t i = 0; i < trial::count; ++i)
      roads.push_back(std::make_unique<road>(server.port()));
    run.emplace([&](std::size_t i) {
      return chorus::nats("nats://127.0.0.1:" + std::to_string(roads[i]->port()), impatient());
    });
    run->goes_on();
  }
  ~nats_faults() { server.resume(); } // whatever happened
  // Once every node has its connection.
  std::uint64_t disconnects_so_far() {
    BOOST_REQUIRE(soon([&] {
      for (std::size_t i = 0; i < trial::count; ++i)
        if (!run->at(i).engine->status().connected)
          return false;
      return true;
    }));
    return run->disconnects();
  }
  void wait_for(std::uint64_t disconnects) {
    BOOST_REQUIRE(soon([&] { return run->disconnects() >= disconnects; }));
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_trials, nats_faults)

BOOST_AUTO_TEST_CASE(the_server_is_killed_and_comes_back) {
  for (int i = 0; i < 3; ++i) {
    const auto before = disconnects_so_far();
    server.kill();
    wait_for(before + trial::count);
    server.start();
    run->goes_on();
  }
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(the_server_stands_still) {
  const auto before = disconnects_so_far();
  server.pause();
  wait_for(before + trial::count);
  server.resume();
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(one_nodes_way_is_closed) {
  for (int i = 0; i < 2; ++i) {
    const auto before = disconnects_so_far();
    roads[0]->on([](fault_proxy &p) {
      p.refuse();
      p.cut_all(test_support::ending::reset);
    });
    wait_for(before + 1);
    run->goes_on(100, 0);
    roads[0]->on([](fault_proxy &p) { p.listen_again(); });
    run->goes_on();
  }
  run->balances(losses::none);
  BOOST_CHECK_GE(run->replayed(), 2u * 100); // what the others published meanwhile
}

BOOST_AUTO_TEST_CASE(one_nodes_way_goes_silent) {
  const auto before = disconnects_so_far();
  roads[1]->on([](fault_proxy &p) { p.stall_all(); });
  wait_for(before + 1);
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(all_ways_are_cut_again_and_again) {
  for (int i = 0; i < 10; ++i) {
    const auto before = disconnects_so_far();
    for (const auto &r : roads)
      r->on([](fault_proxy &p) { p.cut_all(test_support::ending::reset); });
    wait_for(before + trial::count);
    run->goes_on(20);
  }
  run->balances(losses::none);
}

BOOST_AUTO_TEST_SUITE_END()
