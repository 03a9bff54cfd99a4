// A room at a steady rate in which some members never read. The others have to get everything, without
// long gaps; the stalled ones may be cut off.

#include "fleet.hpp"
#include "modes.hpp"

#include <poll.h>

#include <algorithm>
#include <bit>
#include <map>

namespace load {

namespace {

constexpr std::uint64_t second = 1'000'000'000;

// Reads what was sent to the stalled members, until they end or nothing more comes, to see how the
// server left them.
void settle_stalled(fleet &all, const payload &what, report &out) {
  std::map<std::string, std::uint64_t> fates;
  std::uint64_t open = 0;
  const std::uint64_t deadline = now_ns() + 2 * second;
  for (const auto &l : all.stalled()) {
    tally unused; // a policy of the server's may have dropped messages here
    pollfd readable{l->fd(), POLLIN, 0};
    while (l->state() == link_state::open && now_ns() < deadline && ::poll(&readable, 1, 100) > 0)
      l->receive(all.incoming, what, unused, [](std::uint32_t) {});
    if (l->state() == link_state::open)
      ++open;
    else if (l->state() == link_state::closed_by_frame)
      ++fates["stalled_closed_" + std::to_string(l->close_code())];
    else
      ++fates["stalled_aborted"];
  }
  out.add("stalled_still_open", open);
  for (const auto &[fate, count] : fates)
    out.add(fate, count);
}

} // namespace

bool run_slow(const settings &s, report &out) {
  fleet all{s};
  const std::uint32_t healthy = s.connections - s.stalled;
  all.open(1, false);
  all.open_stalled(
      s.stalled); // among the first, so that a server that goes in order meets them early
  all.open(healthy - 1, false);
  const payload what{s.size, s.text};
  tally sum;
  histogram latency;
  window counted{s};

  std::optional<memory> before;
  if (s.pid != 0) {
    reset_peak(s.pid);
    before = memory_of(s.pid);
  }
  link &sender = *all.links()[0];
  const auto planned = static_cast<std::uint32_t>(s.rate * s.duration);
  const std::uint32_t ring = std::bit_ceil(std::max(planned, 1u));
  std::vector<std::uint64_t> sent_at(ring);
  std::uint32_t sent = 0;
  std::uint64_t lost_members = 0;
  std::uint64_t longest_gap = 0;

  const std::uint64_t start = now_ns();
  const std::uint64_t give_up = start + static_cast<std::uint64_t>((s.duration + s.drain) * 1e9);
  std::uint64_t now = start;
  std::uint64_t sending_ended = 0;
  std::uint64_t all_arrived = 0;
  for (const auto &l : all.links())
    l->last_arrival = start;
  counted.begin(sum);
  const auto expected = [&] { return static_cast<std::uint64_t>(sent) * healthy; };
  while (now < give_up) {
    const double elapsed = static_cast<double>(now - start) / 1e9;
    const auto due = std::min(planned, static_cast<std::uint32_t>(elapsed * s.rate) + 1);
    if (sender.blocked())
      sender.flush_rest();
    if (due > sent && !sender.blocked()) {
      const auto begun = sender.send(all.scratch, what, 0, sent, due - sent);
      for (std::uint32_t i = 0; i < begun; ++i)
        sent_at[(sent + i) & (ring - 1)] = now;
      sent += begun;
    }
    all.watch(sender);
    demand_open(sender);
    if (sent == planned && sending_ended == 0)
      sending_ended = now;
    if (sent == planned && (lost_members > 0 || sum.messages + sum.lost >= expected()))
      break;
    for (const epoll_event &e : all.wait(1)) {
      link &l = fleet::of(e);
      if (!(e.events & ~EPOLLOUT))
        continue;
      now = now_ns();
      bool any = false;
      l.receive(all.incoming, what, sum, [&](std::uint32_t sequence) {
        latency.add(now - sent_at[sequence & (ring - 1)]);
        any = true;
      });
      if (any) {
        longest_gap = std::max(longest_gap, now - l.last_arrival);
        l.last_arrival = now;
      }
      if (l.state() != link_state::open) {
        demand_open(sender);
        ++lost_members;
        all.forget(l);
      }
    }
    now = now_ns();
  }
  all_arrived = now;
  // A member that waits at the end waits until now.
  std::uint32_t fewest = sent;
  for (const auto &l : all.links()) {
    fewest = std::min(fewest, l->received());
    if (l->received() < sent)
      longest_gap = std::max(longest_gap, now - l->last_arrival);
  }
  counted.end(sum);
  if (sending_ended == 0)
    sending_ended = all_arrived;

  out.add("members", s.connections);
  out.add("stalled", s.stalled);
  out.add("size", s.size);
  out.add("broadcasts_planned", planned);
  out.add("broadcasts", sent);
  out.add("broadcasts_per_second",
          static_cast<double>(sent) / (static_cast<double>(sending_ended - start) / 1e9));
  out.add("fewest_received", fewest);
  out.add("longest_gap_ms", static_cast<double>(longest_gap) / 1e6);
  out.add("lag_at_end_ms", static_cast<double>(all_arrived - sending_ended) / 1e6);
  out.add("healthy_members_cut_off", lost_members);
  counted.add_to(out, "deliveries", latency);
  if (before) {
    if (const auto after = memory_of(s.pid)) {
      out.add("server_resident_before", before->resident);
      out.add("server_resident_peak", after->peak);
      out.add("server_resident_growth", after->peak - std::min(after->peak, before->resident));
    }
  }
  settle_stalled(all, what, out);
  // A server may be too slow rather than lose anything: what was missing when time ran out is told
  // apart from the gaps that a later message showed.
  const std::uint64_t accounted = sum.messages + sum.lost;
  const std::uint64_t undelivered = expected() - std::min(expected(), accounted);
  out.add("undelivered", undelivered);
  add_verdict(out, sum);
  return sum.clean() && undelivered == 0 && lost_members == 0 && sent == planned;
}

} // namespace load
