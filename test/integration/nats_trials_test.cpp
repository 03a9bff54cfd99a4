// What becomes of messages while NATS, or the way to it, fails: every one has to be accounted for.

#include "integration/trial_fixture.hpp"
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

struct nats_faults : trial_fixture<test_support::nats_process> {
  nats_faults() {
    run.emplace([&](std::size_t i) { return chorus::nats(url("nats://", i), impatient()); });
    run->goes_on();
  }
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
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(nats_trials, nats_faults)

BOOST_AUTO_TEST_CASE(the_server_is_killed_and_comes_back) {
  for (int i = 0; i < 3; ++i) {
    const auto before = disconnects_so_far();
    server.kill();
    wait_for(*run, before + trial::count);
    server.start();
    run->goes_on();
  }
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(the_server_stands_still) {
  const auto before = disconnects_so_far();
  server.pause();
  wait_for(*run, before + trial::count);
  server.resume();
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(one_nodes_way_is_closed) {
  for (int i = 0; i < 2; ++i) {
    const auto before = disconnects_so_far();
    close_way(0);
    wait_for(*run, before + 1);
    run->goes_on(100, 0);
    open_way(0);
    run->goes_on();
  }
  run->balances(losses::none);
  BOOST_CHECK_GE(run->replayed(), 2u * 100); // what the others published meanwhile
}

BOOST_AUTO_TEST_CASE(one_nodes_way_goes_silent) {
  const auto before = disconnects_so_far();
  silence_way(1);
  wait_for(*run, before + 1);
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(all_ways_are_cut_again_and_again) {
  for (int i = 0; i < 10; ++i) {
    const auto before = disconnects_so_far();
    for (const auto &r : roads)
      r->on([](fault_proxy &p) { p.cut_all(test_support::ending::reset); });
    wait_for(*run, before + trial::count);
    run->goes_on(20);
  }
  run->balances(losses::none);
}

BOOST_AUTO_TEST_SUITE_END()
