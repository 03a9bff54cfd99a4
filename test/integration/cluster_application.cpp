// A whole service on three nodes, as its users see it: the same on every engine.
//   test_application [Boost.Test arguments] -- --engine memory|redis|nats

#include "integration/cluster_support.hpp"

#include <thread>

using namespace cluster_test;

namespace {

std::string refusal(node &n, const std::string &name) {
  wire w(n.port());
  w.send(upgrade_request("/?name=" + name));
  return w.read_response().substr(0, 13);
}

// Until it has so many of the room; what does not come ends the test.
void read_until(client &reader, std::size_t count) {
  while (reader.seen["kept"].size() < count)
    BOOST_REQUIRE_MESSAGE(!reader.take().t.empty(),
                          "nothing more after " << reader.seen["kept"].size());
}

} // namespace

BOOST_AUTO_TEST_SUITE(application)

BOOST_FIXTURE_TEST_CASE(all_nodes_have_one_order, three) {
  std::vector<wire> plain;
  for (auto *n : {&*a, &*a, &*b, &*c})
    plain.push_back(n->enter("/kept"));
  wait_for_members(nodes(), "kept", 4);
  constexpr int each = 200;
  publish_all(nodes(), "kept", each);
  const auto order = texts(plain[0], 3 * each);
  in_order(order, each);
  for (std::size_t i = 1; i < plain.size(); ++i)
    same(texts(plain[i], 3 * each), order);
  // Of the room's last ones, whoever comes later.
  auto late = c->enter("/kept?history=7");
  same(texts(late, 7), {order.end() - 7, order.end()});
}

BOOST_FIXTURE_TEST_CASE(who_moves_between_nodes_misses_nothing, three) {
  client reader("b2d0c7f3a91e4d55");
  auto witness = b->enter("/kept");
  reader.connect(a->port(), "/kept");
  reader.joined();
  wait_for_members(nodes(), "kept", 2);
  constexpr int each = 40;
  std::vector<std::string> order;
  int round = 0;
  for (auto *to : {&*b, &*c, &*a, &*a, &*c, &*b}) {
    publish_all(nodes(), "kept", each);
    const auto some = texts(witness, 3 * each);
    order.insert(order.end(), some.begin(), some.end());
    // It has read some of it, in the first round nothing.
    for (int i = 0; i < round * 10; ++i)
      reader.take();
    ++round;
    reader.vanish();
    const auto had = reader.seen["kept"].size();
    reader.connect(to->port(), "/kept");
    const auto j = reader.joined();
    BOOST_CHECK_EQUAL(j.recovered, 1);
    // What this node has not heard of yet comes as all else does.
    BOOST_CHECK_LE(j.missed, static_cast<std::int64_t>(order.size() - had));
    // What it says there is for all others.
    reader.send("mine" + std::to_string(round));
    BOOST_CHECK_EQUAL(next_frame(witness).payload, "mine" + std::to_string(round));
    read_until(reader, order.size());
  }
  same(reader.seen["kept"], order);
  BOOST_CHECK_EQUAL(reader.doubled, 0);
}

BOOST_FIXTURE_TEST_CASE(clients_that_wander_hear_all_once_in_order, three) {
  running loop(2);
  std::vector<std::string> urls;
  for (auto *n : nodes())
    urls.push_back(n->server().url() + "/kept");
  std::vector<std::unique_ptr<listener_client>> clients;
  for (int i = 0; i < 4; ++i)
    clients.push_back(std::make_unique<listener_client>(loop, urls));
  wait_for_members(nodes(), "kept", 4);
  // From here on each knows its place, wherever it goes.
  a->room("kept").publish("begin");
  for (const auto &one : clients)
    BOOST_REQUIRE(comes_true([&] { return one->count() == 1; }));
  constexpr int each = 1000;
  std::atomic<bool> over{false};
  // Whoever is cut off comes back before that happens again.
  std::thread trouble([&] {
    std::vector<int> back(clients.size(), -1);
    for (std::size_t i = 0; !over; i = (i + 1) % clients.size()) {
      const int now = clients[i]->recovered;
      if (std::exchange(back[i], now) != now)
        clients[i]->client().current().abort();
      std::this_thread::sleep_for(3ms); // a pace, not a wait
    }
  });
  publish_all(nodes(), "kept", each);
  const bool any = comes_true([&] { return clients[0]->recovered > 2; });
  over = true;
  trouble.join();
  BOOST_CHECK(any);
  for (const auto &one : clients)
    BOOST_REQUIRE_MESSAGE(comes_true([&] { return one->count() > 3 * each; }),
                          state_of(clients, nodes(), "kept"));
  // Behind everything else.
  a->room("kept").publish("end");
  for (const auto &one : clients)
    BOOST_REQUIRE(comes_true([&] { return one->heard().back() == "end"; }));
  auto order = clients[0]->heard();
  order.pop_back();
  order.erase(order.begin());
  in_order(order, each);
  for (const auto &one : clients) {
    auto got = one->heard();
    got.pop_back();
    got.erase(got.begin());
    same(got, order);
    BOOST_CHECK_EQUAL(one->lost, 0);
  }
  for (const auto &one : clients)
    BOOST_CHECK(loop.wait(one->client().close()).has_value());
}

