// What is told of a broker whose engine goes away and comes back: pages, metrics, the log.

#include "broker_support.hpp"
#include "observe_support.hpp"
#include "support/forwarding_broker.hpp"

#include <chorus/base/log.hpp>
#include <chorus/server/broker_node.hpp>
#include <chorus/server/hub.hpp>

using broker_test::line;
using observe_test::get;
using observe_test::scraped;
using namespace std::chrono_literals;

namespace {

class broker_lines final : public chorus::log_sink {
public:
  broker_lines() : log_sink(chorus::log_levels(chorus::log_level::info)) {}
  void write(const chorus::log_record &record) noexcept override {
    auto text = chorus::to_text_line(record);
    std::lock_guard lock(mutex_);
    if (server_test::has(text, "broker_"))
      lines_.push_back(std::move(text));
  }
  std::vector<std::string> lines() const {
    std::lock_guard lock(mutex_);
    return lines_;
  }

private:
  mutable std::mutex mutex_;
  std::vector<std::string> lines_;
};

// An engine that counts.
class counting final : public test_support::forwarding_broker {
public:
  using forwarding_broker::forwarding_broker;
  chorus::broker_stats stats() const override {
    return {.connects = 3,
            .disconnects = 2,
            .commands = 70,
            .received = 60,
            .looked_up = 5,
            .refused = 4,
            .gaps = 6,
            .waiting = 7,
            .waiting_bytes = 800,
            .lag = 1500ms,
            .away = 9s,
            .unreadable = 8};
  }
};

struct watched {
  std::shared_ptr<line> engine;
  std::shared_ptr<broker_lines> log = std::make_shared<broker_lines>();
  observe_test::fixture f;

  explicit watched(chorus::away_policy policy,
                   const std::shared_ptr<chorus::broker> &shared = chorus::make_memory_broker())
      : engine(std::make_shared<line>(shared)), f(options(policy)) {
    f.server->mount_admin("/admin", {.token = "s3cret"});
    f.server->route("/{room}", [this](chorus::session s, chorus::request r) -> chorus::task<> {
      auto seat = co_await f.server->room(r.param("room")).join(s);
      while (auto m = co_await s.receive()) {
      }
    });
    f.start();
  }
  chorus::server_options options(chorus::away_policy policy) {
    chorus::server_options o;
    o.broker = std::make_shared<counting>(engine);
    o.broker_lease = 1h;
    o.log = log;
    o.rooms = [policy](std::string_view name) {
      chorus::room_options r;
      r.history_messages = name == "passing" ? 0 : 10;
      r.when_away = policy;
      return r;
    };
    return o;
  }
  std::string page() const { return get(f.port(), "/readyz"); }
  std::string admin() const {
    return get(f.port(), "/admin/broker", "Authorization: Bearer s3cret\r\n");
  }
};

} // namespace

BOOST_AUTO_TEST_SUITE(observe_broker)

BOOST_AUTO_TEST_CASE(a_server_without_a_broker_says_nothing_of_it) {
  observe_test::fixture f;
  f.server->mount_admin("/admin", {.token = "s3cret"});
  f.start();
  BOOST_CHECK(get(f.port(), "/admin/broker", "Authorization: Bearer s3cret\r\n")
                  .starts_with("HTTP/1.1 404 "));
  BOOST_CHECK(!f.scrape().knows("chorus_broker_connected"));
  BOOST_CHECK(get(f.port(), "/readyz").ends_with("\r\n\r\nready\n"));
}

BOOST_AUTO_TEST_CASE(what_the_engine_counts_is_shown) {
  watched w(chorus::away_policy::buffer);
  const auto s = w.f.scrape();
  BOOST_TEST(s["chorus_broker_connected"] == 1);
  BOOST_TEST(s["chorus_broker_connects_total"] == 3);
  BOOST_TEST(s["chorus_broker_disconnects_total"] == 2);
  BOOST_TEST(s["chorus_broker_commands_total"] == 70);
  BOOST_TEST(s["chorus_broker_received_total"] == 60);
  BOOST_TEST(s["chorus_broker_looked_up_total"] == 5);
  BOOST_TEST(s["chorus_broker_calls_refused_total"] == 4);
  BOOST_TEST(s["chorus_broker_gaps_total"] == 6);
  BOOST_TEST(s["chorus_broker_unreadable_total"] == 8);
  BOOST_TEST(s["chorus_broker_calls"] == 7);
  BOOST_TEST(s["chorus_broker_call_bytes"] == 800);
  BOOST_TEST(s["chorus_broker_lag_seconds"] == 1.5);
  BOOST_TEST(s["chorus_broker_away_seconds"] == 9);
  BOOST_TEST(w.page().ends_with("\r\n\r\nready\n"));
}

