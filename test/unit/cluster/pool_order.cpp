// A slot that goes to another master while the first one still has calls about it, at two that do what they
// are told.

#include "fake_redis.hpp"
#include "pool_support.hpp"

#include <chorus/cluster/redis_protocol.hpp>

#include <optional>

using namespace pool_test;

namespace {

std::string list_of(std::initializer_list<std::string> items) {
  std::string all = "*" + std::to_string(items.size()) + "\r\n";
  for (const auto &one : items)
    all += one;
  return all;
}

std::string number(unsigned long n) { return ":" + std::to_string(n) + "\r\n"; }

std::string text(const std::string &s) {
  return "$" + std::to_string(s.size()) + "\r\n" + s + "\r\n";
}

std::string key_between(unsigned first, unsigned last) {
  for (int i = 0;; ++i) {
    auto key = "{k" + std::to_string(i) + "}";
    if (const auto slot = chorus::detail::redis_slot(key); first <= slot && slot <= last)
      return key;
  }
}

constexpr unsigned last_slot = 16'383;

// The slots from `border` on are the second one's.
struct two_masters {
  std::mutex mutex;
  unsigned border = 8192;
  unsigned maps = 0; // that were told since it was changed
  std::string ports[2];
  std::function<std::string(int, const fake_redis::words &)> on_set; // with the mutex held
  std::optional<fake_redis> all[2];

  two_masters() {
    for (const int i : {0, 1}) {
      all[i].emplace([this, i](unsigned, const fake_redis::words &c) -> std::optional<std::string> {
        std::lock_guard lock(mutex);
        if (c[0] == "SET")
          return on_set(i, c);
        if (c[0] == "CLUSTER") {
          ++maps;
          return list_of({range(0, border - 1, 0), range(border, last_slot, 1)});
        }
        if (c[0] == "INFO")
          return text("redis_version:7.0.15\r\nredis_mode:cluster\r\nrun_id:" + ports[i] + "\r\n");
        return good_answer(c);
      });
      const auto url = all[i]->url();
      std::lock_guard lock(mutex);
      ports[i] = url.substr(url.rfind(':') + 1);
    }
  }
  std::string range(unsigned first, unsigned last, int at) const {
    return list_of({number(first), number(last),
                    list_of({text("127.0.0.1"), number(std::stoul(ports[at])), text("id")})});
  }
  std::string url() const { return "redis+cluster://127.0.0.1:" + ports[0]; }
};

BOOST_AUTO_TEST_SUITE(redis_pool_order)

BOOST_AUTO_TEST_CASE(what_a_master_may_still_refuse_is_not_overtaken_at_another) {
  const auto stays = key_between(0, 100);
  const auto moves = key_between(1000, 8000);
  const auto other = key_between(8192, last_slot);
  two_masters both;
  bool waits = false;
  bool changed = false;
  std::string seen; // of the slot that moves, at the second one
  both.on_set = [&](int at, const fake_redis::words &c) -> std::string {
    if (c[1] ==
        other) // until what has changed is known: the map is asked for when the last was taken
      return changed && both.maps < 2 ? "-CLUSTERDOWN The cluster is down\r\n" : "+OK\r\n";
    if (at == 1) {
      seen += c[2];
      return "+OK\r\n";
    }
    if (c[1] == moves) {
      waits = true;
      return "";
    }
    return "-MOVED " + std::to_string(chorus::detail::redis_slot(moves)) +
           " 127.0.0.1:" + both.ports[1] + "\r\n+OK\r\n"; // first what waits
  };
  living_pool p(both.url());
  BOOST_REQUIRE_MESSAGE(p.comes_up(), p.all_events());
  auto first = p.start(moves, {"SET", moves, "1"});
  BOOST_REQUIRE(comes_true([&] {
    std::lock_guard lock(both.mutex);
    return waits;
  }));
  {
    std::lock_guard lock(both.mutex);
    both.border = 101;
    both.maps = 0;
    changed = true;
  }
  BOOST_REQUIRE(p.say(other, {"SET", other, "x"}) == "OK");
  auto second = p.start(moves, {"SET", moves, "2"});
  BOOST_TEST(p.say(stays, {"SET", stays, "x"}) == "OK");
  BOOST_TEST(living_pool::text_of(living_pool::get(std::move(first))) == "OK");
  BOOST_TEST(living_pool::text_of(living_pool::get(std::move(second))) == "OK");
  std::lock_guard lock(both.mutex);
  BOOST_TEST(seen == "12");
}

BOOST_AUTO_TEST_SUITE_END()

} // namespace
