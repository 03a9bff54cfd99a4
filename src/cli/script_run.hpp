#pragma once
// Runs the steps of a checked script. For one thread.

#include "script_check.hpp"
#include "script_report.hpp"
#include "script_values.hpp"

#include <chorus/chorus.hpp>

#include <boost/json/object.hpp>
#include <boost/json/value.hpp>

#include <chrono>
#include <map>
#include <memory>
#include <string>
#include <utility>

namespace cli::script {

struct run_settings {
  bool keep_going = false;
  bool print_to_stderr = false; // standard output is the report's
};

// A connection, and what it was opened with.
struct gate {
  chorus::session session;
  boost::json::object arguments; // of connect_gate, without references
  std::string url;
  bool websocket = false;
};

// What steps share: the whole script, or one copy of a parallel.
struct context {
  scope values;
  std::map<std::string, std::shared_ptr<gate>> own;
  std::shared_ptr<context> outer; // whose connections and values may be used, too

  std::shared_ptr<gate> find(const std::string &name) const;
};

// How a step ended. A class, for a coroutine to return.
class outcome {
public:
  outcome() = default;
  // Passed; `note` stands in the line of progress.
  explicit outcome(boost::json::value r, std::string n = {})
      : result(std::move(r)), note(std::move(n)) {}
  static outcome failed(status code, std::string why, boost::json::value r = {},
                        std::string n = {});
  // With sentence and status of the failure, and advice in terms of a script's fields.
  static outcome failed(const chorus::failure &why, boost::json::value r = {}, std::string n = {});
  bool passed() const noexcept { return code == status::ok; }

  status code = status::ok;
  std::string error;
  boost::json::value result;
  std::string note;
};

// One step that is being run: its arguments without references.
class call {
public:
  call(std::shared_ptr<context> c, const step *s, boost::json::object a)
      : where(std::move(c)), what(s), arguments(std::move(a)) {}

  bool has(std::string_view name) const;
  std::string text(std::string_view name, std::string_view otherwise = {}) const;
  std::int64_t integer(std::string_view name, std::int64_t otherwise) const;
  bool boolean(std::string_view name) const;
  std::chrono::milliseconds duration(std::string_view name,
                                     std::chrono::milliseconds otherwise) const;
  const boost::json::value *find(std::string_view name) const;

  std::shared_ptr<context> where;
  const step *what;
  boost::json::object arguments;
};
using call_ptr = std::shared_ptr<call>;

// The commands that work on connections (script_verbs.cpp, script_expect.cpp).
chorus::task<outcome> connect_gate(call_ptr c);
chorus::task<outcome> send(call_ptr c);
chorus::task<outcome> receive(call_ptr c);
chorus::task<outcome> expect(call_ptr c);
chorus::task<outcome> ping(call_ptr c);
chorus::task<outcome> close(call_ptr c);
chorus::task<outcome> wait_closed(call_ptr c);
chorus::task<outcome> reconnect(call_ptr c);

// Shared by them.
std::shared_ptr<gate> gate_of(const call &c, outcome &missing);
boost::json::object result_of(const chorus::message &m);
boost::json::object end_of(const chorus::session &s);
std::uint16_t close_code_of(const chorus::failure &end);

class runner {
public:
  // All three must outlive the runtime's coroutines.
  runner(chorus::runtime &rt, const checked &script, report &to, run_settings settings)
      : runtime_(rt), script_(script), report_(to), settings_(settings) {}

  // `variables`: what --set gives.
  chorus::task<> run(boost::json::object variables);

private:
  struct copies;
  // The first failure, or none. `inside` a repeat or parallel.
  chorus::task<outcome> all(std::shared_ptr<context> where, const std::vector<step> *steps,
                            bool inside);
  chorus::task<outcome> one(std::shared_ptr<context> where, const step *s, bool inside);
  chorus::task<outcome> execute(call_ptr c, bool inside);
  chorus::task<outcome> repeat(call_ptr c);
  chorus::task<outcome> parallel(call_ptr c);
  chorus::task<> copy(std::shared_ptr<context> where, const step *s, std::shared_ptr<copies> state);
  outcome print(const call &c);

  chorus::runtime &runtime_;
  const checked &script_;
  report &report_;
  run_settings settings_;
};

} // namespace cli::script