BOOST_AUTO_TEST_CASE(an_engine_that_is_away_is_named_everywhere) {
  watched w(chorus::away_policy::buffer);
  auto member = server_test::open_session(w.f.port(), "/lobby");
  auto lobby = w.f.server->room("lobby");
  BOOST_REQUIRE(server_test::comes_true([&] { return lobby.size() == 1; }));
  lobby.publish("1");
  BOOST_TEST(member.read_frame().payload == "1");
  w.engine->go();
  lobby.publish("2");
  lobby.publish("3");
  auto s = w.f.until([](const scraped &now) { return now["chorus_broker_waiting_messages"] == 2; });
  BOOST_TEST(s["chorus_broker_connected"] == 0);
  BOOST_TEST(s["chorus_broker_messages_total{fate=\"waited\"}"] == 2);
  BOOST_TEST(s["chorus_broker_waiting_bytes"] > 2);
  BOOST_TEST(s["chorus_broker_publish_seconds_count"] == 1);
  const auto page = w.page();
  BOOST_TEST(page.starts_with("HTTP/1.1 200 "));
  BOOST_TEST(server_test::has(page, "\r\n\r\nready\nbroker: away since 2"));
  BOOST_TEST(page.ends_with("Z, the engine is away\n"));
  const auto told = w.admin();
  BOOST_TEST(server_test::has(told, "\"connected\":false"));
  BOOST_TEST(server_test::has(told, "\"why\":\"the engine is away\""));
  BOOST_TEST(server_test::has(told, "\"waiting\":2"));

  w.engine->come_back();
  BOOST_TEST(member.read_frame().payload == "2");
  BOOST_TEST(member.read_frame().payload == "3");
  s = w.f.until([](const scraped &now) { return now["chorus_broker_connected"] == 1; });
  BOOST_TEST(s["chorus_broker_waiting_messages"] == 0);
  BOOST_TEST(s["chorus_broker_publish_seconds_count"] == 3);
  BOOST_TEST(w.page().ends_with("\r\n\r\nready\n"));
  BOOST_TEST(server_test::has(w.admin(), "\"connected\":true"));
  const auto lines = w.log->lines();
  BOOST_REQUIRE_EQUAL(lines.size(), 2u); // once each
  BOOST_TEST(server_test::has(lines[0], "broker_away"));
  BOOST_TEST(server_test::has(lines[0], "the engine is away"));
  BOOST_TEST(server_test::has(lines[1], "broker_back"));
  BOOST_TEST(server_test::has(lines[1], " waited=2 refused=0 unnumbered=0"));
  BOOST_TEST(server_test::has(lines[1], " seconds="));
}

BOOST_AUTO_TEST_CASE(rooms_that_do_without_it_are_counted) {
  watched w(chorus::away_policy::degrade);
  auto member = server_test::open_session(w.f.port(), "/lobby");
  auto lobby = w.f.server->room("lobby");
  BOOST_REQUIRE(server_test::comes_true([&] { return lobby.size() == 1; }));
  w.engine->go();
  lobby.publish("1");
  BOOST_TEST(member.read_frame().payload == "1");
  auto s = w.f.scrape();
  BOOST_TEST(s["chorus_broker_degraded_rooms"] == 1);
  BOOST_TEST(s["chorus_broker_messages_total{fate=\"unnumbered\"}"] == 1);
  const auto before = s["chorus_broker_degraded_seconds"];
  BOOST_TEST(before > 0);
  w.engine->come_back();
  s = w.f.until([](const scraped &now) { return now["chorus_broker_degraded_rooms"] == 0; });
  BOOST_TEST(s["chorus_broker_degraded_seconds"] >= before);
}

BOOST_AUTO_TEST_CASE(each_fate_of_a_message_is_counted) {
  watched w(chorus::away_policy::refuse);
  auto member = server_test::open_session(w.f.port(), "/lobby");
  auto lobby = w.f.server->room("lobby");
  BOOST_REQUIRE(server_test::comes_true([&] { return lobby.size() == 1; }));
  const auto fates = [](const scraped &s) {
    std::string all;
    for (const auto *fate : {"refused", "waited", "unnumbered", "unconfirmed", "replayed"})
      all += std::to_string(static_cast<int>(
                 s["chorus_broker_messages_total{fate=\"" + std::string(fate) + "\"}"])) +
             " ";
    return all;
  };
  BOOST_TEST(fates(w.f.scrape()) == "0 0 0 0 0 ");
  w.engine->fails_publish = true;
  lobby.publish("refused");
  w.f.until([&](const scraped &s) { return fates(s) == "1 0 0 0 0 "; });
  w.engine->fails_publish = false;
  w.engine->holds_answers = true;
  w.engine->deaf = true;
  lobby.publish("unconfirmed");
  BOOST_REQUIRE(server_test::comes_true([&] { return w.engine->unanswered() == 1; }));
  w.engine->answer_held(chorus::error::unconfirmed);
  w.f.until([&](const scraped &s) { return fates(s) == "1 0 0 1 0 "; });
  w.engine->deaf = false; // the engine had it
  w.engine->gap();
  BOOST_TEST(member.read_frame().payload == "unconfirmed");
  w.f.until([&](const scraped &s) { return fates(s) == "1 0 0 1 1 "; });
}

