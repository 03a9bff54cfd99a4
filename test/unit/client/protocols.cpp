// Servers whose protocol is found out by trying.

#include "attempt.hpp"

#include <chorus/base/explain.hpp>
#include <chorus/client/plan.hpp>
#include <chorus/client/protocols.hpp>

using namespace client_test;
using chorus::client;
using chorus::stage;
using chorus::url;
using chorus::url_scheme;
using chorus::detail::connect_way;
using chorus::detail::make_plan;
using chorus::detail::rules_out;

namespace {

using schemes = std::vector<url_scheme>;
const schemes wss_ws{url_scheme::wss, url_scheme::ws};
const schemes wss_ws_tcp{url_scheme::wss, url_scheme::ws, url_scheme::tcp};
const schemes ws_tcp{url_scheme::ws, url_scheme::tcp};
const schemes tcp_ws{url_scheme::tcp, url_scheme::ws};
const schemes ws_wss_tcp{url_scheme::ws, url_scheme::wss, url_scheme::tcp};
constexpr const char *not_tls = "HTTP/1.1 400 Bad Request\r\n\r\n";

std::string bare(const listener &l) { return "127.0.0.1:" + std::to_string(l.port()); }

// `of` outlives the attempt.
attempt dial_any(world &w, std::string text, const schemes &of, bool race = false) {
  connect_options o;
  o.protocols = of;
  o.race_protocols = race;
  o.connect_stagger = 10ms;
  o.session.frame = chorus::framing::lines;
  return attempt(w.rt.executor(), connect(text, o));
}

// What the peer begins with: 0x16 of TLS, or the G of a request.
task<bool> begins_tls(peer &p) {
  const auto head = co_await p.read_frame_head();
  BOOST_REQUIRE(head.size() == 2U);
  co_return head[0] == '\x16';
}

task<session> opened(attempt &a) {
  auto s = co_await a.get();
  BOOST_REQUIRE_MESSAGE(s.has_value(), (s ? "" : s.error().message()));
  co_return *s;
}

std::string tried(const failure &why) {
  std::string out;
  for (const auto &[address, code] : why.detail().tried)
    out += (out.empty() ? "" : " ") + address.substr(0, address.find(':')) + "=" +
           std::to_string(code.value());
  return out;
}

std::string number(error e) { return std::to_string(static_cast<int>(e)); }

connect_way way(const char *text) { return {url::parse(text).value(), {}}; }

failure at_stage(error code, stage where, unsigned status = 0) {
  chorus::failure_detail detail;
  detail.where = where;
  detail.status = status;
  return failure(make_error_code(code), std::move(detail));
}

} // namespace

BOOST_AUTO_TEST_SUITE(protocols)

