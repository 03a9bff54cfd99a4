// JSON and JSON-RPC over a reconnecting client: what becomes of requests and handlers when the
// connection goes.

#include "unit/client/scripted.hpp"

#include <chorus/json.hpp>

#include <boost/json/parse.hpp>
#include <boost/json/serialize.hpp>

namespace client_test {
namespace {

namespace json = boost::json;
using chorus::json_array;
using chorus::rpc;
using chorus::rpc_call;
using chorus::rpc_methods;
using answer = result<json::value>;

BOOST_AUTO_TEST_SUITE(rpc_over_a_client)

chorus::client_options lasting(const listener &at) {
  auto o = eager({at.url()});
  o.session.heartbeat.ping_interval = 0ms;
  o.session.heartbeat.pong_wait = 0ms;
  return o;
}

void run(task<> (*body)(world &, listener &)) {
  world w;
  listener at(w);
  w.run(body(w, at));
}

task<json::value> next_json(peer &p) {
  auto text = co_await p.read_text();
  BOOST_REQUIRE(text.has_value());
  co_return json::parse(*text);
}

std::string answer_to(const json::value &request, std::string_view value) {
  return peer::text(R"({"jsonrpc":"2.0","result":)" + std::string(value) + R"(,"id":)" +
                    json::serialize(request.at("id")) + '}');
}

task<> json_messages_body(world &w, listener &at) {
  chorus::client c(w.rt, lasting(at));
  auto p = co_await at.accept_open(peer::text("[1,2]") + peer::text("{}") + peer::text("{"));
  BOOST_CHECK((co_await chorus::receive_json<std::vector<int>>(c)).value()[1] == 2);
  BOOST_CHECK((co_await chorus::receive_json(c)).value().is_object());
  BOOST_CHECK((co_await chorus::receive_json(c)).error().code() == json::condition::parse_error);
  BOOST_CHECK((co_await chorus::send_json(c, std::vector<int>(3))).has_value());
  BOOST_CHECK((co_await chorus::send_json(c, json_array("x"))).has_value());
  BOOST_CHECK(co_await next_json(p) == json_array(0, 0, 0));
  BOOST_CHECK(co_await next_json(p) == json_array("x"));
}
BOOST_AUTO_TEST_CASE(json_messages) { run(json_messages_body); }

// Any member may publish to a room: that must neither call a handler nor answer a request.
task<> published_body(world &w, listener &at) {
  event_log log(w.rt.executor());
  rpc_methods methods;
  methods.add("wipe", [&log]() -> task<> {
    log.add("wiped");
    co_return;
  });
  chorus::rpc_options options;
  options.on_other = [&log](const message &m) { log.add(std::string(m.text())); };
  auto resuming = lasting(at);
  resuming.resume = chorus::resume_mode::require;
  chorus::client c(w.rt, resuming);
  const auto rpc = chorus::rpc_over(c, methods, options);
  auto p = co_await at.accept();
  const auto head = co_await p.read_head();
  auto agreed = peer::agreement(head, "Sec-WebSocket-Protocol: chorus.v1\r\n");
  co_await p.write(std::move(agreed));
  co_await p.read_text(); // hello
  auto asked = rpc;
  background<answer> who(w.rt.executor(), asked.request("who"));
  const std::string plain = "{\"t\":\"msg\"}\n";
  const auto sent = (co_await p.read_text()).value();
  const auto id = json::serialize(json::parse(sent.substr(plain.size())).at("id"));
  const auto result = [&](std::string_view value) {
    return R"({"jsonrpc":"2.0","result":")" + std::string(value) + R"(","id":)" + id + '}';
  };
  const std::string wipe = R"({"jsonrpc":"2.0","method":"wipe"})";
  const std::string kept = R"({"t":"msg","room":"r","epoch":"e","offset":1})";
  auto all = peer::text(kept + '\n' + wipe) +
             peer::text("{\"t\":\"msg\",\"room\":\"r\"}\n" + result("mallory")) +
             peer::text(plain + result("ada"));
  co_await p.write(std::move(all));
  BOOST_CHECK((co_await who.get()).value() == "ada");
  BOOST_CHECK_EQUAL(log.joined(), wipe + " " + result("mallory"));
  BOOST_CHECK_EQUAL(rpc.stats().others, 2U);
  BOOST_CHECK_EQUAL(rpc.stats().notifications_received, 0U);
}
BOOST_AUTO_TEST_CASE(what_is_published_calls_nothing) { run(published_body); }

task<> requests_across_a_lost_connection_body(world &w, listener &at) {
  chorus::client c(w.rt, lasting(at));
  rpc r = chorus::rpc_over(c);
  const auto ex = w.rt.executor();
  // Made before there is a connection.
  background<answer> early(ex, r.request("early"));
  auto p = co_await at.accept_open();
  const auto first = co_await next_json(p);
  BOOST_CHECK(first.at("method") == "early");
  auto reply = answer_to(first, "1");
  co_await p.write(std::move(reply));
  BOOST_CHECK((co_await early.get()).value() == 1);

  background<answer> lost(ex, r.request("once"));
  background<answer> again(ex, r.request("again", nullptr, {.idempotent = true}));
  const auto once = co_await next_json(p);
  const auto asked = co_await next_json(p);
  BOOST_CHECK(asked.at("method") == "again");
  p.reset();
  const auto failed = co_await lost.get();
  BOOST_CHECK(failed.error() == error::unconfirmed);
  BOOST_CHECK(failed.error().message().find("unknown") != std::string::npos);
  auto q = co_await at.accept_open();
  const auto repeated = co_await next_json(q);
  BOOST_CHECK(repeated == asked);
  // A late answer to the one that failed is ignored.
  auto both = answer_to(once, "0") + answer_to(repeated, "2");
  co_await q.write(std::move(both));
  BOOST_CHECK((co_await again.get()).value() == 2);
  BOOST_CHECK_EQUAL(r.stats().answers_late, 1U);
  BOOST_CHECK_EQUAL(r.stats().in_flight, 0U);

  auto closed = co_await c.close();
  BOOST_CHECK(co_await r.ended() == error::closed);
  BOOST_CHECK((co_await r.request("x")).error() == error::closed);
}
BOOST_AUTO_TEST_CASE(requests_across_a_lost_connection) {
  run(requests_across_a_lost_connection_body);
}

task<> what_had_not_begun_is_sent_on_the_next_connection_body(world &w, listener &at) {
  chorus::client c(w.rt, lasting(at));
  rpc r = chorus::rpc_over(c);
  const auto ex = w.rt.executor();
  auto p = co_await at.accept_open();
  co_await c.connected();
  // Fills what the kernel takes.
  const auto large = json_array(std::string(std::size_t{16} << 20, 'x'));
  co_await r.notify("large", large);
  background<answer> behind(ex, r.request("behind"));
  background<answer> given_up(ex, r.request("given up"));
  co_await turns(5);
  given_up.cancel();
  BOOST_CHECK(co_await given_up.aborted());
  p.reset();
  auto q = co_await at.accept_open();
  const auto request = co_await next_json(q);
  BOOST_CHECK(request.at("method") == "behind");
  auto reply = answer_to(request, "3");
  co_await q.write(std::move(reply));
  BOOST_CHECK((co_await behind.get()).value() == 3);
  // Nothing else came: the next request is the next message.
  background<answer> next(ex, r.request("next"));
  BOOST_CHECK((co_await next_json(q)).at("method") == "next");
  BOOST_CHECK_EQUAL(r.stats().in_flight, 1U);
}
BOOST_AUTO_TEST_CASE(what_had_not_begun_is_sent_on_the_next_connection) {
  run(what_had_not_begun_is_sent_on_the_next_connection_body);
}

task<> a_request_given_up_offline_is_not_sent_body(world &w, listener &at) {
  chorus::client c(w.rt, lasting(at));
  rpc r = chorus::rpc_over(c);
  BOOST_CHECK((co_await r.request("late", nullptr, {.timeout = 1ms})).error() == error::timed_out);
  BOOST_CHECK_EQUAL(c.stats().queued_messages, 0U);
  co_await r.notify("kept");
  auto p = co_await at.accept_open();
  BOOST_CHECK((co_await next_json(p)).at("method") == "kept");
}
BOOST_AUTO_TEST_CASE(a_request_given_up_offline_is_not_sent) {
  run(a_request_given_up_offline_is_not_sent_body);
}

task<> handlers_belong_to_their_connection_body(world &w, listener &at) {
  auto ended = std::make_shared<event_log>(w.rt.executor());
  rpc_methods methods;
  methods.add("stay", [ended](rpc_call) -> task<int> {
    struct witness {
      explicit witness(event_log &l) : log(l) { log.add("begun"); }
      ~witness() { log.add("over"); }
      event_log &log;
    };
    witness seen(*ended);
    co_await chorus::sleep(1h);
    co_return 1;
  });
  methods.add("now", []() -> task<int> { co_return 2; });
  chorus::client c(w.rt, lasting(at));
  rpc r = chorus::rpc_over(c, methods);
  auto p = co_await at.accept_open();
  auto request = peer::text(R"({"jsonrpc":"2.0","method":"stay","id":1})");
  co_await p.write(std::move(request));
  co_await ended->wait("begun");
  p.reset();
  co_await ended->wait("over");
  auto q = co_await at.accept_open();
  auto second = peer::text(R"({"jsonrpc":"2.0","method":"now","id":1})");
  co_await q.write(std::move(second));
  BOOST_CHECK(co_await next_json(q) == chorus::json_object("jsonrpc", "2.0", "result", 2, "id", 1));
  BOOST_CHECK_EQUAL(r.stats().running, 0U);
}
BOOST_AUTO_TEST_CASE(handlers_belong_to_their_connection) {
  run(handlers_belong_to_their_connection_body);
}

task<> one_taker_of_messages_body(world &w, listener &at) {
  auto options = lasting(at);
  auto c = std::make_unique<chorus::client>(w.rt, options);
  auto p = co_await at.accept_open(peer::text("before"));
  co_await c->connected();
  {
    chorus::rpc_options others;
    auto seen = std::make_shared<event_log>(w.rt.executor());
    others.on_other = [seen](const message &m) { seen->add(m.str()); };
    rpc first = chorus::rpc_over(*c, {}, others);
    co_await seen->wait("before"); // what was there already
    rpc second = chorus::rpc_over(*c);
    BOOST_CHECK(co_await second.ended() == error::busy);
    BOOST_CHECK((co_await c->receive()).error() == error::busy);
  }
  co_await turns();
  auto more = peer::text("after");
  co_await p.write(std::move(more));
  BOOST_CHECK_EQUAL((co_await c->receive()).value().text(), "after");

  rpc last = chorus::rpc_over(*c);
  background<answer> waits(w.rt.executor(), last.request("x"));
  co_await next_json(p);
  c.reset();
  BOOST_CHECK((co_await waits.get()).has_error());
  BOOST_CHECK(co_await last.ended() == error::aborted);

  options.on_message = [](const message &) {};
  chorus::client taken(w.rt, options);
  rpc none = chorus::rpc_over(taken);
  BOOST_CHECK(co_await none.ended() == error::busy);
  chorus::client over(w.rt, lasting(at));
  co_await over.close();
  rpc late = chorus::rpc_over(over);
  BOOST_CHECK(co_await late.ended() == error::closed);
}
BOOST_AUTO_TEST_CASE(one_taker_of_messages) { run(one_taker_of_messages_body); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace client_test