BOOST_AUTO_TEST_CASE(time_without_the_engine_is_summed_over_rooms) {
  chorus::detail::engine_counts all;
  const std::chrono::steady_clock::time_point start(24h * 365 * 50); // a sum of such is too large
  for (int i = 0; i < 1000; ++i)
    all.begin_degraded(start);
  BOOST_TEST(all.degraded_rooms() == 1000u);
  BOOST_TEST((all.degraded(start + 2s) == 2000s));
  for (int i = 0; i < 400; ++i)
    all.end_degraded(start + 3s);
  all.begin_degraded(start + 1s); // who was late at the lock
  BOOST_TEST((all.degraded(start + 3s) == 3000s));
  BOOST_TEST((all.degraded(start + 4s) == 3601s));
}

// Two servers of one engine: each counts what the other one's members said, and not its own, nor what
// it had to read.
BOOST_AUTO_TEST_CASE(the_way_between_servers_is_measured) {
  const auto shared = chorus::make_memory_broker();
  watched a(chorus::away_policy::refuse, shared);
  watched b(chorus::away_policy::refuse, shared);
  const auto count = [](watched &w) {
    return w.f.scrape()["chorus_broker_delivery_seconds_count"];
  };
  for (const auto *room : {"/lobby", "/passing"}) {
    auto here = server_test::open_session(a.f.port(), room);
    auto there = server_test::open_session(b.f.port(), room);
    auto of_a = a.f.server->room(room + 1);
    auto of_b = b.f.server->room(room + 1);
    BOOST_REQUIRE(server_test::comes_true([&] { return of_a.size() + of_b.size() == 2; }));
    const auto before = count(a);
    BOOST_TEST(count(b) == before);
    for (const auto *text : {"1", "2", "3"}) {
      of_a.publish(text);
      BOOST_TEST(here.read_frame().payload == text);
      BOOST_TEST(there.read_frame().payload == text);
    }
    BOOST_TEST(count(a) == before); // its own
    BOOST_TEST(count(b) == before + 3);
    for (const auto *text : {"4", "5", "6"}) {
      of_b.publish(text);
      BOOST_TEST(here.read_frame().payload == text);
      BOOST_TEST(there.read_frame().payload == text);
    }
    BOOST_TEST(count(a) == before + 3);
    BOOST_TEST(count(b) == before + 3);
  }
  // What a server missed it reads, which took as long as nobody knows; and a room without members here
  // delivers to nobody.
  auto there = server_test::open_session(b.f.port(), "/lobby");
  auto of_a = a.f.server->room("lobby");
  BOOST_REQUIRE(server_test::comes_true([&] { return b.f.server->room("lobby").size() == 1; }));
  b.engine->deaf = true;
  of_a.publish("missed");
  BOOST_REQUIRE(server_test::comes_true([&] { return b.engine->unheard == 1; }));
  b.engine->deaf = false;
  b.engine->gap();
  BOOST_TEST(there.read_frame().payload == "missed");
  const auto s = b.f.scrape();
  BOOST_TEST(s["chorus_broker_delivery_seconds_count"] == 6);
  BOOST_TEST(s["chorus_broker_delivery_seconds_sum"] >= 0);
  BOOST_TEST(s["chorus_broker_messages_total{fate=\"replayed\"}"] == 1);
  of_a.publish("live");
  BOOST_TEST(there.read_frame().payload == "live");
  BOOST_TEST(count(b) == 7);
  BOOST_TEST(count(a) == 6);
}

BOOST_AUTO_TEST_CASE(clocks_that_differ_do_not_make_it_negative) {
  chorus::detail::room_measures all(2);
  const auto now = chorus::detail::wall_time({});
  all.note_delivery(1, now + 1h);
  all.note_delivery(1, std::chrono::microseconds::max());
  auto s = all.at(1).delivery_seconds.now();
  BOOST_TEST(s.sum == 0);
  BOOST_TEST(s.counts[0] == 2u);
  all.note_delivery(1, {}); // not known
  all.note_delivery(1, now - 1h);
  s = all.at(1).delivery_seconds.now();
  BOOST_TEST(s.counts[s.bounds.size()] == 1u);
  BOOST_TEST(s.sum >= 3600);
  BOOST_TEST(all.at(0).delivery_seconds.now().sum == 0);
}

BOOST_AUTO_TEST_SUITE_END()
