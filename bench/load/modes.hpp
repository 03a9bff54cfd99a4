#pragma once
// The modes of the load. Each returns whether every message came back right; figures go to the report.

#include "link.hpp"
#include "measure.hpp"
#include "report.hpp"
#include "settings.hpp"

#include <cstdint>
#include <optional>

namespace load {

bool run_echo(const settings &s, report &out);
bool run_broadcast(const settings &s, report &out);
bool run_slow(const settings &s, report &out);
bool run_idle(const settings &s, report &out);

// The span that counts: what clocks, processes and tallies stood at when it began and when it ended.
class window {
public:
  explicit window(const settings &s) : pid_{s.pid} {}
  void begin(const tally &sum) { begin_ = take(sum); }
  void end(const tally &sum) { end_ = take(sum); }
  std::uint64_t messages() const { return end_.sum.messages - begin_.sum.messages; }
  // Rate, MB/s, latency, and CPU per message of both sides. `noun` is "messages" or "deliveries".
  void add_to(report &out, const char *noun, const histogram &latency) const;

private:
  struct stand {
    std::uint64_t at_ns = 0;
    double own_cpu = 0;
    std::optional<double> server_cpu;
    tally sum;
  };
  stand take(const tally &sum) const;

  pid_t pid_;
  stand begin_;
  stand end_;
};

void add_verdict(report &out, const tally &sum);

// When a run warms up, counts, stops, and gives up. With a fixed number of messages everything counts.
class schedule {
public:
  explicit schedule(const settings &s);
  bool counting_from(std::uint64_t now) const { return now >= count_from_; }
  bool sending(std::uint64_t now) const { return now < stop_; }
  bool given_up(std::uint64_t now) const { return now >= give_up_; }

private:
  std::uint64_t count_from_;
  std::uint64_t stop_;
  std::uint64_t give_up_;
};

} // namespace load
