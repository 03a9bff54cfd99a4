#include "script.hpp"

#include "script_check.hpp"
#include "script_kinds.hpp"
#include "script_report.hpp"
#include "script_run.hpp"
#include "script_table.hpp"
#include "values.hpp"

#include <chorus/operators.hpp>

#include <boost/json/serialize.hpp>

#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>

namespace cli {

namespace {

using chorus::task;
using namespace chorus::operators;

struct close_file {
  void operator()(std::FILE *f) const noexcept { std::fclose(f); }
};
using file_ptr = std::unique_ptr<std::FILE, close_file>;

std::optional<std::string> read_standard_input(std::string &why) {
  constexpr std::size_t most = std::size_t{16} << 20;
  std::string out;
  char piece[16384];
  std::size_t got = 0;
  while ((got = std::fread(piece, 1, sizeof piece, stdin)) != 0 && out.size() <= most)
    out.append(piece, got);
  if (std::ferror(stdin))
    why = std::string("reading standard input: ") + std::strerror(errno);
  else if (out.size() > most)
    why = "standard input is larger than 16 MiB";
  return why.empty() ? std::optional(std::move(out)) : std::nullopt;
}

bool write_all(std::FILE *to, const std::string &text) {
  return std::fwrite(text.data(), 1, text.size(), to) == text.size() && std::fflush(to) == 0;
}

// Ends when a signal asks for it or the time is over, and leaves the reason in the report.
task<> interruption(chorus::runtime &rt, std::chrono::milliseconds bound, script::report &to) {
  int signal = 0;
  if (bound.count() == 0) {
    signal = co_await rt.signals();
  } else {
    const auto first = co_await (rt.signals() || chorus::sleep(bound));
    if (const auto *number = std::get_if<0>(&first))
      signal = *number;
  }
  const std::string name = signal == SIGINT ? "SIGINT" : "SIGTERM";
  if (signal != 0)
    to.interrupt(status::failed, "interrupted by " + name, name + " came");
  else
    to.interrupt(status::timeout,
                 "the script did not end within " + to_text(bound) +
                     "; --timeout sets how long it may take",
                 "the script's " + to_text(bound) + " were over");
}

task<> script_main(chorus::runtime &rt, script::runner &runner, boost::json::object variables,
                   std::chrono::milliseconds bound, script::report &to) {
  // Signals are caught before the first step begins.
  co_await (interruption(rt, bound, to) || runner.run(std::move(variables)));
}

// What can be told of it where it was asked for; false when that can't be written.
bool publish(const script_settings &s, const boost::json::object &as_json,
             const std::string &as_junit, std::FILE *junit) {
  bool ok = true;
  if (s.json && !write_all(stdout, boost::json::serialize(as_json) + '\n')) {
    complain("script", "standard output is gone");
    ok = false;
  }
  if (junit && !write_all(junit, as_junit)) {
    complain("script", "writing '" + s.junit + "': " + std::strerror(errno));
    ok = false;
  }
  return ok;
}

status refuse(const script_settings &s, const std::string &name,
              const std::vector<script::complaint> &complaints, std::FILE *junit) {
  constexpr std::size_t most = 20;
  for (std::size_t i = 0; i < std::min(most, complaints.size()); ++i)
    complain("script", to_string(complaints[i].at) + ": " + complaints[i].sentence);
  if (complaints.size() > most)
    complain("script", "and " + std::to_string(complaints.size() - most) + " more like these");
  publish(s, script::complaints_as_json(name, complaints),
          script::complaints_as_junit(name, complaints), junit);
  return status::usage;
}

status run_checked(const script_settings &s, const std::string &name, const script::checked &script,
                   std::FILE *junit) {
  script::report report(script, name, s.quiet);
  boost::json::object variables;
  for (const auto &[key, value] : s.variables)
    variables.insert_or_assign(key, value);
  {
    chorus::runtime rt{{.threads = 1, .tick = std::chrono::milliseconds(10)}};
    script::runner runner(rt, script, report,
                          {.keep_going = s.keep_going, .print_to_stderr = s.json});
    rt.run(script_main(rt, runner, std::move(variables), s.timeout, report));
  }
  report.finish();
  for (const auto &sentence : report.complaints())
    complain("script", sentence);
  const bool told = publish(s, report.to_json(), report.to_junit(), junit);
  const auto outcome = report.outcome();
  return told || outcome != status::ok ? outcome : status::failed;
}

} // namespace

CLI::App *add_script(CLI::App &app, script_settings &s) {
  auto *sub = app.add_subcommand("script", "Run the steps of a JSON file against servers");
  auto *file = sub->add_option("FILE", s.file, "The script; - is standard input");
  sub->add_option("--set", s.assignments, "A variable, NAME=VALUE: var[\"NAME\"]; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE")
      ->each([&s](const std::string &text) {
        const auto equals = text.find('=');
        const script::field name{"--set", script::kind::name, {}};
        const boost::json::string key(text.substr(0, equals));
        if (equals == text.npos || script::check_value(name, key, true))
          throw CLI::ValidationError("'" + text + "' sets nothing; say --set NAME=VALUE");
        s.variables.emplace_back(text.substr(0, equals), text.substr(equals + 1));
      });
  sub->add_flag("--check", s.check, "Only check the file and those it includes");
  sub->add_flag("--keep-going", s.keep_going, "Run the steps behind one that failed, too");
  sub->add_flag("--json", s.json,
                "A report as JSON on standard output; what is printed goes to standard error");
  sub->add_option("--junit", s.junit, "Write a report in JUnit's XML")->type_name("FILE");
  sub->add_flag("--quiet", s.quiet, "No progress on standard error");
  add_duration(*sub, "--timeout", s.timeout, "Bound of the whole script; 0: none");
  auto *schema = sub->add_flag("--schema", s.schema, "Print the JSON Schema of scripts");
  schema->excludes(file);
  return sub;
}

status run_script(const script_settings &s) {
  if (s.schema)
    return write_all(stdout, script::schema_text()) ? status::ok : status::failed;
  if (s.file.empty()) {
    complain("script", "FILE is missing: the script to run, or - for standard input");
    return status::usage;
  }
  const bool piped = s.file == "-";
  const std::string name = piped ? "standard input" : s.file;
  std::string why;
  const auto text = piped ? read_standard_input(why) : script::read_file(s.file, why);
  if (!text) {
    complain("script", why);
    return status::usage;
  }
  file_ptr junit;
  if (!s.junit.empty()) {
    junit.reset(std::fopen(s.junit.c_str(), "we"));
    if (!junit) {
      complain("script", "can't write '" + s.junit + "': " + std::strerror(errno));
      return status::usage;
    }
  }
  raise_descriptor_limit();
  std::signal(SIGPIPE, SIG_IGN);
  std::vector<std::string> names;
  for (const auto &one : s.variables)
    names.push_back(one.first);
  const auto checked = script::check_script(name, piped ? std::string() : s.file, *text, names);
  if (!checked.complaints.empty())
    return refuse(s, name, checked.complaints, junit.get());
  for (const auto &sentence : checked.warnings)
    complain("script", sentence);
  if (s.check)
    return status::ok;
  return run_checked(s, name, checked, junit.get());
}

} // namespace cli
