#include "script_report.hpp"

#include "screen_text.hpp"
#include "script_kinds.hpp"

#include <chorus/protocol/utf8.hpp>

#include <boost/json/array.hpp>

#include <algorithm>
#include <cstdio>
#include <span>

namespace cli::script {

namespace json = boost::json;

namespace {

std::string_view name_of(outcome_kind k) {
  return k == outcome_kind::passed ? "passed" : k == outcome_kind::failed ? "failed" : "skipped";
}

std::string milliseconds(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f ms", seconds * 1000);
  return text;
}

std::string fixed(double seconds) {
  char text[32];
  std::snprintf(text, sizeof text, "%.6f", seconds);
  return text;
}

// Long strings would make a report as large as all that was received.
json::value clipped(const json::value &v) {
  constexpr std::size_t most = 1000;
  if (const auto *s = v.if_string(); s && s->size() > most) {
    const auto bytes = std::as_bytes(std::span(s->data(), s->size()));
    const auto end = chorus::protocol::valid_utf8_prefix(bytes, most);
    return json::string(std::string(s->data(), end) + "...");
  }
  if (const auto *array = v.if_array()) {
    json::array out;
    for (std::size_t i = 0; i < std::min(array->size(), most); ++i)
      out.push_back(clipped((*array)[i]));
    return out;
  }
  if (const auto *object = v.if_object()) {
    json::object out;
    for (const auto &one : *object)
      out.emplace(one.key(), clipped(one.value()));
    return out;
  }
  return v;
}

// Text or an attribute of XML 1.0, which has no way to write most control characters.
std::string xml(std::string_view text) {
  const bool valid = chorus::protocol::is_valid_utf8(std::as_bytes(std::span(text)));
  std::string out;
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '&')
      out += "&amp;";
    else if (c == '<')
      out += "&lt;";
    else if (c == '>')
      out += "&gt;";
    else if (c == '"')
      out += "&quot;";
    else if (c == '\n' || c == '\t' || c == '\r')
      out += "&#" + std::to_string(u) + ';';
    else if (u < 0x20 || (u >= 0x80 && !valid))
      out += '?';
    else
      out += c;
  }
  // U+FFFE and U+FFFF are UTF-8, but no XML.
  for (const std::string_view none : {"\xef\xbf\xbe", "\xef\xbf\xbf"})
    for (auto at = out.find(none); at != out.npos; at = out.find(none))
      out.replace(at, none.size(), "?");
  return out;
}

void collect(const std::vector<step> &steps, std::vector<record> &into) {
  for (const auto &s : steps) {
    if (s.number == into.size() + 1) {
      record r;
      r.of = &s;
      into.push_back(std::move(r));
    }
    if (s.what->verb == verb::include)
      collect(s.steps, into);
  }
}

} // namespace

report::report(const checked &script, std::string name, bool quiet)
    : name_(std::move(name)), quiet_(quiet) {
  records_.reserve(script.count);
  collect(script.steps, records_);
}

void report::began(const step &s) {
  records_[s.number - 1].begin = std::chrono::steady_clock::now();
}

void report::ended(const step &s, outcome_kind kind, status code, double seconds,
                   json::value result, std::string error, std::string_view note) {
  auto &r = records_[s.number - 1];
  r.kind = kind;
  r.code = code;
  r.begin.reset();
  r.seconds = seconds;
  r.result = clipped(result);
  r.error = harmless(error, true);
  if (quiet_)
    return;
  std::string line = '[' + std::to_string(s.number) + '/' + std::to_string(records_.size()) + "] " +
                     std::string(s.what->name);
  if (!note.empty())
    line += ' ' + std::string(note);
  line += kind == outcome_kind::passed ? ": ok, " : ": FAILED, ";
  line += milliseconds(seconds);
  if (!s.comment.empty())
    line += " - " + s.comment;
  line = harmless(one_line(line));
  line += '\n';
  std::fwrite(line.data(), 1, line.size(), stderr);
}

void report::ended_inside(const step &s, std::string_view error) {
  auto &inside = records_[s.number - 1].inside;
  if (inside.size() < 100)
    inside.push_back({s.at, s.what->name, harmless(error, true)});
}

void report::interrupt(status code, std::string why, std::string moment) {
  interruption_ = code;
  why_ = std::move(why);
  moment_ = std::move(moment);
}

void report::finish() {
  end_ = std::chrono::steady_clock::now();
  for (const auto &r : records_)
    if (r.begin && interruption_ != status::ok)
      met_ = r.of; // an include has its steps behind it
  for (auto i = records_.size(); i-- != 0;) {
    const auto &r = records_[i];
    if (!r.begin || interruption_ == status::ok)
      continue;
    const std::chrono::duration<double> took = end_ - *r.begin;
    ended(*r.of, outcome_kind::failed, interruption_, took.count(), {},
          "was under way when " + moment_, {});
  }
  if (!quiet_)
    std::fprintf(stderr, "%zu steps: %zu passed, %zu failed, %zu skipped, in %.3f s\n",
                 records_.size(), count(outcome_kind::passed), count(outcome_kind::failed),
                 count(outcome_kind::skipped), seconds());
}

std::size_t report::count(outcome_kind kind) const noexcept {
  return static_cast<std::size_t>(std::count_if(
      records_.begin(), records_.end(), [kind](const record &r) { return r.kind == kind; }));
}

double report::seconds() const noexcept {
  return std::chrono::duration<double>(end_ - begin_).count();
}

status report::outcome() const noexcept {
  for (const auto &r : records_)
    if (r.kind == outcome_kind::failed)
      return r.code;
  return interruption_;
}

