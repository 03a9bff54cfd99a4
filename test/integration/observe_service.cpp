// What limits, budgets, drains and resumes leave in the metrics and in the log.

#include "observe_support.hpp"

#include <chorus/base/log.hpp>
#include <chorus/server/hub.hpp>

using namespace observe_test;

BOOST_AUTO_TEST_SUITE(observe_service)

namespace {

class kept final : public chorus::log_sink {
public:
  kept() : log_sink(chorus::log_levels(chorus::log_level::debug)) {}
  void write(const chorus::log_record &record) noexcept override {
    std::lock_guard lock(mutex_);
    lines_.push_back(chorus::to_text_line(record));
  }
  std::string find(std::string_view beginning) const {
    std::lock_guard lock(mutex_);
    for (const auto &line : lines_)
      if (line.starts_with(beginning))
        return line;
    return {};
  }
  // Of the lines about no connection.
  std::vector<std::string> life() const {
    std::lock_guard lock(mutex_);
    std::vector<std::string> events;
    for (const auto &line : lines_)
      if (line.starts_with("server ") && !has(line, " connection="))
        events.push_back(line);
    return events;
  }

private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

std::string ask(std::uint16_t port, std::string_view target) {
  wire w(port);
  w.send(upgrade_request(target));
  return w.read_response();
}

// Admits users by name, and has other answers for some.
task<chorus::admission> authorize(request r) {
  const std::string user(r.query_param("user"));
  if (user == "nobody")
    co_return chorus::admission::refuse(401);
  if (user == "late")
    co_return chorus::admission::accept_then_close("come earlier");
  if (user == "trouble")
    throw std::runtime_error("no such token: " + std::string(r.query_param("token")));
  co_return chorus::admission::accept(user);
}

// Its kernel takes little and it reads nothing.
wire slow_peer(std::uint16_t port, std::string_view target) {
  wire w;
  w.open(AF_INET);
  const int small = 4096;
  ::setsockopt(w.fd(), SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
  w.connect(port);
  w.send(upgrade_request(target));
  return w;
}

} // namespace

BOOST_AUTO_TEST_CASE(refusals_by_the_authorisation_and_per_user) {
  const auto sink = std::make_shared<kept>();
  chorus::server_options options;
  options.log = sink;
  options.authorize = authorize;
  options.max_connections_per_user = 1;
  fixture f(options);
  f.start();
  auto first = open_session(f.port(), "/echo?user=ann");
  for (int i = 0; i < 2; ++i)
    BOOST_TEST(has(ask(f.port(), "/echo?user=ann"), " 429 "));
  for (int i = 0; i < 3; ++i)
    BOOST_TEST(has(ask(f.port(), "/echo?user=nobody&token=c0rrect-h0rse"), " 401 "));
  BOOST_TEST(has(ask(f.port(), "/echo?user=trouble&token=c0rrect-h0rse"), " 500 "));
  auto late = open_session(f.port(), "/echo?user=late");
  BOOST_TEST(late.read_frame().close_code() == 1008u);
  late.send(close_frame(1008));
  late.read_all();
  const auto now = f.until([](const scraped &s) { return s["chorus_sessions"] == 1; });
  BOOST_TEST(now[refused("user_limit")] == 2);
  BOOST_TEST(now[refused("unauthorized")] == 4);
  BOOST_TEST(now[refused("other")] == 1);
  BOOST_TEST(now.sum("chorus_refusals_total") == 7);
  const auto stats = f.server->stats();
  BOOST_TEST(stats.refused_user == 2u);
  BOOST_TEST(stats.refused_unauthorised == 4u);
  BOOST_TEST(stats.refused_other == 1u);

  BOOST_TEST(has(sink->find("server refused"), " reason=user_limit status=429 "));
  const auto failed = sink->find("server authorization_failed connection=");
  BOOST_TEST(has(failed, "no such token: ***"));
  BOOST_TEST(!has(failed, "c0rrect-h0rse"));
}

BOOST_AUTO_TEST_CASE(refusals_per_address_and_for_want_of_a_proxy_header) {
  {
    chorus::server_options options;
    options.max_connections_per_address = 1;
    options.on_limit = chorus::over_limit::close_try_later;
    fixture f(options);
    f.start();
    auto first = open_session(f.port(), "/echo");
    auto second = open_session(f.port(), "/echo");
    BOOST_TEST(second.read_frame().close_code() == 1013u);
    const auto now = f.scrape();
    BOOST_TEST(now[refused("address_limit")] == 1);
    BOOST_TEST(f.server->stats().refused_address == 1u);
  }
  chorus::server_options options;
  options.proxy = chorus::proxy_protocol::required;
  fixture f(options);
  f.start();
  BOOST_TEST(ask(f.port(), "/echo").empty());
  const auto now = f.until([](const scraped &s) { return s[refused("proxy_header")] == 1; });
  BOOST_TEST(now.sum("chorus_refusals_total") == 1);
  BOOST_TEST(f.server->stats().refused_proxy == 1u);
}

BOOST_AUTO_TEST_CASE(who_sends_too_fast) {
  for (const auto policy : {chorus::over_rate::drop, chorus::over_rate::close}) {
    const auto sink = std::make_shared<kept>();
    chorus::server_options options;
    options.log = sink;
    options.rate = {.messages_per_second = 1, .burst_messages = 1, .policy = policy};
    fixture f(options);
    f.start();
    auto w = open_session(f.port(), "/echo");
    std::string many;
    for (int i = 0; i < 200; ++i)
      many += text_frame("x");
    w.send(many);
    const bool closes = policy == chorus::over_rate::close;
    const auto *series =
        closes ? "chorus_sessions_rate_closed_total" : "chorus_messages_rate_dropped_total";
    const auto now = f.until([&](const scraped &s) { return s[series] > 0; });
    BOOST_TEST((now["chorus_sessions_rate_closed_total"] == 1) == closes);
    BOOST_TEST((now["chorus_messages_rate_dropped_total"] == 0) == closes);
    if (closes) {
      auto last = w.read_frame();
      while (last.opcode == 1)
        last = w.read_frame();
      BOOST_TEST(last.close_code() == 1008u);
      w.send(close_frame(1008));
    }
    w.close();
    const auto end = f.until([](const scraped &s) { return s["chorus_sessions"] == 0; });
    BOOST_TEST(end[series] ==
               (closes ? f.server->stats().rate_closed : f.server->stats().rate_dropped));
    if (closes) {
      BOOST_TEST(end[code("1008", "server")] == 1);
      BOOST_TEST(has(sink->find("session closed connection="), " code=1008 by=server "));
    }
  }
}

BOOST_AUTO_TEST_CASE(who_goes_for_the_memory_of_all_queues) {
  const auto sink = std::make_shared<kept>();
  chorus::server_options options;
  options.log = sink;
  options.queue_budget_bytes = 256 * 1024;
  options.session.queue_bytes = std::size_t{64} << 20;
  options.session.heartbeat.write_wait = 0ms;
  options.session.close_timeout = 1ms; // the peer does not answer
  fixture f(options);
  f.server->route("/flood", [](session s, request) -> task<> {
    const std::string text(64 * 1024, 'x');
    for (int i = 0; i < 512 && s.is_open(); ++i)
      s.try_send(text);
    co_await s.wait_closed();
  });
  f.start();
  auto w = slow_peer(f.port(), "/flood");
  const auto now = f.until([](const scraped &s) {
    return s["chorus_sessions_budget_evicted_total"] == 1 && s["chorus_sessions"] == 0;
  });
  BOOST_TEST(now["chorus_sessions_ended_total{how=\"evicted\"}"] == 1);
  BOOST_TEST(has(sink->find("session evicted connection="), " code=1013 by=server how=evicted "));
  f.until([](const scraped &s) { return s["chorus_queue_budget_used_bytes"] == 0; });
}

BOOST_AUTO_TEST_CASE(drops_by_the_policy_that_was_in_force) {
  chorus::server_options options;
  options.session.queue_bytes = 64 * 1024;
  options.session.on_overflow = chorus::overflow::latest;
  options.session.heartbeat.write_wait = 0ms;
  options.rooms = [](std::string_view) {
    chorus::room_options room;
    room.on_overflow = chorus::overflow::drop_newest;
    return room;
  };
  fixture f(options);
  event done;
  std::uint64_t in_room = 0;
  std::uint64_t in_all = 0;
  f.server->route("/flood", [&](session s, request) -> task<> {
    auto seat = co_await f.server->room("a").join(s);
    const std::string text(4096, 'x');
    while (in_room == 0) {
      for (int i = 0; i < 100; ++i)
        seat->publish(text);
      co_await chorus::sleep(1ms); // the room delivers, and the kernel takes what it takes
      in_room = s.stats().messages_dropped;
    }
    for (int i = 0; i < 2; ++i)
      s.try_send(std::string("position"), {.key = "k"});
    in_all = s.stats().messages_dropped;
    done.set();
    co_await s.wait_closed();
  });
  f.start();
  auto w = slow_peer(f.port(), "/flood");
  BOOST_REQUIRE(done.wait());
  const auto now = f.scrape();
  BOOST_TEST(in_all > in_room);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"drop_newest\"}"] == in_room);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"latest\"}"] == in_all - in_room);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"drop_oldest\"}"] == 0);
  BOOST_TEST(now["chorus_messages_dropped_total{policy=\"expired\"}"] == 0);
}

