// Users and single sessions over servers that share an engine.

#include "broker_support.hpp"

#include <chorus/server/broker_node.hpp>
#include <chorus/server/hub.hpp>
#include <chorus/server/remote_calls.hpp>
#include <chorus/server/server_core.hpp>

#include <set>

using namespace broker_test;

namespace {

struct node : one_of {
  running loop{2};
  std::optional<chorus::server> server;

  explicit node(const std::shared_ptr<chorus::broker> &shared, std::size_t most = 0,
                chorus::over_user_limit how = chorus::over_user_limit::refuse_new,
                std::chrono::milliseconds lease = 1h)
      : one_of(shared) {
    chorus::server_options options;
    options.broker = engine;
    options.broker_lease = lease;
    options.max_connections_per_user = most;
    options.on_user_limit = how;
    options.authorize = [](chorus::request r) -> chorus::task<chorus::admission> {
      co_return chorus::admission::accept(std::string(r.query_param("name")));
    };
    server.emplace(loop.rt(), std::move(options));
    server->route("/", [this](chorus::session s, chorus::request r) {
      return sit(std::move(s), std::move(r), *server);
    });
    auto up = loop.wait(server->start());
    BOOST_REQUIRE_MESSAGE(up, up.error().message());
  }
  ~node() { loop.wait(server->stop(100ms)); }
  // Says its name over all servers.
  static chorus::task<> sit(chorus::session s, chorus::request, chorus::server &srv) {
    const auto id = srv.id_of(s);
    co_await s.send(id);
    co_await s.wait_closed();
  }
  static chorus::task<chorus::result<std::size_t>> disconnected(chorus::server &srv,
                                                                std::string user) {
    auto asking = srv.disconnect_user(user);
    co_return co_await std::move(asking);
  }
  wire enter(const std::string &name) {
    auto w = open_session(server->port(), "/?name=" + name);
    last_id = w.read_frame().payload;
    return w;
  }
  std::string last_id;
};

struct three {
  std::shared_ptr<chorus::broker> engine = chorus::make_memory_broker();
  node a{engine};
  node b{engine};
  node c{engine};
};

std::string refusal(node &n, const std::string &name) {
  wire w(n.server->port());
  w.send(upgrade_request("/?name=" + name));
  return w.read_response().substr(0, 13);
}

} // namespace

BOOST_AUTO_TEST_SUITE(broker_users)

BOOST_FIXTURE_TEST_CASE(a_user_is_reached_on_every_server, three) {
  auto one = a.enter("ann");
  auto two = b.enter("ann");
  auto also = b.enter("ann");
  auto bob = b.enter("bob");
  for (auto *n : {&a, &b})
    BOOST_REQUIRE(comes_true([&] { return n->engine->listens("user/ann"); }));
  BOOST_REQUIRE(comes_true([&] { return b.engine->listens("user/bob"); }));
  BOOST_CHECK_EQUAL(a.server->send_to_user("ann", "from a"), 1u);
  BOOST_CHECK_EQUAL(c.server->send_to_user("ann", "from c"), 0u); // reached elsewhere
  BOOST_CHECK_EQUAL(c.server->send_to_user("bob", "to bob"), 0u);
  BOOST_CHECK_EQUAL(c.server->send_to_user("", "to nobody"), 0u);
  BOOST_CHECK_EQUAL(c.server->send_to_user("dan", "to nobody"), 0u);
  for (auto *w : {&two, &also}) {
    std::multiset<std::string> got{w->read_frame().payload, w->read_frame().payload};
    BOOST_CHECK(got == (std::multiset<std::string>{"from a", "from c"}));
  }
  BOOST_CHECK_EQUAL(one.read_frame().payload, "from a");
  BOOST_CHECK_EQUAL(one.read_frame().payload, "from c");
  BOOST_CHECK_EQUAL(bob.read_frame().payload, "to bob");
}

BOOST_FIXTURE_TEST_CASE(a_user_is_disconnected_on_every_server, three) {
  auto one = a.enter("ann");
  auto two = b.enter("ann");
  auto bob = b.enter("bob");
  const auto known =
      a.loop.wait(a.server->disconnect_user("ann", chorus::close_code(4001), "banned"));
  BOOST_REQUIRE(known.has_value());
  BOOST_CHECK_EQUAL(*known, 1u);
  for (auto *w : {&one, &two}) {
    const auto f = w->read_frame();
    BOOST_CHECK_EQUAL(f.close_code(), 4001u);
    BOOST_CHECK_EQUAL(f.payload.substr(2), "banned");
  }
  const auto bad = a.loop.wait(a.server->disconnect_user("ann", chorus::close_code(1005)));
  BOOST_CHECK(bad.error() == chorus::error::bad_option);
  a.engine->fails_publish = true;
  const auto away = a.loop.wait(a.server->disconnect_user("bob"));
  BOOST_CHECK(away.error() == chorus::error::lost);
  a.engine->fails_publish = false;
  BOOST_CHECK_EQUAL(*a.loop.wait(a.server->disconnect_user("bob")), 0u);
  BOOST_CHECK_EQUAL(bob.read_frame().close_code(), 1008u);
}

