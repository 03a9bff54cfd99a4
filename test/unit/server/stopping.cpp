// What one shard of a server says when it is cut.

#include "unit/server/room_support.hpp"

#include <chorus/server/server_shard.hpp>

namespace chorus::test {
namespace {

BOOST_AUTO_TEST_SUITE(server_shards)

task<> tells_before_it_is_idle(shard &home) {
  const auto setup = std::make_shared<detail::server_setup>();
  const auto owner = detail::server_shard::make(home.shared_from_this(), setup);
  std::vector<stream_ptr> silent;
  for (int i = 0; i < 3; ++i) {
    auto [near, far] = transport::make_memory_pair(home, home);
    silent.push_back(std::move(far));
    auto live = std::make_shared<detail::live_session>();
    live->owner = owner.get();
    detail::session_setup how;
    how.carrier = std::move(near);
    how.options = std::make_shared<const session_options>(quiet());
    how.observer = live.get();
    owner->begin_session(live, detail::make_session(std::move(how)));
  }
  bool idle = false;
  owner->begin_stop([&] { idle = true; });
  BOOST_TEST(!idle);
  // Whoever is told of the idleness may make the report up at once, on another thread.
  int told = 0;
  owner->cut([&](const stop_report &gone) {
    ++told;
    BOOST_TEST(!idle);
    BOOST_TEST(gone.sessions_aborted == 3U);
    BOOST_TEST(gone.handlers_cancelled == 0U);
  });
  BOOST_TEST(told == 1);
  BOOST_TEST(idle);
  co_return;
}
BOOST_AUTO_TEST_CASE(a_shard_tells_what_it_cuts_before_it_is_idle) { run(tells_before_it_is_idle); }

BOOST_AUTO_TEST_SUITE_END()

} // namespace
} // namespace chorus::test
