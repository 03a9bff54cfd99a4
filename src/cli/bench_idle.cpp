#include "fleet.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

namespace cli {

namespace {

using chorus::task;

task<> hold(fleet &all, chorus::session s) {
  for (;;) {
    const auto m = co_await s.receive();
    if (m)
      continue;
    all.ended(m.error());
    co_return;
  }
}

task<> hold_lane(fleet &all, lane &mine) {
  const auto ex = co_await boost::asio::this_coro::executor;
  for (const auto &s : mine.sessions)
    co_spawn(ex, hold(all, s), boost::asio::detached);
}

} // namespace

task<> start_idle(fleet &all) {
  for (auto &l : all.lanes()) {
    for (std::size_t i = 0; i < l->sessions.size(); ++i)
      all.begun();
    all.runtime().spawn(hold_lane(all, *l), l->index);
  }
  co_return;
}

} // namespace cli
