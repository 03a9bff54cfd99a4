#pragma once
// What `chorus probe` has found, and how it is told: to a person stage by stage as it is found, to a machine
// as one JSON object at the end.

#include "probe.hpp"

#include <boost/json/object.hpp>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace cli {

enum class finding : unsigned char { good, failed, unreached };

struct probe_stage {
  std::string name; // "resolve", "tcp", "round trip"
  finding state = finding::good;
  std::chrono::nanoseconds time{0};
  std::string summary;
  std::vector<std::pair<std::string, std::string>>
      details;               // label and text; more lines of the summary
  boost::json::object facts; // for machines: what summary and details say
};

class probe_report {
public:
  explicit probe_report(const probe_settings &settings);

  void begin();
  void add(probe_stage s);
  // What is worth a look although it did not fail.
  void remark(std::string sentence) { remarks_.push_back(std::move(sentence)); }
  // The end: all stages went well, or `why` was in the way.
  void finish(status outcome);
  // At `stage`, one of those that were added, or "configure" before the first.
  void finish(status outcome, const chorus::failure &why, const std::string &stage,
              const std::string &advice);

  const std::vector<probe_stage> &stages() const noexcept { return stages_; }

private:
  void print(const probe_stage &s) const;
  void print_end(const std::string &verdict, bool healthy) const;
  void print_json(status outcome, const chorus::failure *why, const std::string &stage,
                  const std::string &advice) const;
  std::chrono::nanoseconds total() const noexcept;

  const probe_settings &settings_;
  painter paint_;
  std::vector<probe_stage> stages_;
  std::vector<std::string> remarks_;
};

// What to do about what failed at `stage`, in terms of the program's options; `url` is the one that failed.
std::string probe_advice(const chorus::failure &why, std::string_view stage, const std::string &url,
                         const std::vector<std::string> &certificate_names);

std::string in_milliseconds(std::chrono::nanoseconds d); // "1.23 ms"

} // namespace cli