BOOST_FIXTURE_TEST_CASE(what_is_not_kept_any_more_is_told, three) {
  client reader("0102030405060708");
  reader.connect(a->port(), "/few");
  BOOST_CHECK_EQUAL(reader.joined().recovered, -1);
  auto witness = b->enter("/few");
  wait_for_members(nodes(), "few", 2);
  reader.vanish();
  constexpr int each = 400;
  publish_all(nodes(), "few", each);
  in_order(texts(witness, 3 * each), each);
  reader.connect(c->port(), "/few");
  const auto j = reader.joined();
  BOOST_CHECK_EQUAL(j.recovered, 0);
  BOOST_CHECK_EQUAL(j.why, "trimmed");
  a->room("few").publish("new");
  BOOST_CHECK_EQUAL(reader.take().payload, "new");
}

BOOST_FIXTURE_TEST_CASE(what_is_not_kept_comes_in_its_publishers_order, three) {
  std::vector<wire> members;
  for (auto *n : nodes())
    members.push_back(n->enter("/passing"));
  wait_for_members(nodes(), "passing", 3);
  for (auto *n : nodes())
    BOOST_REQUIRE(comes_true([&] { return n->engine->listens("room/passing"); }));
  constexpr int each = 300;
  publish_all(nodes(), "passing", each);
  for (auto &w : members)
    in_order(texts(w, 3 * each), each);
  // Who says it does not hear it, and nobody twice.
  members[0].send(text_frame("from a"));
  members[1].send(text_frame("from b"));
  BOOST_CHECK_EQUAL(members[0].read_frame().payload, "from b");
  BOOST_CHECK_EQUAL(members[1].read_frame().payload, "from a");
  const std::set<std::string> both{members[2].read_frame().payload,
                                   members[2].read_frame().payload};
  BOOST_CHECK(both == (std::set<std::string>{"from a", "from b"}));
}