BOOST_FIXTURE_TEST_CASE(a_session_is_reached_on_another_server, three) {
  auto ann = b.enter("ann");
  const auto id = b.last_id;
  BOOST_CHECK(id.starts_with(b.server->node() + ":"));
  for (auto *n : {&a, &b, &c}) {
    const auto sent = n->loop.wait(n->server->send_to(id, "for you"), 1);
    BOOST_CHECK_MESSAGE(sent.has_value(), sent.error().message());
    BOOST_CHECK_EQUAL(ann.read_frame().payload, "for you");
  }
  auto none = a.loop.wait(a.server->send_to(b.server->node() + ":999999", "lost"));
  BOOST_CHECK(none.error() == chorus::error::not_open);
  BOOST_CHECK(has(none.error().message(), "999999"));
  none = a.loop.wait(a.server->send_to("feedfeedfeedfeed:1", "lost")); // no such server
  BOOST_CHECK(none.error() == chorus::error::not_open);
  for (const char *text : {"", "x", ":1", "a:", "a:1x"})
    BOOST_CHECK(a.loop.wait(a.server->send_to(std::string_view(text), "lost")).error() ==
                chorus::error::bad_option);
  a.engine->fails_publish = true;
  none = a.loop.wait(a.server->send_to(id, "lost"));
  BOOST_CHECK(none.error() == chorus::error::lost);
}

BOOST_FIXTURE_TEST_CASE(more_than_a_server_keeps_up_with_is_dropped, three) {
  auto ann = a.enter("ann");
  const auto node = a.server->core()->setup()->rooms->node();
  std::promise<void> go_on;
  node->home()->post([busy = go_on.get_future().share()] { busy.wait(); });
  chorus::broker_message m;
  m.origin = "another:1";
  m.command = "nothing that is known";
  for (std::size_t i = 0; i < node->most_commands; ++i)
    node->on_message(m);
  BOOST_CHECK_EQUAL(node->commands_dropped(), 0u);
  node->on_message(m);
  BOOST_CHECK_EQUAL(node->commands_dropped(), 1u);
  go_on.set_value();
  std::promise<void> done; // with all of them
  node->home()->post([&] { done.set_value(); });
  done.get_future().wait();
  const auto sent = b.loop.wait(b.server->send_to(a.last_id, "then"), 1);
  BOOST_CHECK_MESSAGE(sent.has_value(), sent.error().message());
  BOOST_CHECK_EQUAL(ann.read_frame().payload, "then");
  BOOST_CHECK_EQUAL(node->commands_dropped(), 1u);
}

BOOST_FIXTURE_TEST_CASE(no_more_is_asked_than_waits, three) {
  a.server->core()->calls()->most_calls = 1;
  a.engine->holds_answers = true;
  auto first = boost::asio::co_spawn(a.loop.rt().executor(), node::disconnected(*a.server, "ann"),
                                     boost::asio::use_future);
  BOOST_REQUIRE(comes_true([&] { return a.engine->unanswered() == 1; }));
  const auto second = a.loop.wait(a.server->disconnect_user("bob"));
  BOOST_CHECK(second.error() == chorus::error::queue_full);
  BOOST_CHECK_EQUAL(a.engine->unanswered(), 1u);
  a.engine->holds_answers = false;
  a.engine->answer_held();
  BOOST_CHECK(first.get().has_value());
  BOOST_CHECK(a.loop.wait(a.server->disconnect_user("bob")).has_value());
}

BOOST_AUTO_TEST_CASE(who_can_be_subscribed_later_is_reached_then) {
  auto engine = chorus::make_memory_broker();
  node a(engine);
  node b(engine, 0, chorus::over_user_limit::refuse_new, 3s);
  b.engine->fails_subscribe = true;
  auto ann = b.enter("ann");
  BOOST_REQUIRE(comes_true([&] { return b.engine->refused > 0; }));
  BOOST_CHECK(!b.engine->listens("user/ann"));
  b.engine->fails_subscribe = false;
  BOOST_REQUIRE(comes_true([&] { return b.engine->listens("user/ann"); }));
  a.server->send_to_user("ann", "hello");
  BOOST_CHECK_EQUAL(ann.read_frame().payload, "hello");
}

