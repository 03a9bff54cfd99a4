// What becomes of messages while Redis, or the way to it, fails: every one has to be accounted for.

#include "integration/trial_fixture.hpp"
#include "support/forwarding_broker.hpp"
#include "support/redis_process.hpp"

#include <chorus/redis.hpp>

#include <random>

using namespace cluster_test;
using test_support::fault_proxy;
using test_support::redis_process;
using losses = account::losses;

namespace {

chorus::redis_options impatient() {
  chorus::redis_options o;
  o.connect_timeout = 2s;
  o.answer_timeout = 2s;
  o.ping_interval = 500ms;
  o.reconnect = {20ms, 2.0, 200ms};
  return o;
}

// Redis has written what it answers.
struct redis : trial_fixture<redis_process> {
  redis() : trial_fixture({"appendonly yes", "appendfsync always", "save \"\""}) {}
  void begin(std::size_t padding = 0, const chorus::redis_options &options = impatient()) {
    run.emplace([&](std::size_t i) { return chorus::redis(url("redis://", i), options); }, padding);
    run->goes_on();
  }
  // Until it is noticed. What was on its way may wait for its outcome, and nothing fail yet.
  void kill() {
    const auto before = run->disconnects_so_far();
    server.kill();
    wait_for(*run, before + trial::count);
  }
};

// Takes one message, and publishes it so many times.
class careless final : public test_support::forwarding_broker {
public:
  explicit careless(int times) : times_(times) {}
  void publish(chorus::broker_message m, published answer) override {
    if (m.content.text().starts_with("a:20 ")) {
      for (int i = 0; i < times_; ++i)
        inner()->publish(m, [](const auto &) {});
      answer(chorus::broker_position{});
    } else
      inner()->publish(std::move(m), std::move(answer));
  }

private:
  const int times_;
};

} // namespace

BOOST_AUTO_TEST_SUITE(trials)

BOOST_AUTO_TEST_CASE(a_good_engine_balances) {
  const auto engine = chorus::make_memory_broker();
  trial run([&](std::size_t) { return engine; });
  run.goes_on();
  run.balances(losses::none);
}