std::vector<std::string> report::complaints() const {
  constexpr std::size_t most = 10;
  std::vector<std::string> out;
  std::size_t more = 0;
  for (const auto &r : records_) {
    // That an included file failed is said by its own step.
    if (r.kind != outcome_kind::failed || r.of->what->verb == verb::include || r.of == met_)
      continue;
    if (out.size() < most)
      out.push_back(to_string(r.of->at) + ": " + std::string(r.of->what->name) + ": " + r.error);
    else
      ++more;
  }
  if (more != 0)
    out.push_back("and " + std::to_string(more) + " more; --json or --junit tell all");
  if (met_)
    out.push_back(to_string(met_->at) + ": " + std::string(met_->what->name) + ": " + why_);
  else if (!why_.empty())
    out.push_back(why_);
  return out;
}

json::object report::to_json() const {
  json::array steps;
  for (const auto &r : records_) {
    json::object one;
    one["number"] = r.of->number;
    one["file"] = view(*r.of->at.file);
    one["line"] = r.of->at.line;
    one["column"] = r.of->at.column;
    one["cmd"] = view(r.of->what->name);
    if (!r.of->comment.empty())
      one["comment"] = view(r.of->comment);
    one["outcome"] = view(name_of(r.kind));
    if (r.kind != outcome_kind::skipped) {
      one["seconds"] = r.seconds;
      one["result"] = r.result;
    }
    if (r.kind == outcome_kind::failed) {
      one["exit_status"] = static_cast<int>(r.code);
      one["error"] = view(r.error);
    }
    json::array inside;
    for (const auto &t : r.inside)
      inside.emplace_back(json::object{{"file", view(*t.at.file)},
                                       {"line", t.at.line},
                                       {"column", t.at.column},
                                       {"cmd", view(t.command)},
                                       {"error", view(t.error)}});
    if (!inside.empty())
      one["inside"] = std::move(inside);
    steps.emplace_back(std::move(one));
  }
  json::object out;
  out["script"] = view(name_);
  out["outcome"] = outcome() == status::ok ? "passed" : "failed";
  out["exit_status"] = static_cast<int>(outcome());
  if (!why_.empty())
    out["interrupted"] = view(why_);
  out["passed"] = count(outcome_kind::passed);
  out["failed"] = count(outcome_kind::failed);
  out["skipped"] = count(outcome_kind::skipped);
  out["seconds"] = seconds();
  out["steps"] = std::move(steps);
  return out;
}

std::string report::to_junit() const {
  const auto failed = count(outcome_kind::failed);
  const auto counts =
      " tests=\"" + std::to_string(records_.size() + (why_.empty() ? 0 : 1)) + "\" failures=\"" +
      std::to_string(failed) + "\" errors=\"" + (why_.empty() ? "0" : "1") + "\" skipped=\"" +
      std::to_string(count(outcome_kind::skipped)) + "\" time=\"" + fixed(seconds()) + '"';
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + counts +
                    ">\n  <testsuite name=\"" + xml(name_) + '"' + counts + ">\n";
  for (const auto &r : records_) {
    auto title = std::to_string(r.of->number) + ' ' + std::string(r.of->what->name);
    if (!r.of->comment.empty())
      title += ": " + r.of->comment;
    out += "    <testcase name=\"" + xml(title) + "\" classname=\"" + xml(*r.of->at.file) +
           "\" file=\"" + xml(*r.of->at.file) + "\" line=\"" + std::to_string(r.of->at.line) +
           "\" time=\"" + fixed(r.seconds) + '"';
    if (r.kind == outcome_kind::passed) {
      out += "/>\n";
    } else if (r.kind == outcome_kind::skipped) {
      out += ">\n      <skipped/>\n    </testcase>\n";
    } else {
      std::string all = to_string(r.of->at) + ": " + r.error;
      for (const auto &t : r.inside)
        all += '\n' + to_string(t.at) + ": " + std::string(t.command) + ": " + t.error;
      out += ">\n      <failure message=\"" + xml(r.error) + "\">" + xml(all) +
             "</failure>\n    </testcase>\n";
    }
  }
  if (!why_.empty())
    out += "    <testcase name=\"the whole script\" classname=\"" + xml(name_) +
           "\" time=\"0\">\n      <error message=\"" + xml(why_) + "\"/>\n    </testcase>\n";
  return out + "  </testsuite>\n</testsuites>\n";
}

json::object complaints_as_json(const std::string &name, const std::vector<complaint> &complaints) {
  json::array all;
  for (const auto &c : complaints)
    all.emplace_back(json::object{{"file", view(*c.at.file)},
                                  {"line", c.at.line},
                                  {"column", c.at.column},
                                  {"error", view(c.sentence)}});
  json::object out;
  out["script"] = view(name);
  out["outcome"] = "invalid";
  out["exit_status"] = static_cast<int>(status::usage);
  out["complaints"] = std::move(all);
  return out;
}

std::string complaints_as_junit(const std::string &name, const std::vector<complaint> &complaints) {
  const auto counts = " tests=\"" + std::to_string(complaints.size()) +
                      "\" failures=\"0\" errors=\"" + std::to_string(complaints.size()) +
                      "\" skipped=\"0\" time=\"0\"";
  std::string out = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites" + counts +
                    ">\n  <testsuite name=\"" + xml(name) + '"' + counts + ">\n";
  for (const auto &c : complaints)
    out += "    <testcase name=\"" + xml(to_string(c.at)) + "\" classname=\"" + xml(*c.at.file) +
           "\" time=\"0\">\n      <error message=\"" + xml(c.sentence) + "\"/>\n    </testcase>\n";
  return out + "  </testsuite>\n</testsuites>\n";
}

} // namespace cli::script