BOOST_FIXTURE_TEST_CASE(any_bytes_in_any_room, three) {
  const std::string room = "kept%20%7Bx%7D.*%3E%3A%C3%BC%0A";
  std::vector<wire> members;
  for (auto *n : nodes())
    members.push_back(n->enter("/" + room));
  auto other = a->enter("/kept%20%7By%7D.*%3E%3A%C3%BC%0A");
  const std::string name = "kept {x}.*>:\xc3\xbc\n";
  wait_for_members(nodes(), name, 3);
  std::string bytes(50'000, '\0');
  for (std::size_t i = 0; i < bytes.size(); ++i)
    bytes[i] = static_cast<char>(i * 7 + i / 256);
  b->room(name).publish(chorus::binary(bytes));
  b->room(name).publish("");
  for (auto &w : members) {
    const auto f = w.read_frame();
    BOOST_CHECK_EQUAL(f.opcode, 2u);
    BOOST_CHECK(f.payload == bytes);
    const auto empty = w.read_frame();
    BOOST_CHECK_EQUAL(empty.opcode, 1u);
    BOOST_CHECK_EQUAL(empty.payload, "");
  }
  BOOST_CHECK(!other.readable());
}

BOOST_FIXTURE_TEST_CASE(who_comes_and_goes_is_told_once, three) {
  auto ann = a->enter("/hall?name=ann");
  expect(ann, {"[ann]"});
  BOOST_REQUIRE(comes_true([&] { return a->engine->present("room/hall") == 1; }));
  auto bob = b->enter("/hall?name=bob&data=1");
  expect(bob, {"[ann,bob=1]"});
  expect(ann, {"+bob=1"});
  auto cat = c->enter("/hall?name=cat");
  expect(cat, {"[ann,bob=1,cat]"});
  for (auto *w : {&ann, &bob})
    expect(*w, {"+cat"});
  bob.send(text_frame("!2"));
  for (auto *w : {&ann, &bob, &cat})
    expect(*w, {"~bob=2"});
  for (auto *n : nodes())
    BOOST_CHECK(comes_true([&] { return n->list("hall") == "ann bob=2 cat "; }));
  // The same user on another node has neither come nor gone.
  auto also = c->enter("/hall?name=ann");
  expect(also, {"[ann,bob=2,cat]"});
  ann.close();
  BOOST_REQUIRE(comes_true([&] { return a->engine->present("room/hall") == 3; }));
  bob.close();
  for (auto *w : {&cat, &also})
    expect(*w, {"-bob=2"});
  also.close();
  expect(cat, {"-ann"});
  for (auto *n : nodes())
    BOOST_CHECK(comes_true([&] { return n->list("hall") == "cat "; }));
}

BOOST_FIXTURE_TEST_CASE(going_to_another_node_is_not_leaving, three) {
  auto bob = c->enter("/garden?name=bob");
  expect(bob, {"[bob]"});
  BOOST_REQUIRE(comes_true([&] { return c->engine->present("room/garden") == 1; }));
  std::optional<wire> ann(a->enter("/garden?name=ann"));
  expect(*ann, {"[ann,bob]"});
  expect(bob, {"+ann"});
  for (auto *to : {&*b, &*c, &*a, &*b}) {
    ann.reset();
    BOOST_REQUIRE(comes_true([&] { return c->list("garden") == "ann(away) bob "; }));
    ann.emplace(to->enter("/garden?name=ann"));
    expect(*ann, {"[ann,bob]"});
    BOOST_REQUIRE(comes_true([&] { return c->list("garden") == "ann bob "; }));
  }
  ann->send(text_frame("end"));
  expect(bob, {"end"}); // and nothing before
}

BOOST_FIXTURE_TEST_CASE(users_and_sessions_are_reached_anywhere, three) {
  auto one = a->enter("/?name=ann");
  const auto id = one.read_frame().payload;
  BOOST_CHECK(id.starts_with(a->name + ":"));
  auto two = b->enter("/?name=ann");
  auto bob = b->enter("/?name=bob");
  two.read_frame();
  bob.read_frame();
  BOOST_REQUIRE(comes_true([&] {
    return a->engine->listens("user/ann") && b->engine->listens("user/ann") &&
           b->engine->listens("user/bob");
  }));
  c->server().send_to_user("ann", "from c");
  expect(one, {"from c"});
  expect(two, {"from c"});
  a->server().send_to_user("bob", "from a");
  expect(bob, {"from a"});
  for (auto *n : nodes()) {
    const auto sent = n->loop.wait(n->server().send_to(id, "for you"), 1);
    BOOST_CHECK_MESSAGE(sent.has_value(), sent.error().message());
    expect(one, {"for you"});
  }
  auto none = c->loop.wait(c->server().send_to(a->name + ":999999", "lost"));
  BOOST_CHECK(none.error() == chorus::error::not_open);
  const auto known =
      c->loop.wait(c->server().disconnect_user("ann", chorus::close_code(4001), "x"));
  BOOST_REQUIRE_MESSAGE(known.has_value(), known.error().message());
  BOOST_CHECK_EQUAL(*known, 0u);
  for (auto *w : {&one, &two})
    BOOST_CHECK_EQUAL(next_frame(*w).close_code(), 4001u);
  c->server().send_to_user("bob", "still here");
  expect(bob, {"still here"});
}

BOOST_AUTO_TEST_CASE(a_users_limit_holds_over_all_nodes) {
  three all(1h, [](chorus::server_options &o) { o.max_connections_per_user = 2; });
  auto one = all.a->enter("/?name=ann");
  auto two = all.b->enter("/?name=ann");
  auto bob = all.c->enter("/?name=bob");
  BOOST_CHECK_EQUAL(refusal(*all.c, "ann"), "HTTP/1.1 429 ");
  one.close();
  BOOST_REQUIRE(comes_true([&] { return all.a->engine->present("user/ann") == 1; }));
  auto last = all.c->enter("/?name=ann");
  for (auto *n : all.nodes())
    BOOST_CHECK_EQUAL(refusal(*n, "ann"), "HTTP/1.1 429 ");
}

BOOST_AUTO_TEST_CASE(the_oldest_of_all_nodes_makes_room) {
  three all(1h, [](chorus::server_options &o) {
    o.max_connections_per_user = 2;
    o.on_user_limit = chorus::over_user_limit::close_oldest;
  });
  auto one = all.a->enter("/?name=ann");
  auto two = all.b->enter("/?name=ann");
  auto three = all.c->enter("/?name=ann");
  one.read_frame(); // its name
  BOOST_CHECK_EQUAL(one.read_frame().close_code(), 1008u);
  one.close();
  BOOST_REQUIRE(comes_true([&] { return all.a->engine->present("user/ann") == 2; }));
}

BOOST_AUTO_TEST_CASE(a_node_that_dies_takes_only_its_members_along) {
  three all(15s);
  auto &[cluster, a, b, c] = all;
  auto ann = a->enter("/hall?name=ann");
  expect(ann, {"[ann]"});
  auto dan = a->enter("/hall?name=dan");
  expect(dan, {"[ann,dan]"});
  BOOST_REQUIRE(comes_true([&] { return a->engine->present("room/hall") == 2; }));
  auto bob = b->enter("/hall?name=bob");
  expect(bob, {"[ann,bob,dan]"});
  BOOST_REQUIRE(comes_true([&] { return a->engine->present("room/hall") == 3; }));
  auto cat = c->enter("/hall?name=cat");
  expect(cat, {"[ann,bob,cat,dan]"});
  expect(bob, {"+cat"});
  client reader("aabbccddeeff0011");
  reader.connect(a->port(), "/kept");
  reader.joined();
  auto witness = c->enter("/kept");
  wait_for_members(all.nodes(), "kept", 2);
  constexpr int each = 50;
  publish_all(all.nodes(), "kept", each);
  auto order = texts(witness, 3 * each);
  for (int i = 0; i < 20; ++i)
    reader.take();
  a->die();
  a.reset();
  // Before its lease ends: who was there on another node has not left then, either.
  auto dan_again = b->enter("/hall?name=dan");
  expect(dan_again, {"[ann,bob,cat,dan]"});
  publish_all({&*b, &*c}, "kept", 10);
  const auto more = texts(witness, 20);
  order.insert(order.end(), more.begin(), more.end());
  reader.vanish();
  reader.connect(b->port(), "/kept");
  BOOST_CHECK_EQUAL(reader.joined().recovered, 1);
  read_until(reader, order.size());
  same(reader.seen["kept"], order);
  for (auto *w : {&bob, &cat, &dan_again})
    expect(*w, {"-ann"});
  for (auto *n : {&*b, &*c})
    BOOST_CHECK(comes_true([&] { return n->list("hall") == "bob cat dan "; }));
  // One takes its place, and all is as it was.
  a.emplace(cluster, 15s);
  auto eve = a->enter("/hall?name=eve");
  expect(eve, {"[bob,cat,dan,eve]"});
  for (auto *w : {&bob, &cat, &dan_again})
    expect(*w, {"+eve"});
}

BOOST_AUTO_TEST_CASE(all_nodes_are_restarted) {
  three all;
  auto &[cluster, a, b, c] = all;
  client reader("1122334455667788");
  reader.connect(a->port(), "/kept");
  reader.joined();
  constexpr int each = 50;
  publish_all(all.nodes(), "kept", each);
  for (int i = 0; i < 3 * each; ++i)
    reader.take();
  {
    auto gone = b->enter("/hall?name=bob");
    expect(gone, {"[bob]"});
    BOOST_REQUIRE(comes_true([&] { return c->engine->present("room/hall") == 1; }));
  }
  BOOST_REQUIRE(comes_true([&] { return c->list("hall").empty(); }));
  reader.vanish();
  for (auto *n : {&*a, &*b})
    n->stop();
  c->room("kept").publish("last word");
  // It is with the engine when someone there has it.
  auto late = c->enter("/kept?history=1");
  BOOST_CHECK_EQUAL(late.read_frame().payload, "last word");
  late.close();
  for (auto *n : all.all())
    n->reset();
  for (auto *n : all.all())
    n->emplace(cluster);
  reader.connect(b->port(), "/kept");
  const auto j = reader.joined();
  BOOST_CHECK_EQUAL(j.recovered, 1);
  BOOST_CHECK_EQUAL(reader.take().payload, "last word");
  for (auto *n : all.nodes()) {
    n->room("kept").publish("again");
    BOOST_CHECK_EQUAL(reader.take().payload, "again");
    BOOST_CHECK_EQUAL(n->list("hall"), "");
  }
  BOOST_CHECK_EQUAL(reader.seen["kept"].size(), 3u * each + 4u);
}

BOOST_AUTO_TEST_SUITE_END()
