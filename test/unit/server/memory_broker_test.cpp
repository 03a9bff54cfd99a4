// What an engine promises about presence and leases, of the one within a process.

#include <chorus/server/broker.hpp>

#include <boost/test/unit_test.hpp>

#include <chrono>
#include <string>
#include <thread>
#include <vector>

namespace {

using namespace std::chrono_literals;

struct recorder final : chorus::broker_listener {
  void on_message(const chorus::broker_message &m) noexcept override {
    heard.push_back(m.content.str());
  }
  void on_presence(const chorus::broker_change &c) noexcept override {
    heard.push_back((c.present ? "+" : "-") + c.who.node + "/" + c.who.id +
                    (c.who.data.empty() ? "" : "=" + c.who.data));
    places.push_back(c.at.offset);
  }
  void on_gap() noexcept override {}
  std::vector<std::string> heard;
  std::vector<std::uint64_t> places;
};

struct fixture {
  std::shared_ptr<chorus::broker> engine = chorus::make_memory_broker();
  std::shared_ptr<recorder> ear = std::make_shared<recorder>();
  fixture() {
    engine->subscribe("r", ear, [](const chorus::result<> &r) { BOOST_REQUIRE(r.has_value()); });
  }
  chorus::result<> enter(const char *node, const char *id, const char *data = "",
                         std::size_t most = 0) {
    chorus::result<> got;
    engine->enter("r", {node, id, data, 0}, most, [&](chorus::result<> r) { got = std::move(r); });
    return got;
  }
  void leave(const char *node, const char *id) {
    engine->leave("r", node, id, [](const chorus::result<> &) {});
  }
  bool renew(const char *node, std::chrono::milliseconds alive) {
    bool had = false;
    engine->renew(node, alive, [&](const chorus::result<bool> &r) { had = r.value(); });
    return had;
  }
  std::string list() {
    std::string all;
    engine->members("r", [&](const chorus::result<chorus::broker_members> &r) {
      for (const auto &m : r.value().members)
        all += m.node + "/" + m.id + " ";
    });
    return all;
  }
  std::string news() {
    std::string all;
    for (const auto &one : std::exchange(ear->heard, {}))
      all += one + " ";
    return all;
  }
};

} // namespace

BOOST_FIXTURE_TEST_SUITE(memory_broker, fixture)

BOOST_AUTO_TEST_CASE(changes_are_told_once_and_have_an_order) {
  BOOST_CHECK(!renew("a", 1h));
  BOOST_CHECK(renew("a", 1h));
  BOOST_CHECK(!renew("b", 1h));
  BOOST_CHECK(enter("a", "1", "x").has_value());
  BOOST_CHECK(enter("a", "1", "x").has_value()); // nothing new
  BOOST_CHECK(enter("b", "2").has_value());
  BOOST_CHECK(enter("a", "1", "y").has_value());
  leave("a", "2"); // not its own
  leave("a", "3");
  BOOST_CHECK_EQUAL(list(), "b/2 a/1 ");
  leave("b", "2");
  BOOST_CHECK_EQUAL(news(), "+a/1=x +b/2 +a/1=y -b/2 ");
  for (std::size_t i = 1; i < ear->places.size(); ++i)
    BOOST_CHECK_GT(ear->places[i], ear->places[i - 1]);
  engine->members("r", [&](const auto &r) { BOOST_CHECK_EQUAL(r->at.offset, ear->places.back()); });
}

BOOST_AUTO_TEST_CASE(who_is_present_goes_with_the_lease) {
  BOOST_CHECK(enter("a", "1").error() == chorus::error::not_open);
  renew("a", 1h);
  renew("b", 1h);
  enter("a", "1");
  enter("b", "2");
  enter("a", "3");
  news();
  BOOST_CHECK(renew("a", 0ms));
  BOOST_CHECK_EQUAL(news(), "-a/1 -a/3 ");
  BOOST_CHECK_EQUAL(list(), "b/2 ");
  BOOST_CHECK(!renew("a", 10ms)); // and now by itself
  enter("a", "1");
  for (const auto end = std::chrono::steady_clock::now() + 30s;
       list() != "b/2 " && std::chrono::steady_clock::now() < end;)
    std::this_thread::yield();
  BOOST_CHECK_EQUAL(list(), "b/2 ");
  BOOST_CHECK_EQUAL(news(), "+a/1 -a/1 ");
  BOOST_CHECK(!renew("a", 1h));
}

BOOST_AUTO_TEST_CASE(a_room_is_full_for_all) {
  renew("a", 1h);
  renew("b", 1h);
  BOOST_CHECK(enter("a", "1", "", 2).has_value());
  BOOST_CHECK(enter("b", "2", "", 2).has_value());
  BOOST_CHECK(enter("b", "3", "", 2).error() == chorus::error::limit_reached);
  BOOST_CHECK(enter("b", "2", "x", 2).has_value());
  leave("a", "1");
  BOOST_CHECK(enter("b", "3", "", 2).has_value());
}

BOOST_AUTO_TEST_CASE(a_command_that_nobody_hears_fails) {
  const auto tell = [&](const char *room) {
    bool taken = false;
    chorus::broker_message m;
    m.room = room;
    m.command = "c";
    engine->publish(m, [&](const auto &r) { taken = r.has_value(); });
    return taken;
  };
  BOOST_CHECK(tell("r"));
  BOOST_CHECK(!tell("s"));
  ear.reset();
  BOOST_CHECK(!tell("r"));
}

BOOST_AUTO_TEST_SUITE_END()
