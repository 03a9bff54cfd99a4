// Overlapping broadcast: one sender, a member as well, keeps broadcasts outstanding. Every delivery to every
// member is read and checked.

#include "fleet.hpp"
#include "modes.hpp"

#include <bit>

namespace load {

bool run_broadcast(const settings &s, report &out) {
  fleet all{s};
  all.open(s.connections, false);
  const payload what{s.size, s.text};
  tally sum;
  histogram latency;
  window counted{s};

  link &sender = *all.links()[0];
  std::uint32_t sent = 0;
  std::uint32_t owed = 0;
  std::uint64_t outstanding = 0;
  std::uint64_t budget = s.messages != 0 ? s.messages : ~std::uint64_t{0};
  std::uint64_t now = now_ns();
  // With the sender's window others may lag by more than the window: twice the ring and more is theirs.
  const std::uint32_t ring = std::bit_ceil(s.in_flight) * (s.sender_window ? 64u : 1u);
  std::vector<std::uint64_t> sent_at(ring);
  std::vector<std::uint32_t> got(ring); // members that have it
  const auto grant = [&](std::uint32_t n) {
    const auto k = static_cast<std::uint32_t>(std::min<std::uint64_t>(n, budget));
    budget -= k;
    outstanding += k;
    owed += k;
  };
  const auto push = [&] {
    if (sender.blocked())
      sender.flush_rest();
    if (owed > 0 && !sender.blocked()) {
      const auto begun = sender.send(all.scratch, what, 0, sent, owed);
      for (std::uint32_t i = 0; i < begun; ++i)
        sent_at[(sent + i) & (ring - 1)] = now;
      sent += begun;
      owed -= begun;
    }
    all.watch(sender);
    demand_open(sender);
  };

  const schedule plan{s};
  bool counting = plan.counting_from(now);
  bool ended = false;
  if (counting)
    counted.begin(sum);
  grant(s.in_flight);
  push();
  const auto missing = [&] {
    return static_cast<std::uint64_t>(sent) * s.connections - sum.messages;
  };
  while ((outstanding > 0 || missing() > 0) && !plan.given_up(now)) {
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
      outstanding -= owed;
      owed = 0;
    }
    std::uint32_t completed = 0;
    for (const epoll_event &e : events) {
      link &l = fleet::of(e);
      if (e.events & ~EPOLLOUT) {
        now = now_ns();
        l.receive(all.incoming, what, sum, [&](std::uint32_t sequence) {
          const std::uint32_t slot = sequence & (ring - 1);
          latency.add(now - sent_at[slot]);
          if (s.sender_window) {
            completed += &l == &sender;
          } else if (++got[slot] == s.connections) {
            got[slot] = 0;
            ++completed;
          }
        });
        demand_open(l);
      }
    }
    outstanding -= std::min<std::uint64_t>(completed, outstanding);
    if (!ended)
      grant(completed);
    push();
  }
  if (!ended)
    counted.end(sum);
  out.add("members", s.connections);
  out.add("in_flight", s.in_flight);
  out.add("size", s.size);
  out.add("broadcasts", sent);
  counted.add_to(out, "deliveries", latency);
  // A gap that a later message showed is counted already.
  const std::uint64_t absent = missing();
  sum.lost = std::max(sum.lost, absent);
  add_verdict(out, sum);
  if (sum.clean() && ended && s.messages != 0)
    throw failure{"too_slow", "the number of messages asked for was not reached within the limit"};
  return sum.clean();
}

} // namespace load
