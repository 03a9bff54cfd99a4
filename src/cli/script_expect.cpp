#include "script_run.hpp"

#include "script_kinds.hpp"
#include "script_match.hpp"
#include "script_within.hpp"
#include "values.hpp"

#include <chorus/json/json.hpp>

#include <algorithm>

namespace cli::script {

namespace json = boost::json;
using chorus::task;
using namespace std::chrono_literals;

namespace {

outcome of_value(const call &c) {
  const auto &value = *c.find("value");
  auto why = mismatch(c.arguments, {{}, true, &value});
  json::object result;
  result["value"] = value;
  auto note = shown(value);
  if (!why.empty())
    return outcome::failed(status::failed, std::move(why), std::move(result), std::move(note));
  return outcome(std::move(result), std::move(note));
}

json::object kept(const chorus::message &m, const json::object &arguments) {
  auto out = result_of(m);
  if (arguments.contains("json"))
    if (auto parsed = chorus::to_json(m, {.max_depth = 64, .max_bytes = 0}))
      out["json"] = std::move(*parsed);
  return out;
}

std::string brief(const chorus::message &m) {
  return shown(m.is_text() ? m.text() : hex_of(m.text()));
}

task<outcome> nothing(std::shared_ptr<gate> g, std::chrono::milliseconds bound) {
  const auto got = co_await within(g->session.receive(), bound);
  if (!got)
    co_return outcome(json::object(), "nothing for " + to_text(bound));
  if (!*got)
    co_return outcome::failed(got->error(), end_of(g->session));
  co_return outcome::failed(status::failed, "expected nothing, got " + brief(**got),
                            result_of(**got));
}

task<outcome> closing(std::shared_ptr<gate> g, std::int64_t wanted,
                      std::chrono::milliseconds bound) {
  const auto end = co_await within(g->session.wait_closed(), bound);
  if (!end)
    co_return outcome::failed(status::timeout, "the connection did not end within " +
                                                   to_text(bound) +
                                                   "; \"timeout\" sets how long to wait");
  const auto code = close_code_of(*end);
  auto note = "close " + std::to_string(code);
  auto result = end_of(g->session);
  if (code != wanted)
    co_return outcome::failed(status::failed,
                              "expected the close code " + std::to_string(wanted) + ", got " +
                                  std::to_string(code) + ": " + sentence_of(*end, wording::fields),
                              std::move(result), std::move(note));
  co_return outcome(std::move(result), std::move(note));
}

} // namespace

task<outcome> expect(call_ptr c) {
  if (c->has("value"))
    co_return of_value(*c);
  outcome missing;
  const auto g = gate_of(*c, missing);
  if (!g)
    co_return missing;
  const auto bound = c->duration("timeout", 5s);
  if (c->has("close"))
    co_return co_await closing(g, c->integer("close", 0), bound);
  if (c->boolean("nothing"))
    co_return co_await nothing(g, bound);
  const auto skip = c->boolean("skip");
  const auto deadline = std::chrono::steady_clock::now() + bound;
  std::string last;
  std::uint64_t passed_over = 0;
  for (;;) {
    auto left = bound;
    if (bound.count() != 0)
      left = std::max(1ms, std::chrono::ceil<std::chrono::milliseconds>(
                               deadline - std::chrono::steady_clock::now()));
    const auto got = co_await within(g->session.receive(), left);
    const auto before = passed_over == 0 ? std::string()
                                         : "; of " + std::to_string(passed_over) +
                                               " messages none fits, the last: " + last;
    if (!got)
      co_return outcome::failed(
          status::timeout,
          (passed_over == 0 ? "no message came within " : "no message that fits came within ") +
              to_text(bound) + before);
    if (!*got) {
      auto o = outcome::failed(got->error(), end_of(g->session));
      o.error += before;
      co_return o;
    }
    const auto &m = **got;
    auto why = mismatch(c->arguments, {m.text(), m.is_text(), nullptr});
    if (why.empty())
      co_return outcome(kept(m, c->arguments), brief(m));
    if (!skip)
      co_return outcome::failed(status::failed, std::move(why), kept(m, c->arguments), brief(m));
    ++passed_over;
    last = std::move(why);
    if (bound.count() != 0 && std::chrono::steady_clock::now() >= deadline)
      co_return outcome::failed(status::timeout, "no message that fits came within " +
                                                     to_text(bound) + "; the last: " + last);
  }
}

} // namespace cli::script
