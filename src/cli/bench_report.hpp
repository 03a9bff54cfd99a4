#pragma once

#include "bench.hpp"
#include "histogram.hpp"

#include <cstdint>
#include <optional>
#include <string>

namespace cli {

struct bench_report {
  std::string url;
  bool own_server = false;
  double seconds = 0;         // measured
  std::uint64_t messages = 0; // received by the clients meanwhile
  std::uint64_t bytes = 0;
  std::uint64_t errors = 0;
  std::uint64_t unanswered = 0; // messages that should have come back and did not
  bool interrupted = false;
  histogram latency;
  double client_cpu = 0;                             // seconds meanwhile
  std::optional<double> server_cpu;                  // seconds meanwhile
  std::optional<std::uint64_t> server_memory_before; // private bytes without connections
  std::optional<std::uint64_t> server_memory;        // and with them
  std::uint64_t client_memory_growth = 0;
};

std::string to_table(const bench_settings &settings, const bench_report &r);
// One object in one line; the fields are in docs/program.md.
std::string to_json(const bench_settings &settings, const bench_report &r);

} // namespace cli
