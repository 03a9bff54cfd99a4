#include "fleet.hpp"

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/this_coro.hpp>

namespace cli {

namespace {

using chorus::task;

const chorus::failure wrong_answer{chorus::error::protocol, chorus::stage::open,
                                   "what came back is not what was sent"};

// One connection with its messages outstanding: each that comes back sends the next.
task<> echo_session(fleet &all, lane &mine, chorus::session s) {
  const auto &settings = all.settings();
  const bool stamped = settings.size >= stamped_size;
  load_message load(settings.size);
  std::uint64_t sent = 0;
  std::uint64_t received = 0;
  auto now = now_ns();
  while (sent < settings.in_flight && s.try_send(load.make(now, sent)))
    ++sent;
  mine.expect(sent);
  for (;;) {
    const auto batch = co_await s.receive_some();
    if (!batch) {
      all.ended(batch.error());
      co_return;
    }
    now = now_ns();
    const bool measuring = all.measuring();
    for (const auto &m : *batch) {
      if (m.size() != settings.size || (stamped && load_message::number_of(m) != received)) {
        all.report(wrong_answer);
        s.start_close(chorus::close_code::policy_violation);
        break;
      }
      ++received;
      if (stamped && measuring)
        mine.latency.add(now - load_message::time_of(m));
    }
    mine.count(batch->size(), batch->size() * settings.size);
    const auto before = sent;
    while (all.sending() && sent < received + settings.in_flight &&
           s.try_send(load.make(now, sent)))
      ++sent;
    mine.expect(sent - before);
  }
}

task<> start_lane(fleet &all, lane &mine) {
  const auto ex = co_await boost::asio::this_coro::executor;
  for (const auto &s : mine.sessions)
    co_spawn(ex, echo_session(all, mine, s), boost::asio::detached);
}

} // namespace

task<> start_echo(fleet &all) {
  for (auto &l : all.lanes()) {
    for (std::size_t i = 0; i < l->sessions.size(); ++i)
      all.begun();
    all.runtime().spawn(start_lane(all, *l), l->index);
  }
  co_return;
}

} // namespace cli