BOOST_AUTO_TEST_CASE(a_server_that_drains_is_alive_and_not_ready) {
  const auto sink = std::make_shared<kept>();
  chorus::server_options options;
  options.log = sink;
  options.session.close_timeout = 1h; // it waits for the peer's answer
  fixture f(options);
  f.start();
  BOOST_TEST(f.scrape()["chorus_ready"] == 1);
  auto w = open_session(f.port(), "/echo");
  auto done = boost::asio::co_spawn(f.loop.rt().executor(),
                                    f.server->drain({.window = 0ms, .retry_after = 3s}),
                                    boost::asio::use_future);
  BOOST_TEST(w.read_frame().close_code() == 1012u);
  const auto unready = get(f.port(), "/readyz");
  BOOST_TEST(has(unready, "HTTP/1.1 503 "));
  BOOST_TEST(unready.ends_with("not ready\n"));
  BOOST_TEST(has(get(f.port(), "/healthz"), "HTTP/1.1 200 "));
  BOOST_TEST(has(ask(f.port(), "/echo"), " 503 "));
  auto now = f.scrape();
  BOOST_TEST(now["chorus_ready"] == 0);
  BOOST_TEST(now[refused("draining")] == 1);
  BOOST_TEST(now["chorus_drain_sessions_total"] == 1);
  BOOST_TEST(now.sum("chorus_drained_sessions_total") == 0);

  w.send(close_frame(1012));
  w.read_all();
  BOOST_REQUIRE((done.wait_for(patience) == std::future_status::ready));
  const auto report = done.get();
  BOOST_REQUIRE(report.has_value());
  BOOST_TEST(report->closed == 1u);
  BOOST_TEST(report->upgrades_refused == 1u);
  now = f.scrape();
  BOOST_TEST(now["chorus_drained_sessions_total{by=\"server\"}"] == 1);
  BOOST_TEST(now[code("1012", "server")] == 1);

  const std::vector<std::string> expected{
      "server listening address=" + f.server->address() + " tls=false shards=1",
      "server draining sessions=1",
      "server drained sessions=1 closed=1 left=0 upgrades_refused=1 interrupted=false",
      "server stopping sessions=0",
      "server stopped sessions_aborted=0 handlers_cancelled=0",
  };
  const auto life = sink->life();
  BOOST_TEST(life == expected, boost::test_tools::per_element());
  BOOST_TEST(has(sink->find("server refused"), " reason=draining status=503 "));
}

BOOST_AUTO_TEST_CASE(resumes_by_result) {
  fixture f;
  f.start();
  auto &counters = f.server->core()->setup()->rooms->resume()->counters;
  using gap = chorus::protocol::resume_gap;
  const std::pair<gap, std::string> results[] = {{gap::none, "recovered"},
                                                 {gap::epoch, "epoch"},
                                                 {gap::trimmed, "trimmed"},
                                                 {gap::ahead, "ahead"},
                                                 {gap::no_history, "no_history"}};
  for (std::size_t i = 0; i < std::size(results); ++i)
    for (std::size_t k = 0; k <= i; ++k)
      counters.count(results[i].first);
  const auto now = f.scrape();
  for (std::size_t i = 0; i < std::size(results); ++i)
    BOOST_TEST(now["chorus_resumes_total{result=\"" + results[i].second + "\"}"] == i + 1);
}

BOOST_AUTO_TEST_SUITE_END()