BOOST_AUTO_TEST_CASE(a_users_limit_holds_over_all_servers) {
  auto engine = chorus::make_memory_broker();
  node a(engine, 2);
  node b(engine, 2);
  node c(engine, 2);
  BOOST_REQUIRE(comes_true([&] { // each has its lease
    return a.engine->listens("node/") && b.engine->listens("node/") && c.engine->listens("node/");
  }));
  auto one = a.enter("ann");
  auto two = b.enter("ann");
  auto bob = c.enter("bob");
  BOOST_CHECK_EQUAL(refusal(c, "ann"), "HTTP/1.1 429 ");
  BOOST_CHECK_EQUAL(c.server->stats().refused_user, 1u);
  one.close();
  BOOST_REQUIRE(comes_true([&] { return a.engine->present("user/ann") == 1; }));
  auto last = c.enter("ann");
  BOOST_CHECK_EQUAL(a.engine->present("user/ann"), 2u);
  // One that the engine has forgotten counts again.
  engine->renew(c.server->node(), 0ms, [](const auto &) {});
  BOOST_CHECK_EQUAL(a.engine->present("user/ann"), 1u);
  // Without an engine each counts alone.
  a.engine->fails_enter = true;
  auto four = a.enter("ann");
  auto five = a.enter("ann");
  BOOST_CHECK_EQUAL(refusal(a, "ann"), "HTTP/1.1 429 ");
}

BOOST_AUTO_TEST_CASE(who_leaves_unheard_is_not_locked_out) {
  auto engine = chorus::make_memory_broker();
  node a(engine, 1);
  node b(engine, 1);
  BOOST_REQUIRE(
      comes_true([&] { return a.engine->listens("node/") && b.engine->listens("node/"); }));
  auto one = a.enter("ann");
  BOOST_CHECK_EQUAL(a.engine->present("user/ann"), 1u);
  a.engine->go();
  one.close();
  BOOST_REQUIRE(comes_true([&] { return a.server->stats().connections == 0; }));
  BOOST_CHECK_EQUAL(refusal(b, "ann"), "HTTP/1.1 429 ");
  a.engine->come_back();
  BOOST_REQUIRE(comes_true([&] { return b.engine->present("user/ann") == 0; }));
  auto two = b.enter("ann");
  // Let in without the engine, which hears of it later; and once more when it has forgotten.
  a.engine->fails_enter = true;
  auto bob = a.enter("bob");
  BOOST_CHECK_EQUAL(b.engine->present("user/bob"), 0u);
  a.engine->fails_enter = false;
  a.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return b.engine->present("user/bob") == 1; }));
  BOOST_CHECK_EQUAL(refusal(b, "bob"), "HTTP/1.1 429 ");
  a.engine->fails_enter = true;
  const int before = a.engine->refused;
  engine->renew(a.server->node(), 0ms, [](const auto &) {});
  a.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return a.engine->refused > before; }));
  BOOST_CHECK_EQUAL(b.engine->present("user/bob"), 0u);
  a.engine->fails_enter = false;
  a.engine->gap();
  BOOST_REQUIRE(comes_true([&] { return b.engine->present("user/bob") == 1; }));
}

BOOST_AUTO_TEST_CASE(the_oldest_of_all_servers_makes_room) {
  auto engine = chorus::make_memory_broker();
  node a(engine, 2, chorus::over_user_limit::close_oldest);
  node b(engine, 2, chorus::over_user_limit::close_oldest);
  BOOST_REQUIRE(
      comes_true([&] { return a.engine->listens("node/") && b.engine->listens("node/"); }));
  auto one = a.enter("ann");
  auto two = b.enter("ann");
  auto next = b.enter("ann");
  BOOST_CHECK_EQUAL(one.read_frame().close_code(), 1008u);
  one.close();
  BOOST_REQUIRE(comes_true([&] { return a.engine->present("user/ann") == 2; }));
  auto four = a.enter("ann");
  BOOST_CHECK_EQUAL(two.read_frame().close_code(), 1008u);
  BOOST_CHECK(!next.readable());
  BOOST_CHECK_EQUAL(a.server->stats().users_ousted + b.server->stats().users_ousted, 2u);
}

BOOST_AUTO_TEST_SUITE_END()
