#pragma once
// A trial whose nodes reach their engine's one server on a road each.

#include "integration/faults_support.hpp"

namespace cluster_test {

inline void wait_for(const trial &t, std::uint64_t disconnects) {
  BOOST_REQUIRE(soon([&] { return t.disconnects() >= disconnects; }));
}

template <class Server> struct trial_fixture {
  Server server;
  std::vector<std::unique_ptr<road>> roads;
  std::optional<trial> run;

  explicit trial_fixture(std::vector<std::string> lines = {}) : server(std::move(lines)) {
    for (std::size_t i = 0; i < trial::count; ++i)
      roads.push_back(std::make_unique<road>(server.port()));
  }
  ~trial_fixture() { server.resume(); } // whatever happened
  // `scheme`: as in "redis://".
  std::string url(const std::string &scheme, std::size_t node) const {
    return scheme + "127.0.0.1:" + std::to_string(roads[node]->port());
  }
  void close_way(std::size_t node) {
    roads[node]->on([](test_support::fault_proxy &p) {
      p.refuse();
      p.cut_all(test_support::ending::reset);
    });
  }
  void open_way(std::size_t node) {
    roads[node]->on([](test_support::fault_proxy &p) { p.listen_again(); });
  }
  void silence_way(std::size_t node) {
    roads[node]->on([](test_support::fault_proxy &p) { p.stall_all(); });
  }
};

} // namespace cluster_test