BOOST_AUTO_TEST_CASE(a_bare_host_and_port_is_framed_tcp) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    connect_options o;
    o.session.frame = chorus::framing::lines;
    attempt a(here.rt.executor(), connect(bare(l), o));
    auto p = co_await l.accept();
    auto s = co_await opened(a);
    BOOST_TEST(!s.is_websocket());
    BOOST_TEST((co_await s.send("hello")).has_value());
    const auto head = co_await p.read_frame_head();
    BOOST_TEST(head == "he");
    s.abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(the_next_is_tried_where_one_is_not_spoken) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_any(here, "me:secret@" + bare(l) + "/chat?x=1", wss_ws);
    auto first = co_await l.accept();
    BOOST_TEST(co_await begins_tls(first));
    co_await first.write(not_tls);
    auto second = co_await l.accept();
    const auto head = co_await second.upgrade();
    BOOST_TEST(head.substr(0, 18) == "GET /chat?x=1 HTTP");
    BOOST_TEST(!peer::field(head, "Authorization").empty());
    auto s = co_await opened(a);
    BOOST_TEST(s.is_websocket());
    s.abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(framed_messages_are_taken_when_the_server_drops_the_upgrade) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_any(here, bare(l) + "/chat", ws_tcp);
    auto first = co_await l.accept();
    co_await first.read_head();
    first.close();
    auto second = co_await l.accept();
    auto s = co_await opened(a);
    BOOST_TEST(!s.is_websocket());
    BOOST_TEST((co_await s.send("hello")).has_value());
    const auto head = co_await second.read_frame_head();
    BOOST_TEST(head == "he");
    s.abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(a_no_in_the_protocols_own_words_is_final) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool race : {false, true}) {
      listener l(here);
      auto a = dial_any(here, bare(l), wss_ws_tcp, race);
      // In a race the second may have come before the first was answered.
      for (int i = 0; i < 2; ++i) {
        auto p = co_await l.accept();
        const bool tls = co_await begins_tls(p);
        co_await p.write(tls ? not_tls : "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno");
      }
      const auto r = co_await a.get();
      BOOST_REQUIRE(!r.has_value());
      BOOST_TEST((r.error() == error::upgrade_refused));
      BOOST_TEST(r.error().detail().status == 403U);
      BOOST_TEST(r.error().detail().body == "no");
      BOOST_TEST(says(r.error(), "403"));
      BOOST_TEST(chorus::is_fatal(r.error()));
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(plain_http_to_a_port_of_https_makes_room_for_tls_alone) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_any(here, bare(l), ws_wss_tcp);
    auto first = co_await l.accept();
    BOOST_TEST(!co_await begins_tls(first));
    co_await first.write("HTTP/1.1 400 Plain HTTP to an HTTPS port\r\nContent-Length: 0\r\n\r\n");
    auto second = co_await l.accept();
    BOOST_TEST(co_await begins_tls(second));
    co_await second.write(not_tls);
    const auto r = co_await a.get(); // and no third, which nobody would accept
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error() == error::no_protocol));
    BOOST_TEST(tried(r.error()) ==
               "ws=" + number(error::upgrade_refused) + " wss=" + number(error::tls_not_tls));
  }(w));
}

BOOST_AUTO_TEST_CASE(when_none_is_spoken_the_failure_tells_of_each) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool race : {false, true}) {
      listener l(here);
      auto a = dial_any(here, bare(l) + "/path", wss_ws, race);
      for (int i = 0; i < 2; ++i) {
        auto p = co_await l.accept();
        const bool tls = co_await begins_tls(p);
        co_await p.write(tls ? not_tls : "220 mail ready\r\n\r\n");
      }
      const auto r = co_await a.get();
      BOOST_REQUIRE(!r.has_value());
      const auto &why = r.error();
      BOOST_TEST((why == error::no_protocol));
      BOOST_REQUIRE(why.detail().tried.size() == 2U);
      for (const auto &[address, code] : why.detail().tried) {
        const bool tls = address == "wss://" + bare(l);
        BOOST_TEST((tls || address == "ws://" + bare(l)));
        BOOST_TEST((code == (tls ? error::tls_not_tls : error::upgrade_invalid)));
      }
      const auto e = chorus::explain(why);
      BOOST_TEST((e.remedy == chorus::remedy::use_other_scheme));
      for (const auto *part : {"127.0.0.1", "wss: ", "ws: ", "does not speak TLS", "no WebSocket"})
        BOOST_TEST(e.what.find(part) != std::string::npos);
      BOOST_TEST(e.hint.find("which protocol") != std::string::npos);
      BOOST_TEST(!chorus::is_fatal(why)); // it may speak one once it has started
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_server_that_is_not_there_is_tried_once) {
  world w;
  w.run([](world &here) -> task<> {
    dead_port dead(here);
    const auto text = dead.url().substr(5, dead.url().size() - 6);
    auto a = dial_any(here, text, wss_ws_tcp);
    const auto r = co_await a.get();
    BOOST_REQUIRE(!r.has_value());
    BOOST_TEST((r.error() == error::connect_failed));
    BOOST_REQUIRE(r.error().detail().tried.size() == 1U);
    BOOST_TEST(r.error().detail().tried.front().address == text);
  }(w));
}