BOOST_AUTO_TEST_CASE(what_an_engine_loses_or_doubles_is_found) {
  for (const int times : {0, 2}) {
    const auto engine = std::make_shared<careless>(times);
    trial run([&](std::size_t) { return engine; });
    run.goes_on();
    run.comes_to_an_end(true);
    const auto found = run.books.complaints(losses::told);
    BOOST_REQUIRE(!found.empty());
    BOOST_CHECK_MESSAGE(
        has(found[0], times == 0 ? " has not got a:20, which was accepted, and was not told"
                                 : " got a:20 twice"),
        found[0]);
  }
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_FIXTURE_TEST_SUITE(redis_faults, redis)

BOOST_AUTO_TEST_CASE(no_fault) {
  auto patient = impatient(); // nor one that a slow machine looks like
  patient.connect_timeout = patient.answer_timeout = 1min;
  begin(0, patient);
  run->balances(losses::none);
  BOOST_CHECK_EQUAL(run->books.sum().accepted, run->books.sum().sent);
  BOOST_CHECK_EQUAL(run->replayed(), 0u);
}

BOOST_AUTO_TEST_CASE(killed_and_back_with_its_data) {
  begin();
  for (int i = 0; i < 3; ++i) {
    kill();
    server.restart();
    run->goes_on();
  }
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(back_without_its_data) {
  begin();
  kill();
  server.restart(false);
  run->goes_on();
  run->balances(losses::told);
  BOOST_CHECK_EQUAL(run->told(), 4u); // all that resume
}

// What was accepted since that copy was made is lost: those who have it are told.
BOOST_AUTO_TEST_CASE(back_with_older_data) {
  begin();
  const auto data = server.folder() / "appendonlydir";
  const auto older = server.folder() / "older";
  server.kill();
  std::filesystem::copy(data, older, std::filesystem::copy_options::recursive);
  server.restart();
  run->goes_on();
  server.kill();
  std::filesystem::remove_all(data);
  std::filesystem::rename(older, data);
  server.restart();
  run->goes_on();
  run->balances(losses::told);
  BOOST_CHECK_EQUAL(run->told(), 4u);
}

BOOST_AUTO_TEST_CASE(who_is_present_is_said_again) {
  begin();
  std::vector<wire> members;
  for (std::size_t i = 0; i < trial::count; ++i) {
    members.push_back(run->at(i).enter("/hall?name=m" + std::to_string(i)));
    members.push_back(run->at(i).enter("/?name=ann"));
  }
  const auto as_it_was = [&] {
    for (std::size_t i = 0; i < trial::count; ++i)
      if (run->at(i).list("hall") != "m0 m1 m2 " ||
          run->at(i).engine->present("room/hall") != trial::count)
        return false;
    return true;
  };
  BOOST_REQUIRE(soon(as_it_was));
  for (const bool with_its_data : {true, false}) {
    kill();
    server.restart(with_its_data);
    BOOST_REQUIRE(soon(as_it_was));
  }
  auto late = run->at(2).enter("/hall?name=late");
  expect(late, {"[late,m0,m1,m2]"});
  BOOST_REQUIRE(soon([&] { return run->at(1).engine->listens("user/ann"); }));
  run->at(0).server().send_to_user("ann", "still here");
  for (std::size_t i = 0; i < trial::count; ++i) {
    auto &ann = members[2 * i + 1];
    ann.read_frame(); // its name
    expect(ann, {"still here"});
  }
  run->balances(losses::told);
}

// Nodes stop without waiting for an engine that is away.
BOOST_AUTO_TEST_CASE(nodes_stop_while_it_is_away) {
  begin();
  server.pause();
  run->fails();
  run.reset();
  server.resume();
}

BOOST_AUTO_TEST_CASE(stands_still) {
  begin();
  const auto before = run->disconnects_so_far();
  server.pause();
  // Every node gives both of its connections up.
  wait_for(*run, before + 2 * trial::count);
  server.resume();
  run->goes_on();
  run->balances(losses::none);
}

// What Redis had been sent before, it does when it goes on; nobody has waited for it.
BOOST_AUTO_TEST_CASE(stands_still_for_too_long) {
  auto options = impatient();
  options.look_up_timeout = 1s;
  begin(0, options);
  server.pause();
  BOOST_REQUIRE(soon([&] { return run->books.sum().unconfirmed > 0; }));
  server.resume();
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(one_node_is_cut_off) {
  begin();
  for (int i = 0; i < 3; ++i) {
    const auto before = run->disconnects_so_far();
    close_way(0);
    wait_for(*run, before + 2);
    run->goes_on(100, 0);
    open_way(0);
    run->goes_on();
  }
  run->balances(losses::none);
  BOOST_CHECK_GE(run->replayed(), 3u * 100); // what the others published meanwhile
}

BOOST_AUTO_TEST_CASE(one_nodes_way_goes_silent) {
  begin();
  const auto before = run->disconnects_so_far();
  silence_way(1);
  wait_for(*run, before + 2);
  run->goes_on();
  run->balances(losses::none);
}

// What was asked has been done, and the answer does not come through.
BOOST_AUTO_TEST_CASE(answers_are_cut) {
  begin();
  const auto before = run->disconnects_so_far();
  std::mt19937 random(7);
  for (const auto &r : roads)
    r->on([&](fault_proxy &p) {
      for (int i = 0; i < 30; ++i) {
        test_support::faults f;
        f.cut_down = 1500 + random() % 6000; // the login takes some
        p.next(f);
      }
      p.cut_all(test_support::ending::reset);
    });
  wait_for(*run, before + 60);
  for (const auto &r : roads)
    r->on([](fault_proxy &p) { p.cut_all(test_support::ending::fin); });
  // The cuts that were planned are used up, or still cut.
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(nothing_but_the_answers_stops) {
  begin();
  const auto before = run->disconnects_so_far();
  roads[2]->on([](fault_proxy &p) { p.stall_all(test_support::way::down); });
  wait_for(*run, before + 2);
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_CASE(connections_are_killed) {
  begin();
  for (int i = 0; i < 10; ++i) {
    const auto before = run->disconnects_so_far();
    server.ask({"CLIENT", "KILL", "TYPE", i % 2 == 0 ? "normal" : "pubsub", "SKIPME", "yes"});
    wait_for(*run, before + trial::count);
    run->goes_on(20);
  }
  run->balances(losses::none);
}

// Redis gives up who does not read what is published.
BOOST_AUTO_TEST_CASE(subscribers_are_given_up) {
  begin(2000);
  const auto before = run->disconnects_so_far();
  server.ask({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 1 1 1"});
  wait_for(*run, before + 5);
  server.ask({"CONFIG", "SET", "client-output-buffer-limit", "pubsub 32mb 8mb 60"});
  run->goes_on();
  run->balances(losses::none);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(redis_sentinel)

BOOST_AUTO_TEST_CASE(another_becomes_the_master) {
  redis_process one(std::vector<std::string>{"appendonly yes"});
  redis_process two(std::vector<std::string>{"appendonly yes",
                                             "replicaof 127.0.0.1 " + std::to_string(one.port())});
  test_support::redis_process_options watching;
  watching.sentinel = true;
  watching.lines = {"sentinel monitor main 127.0.0.1 " + std::to_string(one.port()) + " 1",
                    "sentinel down-after-milliseconds main 10000",
                    "sentinel failover-timeout main 5000"};
  redis_process sentinel(watching);
  const auto replicas = [&](const redis_process &p) {
    return has(p.ask({"INFO", "replication"}), "state=online");
  };
  BOOST_REQUIRE(soon([&] { return replicas(one); }));
  BOOST_REQUIRE(soon([&] { return has(sentinel.ask({"INFO", "sentinel"}), "slaves=1"); }));
  trial run([&](std::size_t) {
    return chorus::redis("redis+sentinel://127.0.0.1:" + std::to_string(sentinel.port()) +
                             "?master=main",
                         impatient());
  });
  run.goes_on();
  const auto before = run.disconnects_so_far();
  one.kill();
  wait_for(run, before + trial::count);
  run.goes_on();
  // It comes back as a replica of the other, then takes over again in good order.
  one.restart();
  BOOST_REQUIRE(soon([&] { return replicas(two); }));
  BOOST_REQUIRE(soon([&] { return sentinel.ask({"SENTINEL", "FAILOVER", "main"}) == "OK"; }));
  BOOST_REQUIRE(soon([&] { return has(one.ask({"ROLE"}), "master"); }));
  run.goes_on();
  run.balances(losses::told);
}

BOOST_AUTO_TEST_SUITE_END()

BOOST_AUTO_TEST_SUITE(redis_masters)

// The room goes from master to master and back, key by key.
BOOST_AUTO_TEST_CASE(slots_move) {
  test_support::redis_cluster masters(3, {"appendonly yes", "appendfsync always"});
  trial run([&](std::size_t) { return chorus::redis(masters.url(), impatient()); });
  run.goes_on();
  const auto slot =
      static_cast<unsigned>(std::stoul(masters[0].ask({"CLUSTER", "KEYSLOT", "{room/kept}"})));
  for (int i = 0; i < 4; ++i) {
    const auto from = masters.owner(slot);
    const auto to = (from + 1) % masters.size();
    masters.move_slot(slot, from, to, [&] { run.goes_on(20); });
    BOOST_REQUIRE_EQUAL(masters.owner(slot), to);
    run.goes_on(50);
  }
  run.balances(losses::none);
}

BOOST_AUTO_TEST_CASE(a_master_is_killed_and_comes_back) {
  test_support::redis_cluster masters(3, {"appendonly yes", "appendfsync always"});
  trial run([&](std::size_t) { return chorus::redis(masters.url(), impatient()); });
  run.goes_on();
  const auto slot =
      static_cast<unsigned>(std::stoul(masters[0].ask({"CLUSTER", "KEYSLOT", "{room/kept}"})));
  for (int i = 0; i < 2; ++i) {
    auto &master = masters[masters.owner(slot)];
    const auto before = run.disconnects();
    master.kill();
    wait_for(run, before + trial::count);
    master.restart();
    run.goes_on();
  }
  run.balances(losses::none);
}

BOOST_AUTO_TEST_SUITE_END()
