#include "modes.hpp"

namespace load {

window::stand window::take(const tally &sum) const {
  stand s;
  s.at_ns = now_ns();
  s.own_cpu = own_cpu_seconds();
  if (pid_ != 0)
    s.server_cpu = cpu_seconds(pid_);
  s.sum = sum;
  return s;
}

void window::add_to(report &out, const char *noun, const histogram &latency) const {
  const double seconds = static_cast<double>(end_.at_ns - begin_.at_ns) / 1e9;
  const auto count = static_cast<double>(messages());
  const auto bytes = static_cast<double>(end_.sum.bytes - begin_.sum.bytes);
  out.add("seconds", seconds);
  out.add(noun, messages());
  out.add(std::string{noun} + "_per_second", count / seconds);
  out.add("mb_per_second", bytes / seconds / 1e6);
  out.add("latency_p50_us", latency.percentile(0.50));
  out.add("latency_p99_us", latency.percentile(0.99));
  out.add("latency_p999_us", latency.percentile(0.999));
  out.add("load_cpu_share", (end_.own_cpu - begin_.own_cpu) / seconds);
  out.add("load_cpu_us_per_message", (end_.own_cpu - begin_.own_cpu) * 1e6 / count);
  if (begin_.server_cpu && end_.server_cpu) {
    const double cpu = *end_.server_cpu - *begin_.server_cpu;
    out.add("server_cpu_share", cpu / seconds);
    out.add("server_cpu_us_per_message", cpu * 1e6 / count);
  }
}

void add_verdict(report &out, const tally &sum) {
  out.add("total_messages", sum.messages);
  out.add("lost", sum.lost);
  out.add("disordered", sum.disordered);
  out.add("corrupted", sum.corrupted);
}

namespace {

std::uint64_t ns(double seconds) { return static_cast<std::uint64_t>(seconds * 1e9); }

} // namespace

schedule::schedule(const settings &s) {
  const std::uint64_t start = now_ns();
  if (s.messages != 0) {
    count_from_ = 0;
    stop_ = start + ns(s.limit);
  } else {
    count_from_ = start + ns(s.warmup);
    stop_ = count_from_ + ns(s.duration);
  }
  give_up_ = stop_ + ns(s.drain);
}

} // namespace load
