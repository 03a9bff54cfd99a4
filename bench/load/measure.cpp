#include "measure.hpp"

#include <dirent.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <sstream>
#include <string>

namespace load {

std::uint64_t now_ns() {
  timespec t{};
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000u +
         static_cast<std::uint64_t>(t.tv_nsec);
}

double own_cpu_seconds() {
  timespec t{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) / 1e9;
}

namespace {

// The scheduler's own sum is exact to the nanosecond; ticks in `stat` are 10 ms.
std::optional<double> scheduled_seconds(pid_t pid) {
  const std::string tasks = "/proc/" + std::to_string(pid) + "/task";
  DIR *dir = opendir(tasks.c_str());
  if (dir == nullptr)
    return std::nullopt;
  std::uint64_t sum = 0;
  bool any = false;
  while (const dirent *entry = readdir(dir)) {
    if (entry->d_name[0] == '.')
      continue;
    std::ifstream file{tasks + "/" + entry->d_name + "/schedstat"};
    std::uint64_t ns = 0;
    if (file >> ns) {
      sum += ns;
      any = true;
    }
  }
  closedir(dir);
  if (!any || sum == 0)
    return std::nullopt;
  return static_cast<double>(sum) / 1e9;
}

std::uint64_t field(const std::string &path, const std::string &name) {
  std::ifstream file{path};
  std::string line;
  while (std::getline(file, line)) {
    if (line.rfind(name, 0) != 0)
      continue;
    return std::stoull("0" + line.substr(line.find_first_of("0123456789", name.size()))) * 1024;
  }
  return 0;
}

} // namespace

std::optional<double> cpu_seconds(pid_t pid) {
  if (const auto exact = scheduled_seconds(pid))
    return exact;
  std::ifstream file{"/proc/" + std::to_string(pid) + "/stat"};
  std::string text;
  if (!std::getline(file, text))
    return std::nullopt;
  // The second field is the program's name in parentheses, which may hold spaces.
  std::istringstream rest{text.substr(text.rfind(')') + 1)};
  std::string skipped;
  for (int i = 0; i < 11; ++i)
    rest >> skipped;
  double user = 0, system = 0;
  rest >> user >> system;
  return (user + system) / static_cast<double>(sysconf(_SC_CLK_TCK));
}

std::optional<memory> memory_of(pid_t pid) {
  const std::string base = "/proc/" + std::to_string(pid);
  memory m;
  m.resident = field(base + "/status", "VmRSS:");
  m.peak = field(base + "/status", "VmHWM:");
  m.anonymous = field(base + "/smaps_rollup", "Anonymous:");
  if (m.anonymous == 0)
    m.anonymous = field(base + "/status", "RssAnon:");
  if (m.resident == 0)
    return std::nullopt;
  return m;
}

void reset_peak(pid_t pid) {
  std::ofstream file{"/proc/" + std::to_string(pid) + "/clear_refs"};
  file << "5\n";
}

double histogram::value(std::size_t index) {
  if (index < steps)
    return static_cast<double>(index);
  const auto top = static_cast<int>(index / steps) + 5;
  const auto low = static_cast<double>(index % steps + steps);
  return std::ldexp(low + 0.5, top - 6);
}

double histogram::percentile(double part) const {
  if (total_ == 0)
    return 0;
  const auto rank = static_cast<std::uint64_t>(std::ceil(part * static_cast<double>(total_)));
  std::uint64_t seen = 0;
  for (std::size_t i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen >= std::max<std::uint64_t>(rank, 1))
      return value(i) / 1000.0;
  }
  return value(counts_.size() - 1) / 1000.0;
}

} // namespace load