BOOST_AUTO_TEST_CASE(in_a_race_the_first_that_answers_wins) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_any(here, bare(l), wss_ws_tcp, true);
    auto silent = co_await l.accept();
    BOOST_TEST(co_await begins_tls(silent));
    auto second = co_await l.accept();
    co_await second.upgrade();
    auto s = co_await opened(a);
    BOOST_TEST(s.is_websocket());
    co_await silent.wait_gone(); // it was given up
    s.abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(in_a_race_tcp_waits_for_all_others_to_fail) {
  world w;
  w.run([](world &here) -> task<> {
    listener l(here);
    auto a = dial_any(here, bare(l), tcp_ws, true);
    auto first = co_await l.accept();
    co_await first.upgrade();
    auto s = co_await opened(a);
    BOOST_TEST(s.is_websocket());
    s.abort();

    auto b = dial_any(here, bare(l), tcp_ws, true);
    auto drops = co_await l.accept();
    co_await drops.read_head();
    drops.close();
    auto takes = co_await l.accept();
    auto framed = co_await opened(b);
    BOOST_TEST(!framed.is_websocket());
    framed.abort();
  }(w));
}

BOOST_AUTO_TEST_CASE(cancelling_gives_all_up) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool race : {false, true}) {
      listener l(here);
      auto a = dial_any(here, bare(l), wss_ws, race);
      auto first = co_await l.accept();
      std::optional<peer> second;
      if (race)
        second = co_await l.accept();
      a.cancel();
      const bool aborted = co_await a.aborted();
      BOOST_TEST(aborted);
      co_await first.wait_gone();
      if (second)
        co_await second->wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(a_client_comes_back_by_what_works) {
  world w;
  w.run([](world &here) -> task<> {
    for (const bool race : {false, true}) {
      listener l(here);
      auto o = eager({bare(l) + "/chat"});
      o.protocols = wss_ws_tcp;
      o.race_protocols = race;
      o.headers = {{"X-Note", "n"}};
      o.connect_stagger = std::chrono::hours(1); // one after the other
      client c(here.rt, o);
      for (int round = 0; round < 2; ++round) {
        auto first = co_await l.accept();
        BOOST_TEST(co_await begins_tls(first));
        co_await first.write(not_tls);
        auto second = co_await l.accept();
        const auto head = co_await second.upgrade(peer::text("welcome"));
        BOOST_TEST(peer::field(head, "X-Note") == "n");
        auto got = co_await c.receive();
        BOOST_REQUIRE(got.has_value());
        BOOST_TEST(got->text() == "welcome");
        second.reset();
      }
      auto closing = c.close();
      co_await std::move(closing);
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(lists_that_make_no_sense_are_refused) {
  const auto refused = [](const char *text, const schemes &of, std::string_view part) {
    connect_options o;
    o.protocols = of;
    const auto plan = make_plan(text, o);
    BOOST_REQUIRE(!plan.has_value());
    BOOST_TEST_INFO(plan.error().message());
    BOOST_TEST(says(plan.error(), part));
  };
  refused("h:1", {url_scheme::ws, url_scheme::ws}, "listed twice");
  refused("h:1", {url_scheme::unix_socket}, "unix socket");
  refused("h:1/path", {url_scheme::tcp}, "ends after its port");
  refused("me:secret@h:1", {url_scheme::tls, url_scheme::tcp}, "no place for credentials");
  refused("h", {url_scheme::ws, url_scheme::tcp}, "needs a port");
  refused("h:0", ws_tcp, "number from 1 to 65535");
  connect_options o;
  o.protocols = wss_ws;
  auto plan = make_plan("h/path", o).value();
  BOOST_REQUIRE(plan->ways.size() == 2U);
  BOOST_TEST(plan->ways[0].where.port() == 443U);
  BOOST_TEST(plan->ways[1].where.port() == 80U);
  // A URL that names its scheme is taken at its word.
  plan = make_plan("tcp://h:1", o).value();
  BOOST_TEST(plan->ways.empty());
  BOOST_TEST((plan->where.scheme() == url_scheme::tcp));
}

BOOST_AUTO_TEST_CASE(what_a_failure_rules_out) {
  const auto wss = way("wss://h:1/"), ws = way("ws://h:1/"), tls = way("tls://h:1"),
             tcp = way("tcp://h:1"), elsewhere = way("ws://h:2/");
  for (const auto code :
       {error::tls_expired, error::tls_wrong_host, error::tls_unknown_issuer,
        error::tls_bad_certificate, error::tls_wrong_key}) // never on to plain text
    for (const auto &next : {ws, tls, tcp, elsewhere})
      BOOST_TEST(rules_out(wss, at_stage(code, stage::tls), next));
  for (const auto code : {error::tls_not_tls, error::tls_failed, error::tls_timeout, error::lost})
    for (const auto &next : {ws, tls, tcp})
      BOOST_TEST(!rules_out(wss, at_stage(code, stage::tls), next));
  chorus::failure_detail alert;
  alert.where = stage::tls;
  alert.tls_alert = "handshake failure";
  BOOST_TEST(rules_out(wss, failure(make_error_code(error::tls_failed), alert), ws));
  for (const auto code : {error::upgrade_invalid, error::upgrade_timeout, error::lost})
    BOOST_TEST(!rules_out(ws, at_stage(code, stage::upgrade), tcp));
  for (const unsigned status : {400U, 426U}) {
    const auto why = at_stage(error::upgrade_refused, stage::upgrade, status);
    BOOST_TEST(!rules_out(ws, why, wss));
    BOOST_TEST(rules_out(ws, why, tcp));
    BOOST_TEST(rules_out(ws, why, elsewhere));
  }
  for (const unsigned status : {301U, 401U, 403U, 404U, 500U, 503U})
    BOOST_TEST(rules_out(ws, at_stage(error::upgrade_refused, stage::upgrade, status), wss));
  for (const auto &[code, where] : {std::pair{error::resolve_failed, stage::resolve},
                                    std::pair{error::connect_failed, stage::connect},
                                    std::pair{error::connect_timeout, stage::connect}}) {
    BOOST_TEST(rules_out(wss, at_stage(code, where), ws));
    BOOST_TEST(!rules_out(wss, at_stage(code, where), elsewhere));
    auto by_proxy = ws;
    by_proxy.proxy.emplace();
    BOOST_TEST(!rules_out(wss, at_stage(code, where), by_proxy));
  }
  BOOST_TEST(!rules_out(wss, at_stage(error::proxy_refused, stage::proxy), tcp));
  BOOST_TEST(rules_out(wss, at_stage(error::tls_bad_configuration, stage::configure), tcp));
}

// Whenever the attempt is cancelled, the connection that won does not outlive it.
BOOST_AUTO_TEST_CASE(cancelling_a_race_as_it_is_won_leaves_none_behind) {
  world w;
  w.run([](world &here) -> task<> {
    for (int later = 0; later < 12; ++later) {
      listener l(here);
      auto o = eager({bare(l)});
      o.protocols = wss_ws;
      o.race_protocols = true;
      o.connect_stagger = 10ms;
      o.session.close_timeout = 1ms; // nobody answers
      client c(here.rt, o);
      auto silent = co_await l.accept();
      auto winner = co_await l.accept_open();
      co_await turns(later);
      background<result<>> ending(here.rt.executor(), c.close());
      co_await ending.get();
      co_await winner.wait_gone();
      co_await silent.wait_gone();
    }
  }(w));
}

BOOST_AUTO_TEST_CASE(behind_tls_that_works_nothing_follows_in_the_clear) {
  using chorus::detail::connect_way;
  const auto way = [](const char *text) { return connect_way{*chorus::url::parse(text), {}}; };
  const auto with = [](error e, chorus::stage where) { return failure(e, where, "it was so"); };
  const auto wss = way("wss://h/");
  const auto ws = way("ws://h/");
  const auto tls = way("tls://h:1");
  const auto tcp = way("tcp://h:1");
  for (const auto &why : {with(error::upgrade_timeout, chorus::stage::upgrade),
                          with(error::upgrade_invalid, chorus::stage::upgrade),
                          with(error::lost, chorus::stage::upgrade)}) {
    BOOST_TEST(rules_out(wss, why, ws));
    BOOST_TEST(rules_out(wss, why, tcp));
    BOOST_TEST(!rules_out(wss, why, tls));
    BOOST_TEST(!rules_out(ws, why, tcp));
    BOOST_TEST(!rules_out(ws, why, wss));
  }
  BOOST_TEST(!rules_out(wss, with(error::tls_not_tls, chorus::stage::tls), ws));
  BOOST_TEST(!rules_out(wss, with(error::lost, chorus::stage::tls), ws));
}

BOOST_AUTO_TEST_SUITE_END()
