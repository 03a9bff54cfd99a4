// Pipelined echo: each connection keeps its messages outstanding, and what one read answered is asked
// again with one send.

#include "fleet.hpp"
#include "modes.hpp"

#include <bit>

namespace load {

bool run_echo(const settings &s, report &out) {
  fleet all{s};
  all.open(s.connections, true);
  const payload what{s.size, s.text};
  tally sum;
  histogram latency;
  window counted{s};

  struct progress {
    std::uint32_t sent = 0;
    std::uint32_t owed = 0; // may be sent as soon as the socket takes it
  };
  std::vector<progress> state(s.connections);
  // When each outstanding message was sent, in a ring per connection.
  const std::uint32_t ring = std::bit_ceil(s.in_flight);
  std::vector<std::uint64_t> sent_at(static_cast<std::size_t>(ring) * s.connections);

  std::uint64_t budget = s.messages != 0 ? s.messages : ~std::uint64_t{0};
  std::uint64_t outstanding = 0; // granted and not answered
  std::uint64_t now = now_ns();
  const auto grant = [&](progress &p, std::uint32_t n) {
    const auto k = static_cast<std::uint32_t>(std::min<std::uint64_t>(n, budget));
    budget -= k;
    outstanding += k;
    p.owed += k;
  };
  const auto push = [&](link &l) {
    progress &p = state[l.index()];
    if (l.blocked())
      l.flush_rest();
    if (p.owed > 0 && !l.blocked()) {
      const auto begun = l.send(all.scratch, what, l.index(), p.sent, p.owed);
      std::uint64_t *times = sent_at.data() + static_cast<std::size_t>(ring) * l.index();
      for (std::uint32_t i = 0; i < begun; ++i)
        times[(p.sent + i) & (ring - 1)] = now;
      p.sent += begun;
      p.owed -= begun;
    }
    all.watch(l);
  };

  const schedule plan{s};
  bool counting = plan.counting_from(now);
  bool ended = false;
  if (counting)
    counted.begin(sum);
  for (const auto &l : all.links()) {
    grant(state[l->index()], s.in_flight);
    push(*l);
  }
  while (outstanding > 0 && !plan.given_up(now)) {
    const auto events = all.wait(100);
    now = now_ns();
    if (!counting && plan.counting_from(now)) {
      counting = true;
      latency.clear();
      counted.begin(sum);
    }
    if (counting && !ended && !plan.sending(now)) {
      ended = true;
      counted.end(sum);
      // What was granted and not begun is not asked for any more.
      for (progress &p : state) {
        outstanding -= p.owed;
        p.owed = 0;
      }
    }
    for (const epoll_event &e : events) {
      link &l = fleet::of(e);
      std::uint32_t answered = 0;
      if (e.events & ~EPOLLOUT) {
        const std::uint64_t *times = sent_at.data() + static_cast<std::size_t>(ring) * l.index();
        now = now_ns();
        l.receive(all.incoming, what, sum, [&](std::uint32_t sequence) {
          latency.add(now - times[sequence & (ring - 1)]);
          ++answered;
        });
        demand_open(l);
      }
      outstanding -= std::min<std::uint64_t>(answered, outstanding);
      if (!ended)
        grant(state[l.index()], answered);
      push(l);
      demand_open(l);
    }
  }
  if (!ended)
    counted.end(sum);
  out.add("connections", s.connections);
  out.add("in_flight", s.in_flight);
  out.add("size", s.size);
  counted.add_to(out, "messages", latency);
  sum.lost += outstanding;
  add_verdict(out, sum);
  if (sum.clean() && ended && s.messages != 0)
    throw failure{"too_slow", "the number of messages asked for was not reached within the limit"};
  return sum.clean();
}

} // namespace load
