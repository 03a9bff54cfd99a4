// Idle connections: how much memory the server takes for each, without the kernel's.

#include "fleet.hpp"
#include "modes.hpp"

#include <thread>

namespace load {

namespace {

// The first connections bring in code and the allocator's first pages, which are not theirs.
constexpr std::uint32_t unmeasured = 64;

memory demand_memory(pid_t pid) {
  const auto m = memory_of(pid);
  if (!m)
    throw failure{"no_process", "the memory of process " + std::to_string(pid) + " can't be read"};
  return *m;
}

void touch_each(fleet &all, std::uint32_t from, const payload &what, tally &sum, double seconds) {
  const auto links = all.links();
  for (std::size_t i = from; i < links.size(); ++i)
    links[i]->send(all.scratch, what, links[i]->index(), 0, 1);
  const std::uint64_t give_up = now_ns() + static_cast<std::uint64_t>(seconds * 1e9);
  std::uint64_t missing = links.size() - from;
  while (missing > 0 && now_ns() < give_up) {
    for (const epoll_event &e : all.wait(100)) {
      link &l = fleet::of(e);
      l.receive(all.incoming, what, sum, [&](std::uint32_t) { --missing; });
      demand_open(l);
    }
  }
  sum.lost += missing;
}

} // namespace

bool run_idle(const settings &s, report &out) {
  fleet all{s};
  const payload what{s.size, s.text};
  tally sum;
  const std::uint32_t first = std::min(unmeasured, s.connections);
  all.open(first, true);
  if (s.touch)
    touch_each(all, 0, what, sum, s.drain);
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  const memory before = demand_memory(s.pid);

  const std::uint64_t start = now_ns();
  all.open(s.connections, true);
  const double opening = static_cast<double>(now_ns() - start) / 1e9;
  if (s.touch)
    touch_each(all, first, what, sum, s.drain);

  // Stay idle for the duration, and see who does not.
  const std::uint64_t until = now_ns() + static_cast<std::uint64_t>(s.duration * 1e9);
  std::uint64_t closed = 0;
  for (std::uint64_t now = now_ns(); now < until; now = now_ns()) {
    for (const epoll_event &e : all.wait(static_cast<int>((until - now) / 1'000'000) + 1)) {
      link &l = fleet::of(e);
      l.receive(all.incoming, what, sum, [](std::uint32_t) {});
      if (l.state() == link_state::open)
        continue;
      all.forget(l);
      ++closed;
    }
  }
  const memory after = demand_memory(s.pid);
  const auto per_connection = [&](std::uint64_t later, std::uint64_t earlier) {
    return (static_cast<double>(later) - static_cast<double>(earlier)) / s.connections;
  };
  out.add("connections", s.connections);
  out.add("connections_per_second", s.connections / opening);
  out.add("server_resident_before", before.resident);
  out.add("server_resident_after", after.resident);
  out.add("resident_bytes_per_connection", per_connection(after.resident, before.resident));
  out.add("anonymous_bytes_per_connection", per_connection(after.anonymous, before.anonymous));
  out.add("closed_by_server", closed);
  add_verdict(out, sum);
  return sum.clean() && closed == 0;
}

} // namespace load
