#pragma once
// What became of each step: progress while it runs, and a report afterwards as JSON and as JUnit's XML.

#include "exit_status.hpp"
#include "script_check.hpp"

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace cli::script {

enum class outcome_kind : std::uint8_t { skipped, passed, failed };

// A step of a repeat or parallel that failed.
struct trouble {
  place at;
  std::string_view command;
  std::string error;
};

struct record {
  const step *of = nullptr;
  outcome_kind kind = outcome_kind::skipped;
  status code = status::ok;
  std::optional<std::chrono::steady_clock::time_point> begin{}; // while it is under way
  double seconds = 0;
  boost::json::value result;
  std::string error;
  std::vector<trouble> inside; // at most 100
};

class report {
public:
  // `quiet`: no progress. `script` must outlive this.
  report(const checked &script, std::string name, bool quiet);

  // A step with a number of its own.
  void began(const step &s);
  // It has ended: one line of progress on standard error.
  void ended(const step &s, outcome_kind kind, status code, double seconds,
             boost::json::value result, std::string error, std::string_view note);
  void ended_inside(const step &s, std::string_view error);
  // What stopped it from outside, as a sentence and as what follows "when".
  void interrupt(status code, std::string why, std::string moment);
  // Steps that began and have not ended failed by the interruption; then the last line of progress.
  void finish();

  // Of the first step that failed, or of the interruption.
  status outcome() const noexcept;
  // A sentence for each step that failed, as "file:line:column: ..."; the first ten, and the interruption with the
  // place of the step that it met.
  std::vector<std::string> complaints() const;
  boost::json::object to_json() const;
  std::string to_junit() const;

private:
  std::size_t count(outcome_kind kind) const noexcept;
  double seconds() const noexcept;

  std::string name_;
  bool quiet_;
  std::vector<record> records_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point end_ = begin_;
  status interruption_ = status::ok;
  std::string why_;
  std::string moment_;
  const step *met_ = nullptr; // by the interruption, the innermost of included files
};

// The same for a script that can't be run.
boost::json::object complaints_as_json(const std::string &name,
                                       const std::vector<complaint> &complaints);
std::string complaints_as_junit(const std::string &name, const std::vector<complaint> &complaints);

} // namespace cli::script
